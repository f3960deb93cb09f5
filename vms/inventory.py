"""Facts in: the only writer of what a guest is and does, whoever saw it (watcher, sweep, or an action reading back its work).

An observation counts by the time *before* its reading began (`seen_at`): whatever happened before that time is in it. So of
two observers the later one always holds what the earlier one missed, and a slow reader that comes late with old news is
refused by `observed_at`. A wall clock that was set back would refuse all news: what lies in the future refuses nothing.

The row and its events are one transaction. Every event has a version of its own, since readers drop what is not newer.
Tags, project, owner, title and description are ours: taken over when a guest is first seen, never overwritten by a look at it.
A guest that we made carries the id of its row-to-be in its definition: whoever sees it first makes that row.

Addresses are asked for apart (`vms_addresses`): they are not in a listing, and a guest takes its time to have one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import time
import uuid as uuids
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, models, transaction
from django.utils import timezone

from accounts.models import User
from core import bulk
from core.errors import Missing
from events import log as event_log
from hosts.models import Hypervisor
from operations.models import Operation
from vms.addresses import flattened, reasons
from vms.choices import ACTIVE, State
from vms.definitions.drift import definitions_changed
from vms.deletion.facts import OUT_OF_BIN, heed_bin
from vms.facts import adopted
from vms.models import VM, Snapshot, VMDisk, VMNic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from drivers.types import DiskInfo, GraphicsInfo, GuestInfo, NicInfo
    from vms.addresses import Told

log = logging.getLogger(__name__)

BATCH = 250
"""Rows in one transaction: measured on SQLite, 250 new guests with disks, interfaces and events hold the write lock for 60 ms."""
BREATH_SECONDS = 0.005
"""Between two batches: SQLite's waiting writers poll for the lock, and would not get in between transactions back to back."""
CLOCK_SLACK = dt.timedelta(seconds=5)
RESTART_SLACK = dt.timedelta(seconds=2)
"""News of a start may arrive this much after a worker has read the started guest itself."""
_STATES = frozenset(State.values)
_ADDRESSED = (*ACTIVE, State.UNKNOWN)
"""States in which a guest may have addresses."""
_ATTEMPTS = 3
_DISK_COLUMNS = ("vm_id", "target", "device", "bus", "source", "pool", "format", "size_bytes", "readonly")
_NIC_COLUMNS = ("vm_id", "mac", "model", "network", "link", "target", "filter")
_INT_MAX, _BIGINT_MAX = 2**31 - 1, 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a bulk observation found."""

    seen: int = 0
    defined: int = 0
    changed: int = 0
    gone: int = 0


@dataclass(slots=True, kw_only=True)
class _Seen:
    """One guest as observed, its values fit for the columns."""

    info: GuestInfo
    at: dt.datetime
    started_at: dt.datetime | None
    cause: str
    facts: dict[str, Any]
    pk: uuids.UUID | None = None


@dataclass(slots=True)
class _Work:
    """What one transaction writes."""

    defined: int = 0
    changed: int = 0
    rows: dict[str, VM] = field(default_factory=dict)
    untouched: list[uuids.UUID] = field(default_factory=list)
    children: list[tuple[VM, GuestInfo]] = field(default_factory=list)
    news: list[tuple[VM, str, dict[str, Any]]] = field(default_factory=list)
    redefined: list[VM] = field(default_factory=list)


# -- the doors ---------------------------------------------------------------------------------------------------------
def vm_observe(
    hypervisor: Hypervisor,
    info: GuestInfo,
    *,
    seen_at: dt.datetime | None = None,
    started_at: dt.datetime | None = None,
    cause: str = "",
    pk: uuids.UUID | None = None,
) -> VM:
    """Write down what was seen of one guest, unless something newer is known; the row as it now is.

    Args:
        hypervisor: Where it was seen.
        info: What was read.
        seen_at: A time before the reading began; now when left out.
        started_at: When a start was heard of since the last look: a guest that stopped and started in between looks unchanged.
        cause: Why it was looked at, for the events `vm.defined` and `vm.undefined`.
        pk: The id of its row, where it is seen for the first time.

    Raises:
        Missing: The hypervisor was removed meanwhile.
    """
    seen = _seen(info, seen_at or timezone.now(), started_at, cause)
    seen.pk = pk
    return _observe_batch(hypervisor.pk, [seen]).rows[seen.facts["uuid"]]


def vms_observe(
    hypervisor: Hypervisor,
    infos: Iterable[GuestInfo],
    *,
    seen_at: dt.datetime | None = None,
    complete: bool = False,
    started: Mapping[str, dt.datetime] | None = None,
    cause: str = "",
) -> Tally:
    """Write down many guests at once, in short transactions.

    Args:
        hypervisor: Where they were seen.
        infos: What was read; of two with the same identifier the last counts.
        seen_at: A time before the reading began; now when left out.
        complete: They are all there are: guests we know and that are not among them are gone.
        started: As `started_at` in `vm_observe`, by identifier.
        cause: As in `vm_observe`.

    Raises:
        Missing: The hypervisor was removed meanwhile.
    """
    at = seen_at or timezone.now()
    heard = started or {}
    seen = {one.facts["uuid"]: one for one in (_seen(info, at, heard.get(info.uuid), cause) for info in infos)}
    order = sorted(seen)
    defined = changed = 0
    for start in range(0, len(order), BATCH):
        batch = _news_only(hypervisor.pk, [seen[uuid] for uuid in order[start : start + BATCH]])
        if not batch:
            continue
        work = _observe_batch(hypervisor.pk, batch)
        defined, changed = defined + work.defined, changed + work.changed
        if start + BATCH < len(order):
            time.sleep(BREATH_SECONDS)
    gone = 0
    if complete:
        known = VM.objects.filter(hypervisor_id=hypervisor.pk, gone_at=None).values_list("uuid", flat=True)
        gone = vms_gone(hypervisor, [uuid for uuid in known if uuid not in seen], seen_at=at, cause=cause)
    return Tally(seen=len(seen), defined=defined, changed=changed, gone=gone)


def vm_gone(hypervisor: Hypervisor, uuid: str, *, seen_at: dt.datetime | None = None, cause: str = "") -> bool:
    """The hypervisor does not know this guest (any more): its row becomes a tombstone. False when it was none of ours."""
    return vms_gone(hypervisor, [uuid], seen_at=seen_at, cause=cause) == 1


def vms_gone(
    hypervisor: Hypervisor, uuids_gone: Sequence[str], *, seen_at: dt.datetime | None = None, cause: str = ""
) -> int:
    """Several at once, in short transactions; how many tombstones there are now that were none."""
    at = seen_at or timezone.now()
    order = sorted({_text(uuid, 64).lower() for uuid in uuids_gone})
    return sum(_bury(hypervisor.pk, order[start : start + BATCH], at, cause) for start in range(0, len(order), BATCH))


def vms_addresses(hypervisor: Hypervisor, told: Mapping[str, Told]) -> int:
    """Write down what was said of the addresses of running guests, by identifier; of how many they changed. Short transactions."""
    order = sorted(told)
    return sum(
        _write_addresses(hypervisor.pk, {uuid: told[uuid] for uuid in order[start : start + BATCH]})
        for start in range(0, len(order), BATCH)
    )


def vm_say(vm: VM, *, actor: str | None = None, **ours: Any) -> None:
    """Write down what is ours to say of a guest, where it is not so already: for hypervisors that keep none of it.

    Without an `actor` it is whoever asked for the operation that works on the guest.
    """
    changed = {name: value for name, value in ours.items() if getattr(vm, name) != value}
    if not changed:
        return
    with transaction.atomic():
        VM.objects.filter(pk=vm.pk).update(version=models.F("version") + 1, updated_at=timezone.now(), **changed)
        vm.refresh_from_db(fields=["version", *changed])
        shown = {name: value.get_username() if isinstance(value, User) else value for name, value in changed.items()}
        announce([(vm, "vm.changed", {"version": vm.version, "changed": shown})], actor=actor)


# -- what was seen -----------------------------------------------------------------------------------------------------
def _text(value: object, limit: int) -> str:
    """Text that a column takes: PostgreSQL refuses NUL, and a column has its length."""
    return str(value if value is not None else "").replace("\0", "")[:limit]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    return value


def _fields(item: DiskInfo | NicInfo | GraphicsInfo) -> dict[str, Any]:
    """As `asdict`, which copies each value as if it were deep."""
    return {name: getattr(item, name) for name in item.__dataclass_fields__}


def _number(value: int, top: int) -> int:
    return min(max(int(value), 0), top)


def _seen(info: GuestInfo, at: dt.datetime, started_at: dt.datetime | None, cause: str) -> _Seen:
    """Clamp what a hypervisor may say to what a column takes. Raises TypeError and the like for what is no guest."""
    facts = {
        "uuid": _text(info.uuid, 64).lower(),
        "name": _text(info.name, 255),
        "kind": str(info.kind),
        "virtualization_type": str(info.virtualization_type),
        "techniques": [str(technique) for technique in info.techniques],
        "domain_type": _text(info.domain_type, 20),
        "state": str(info.state) if str(info.state) in _STATES else str(State.UNKNOWN),
        "state_reason": _text(info.state_reason, 60),
        "vcpus": _number(info.vcpus, _INT_MAX),
        "memory_bytes": _number(info.memory_bytes, _BIGINT_MAX),
        "max_memory_bytes": _number(info.max_memory_bytes, _BIGINT_MAX),
        "persistent": bool(info.persistent),
        "autostart": bool(info.autostart),
        "has_managed_save": bool(info.has_managed_save),
        "os": _text(info.os, 200),
        "boot": _plain(dict(info.boot)),
        "graphics": [_plain(_fields(item)) for item in info.graphics],
        "consoles": [str(name) for name in info.consoles],
        "xml_digest": _digest(info),
    }
    if not facts["uuid"]:
        raise ValueError("A guest without an identifier.")
    return _Seen(info=info, at=at, started_at=started_at, cause=cause, facts=facts)


def _digest(info: GuestInfo) -> str:
    """Half of it says whether the definition is the same, half whether the child rows are.

    They differ: a running guest's interfaces are not those of its definition, they have a device on the host.
    """
    devices = repr((info.disks, info.interfaces)).encode()
    return definition_digest(info.xml_digest) + hashlib.blake2b(devices, digest_size=16).hexdigest()


def definition_digest(xml_digest: str) -> str:
    """How `VM.xml_digest` begins where a `GuestInfo` has this one: 32 characters."""
    return hashlib.blake2b(xml_digest.encode(), digest_size=16).hexdigest()


# -- comparing ---------------------------------------------------------------------------------------------------------
def _newer(row: VM, at: dt.datetime) -> bool:
    return at >= row.observed_at or row.observed_at > timezone.now() + CLOCK_SLACK


def _changes(row: VM, seen: _Seen) -> dict[str, Any]:
    changes = {name: value for name, value in seen.facts.items() if getattr(row, name) != value}
    if row.gone_at is not None:
        changes["gone_at"] = None
    started_at = _started_at(row, seen)
    if started_at != row.started_at:
        changes["started_at"] = started_at
    if row.bin_name or row.binned_at:
        heed_bin(row, seen.facts, changes)
    if seen.facts["state"] not in _ADDRESSED:
        # Whoever has them next may be another.
        changes |= {name: empty for name, empty in (("addresses", []), ("address_reasons", {})) if getattr(row, name)}
    return changes


def _started_at(row: VM, seen: _Seen) -> dt.datetime | None:
    """When it began to run: kept while it runs, known only if the change was seen."""
    now, before = seen.facts["state"], row.state
    if now == State.UNKNOWN:
        return row.started_at
    if now not in ACTIVE:
        return None
    if row.gone_at is not None or (
        before in (State.SHUTOFF, State.CRASHED) and now not in (before, State.SHUTTING_DOWN)
    ):
        return seen.started_at or seen.at
    if seen.started_at and (row.started_at is None or seen.started_at > row.started_at + RESTART_SLACK):
        return seen.started_at
    return row.started_at


def _news_only(hypervisor_id: uuids.UUID, batch: list[_Seen]) -> list[_Seen]:
    """Those that change something; the others' `observed_at` is moved on by one statement, without reading under a lock."""
    rows = {row.uuid: row for row in _rows(hypervisor_id, batch)}
    changed, same = [], []
    for seen in batch:
        row = rows.get(seen.facts["uuid"])
        if row is None or _changes(row, seen):
            changed.append(seen)
        else:
            same.append(row.pk)
    if same:
        _touch(same, batch[0].at)
    return changed


