"""REST: storage pools and volumes. Thin: parse, ask the service, make JSON. Runs in a request thread and never touches a hypervisor."""

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field, StringConstraints

from accounts.access import access
from accounts.actor import Actor, actor_of
from core.rest import AllowedNow, Input, Listing, Output, answer, if_match, moment, page_answer, problems, single
from drivers.storage import CAPACITY_MAX, POOL_TYPES
from drivers.types import PoolSpec
from hosts.services import host_find
from operations.answers import Started, changed
from operations.api import OperationOut
from storage import services
from storage.choices import PoolState
from storage.models import StoragePool, Volume
from storage.selectors import (
    POOL_FILTERS,
    POOL_ORDERINGS,
    VOLUME_FILTERS,
    VOLUME_ORDERINGS,
    pool_page,
    volume_page,
)

router = Router(tags=["storage"])

PoolStateName = Literal["running", "inactive", "building", "degraded", "inaccessible"]
Several = Annotated[str, Field(max_length=8000)]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Word = Annotated[str, StringConstraints(max_length=1100)]
Bytes = Annotated[int, Field(ge=1, le=CAPACITY_MAX)]
OnConflict = Annotated[
    Literal["wait", "fail"], Query("wait", description="`fail`: 409 when anything is queued or running on it.")
]
_DONE = {202: OperationOut, 200: OperationOut}


# -- shapes --------------------------------------------------------------------------------------------------------------
class ForecastOut(Output):
    """When a pool is full at the pace of its last days."""

    full_at: dt.datetime
    bytes_per_day: int
    based_on_days: int


class PoolOut(Output):
    """A storage pool of a host, once, whatever drivers of one libvirtd list it."""

    id: UUID
    uuid: str = Field(description="The hypervisor's own identifier.")
    name: str
    host: UUID
    host_name: str
    hypervisor: UUID = Field(description="That calls go through.")
    type: str = Field(examples=["dir"])
    state: PoolStateName
    stale: bool = Field(description="Its hypervisor is out of reach: the last known state stands.")
    capacity_bytes: int | None
    allocation_bytes: int | None
    available_bytes: int | None
    forecast: ForecastOut | None = Field(
        description="By hourly samples. Null: the history is short, use does not grow steadily, or would not fill it within a year."
    )
    promised_bytes: int = Field(description="What its volumes may grow to; more than its capacity is over-commit.")
    unwritten_bytes: int = Field(description="What of that is not written yet.")
    target: str = Field(description="Where its volumes appear on the host.")
    source: str = Field(description="What it is made from, for people.")
    formats: list[str] = Field(description="Of volumes that can be made in it, the best first.")
    autostart: bool
    persistent: bool
    volume_count: int
    actions: dict[str, AllowedNow] = Field(
        description="For this caller, now. In a list without a look at whether guests run with what is in it."
    )
    created_at: dt.datetime
    updated_at: dt.datetime
    version: int


class PoolPage(Output):
    """A page of pools."""

    items: list[PoolOut]
    total: int
    next: str | None


class UseOut(Output):
    """Somebody who uses a volume."""

    type: Literal["vm", "volume", "image", "template"]
    id: UUID
    name: str
    how: str = Field(description="The disk's target; `overlay`; `image`.")
    running: bool


class VolumeOut(Output):
    """A volume of a pool."""

    id: UUID
    name: str
    pool: UUID
    pool_name: str
    host: UUID
    host_name: str
    kind: str = Field(examples=["file"])
    format: str = Field(examples=["qcow2"])
    capacity_bytes: int
    allocation_bytes: int
    path: str = Field(description="Where it is on the host.")
    backing: str | None = Field(description="Path of what it is an overlay of.")
    backing_format: str | None
    used_by: list[UseOut]
    actions: dict[str, AllowedNow] = Field(description="For this caller, now.")
    created_at: dt.datetime
    updated_at: dt.datetime
    version: int


class VolumePage(Output):
    """A page of volumes."""

    items: list[VolumeOut]
    total: int
    next: str | None


class PoolFieldOut(Output):
    """One thing that a type of pool asks for."""

    name: str = Field(description="A field of `POST /storage-pools`.")
    label: str
    hint: str
    placeholder: str
    required: bool
    choices: list[str]


class PoolTypeOut(Output):
    """One type of pool."""

    name: str
    label: str
    hint: str
    target: str = Field(description="Where its volumes appear where no field asks for it.")
    formats: list[str] = Field(description="Of volumes that can be made in it; empty where none can.")
    build: str = Field(description="What `build` does; empty where there is nothing to build.")
    fields: list[PoolFieldOut]


