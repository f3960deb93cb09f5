"""What callers may ask of images: permission, validation, submit. REST, pages and rooms above come through here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from django.db import IntegrityError, transaction

from accounts import audit, policy
from core.errors import BadInput, Conflict, Missing, Stale, VmmError
from core.fields import check_tags
from core.filters import uuid_of
from core.ids import uuid7
from drivers import osinfo
from drivers.errors import AlreadyExists
from images import guess
from images.actions import CopyImage, CopyParams, DeleteImage, ImportImage, ImportParams
from images.choices import ImageKind
from images.fetch import check_url, shown
from images.inventory import image_added, image_settle
from images.models import Image
from images.selectors import image_list, images_whole
from operations import engine
from storage.models import StoragePool
from storage.services import pool_find, volume_get
from storage.uses import refuse
from transfers.services import upload_get
from transfers.staged import require_whole

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from accounts.actor import Actor
    from operations.models import Operation

CHANGEABLE: Final = ("name", "title", "os_id", "architecture", "cloud_init", "tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImage:
    """An image to be. Exactly one of `upload`, `url`, `volume` says where it comes from; `kind` "": whatever it is."""

    name: str
    upload: uuid.UUID | None = None
    url: str = ""
    sha256: str = ""
    volume: uuid.UUID | None = None
    pool: str = ""
    title: str = ""
    kind: str = ""
    os_id: str = ""
    architecture: str = ""
    cloud_init: bool | None = None
    tags: Sequence[str] = ()


def image_get(image_id: uuid.UUID, *, by: Actor) -> Image:
    """One that the caller may see, with copies and uses. Raises Missing."""
    image = images_whole(policy.visible(by, Image.objects.filter(pk=image_id)))
    if not image:
        raise Missing("There is no such image, or you may not see it.")
    return image[0]


def image_find(text: str, *, by: Actor, pointer: str = "/image") -> Image:
    """One by its id (`image/<id>` too) or its name. Raises BadInput."""
    known = uuid_of(text.removeprefix("image/"))
    rows = image_list(by)
    found = (rows.filter(pk=known) if known else rows.filter(name__iexact=text)).first()
    if found is None:
        raise _bad(pointer.removeprefix("/"), "there is no such image")
    return found


def image_create(*, new: NewImage, by: Actor) -> Operation:
    """A row, `importing`, and the operation that fills it; its target is the image.

    Raises:
        BadInput: A pointer for each wrong value. AlreadyExists: the name. PermissionRefused: a URL needs `image.fetch`. Missing,
        NotWhole: the upload. InUse: a guest runs with the volume.
    """
    policy.require(by, "image.manage")
    name = _check_name(new.name)
    tags = check_tags(new.tags)
    params, source = _source(new, by)
    pool = _pool(new, by)
    _refuse_twin(name)
    try:
        with transaction.atomic():
            image = Image.objects.create(
                pk=uuid7(),
                name=name,
                title=new.title.strip(),
                kind=new.kind or ImageKind.DISK,
                os_id=new.os_id or osinfo.guess(source),
                architecture=new.architecture or guess.architecture(source),
                cloud_init=guess.cloud_init(source) if new.cloud_init is None else new.cloud_init,
                tags=tags,
                source=source,
            )
            image_added(image, actor=by.name)
            operation = engine.submit(
                ImportImage, target=image, by=by, params=ImportParams(pool=pool.pk, kind=new.kind, **params)
            )
            Image.objects.filter(pk=image.pk).update(operation=operation.pk)
    except IntegrityError:
        _refuse_twin(name)
        raise Conflict("Another change came in between; try again.") from None
    return operation


def _source(new: NewImage, by: Actor) -> tuple[dict[str, Any], str]:
    """What the import is told, and where it comes from for people."""
    given = [name for name in ("upload", "url", "volume") if getattr(new, name)]
    if len(given) != 1:
        raise _bad("upload", "one of upload, url and volume")
    if new.sha256 and not new.url:
        raise _bad("sha256", "goes with a url; an upload is told it when it begins")
    if new.upload is not None:
        upload = upload_get(new.upload, by=by)
        require_whole(upload)
        return {"upload": upload.pk}, upload.filename
    if new.volume is not None:
        volume = volume_get(new.volume, by=by)
        refuse(volume.name, [use for use in volume.uses or () if use.running])
        return {"volume": volume.pk}, f"{volume.name} in {volume.pool.name}"
    policy.require(by, "image.fetch")
    url = check_url(new.url)
    if url.startswith("http:") and not new.sha256:
        raise _bad("sha256", "over http:// anybody on the way can change the file: give its SHA-256, or take https://")
    return {"url": url, "sha256": new.sha256.lower()}, shown(url)


def _pool(new: NewImage, by: Actor) -> StoragePool:
    """The pool that is named, else the volume's own, else the one with the most room. Raises BadInput."""
    if new.pool:
        pool = pool_find(new.pool, by=by)
    elif new.volume is not None:
        pool = volume_get(new.volume, by=by).pool
    else:
        pool = roomiest(by)
    if not pool.formats:
        raise _bad("pool", f"no volumes are made in a pool of the type {pool.type}")
    return pool