def _touch(same: list[uuids.UUID], at: dt.datetime) -> None:
    stale = models.Q(observed_at__lt=at) | models.Q(observed_at__gt=timezone.now() + CLOCK_SLACK)
    VM.objects.filter(stale, pk__in=same).update(observed_at=at)


def _rows(hypervisor_id: uuids.UUID, batch: list[_Seen]) -> models.QuerySet[VM]:
    return VM.objects.filter(hypervisor_id=hypervisor_id, uuid__in=[seen.facts["uuid"] for seen in batch])


# -- writing -----------------------------------------------------------------------------------------------------------
def _observe_batch(hypervisor_id: uuids.UUID, batch: list[_Seen]) -> _Work:
    """One transaction, sorted by identifier so that two of them lock in the same order. A lost race for a new row is run again."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with transaction.atomic():
                return _write(hypervisor_id, batch)
        except IntegrityError:
            if not Hypervisor.objects.filter(pk=hypervisor_id).exists():
                raise Missing("This hypervisor is no longer managed.") from None
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _write(hypervisor_id: uuids.UUID, batch: list[_Seen]) -> _Work:
    work = _Work()
    work.rows = {row.uuid: row for row in _rows(hypervisor_id, batch).select_for_update().order_by("uuid")}
    fresh = []
    for seen in batch:
        row = work.rows.get(seen.facts["uuid"])
        if row is None:
            fresh.append(seen)
        elif _newer(row, seen.at):
            _update(row, seen, work)
    if work.untouched:
        _touch(work.untouched, batch[0].at)
    if fresh:
        _create(hypervisor_id, fresh, work)
    _rebuild_children(work.children)
    announce(work.news)
    if work.redefined:
        definitions_changed(work.redefined)
    return work


def _update(row: VM, seen: _Seen, work: _Work) -> None:
    changes = _changes(row, seen)
    if not changes:
        work.untouched.append(row.pk)
        return
    news = _news(row, seen, changes)
    if changes.get("state", row.state) != row.state or "gone_at" in changes:
        changes["state_since"] = seen.started_at or seen.at
    if "xml_digest" in changes:
        if seen.facts["xml_digest"][32:] != row.xml_digest[32:]:
            work.children.append((row, seen.info))
        if seen.facts["xml_digest"][:32] != row.xml_digest[:32]:
            work.redefined.append(row)
        changes |= {name: value for name, value in _titles(seen.info).items() if value and not getattr(row, name)}
    for name, value in changes.items():
        setattr(row, name, value)
    for type_, data in news:
        row.version += 1
        work.news.append((row, type_, {**data, "version": row.version}))
    changes |= {"version": row.version, "observed_at": seen.at, "updated_at": timezone.now()}
    VM.objects.filter(pk=row.pk).update(**changes)
    work.changed += 1


def _news(row: VM, seen: _Seen, changes: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The events of these changes, in the order in which they are told."""
    if "gone_at" in changes:
        return [("vm.defined", _said(seen.facts["state"], seen.cause))]
    news: list[tuple[str, dict[str, Any]]] = []
    shown = dict(changes)
    if "state" in shown:
        reason = shown.pop("state_reason", row.state_reason)
        news.append(("vm.state_changed", {"from": row.state, "to": shown.pop("state"), "reason": reason}))
        shown.pop("started_at", None)  # the event's own time says it
    for name in OUT_OF_BIN.keys() - {"binned_at"}:
        shown.pop(name, None)
    digest = shown.pop("xml_digest", None)
    if digest is not None:
        if digest[:32] != row.xml_digest[:32]:
            shown["definition"] = digest[:32]
        if digest[32:] != row.xml_digest[32:]:
            shown["disks"] = [_disk_json(item) for item in seen.info.disks]
            shown["interfaces"] = [_fields(item) for item in seen.info.interfaces]
    if "started_at" in shown:
        started_at = shown["started_at"]
        shown["started_at"] = started_at and started_at.isoformat().replace("+00:00", "Z")
    if shown:
        news.append(("vm.changed", {"changed": _plain(shown)}))
    return news