class PoolTypes(Output):
    """All of them, the most usual first."""

    items: list[PoolTypeOut]


class PoolListing(Listing):
    """The query of the list. Filters take several values by commas."""

    host: Several = Field("", description="Ids or names.")
    type: Several = Field("", description=", ".join(POOL_TYPES))
    state: Several = Field("", description=", ".join(PoolState.values))
    ordering: Annotated[str, Field(max_length=50, description=", ".join(POOL_ORDERINGS))] = "name"


class VolumeListing(Listing):
    """The query of the list. Filters take several values by commas; `q=is:orphan` finds what nobody uses."""

    host: Several = Field("", description="Ids or names.")
    pool: Several = Field("", description="Ids or names.")
    type: Several = Field("", description="Of their pools.")
    format: Several = Field("", description="qcow2, raw, …")
    ordering: Annotated[str, Field(max_length=50, description=", ".join(VOLUME_ORDERINGS))] = "name"


class PoolIn(Input):
    """A pool to be made. Which of the sources a type takes is in `GET /storage-pool-types`."""

    host: Reference = Field(description="Id or name.")
    name: Annotated[str, StringConstraints(max_length=300)] = Field(examples=["guests"])
    type: Annotated[str, StringConstraints(max_length=30)] = Field(examples=["dir"])
    target: Word = Field("", examples=["/srv/guests"])
    source_host: Word = ""
    source_directory: Word = ""
    source_device: Word = ""
    source_name: Word = ""
    source_format: Word = ""
    initiator: Word = ""
    username: Word = ""
    secret_uuid: Word = ""
    autostart: bool = True
    build: bool = Field(default=True, description="Make what is missing: the directory, the file system, the group.")

    def spec(self) -> PoolSpec:
        """As drivers take it."""
        return PoolSpec(**self.model_dump(exclude={"host"}))


class PoolChange(Input):
    """What of a pool can be changed."""

    autostart: bool


class VolumeIn(Input):
    """A volume to be made: empty, an overlay of `backing`, or a full copy of `clone_of` (ids or names of volumes of the same pool)."""

    pool: Reference = Field(description="Id, or a name that only one host has.")
    host: Reference | None = Field(None, description="Id or name, where several hosts have a pool of this name.")
    name: Annotated[str, StringConstraints(max_length=300)] = Field(examples=["web-01.qcow2"])
    capacity_bytes: Bytes | None = Field(None, description="Left out: what its backing or its original has.")
    format: Annotated[str, StringConstraints(max_length=30)] = Field("", description="Left out: the pool's best.")
    allocation_bytes: Annotated[int, Field(ge=0, le=CAPACITY_MAX)] = Field(0, description="What is reserved at once.")
    backing: Reference | None = None
    clone_of: Reference | None = None

    def wish(self) -> services.NewVolumeWish:
        """As the services take it."""
        return services.NewVolumeWish(
            name=self.name,
            capacity_bytes=self.capacity_bytes,
            format=self.format,
            allocation_bytes=self.allocation_bytes,
            backing=self.backing or "",
            clone_of=self.clone_of or "",
        )


class VolumeChange(Input):
    """What of a volume can be changed."""

    capacity_bytes: Bytes = Field(description="Never less than it has.")


class CloneIn(Input):
    """A full copy beside it."""

    name: Annotated[str, StringConstraints(max_length=300)]
    format: Annotated[str, StringConstraints(max_length=30)] = Field("", description="Left out: as it is.")


def pool_json(pool: StoragePool, *, by: Actor) -> dict[str, Any]:
    """The contract's pool. No query where what `storage.selectors` puts on is there."""
    told = pool.forecast
    return {
        "id": str(pool.pk),
        "uuid": pool.uuid,
        "name": pool.name,
        "host": str(pool.host_id),
        "host_name": pool.hypervisor.host.name,
        "hypervisor": str(pool.hypervisor_id),
        "type": pool.type,
        "state": pool.state,
        "stale": pool.stale,
        "capacity_bytes": pool.capacity_bytes,
        "allocation_bytes": pool.allocation_bytes,
        "available_bytes": pool.available_bytes,
        "forecast": told
        and {
            "full_at": moment(told.full_at),
            "bytes_per_day": told.bytes_per_day,
            "based_on_days": told.based_on_days,
        },
        "promised_bytes": pool.promised_bytes,
        "unwritten_bytes": pool.unwritten_bytes,
        "target": pool.target,
        "source": pool.source,
        "formats": pool.formats,
        "autostart": pool.autostart,
        "persistent": pool.persistent,
        "volume_count": pool.volume_count,
        "actions": services.pool_actions(pool, by=by),
        "created_at": moment(pool.created_at),
        "updated_at": moment(pool.updated_at),
        "version": pool.version,
    }