def roomiest(by: Actor) -> StoragePool:
    """The running pool of files with the most room, on a host that is online. Raises BadInput where there is none."""
    rows = policy.visible(by, StoragePool.objects.filter(gone_at=None, available_bytes__gt=0))
    rows = rows.select_related("hypervisor__host").defer("hypervisor__credentials").order_by("-available_bytes")
    found = next((one for one in rows if one.running and one.hypervisor.online and "qcow2" in one.formats), None)
    if found is None:
        raise _bad("pool", "no pool of files is running on a host that is online: make one, or name another")
    return found


def image_update(*, image: Image, by: Actor, changes: Mapping[str, Any], if_version: int | None = None) -> None:
    """Change what people say of it. Raises Stale, BadInput, AlreadyExists."""
    policy.require(by, "image.manage", image)
    values = {key: value for key, value in changes.items() if key in CHANGEABLE}
    if "tags" in values:
        values["tags"] = check_tags(values["tags"])
    if "name" in values:
        values["name"] = _check_name(values["name"])
        _refuse_twin(values["name"], but=image)
    with transaction.atomic():
        rows = Image.objects.filter(pk=image.pk)
        if if_version is not None:
            rows = rows.filter(version=if_version)
        if not rows.select_for_update().exists():
            raise Stale(f"{image.name} changed since you read it. Read it again and repeat your change.")
        image_settle(image, actor=by.name, **values)
        audit.record(by, "image_changed", object=image.ref, object_name=image.name, changed=sorted(values))


def image_copy(*, image: Image, pool: str, by: Actor) -> Operation:
    """Queue one more copy."""
    place = pool_find(pool, by=by)
    if not place.formats:
        raise _bad("pool", f"no volumes are made in a pool of the type {place.type}")
    return engine.submit(CopyImage, target=image, by=by, params=CopyParams(pool=place.pk))


def image_delete(*, image: Image, by: Actor, on_conflict: Literal["wait", "fail"] = "wait") -> Operation:
    """Queue its deletion with all copies. Raises InUse naming what stands on it."""
    return engine.submit(DeleteImage, target=image, by=by, on_conflict=on_conflict)


def image_may_be_deleted(image: Image, *, by: Actor) -> dict[str, Any]:
    """`{"allowed": false, "reason": "…"}`, for the button. No query where `used_by` is known."""
    try:
        policy.require(by, "image.manage", image)
        refuse(image.name, image.used_by or [])
    except VmmError as error:
        return {"allowed": False, "reason": error.detail, "code": error.code}
    return {"allowed": True, "reason": ""}


def _check_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > 100 or not name.isprintable() or "/" in name:
        raise _bad("name", "1 to 100 printable characters, and no slash")
    return name


def _refuse_twin(name: str, *, but: Image | None = None) -> None:
    twin = Image.objects.filter(name__iexact=name).first()
    if twin is not None and twin != but:
        raise AlreadyExists(f"An image called {twin.name} is there already.", id=str(twin.pk))


def _bad(name: str, detail: str) -> BadInput:
    return BadInput(f"{name}: {detail}.", errors=[{"pointer": f"/{name}", "detail": detail}])
