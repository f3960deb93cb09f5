"""Reads of templates. A page costs the same few queries whatever stands on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.db.models import Count, Exists, OuterRef, Prefetch, Q
from django.db.models.functions import Lower

from accounts.policy import visible
from core.errors import Missing
from core.filters import by_id_or_name, filtered, uuid_of
from core.paging import Page, paginate
from storage.models import Volume
from vms.cloning.models import Template, TemplateVersion, TemplateVolume

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Mapping

    from django.db.models import QuerySet

    from accounts.actor import Actor

FILTERS: Final = ("host", "driver", "project")
ORDERINGS: Final[dict[str, str]] = {
    "name": "order_name",
    **{name: name for name in ("created_at", "updated_at", "project")},
}
GUESTS: Final = "guest_count"


def template_list(by: Actor, *, q: str = "", filters: Mapping[str, str] | None = None) -> QuerySet[Template]:
    """Those with a whole version that `by` may see, filtered, not ordered. Raises BadInput."""
    return filtered(
        visible(by, Template.objects.exclude(current=None)),
        q=q,
        filters=filters or {},
        conditions=_CONDITIONS,
        keys=_KEYS,
        free_word=lambda word: Q(name__icontains=word) | Q(description__icontains=word),
    )


def template_page(
    by: Actor,
    *,
    q: str = "",
    filters: Mapping[str, str] | None = None,
    ordering: str = "name",
    cursor: str | None = None,
    limit: int | None = None,
) -> Page[Template]:
    """One page, each with its whole versions, their disks and the number of its guests. Raises BadInput."""
    rows = template_list(by, q=q, filters=filters)
    return paginate(
        with_versions(rows.annotate(order_name=Lower("name"))),
        orderings=ORDERINGS,
        ordering=ordering,
        cursor=cursor,
        limit=limit,
        total=rows.count(),
    )


def with_versions(rows: QuerySet[Template]) -> QuerySet[Template]:
    """With owner, whole versions (the newest first), their disks, and whether those were seen."""
    return rows.select_related("owner").prefetch_related(Prefetch("versions", queryset=_versions()))


def version_page(template: Template, *, cursor: str | None = None, limit: int | None = None) -> Page[TemplateVersion]:
    """Its whole versions, the newest first. Raises BadInput."""
    rows = _versions().filter(template=template.pk).order_by()
    return paginate(rows, orderings={"number": "number"}, ordering="-number", cursor=cursor, limit=limit)


def _versions() -> QuerySet[TemplateVersion]:
    volumes = Volume.objects.filter(pool=OuterRef("pool"), name=OuterRef("volume"), pool__gone_at=None)
    disks = TemplateVolume.objects.annotate(**{"seen": Exists(volumes)})  # noqa: PIE804 - said in the model
    return (
        TemplateVersion.objects.filter(ready=True)
        .defer("definition")
        .select_related("host")
        .annotate(**{GUESTS: Count("guests", filter=Q(guests__vm__gone_at=None))})
        .prefetch_related(Prefetch("volumes", queryset=disks))
        .order_by("-number")
    )


def template_get(template_id: uuid.UUID, *, by: Actor) -> Template:
    """One that the caller may see. Raises Missing."""
    found = with_versions(visible(by, Template.objects.filter(pk=template_id).exclude(current=None))).first()
    if found is None:
        raise Missing("There is no such template, or you may not see it.")
    return found


def versions_named(texts: list[str], *, by: Actor) -> dict[str, TemplateVersion]:
    """`<id or name>[@version]` → that version with its template and disks, of those that are there. A few queries for all."""
    if not texts:
        return {}
    asked = {text: _parts(text) for text in texts}
    names = {name.lower() for name, _ in asked.values()}
    ids = {known for name in names if (known := uuid_of(name)) is not None}
    rows = visible(by, Template.objects.exclude(current=None)).annotate(lower=Lower("name"))
    templates = list(with_versions(rows.filter(Q(pk__in=ids) | Q(lower__in=names))))
    found = {}
    for text, (name, number) in asked.items():
        known = uuid_of(name)
        one = next((row for row in templates if row.pk == known or row.name.lower() == name.lower()), None)
        if one is not None:
            wanted = one.current if number is None else number
            version = next((row for row in one.versions.all() if row.number == wanted), None)
            if version is not None:
                version.template = one
                found[text] = version
    return found


def _parts(text: str) -> tuple[str, int | None]:
    name, at, number = text.removeprefix("template/").rpartition("@")
    if at and number.isascii() and number.isdigit() and len(number) < 7:
        return name, int(number)
    return text.removeprefix("template/"), None


def _at(condition: Callable[[list[str]], Q]) -> Callable[[list[str]], Q]:
    return lambda values: Q(pk__in=TemplateVersion.objects.filter(condition(values), ready=True).values("template"))


_HOST = _at(by_id_or_name("host", "host", "host__name"))
_DRIVER = _at(lambda values: Q(driver__in=values))
_CONDITIONS: Final[dict[str, Callable[[list[str]], Q]]] = {
    "host": _HOST,
    "driver": _DRIVER,
    "project": lambda values: Q(project__in=values),
}
_KEYS: Final[dict[str, Callable[[str], Q]]] = {
    "name": lambda value: Q(name__icontains=value),
    "host": lambda value: _HOST([value]),
    "driver": lambda value: _DRIVER([value.lower()]),
    "project": lambda value: Q(project=value),
}