def volume_json(volume: Volume, *, by: Actor) -> dict[str, Any]:
    """The contract's volume. No query where what `storage.selectors` puts on is there."""
    pool = volume.pool
    return {
        "id": str(volume.pk),
        "name": volume.name,
        "pool": str(pool.pk),
        "pool_name": pool.name,
        "host": str(pool.host_id),
        "host_name": pool.hypervisor.host.name,
        "kind": volume.kind,
        "format": volume.format,
        "capacity_bytes": volume.capacity_bytes,
        "allocation_bytes": volume.allocation_bytes,
        "path": volume.path,
        "backing": volume.backing or None,
        "backing_format": volume.backing_format or None,
        "used_by": [
            {"type": use.type, "id": use.id, "name": use.name, "how": use.how, "running": use.running}
            for use in volume.uses or ()
        ],
        "actions": services.volume_actions(volume, by=by),
        "created_at": moment(volume.created_at),
        "updated_at": moment(volume.updated_at),
        "version": volume.version,
    }


# -- pools ---------------------------------------------------------------------------------------------------------------
@router.get("/storage-pools", response=PoolPage, operation_id="list_storage_pools", summary="List storage pools")
@access("view")
def pool_list(request: HttpRequest, listing: Query[PoolListing]) -> HttpResponse:
    """By name unless told."""
    by = actor_of(request)
    page = pool_page(
        by,
        **listing.asked(POOL_FILTERS),
    )
    return page_answer(page, lambda pool: pool_json(pool, by=by))


@router.post("/storage-pools", response=_DONE, operation_id="create_storage_pool", summary="Make a storage pool")
@access("pool.manage")
@problems(404)
def pool_create(request: HttpRequest, payload: PoolIn) -> HttpResponse:
    """An operation: defined, built where asked, started. Its `target` is the pool's id, `result.pool` says it again."""
    by = actor_of(request)
    host = host_find(payload.host, by=by)
    return Started(request, services.pool_create(host=host, spec=payload.spec(), by=by), by)


@router.get(
    "/storage-pool-types", response=PoolTypes, operation_id="list_storage_pool_types", summary="Types of storage pools"
)
@access("view")
def pool_types(request: HttpRequest) -> HttpResponse:
    """The forms that pools are made with."""
    del request
    return answer({"items": services.pool_types()})


@router.get("/storage-pools/{pool_id}", response=PoolOut, operation_id="get_storage_pool", summary="One storage pool")
@access("view")
def pool_one(request: HttpRequest, pool_id: UUID) -> HttpResponse:
    """As it was last seen."""
    by = actor_of(request)
    pool = services.pool_get(pool_id, by=by)
    return single(request, pool_json(pool, by=by), version=pool.version)


@router.patch(
    "/storage-pools/{pool_id}",
    response={200: PoolOut, 202: OperationOut},
    operation_id="change_storage_pool",
    summary="Change a storage pool",
)
@access("pool.manage")
@problems(409, 503, 504)
def pool_change(request: HttpRequest, pool_id: UUID, payload: PoolChange) -> HttpResponse:
    """Set by an operation, which this call waits for (5 s, or `Prefer: wait=N`): 200 the pool as it is then; 202 the operation."""
    by = actor_of(request)
    pool = services.pool_get(pool_id, by=by)
    if_match(request, pool.version)
    operation = None
    if payload.autostart != pool.autostart:
        operation = services.pool_autostart(pool=pool, enabled=payload.autostart, by=by)

    def shown() -> HttpResponse:
        pool = services.pool_get(pool_id, by=by)
        return single(request, pool_json(pool, by=by), version=pool.version)

    return changed(request, operation, by, shown)


@router.delete(
    "/storage-pools/{pool_id}", response=_DONE, operation_id="delete_storage_pool", summary="Remove a storage pool"
)
@access("pool.manage")
@problems(409, 503)
def pool_delete(request: HttpRequest, pool_id: UUID, on_conflict: OnConflict) -> HttpResponse:
    """An operation. Its definition goes; volumes stay where they are. 409 `in_use` while guests run with what is in it."""
    by = actor_of(request)
    pool = services.pool_get(pool_id, by=by)
    if_match(request, pool.version)
    return Started(request, services.pool_delete(pool=pool, by=by, on_conflict=on_conflict), by)