def _said(state: str, cause: str) -> dict[str, Any]:
    return {"state": state, "cause": cause} if cause else {"state": state}


def _disk_json(item: DiskInfo) -> dict[str, Any]:
    return {key: value for key, value in _fields(item).items() if key != "device"}


def _titles(info: GuestInfo) -> dict[str, str]:
    return {"title": _text(info.title, 255), "description": _text(info.description, 100_000)}


def _create(hypervisor_id: uuids.UUID, fresh: list[_Seen], work: _Work) -> None:
    rows = []
    ids, owners = _own_ids(fresh), _owners(fresh)
    for seen in fresh:
        row = VM(
            **({"id": ids[seen.facts["uuid"]]} if seen.facts["uuid"] in ids else {}),
            hypervisor_id=hypervisor_id,
            owner=owners.get(str(seen.info.metadata.get("owner", ""))),
            observed_at=seen.at,
            state_since=seen.started_at,
            started_at=seen.started_at if seen.facts["state"] in ACTIVE else None,
            **seen.facts,
            **adopted(seen.info.metadata),
            **_titles(seen.info),
        )
        work.rows[row.uuid] = row
        rows.append(row)
        work.children.append((row, seen.info))
        work.news.append((row, "vm.defined", {**_said(row.state, seen.cause), "version": row.version}))
    bulk.insert(rows)
    work.defined += len(rows)


