"""What callers may ask of snapshots: permission, validation, submit. REST and pages come through here."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Literal

from django.db.models import DateTimeField, Q, Value
from django.db.models.functions import Coalesce
from pydantic import ValidationError

from accounts import policy
from core import search
from core.errors import BadInput
from core.paging import Page, paginate
from core.problems import pointer
from drivers.errors import AlreadyExists, Unsupported
from drivers.types import Feature
from operations import engine
from operations.choices import OPEN
from operations.models import Operation
from vms.alternatives import with_alternatives
from vms.models import Snapshot
from vms.services import read_now
from vms.snapshots.actions import (
    NAME_MAX,
    DeleteSnapshot,
    DeleteSnapshotParams,
    NameParams,
    ReadSnapshots,
    RevertSnapshot,
    TakeParams,
    TakeSnapshot,
)

if TYPE_CHECKING:
    from accounts.actor import Actor
    from vms.models import VM

OnConflict = Literal["wait", "fail"]
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
ORDERINGS = {"created_at": "order_created", "name": "name"}


def snapshots_read(*, vm: VM, by: Actor) -> None:
    """Have a worker look which there are. Blocks up to 25 s; what it sees is in the rows then.

    A guest whose host is out of reach is left as it was last seen: `VM.stale` says so.

    Raises:
        Unsupported, Timeout, and what the hypervisor reports.
    """
    if not vm.stale:
        read_now(ReadSnapshots, vm, by)


def snapshots_supported(vm: VM) -> None:
    """Raises Unsupported where its hypervisor keeps no snapshots."""
    supported, reason = vm.hypervisor.support(Feature.SNAPSHOTS_DISK)
    if vm.hypervisor.capabilities and not supported:
        raise Unsupported(reason, feature=str(Feature.SNAPSHOTS_DISK), hypervisor=str(vm.hypervisor_id))


def snapshot_page(
    vm: VM,
    by: Actor,
    *,
    q: str = "",
    ordering: str = "created_at",
    cursor: str | None = None,
    limit: int | None = None,
) -> Page[Snapshot]:
    """One page of a guest's, as they were last seen. Two queries. Raises BadInput."""
    rows = policy.visible(by, Snapshot.objects.filter(vm=vm))
    for term in search.parse(q, keys=()):
        fits = Q(name__icontains=term.values[0]) | Q(description__icontains=term.values[0])
        rows = rows.exclude(fits) if term.negative else rows.filter(fits)
    rows = rows.annotate(order_created=Coalesce("created_at", Value(_EPOCH, DateTimeField())))
    return paginate(rows, orderings=ORDERINGS, ordering=ordering, cursor=cursor, limit=limit)


def snapshot_take(
    *,
    vm: VM,
    by: Actor,
    name: str,
    description: str = "",
    memory: bool | None = None,
    on_conflict: OnConflict = "wait",
) -> Operation:
    """Queue one, or return the equal request already under way.

    Args:
        vm: Of which guest.
        by: Who asks.
        name: What it is called: `drivers.snapshots.why_no_name`.
        description: Why, for people.
        memory: Whether the memory of a guest that runs is kept too; None: where its hypervisor can.
        on_conflict: `fail` refuses when anything is queued or running on the guest.

    Raises:
        BadInput, PermissionRefused, Unsupported, Unreachable, WrongState, InProgress.
        AlreadyExists: The guest has one of this name, as far as is known here.
    """
    try:
        params = TakeParams(name=name, description=description, memory=memory)
    except ValidationError as error:
        errors = [
            {"pointer": pointer(item["loc"]), "detail": item["msg"].removeprefix("Value error, ")}
            for item in error.errors(include_url=False)
        ]
        raise BadInput(errors[0]["detail"], errors=errors) from None
    policy.require(by, TakeSnapshot.verb, vm)
    busy = Operation.objects.filter(lock_key=vm.ref, state__in=OPEN).exists()
    if not busy and Snapshot.objects.filter(vm=vm, name=name).exists():
        raise AlreadyExists(f"{vm.name} has a snapshot {name!r} already. Give this one another name.", snapshot=name)
    with with_alternatives(vm, by=by):
        return engine.submit(TakeSnapshot, target=vm, by=by, params=params, on_conflict=on_conflict)


def snapshot_revert(*, vm: VM, by: Actor, name: str, on_conflict: OnConflict = "wait") -> Operation:
    """Queue going back to it. Raises Missing, PermissionRefused, Unsupported, Unreachable, WrongState, InProgress."""
    params = NameParams(name=_known(name))
    with with_alternatives(vm, by=by):
        return engine.submit(RevertSnapshot, target=vm, by=by, params=params, on_conflict=on_conflict)


def snapshot_delete(
    *, vm: VM, by: Actor, name: str, children: bool = False, on_conflict: OnConflict = "wait"
) -> Operation:
    """Queue its removal, with `children` of all that grew from it. Raises as `snapshot_revert`."""
    params = DeleteSnapshotParams(name=_known(name), children=children)
    with with_alternatives(vm, by=by):
        return engine.submit(DeleteSnapshot, target=vm, by=by, params=params, on_conflict=on_conflict)


def _known(name: str) -> str:
    """What may be the name of a snapshot, whoever gave it. Raises BadInput for what a database cannot even look for."""
    if not name or len(name) > NAME_MAX or "\0" in name:
        raise BadInput("name: no snapshot is called so.", errors=[{"pointer": "/name", "detail": "no name"}])
    return name