@router.post(
    "/storage-pools/{pool_id}/actions/{action}",
    response=_DONE,
    operation_id="act_on_storage_pool",
    summary="Start, stop, refresh",
)
@access("pool.manage")
def pool_act(
    request: HttpRequest,
    pool_id: UUID,
    action: Annotated[str, Field(max_length=50, json_schema_extra={"enum": list(services.POOL_ACTIONS)})],
    on_conflict: OnConflict,
) -> HttpResponse:
    """An operation. An equal one that is already queued or running on the pool is answered instead of a second."""
    by = actor_of(request)
    pool = services.pool_get(pool_id, by=by)
    return Started(request, services.pool_action(pool=pool, name=action, by=by, on_conflict=on_conflict), by)


# -- volumes -------------------------------------------------------------------------------------------------------------
@router.get("/volumes", response=VolumePage, operation_id="list_volumes", summary="List volumes")
@access("view")
def volume_list(request: HttpRequest, listing: Query[VolumeListing]) -> HttpResponse:
    """By name unless told."""
    by = actor_of(request)
    page = volume_page(
        by,
        **listing.asked(VOLUME_FILTERS),
    )
    return page_answer(page, lambda volume: volume_json(volume, by=by))


@router.post("/volumes", response=_DONE, operation_id="create_volume", summary="Make a volume")
@access("volume.manage")
def volume_create(request: HttpRequest, payload: VolumeIn) -> HttpResponse:
    """An operation. Its `target` is the volume's id, `result.volume` says it again."""
    by = actor_of(request)
    pool = services.pool_find(payload.pool, by=by, host=payload.host or "")
    return Started(request, services.volume_create(pool=pool, wish=payload.wish(), by=by), by)


@router.get("/volumes/{volume_id}", response=VolumeOut, operation_id="get_volume", summary="One volume")
@access("view")
def volume_one(request: HttpRequest, volume_id: UUID) -> HttpResponse:
    """As it was last seen, with who uses it."""
    by = actor_of(request)
    volume = services.volume_get(volume_id, by=by)
    return single(request, volume_json(volume, by=by), version=volume.version)


@router.patch(
    "/volumes/{volume_id}",
    response={200: VolumeOut, 202: OperationOut},
    operation_id="change_volume",
    summary="Resize a volume",
)
@access("volume.manage")
@problems(409, 503, 504)
def volume_change(request: HttpRequest, volume_id: UUID, payload: VolumeChange) -> HttpResponse:
    """Grown by an operation, which this call waits for (5 s, or `Prefer: wait=N`): 200 the volume as it is then; 202 the operation."""
    by = actor_of(request)
    volume = services.volume_get(volume_id, by=by)
    if_match(request, volume.version)
    operation = None
    if payload.capacity_bytes != volume.capacity_bytes:
        operation = services.volume_resize(volume=volume, capacity_bytes=payload.capacity_bytes, by=by)

    def shown() -> HttpResponse:
        volume = services.volume_get(volume_id, by=by)
        return single(request, volume_json(volume, by=by), version=volume.version)

    return changed(request, operation, by, shown)


@router.delete("/volumes/{volume_id}", response=_DONE, operation_id="delete_volume", summary="Delete a volume")
@access("volume.manage")
@problems(409, 503)
def volume_delete(request: HttpRequest, volume_id: UUID, on_conflict: OnConflict) -> HttpResponse:
    """An operation: it is gone for good. 409 `in_use`, and who, while a guest's disk, an overlay or an image uses it."""
    by = actor_of(request)
    volume = services.volume_get(volume_id, by=by)
    if_match(request, volume.version)
    return Started(request, services.volume_delete(volume=volume, by=by, on_conflict=on_conflict), by)


@router.post("/volumes/{volume_id}/actions/wipe", response=_DONE, operation_id="wipe_volume", summary="Wipe a volume")
@access("volume.manage")
def volume_wipe(request: HttpRequest, volume_id: UUID, on_conflict: OnConflict) -> HttpResponse:
    """An operation: it is overwritten with zeros. 409 `in_use`, and who, while anybody uses it."""
    by = actor_of(request)
    volume = services.volume_get(volume_id, by=by)
    return Started(request, services.volume_wipe(volume=volume, by=by, on_conflict=on_conflict), by)


@router.post("/volumes/{volume_id}/actions/clone", response=_DONE, operation_id="clone_volume", summary="Copy a volume")
@access("volume.manage")
def volume_clone(request: HttpRequest, volume_id: UUID, payload: CloneIn) -> HttpResponse:
    """An operation: a full copy in the same pool; `result.volume` is its id."""
    by = actor_of(request)
    volume = services.volume_get(volume_id, by=by)
    return Started(request, services.volume_clone(volume=volume, name=payload.name, format_=payload.format, by=by), by)
