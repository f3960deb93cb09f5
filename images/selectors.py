"""Reads of images that more than one caller needs. A page costs the same few queries whatever stands on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.db.models import Exists, OuterRef, Prefetch, Q
from django.db.models.functions import Lower

from accounts.policy import visible
from core.fields import TAG
from core.filters import bad, by_id_or_name, filtered, one_of
from core.paging import Page, paginate
from images.choices import ImageKind, ImageState
from images.models import Image, ImageCopy
from images.uses import look_for_uses
from operations.models import Operation
from storage.models import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.db.models import QuerySet

    from accounts.actor import Actor

FILTERS: Final = ("kind", "state", "host", "pool", "os_id", "tag")
ORDERINGS: Final[dict[str, str]] = {
    "name": "order_name",
    **{
        name: name
        for name in ("os_id", "kind", "state", "size_bytes", "virtual_size_bytes", "created_at", "updated_at")
    },
}


def image_list(by: Actor, *, q: str = "", filters: Mapping[str, str] | None = None) -> QuerySet[Image]:
    """Images that `by` may see, filtered, not ordered. Raises BadInput."""
    return filtered(
        visible(by, Image.objects.all()),
        q=q,
        filters=filters or {},
        conditions=_CONDITIONS,
        keys=_KEYS,
        free_word=_word,
    )


def image_page(
    by: Actor,
    *,
    q: str = "",
    filters: Mapping[str, str] | None = None,
    ordering: str = "name",
    cursor: str | None = None,
    limit: int | None = None,
) -> Page[Image]:
    """One page, each with import, copies and uses. Raises BadInput."""
    rows = image_list(by, q=q, filters=filters)
    total = rows.count()
    page = paginate(
        with_copies(rows.annotate(order_name=Lower("name"))),
        orderings=ORDERINGS,
        ordering=ordering,
        cursor=cursor,
        limit=limit,
        total=total,
    )
    look_for_uses(page.items)
    return page


def images_whole(rows: QuerySet[Image]) -> list[Image]:
    """All of these with import, copies and uses."""
    images = list(with_copies(rows))
    look_for_uses(images)
    return images


def with_copies(rows: QuerySet[Image]) -> QuerySet[Image]:
    """With the import, and with copies in pools that are there: pool, hypervisor and host of each, and whether its volume was seen."""
    volumes = Volume.objects.filter(pool=OuterRef("pool"), name=OuterRef("volume"))
    copies = (
        ImageCopy.objects.filter(pool__gone_at=None)
        .select_related("pool__hypervisor__host")
        .defer("pool__hypervisor__credentials", "pool__hypervisor__capabilities")
        .annotate(**{"seen": Exists(volumes)})  # noqa: PIE804 - said in the model; the plugin of mypy would say it again
        .order_by(Lower("pool__hypervisor__host__name"), Lower("pool__name"), "pk")
    )
    imports = Operation.objects.only("state", "error", "progress", "message")
    return rows.prefetch_related(Prefetch("copies", queryset=copies), Prefetch("operation", queryset=imports))


# -- filters -----------------------------------------------------------------------------------------------------------
def _tagged(values: list[str]) -> Q:
    found = Q()
    for value in values:
        if not TAG.fullmatch(value.lower()):
            raise bad("tag", f"{value[:50]!r} is no tag")
        found |= Q(tags__contains=f"|{value.lower()}|")
    return found


def _copied(place: Callable[[list[str]], Q]) -> Callable[[list[str]], Q]:
    """Images with a ready copy there."""
    return lambda values: Q(pk__in=ImageCopy.objects.filter(place(values), ready=True).values("image"))


def _words(field: str) -> Callable[[list[str]], Q]:
    return lambda values: Q(**{f"{field}__in": values})


def _word(word: str) -> Q:
    return Q(name__icontains=word) | Q(title__icontains=word) | Q(os_id__icontains=word) | Q(source__icontains=word)


def _is(value: str) -> Q:
    match value.lower():
        case "copied":
            return Q(pk__in=ImageCopy.objects.filter(ready=True).values("image"))
        case "cloud-init":
            return Q(cloud_init=True)
    return Q(pk__in=[])


_POOL = _copied(by_id_or_name("storage-pool", "pool", "pool__name"))
_HOST = _copied(by_id_or_name("host", "pool__host", "pool__host__name"))
_CONDITIONS: Final[dict[str, Callable[[list[str]], Q]]] = {
    "kind": one_of("kind", "kind", ImageKind.values),
    "state": one_of("state", "state", ImageState.values),
    "host": _HOST,
    "pool": _POOL,
    "os_id": _words("os_id"),
    "tag": _tagged,
}
_KEYS: Final[dict[str, Callable[[str], Q]]] = {
    "name": lambda value: Q(name__icontains=value),
    "kind": lambda value: Q(kind=value.lower()),
    "state": lambda value: Q(state=value.lower()),
    "os": lambda value: Q(os_id__icontains=value),
    "tag": lambda value: Q(tags__contains=f"|{value.lower()}|"),
    "host": lambda value: _HOST([value]),
    "pool": lambda value: _POOL([value]),
    "is": _is,
}
KEYS: Final = tuple(_KEYS)