def _own_ids(fresh: list[_Seen]) -> dict[str, uuids.UUID]:
    """Identifier → the id that its definition names, where no row has it: a copy of a definition is another guest."""
    named: dict[uuids.UUID, str] = {}
    for seen in fresh:
        try:
            pk = seen.pk or uuids.UUID(str(seen.info.metadata["id"]))
        except (KeyError, ValueError):
            continue
        named.setdefault(pk, seen.facts["uuid"])
    taken = set(VM.objects.filter(pk__in=named).values_list("pk", flat=True)) if named else set()
    return {uuid: pk for pk, uuid in named.items() if pk not in taken}


def _owners(fresh: list[_Seen]) -> dict[str, User]:
    names = {str(seen.info.metadata["owner"]) for seen in fresh if seen.info.metadata.get("owner")}
    return {user.username: user for user in User.objects.filter(username__in=names)} if names else {}


def _rebuild_children(children: list[tuple[VM, GuestInfo]]) -> None:
    if not children:
        return
    old = [row.pk for row, _ in children if row.version > 1]
    if old:
        VMDisk.objects.filter(vm_id__in=old).delete()
        VMNic.objects.filter(vm_id__in=old).delete()
    disks: list[tuple[Any, ...]] = []
    nics: list[tuple[Any, ...]] = []
    for row, info in children:
        targets = {_text(disk.target, 100): disk for disk in reversed(info.disks)}
        disks += [
            (
                row.pk,
                target,
                _text(disk.device, 20),
                _text(disk.bus, 30),
                _text(disk.source, 4096),
                _text(disk.pool, 255),
                _text(disk.format, 30),
                None if disk.size_bytes is None else _number(disk.size_bytes, _BIGINT_MAX),
                bool(disk.readonly),
            )
            for target, disk in reversed(targets.items())
        ]
        nics += [
            (
                row.pk,
                _text(nic.mac, 20),
                _text(nic.model, 30),
                _text(nic.network, 255),
                _text(nic.link, 10),
                _text(nic.target, 50),
                _text(nic.filter, 255),
            )
            for nic in info.interfaces
        ]
    bulk.insert_rows(VMDisk, _DISK_COLUMNS, disks)
    bulk.insert_rows(VMNic, _NIC_COLUMNS, nics)


def _write_addresses(hypervisor_id: uuids.UUID, told: Mapping[str, Told]) -> int:
    with transaction.atomic():
        rows = list(
            VM.objects.select_for_update()
            .filter(hypervisor_id=hypervisor_id, uuid__in=told, gone_at=None, state__in=_ADDRESSED)
            .order_by("uuid")
        )
        news: list[tuple[VM, str, dict[str, Any]]] = []
        for row in rows:
            found, why = [_plain(one) for one in flattened(told[row.uuid])], _plain(reasons(told[row.uuid]))
            values: dict[str, Any] = {} if why == row.address_reasons else {"address_reasons": why}
            if found != row.addresses:
                row.version += 1
                values |= {"addresses": found, "version": row.version, "updated_at": timezone.now()}
                news.append((row, "vm.changed", {"version": row.version, "changed": {"addresses": found}}))
            if values:
                VM.objects.filter(pk=row.pk).update(**values)
        announce(news)
    return len(news)


def _bury(hypervisor_id: uuids.UUID, uuids_gone: list[str], at: dt.datetime, cause: str) -> int:
    with transaction.atomic():
        rows = list(
            VM.objects.select_for_update()
            .filter(hypervisor_id=hypervisor_id, uuid__in=uuids_gone, gone_at=None)
            .order_by("uuid")
        )
        rows = [row for row in rows if _newer(row, at)]
        Snapshot.objects.filter(vm__in=rows).delete()
        news: list[tuple[VM, str, dict[str, Any]]] = []
        for row in rows:
            values: dict[str, Any] = {"gone_at": at, "observed_at": at, "started_at": None, **OUT_OF_BIN}
            values |= {"addresses": [], "address_reasons": {}, "snapshots_read_at": None}
            if row.state in ACTIVE:
                # A transient guest that stopped, or one that was moved away: here it runs no longer.
                row.version += 1
                told = {"from": row.state, "to": str(State.SHUTOFF), "reason": "gone", "version": row.version}
                news.append((row, "vm.state_changed", told))
                values |= {"state": State.SHUTOFF, "state_reason": "gone", "state_since": at}
            row.version += 1
            news.append((row, "vm.undefined", {**_said(values.get("state", row.state), cause), "version": row.version}))
            VM.objects.filter(pk=row.pk).update(version=row.version, updated_at=timezone.now(), **values)
        announce(news)
    return len(rows)


def announce(news: list[tuple[VM, str, dict[str, Any]]], *, actor: str | None = None) -> None:
    """Append the events, each naming the operation that works on its guest just now, and who asked for it (or `actor`)."""
    if not news:
        return
    keys = {row.ref for row, _, _ in news}
    running = {
        lock_key: (operation, by)
        for lock_key, operation, by in Operation.objects.filter(holds_lock=True, lock_key__in=keys).values_list(
            "lock_key", "pk", "requested_by"
        )
    }
    events = []
    for row, type_, data in news:
        operation, by = running.get(row.ref, (None, ""))
        events.append(
            event_log.NewEvent(
                type=type_,
                object=row.ref,
                object_name=row.name,
                actor=by if actor is None else actor,
                operation=operation,
                data=data,
            )
        )
    event_log.append(events)
