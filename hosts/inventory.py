"""Facts in: the only writer of how hypervisors and hosts stand, what they are and what they can do.

A host's state follows from its hypervisors' (online if any of them is), derived under the host row's lock, so that two
watchers of one host agree. `host.online` and `host.offline` are announced once a change, over restarts too: the event log
itself says what was announced last. While we are only connecting, nothing is announced.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models import Case, F, Q, Value, When
from django.utils import timezone

from core.problems import problem_of
from drivers.errors import AlreadyExists
from events import log as event_log
from events.models import Event
from hosts.choices import LinkState
from hosts.models import Host, HostInterface, Hypervisor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from core.errors import VmmError
    from drivers.types import Feature, HostInfo, HostStats, Support
    from drivers.types import HostInterface as InterfaceInfo

ACTOR = "watcher"
_ORDER = (LinkState.ONLINE, LinkState.CONNECTING, LinkState.ERROR, LinkState.OFFLINE)
INTERFACES_MAX = 2000
_INTERFACE = ("name", "kind", "mac", "up", "speed_mbps", "master", "vlan")
_INT_MAX, _BIGINT_MAX = 2**31 - 1, 2**63 - 1
FRESH_SECONDS = 1800.0
"""For how long after its boot a machine has just come up."""
COUNTER_SLACK_SECONDS = 5.0
"""Linux's counters of idling go back a little now and then."""


def link_state(error: VmmError) -> LinkState:
    """How a hypervisor stands that cannot be followed for this reason: offline if trying again can help, else in error."""
    return LinkState.OFFLINE if error.retryable else LinkState.ERROR


def hypervisor_observe_link(hypervisor: Hypervisor, state: LinkState, error: VmmError | None = None) -> bool:
    """Write down how the link to a hypervisor stands, and what follows for its host; False when nothing changed.

    Args:
        hypervisor: Whose link.
        state: How it stands.
        error: Why it is not online.
    """
    problem = _problem(error)
    with transaction.atomic():
        host = Host.objects.select_for_update().filter(pk=hypervisor.host_id).first()
        row = Hypervisor.objects.filter(pk=hypervisor.pk).first()
        if host is None or row is None:
            return False
        now = timezone.now()
        if row.state == state and _same(row.error, problem):
            return False
        values: dict[str, Any] = {"state": state, "error": problem, "updated_at": now, "version": F("version") + 1}
        if row.state != state:
            values["state_since"] = now
        if LinkState.ONLINE in (state, row.state):
            values["last_seen_at"] = now if state == LinkState.ONLINE else row.last_seen_at or now
        Hypervisor.objects.filter(pk=row.pk).update(**values)
        shown = {"id": str(row.pk), "driver": row.driver, "state": str(state), "error": problem}
        _derive(host, now, {"hypervisors": [shown]})
    return True


def host_settle(host: Host) -> None:
    """One of its hypervisors was removed: its state follows from those that are left."""
    with transaction.atomic():
        row = Host.objects.select_for_update().filter(pk=host.pk).first()
        if row is not None:
            _derive(row, timezone.now(), {"hypervisors": []})


def _problem(error: VmmError | None) -> dict[str, Any] | None:
    """The problem document, without what changes with every try."""
    if error is None:
        return None
    problem: dict[str, Any] = {**problem_of(error)}
    context = {
        key: value for key, value in (problem.pop("context", None) or {}).items() if not key.startswith("retry_")
    }
    return {**problem, "context": context} if context else problem


def _same(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    return one == other or (
        one is not None and other is not None and (one["code"], one["detail"]) == (other["code"], other["detail"])
    )


def _derive(host: Host, now: dt.datetime, changed: dict[str, Any]) -> None:
    """The host's state from its hypervisors', and the one event that says what changed. The host row is locked."""
    rows = list(Hypervisor.objects.filter(host=host).order_by("pk").values_list("state", "error"))
    state = min((LinkState(row[0]) for row in rows), key=_ORDER.index, default=LinkState.OFFLINE)
    error = None if state == LinkState.ONLINE else next((row[1] for row in rows if row[1]), None)
    values: dict[str, Any] = {"version": F("version") + 1, "updated_at": now}
    if state != host.state:
        values |= {"state": state, "state_since": now}
        changed["state"] = str(state)
    if error != host.error:
        values["error"] = error
        changed["error"] = error
    if state == LinkState.ONLINE:
        values["last_seen_at"] = now
    Host.objects.filter(pk=host.pk).update(**values)
    data: dict[str, Any] = {"version": host.version + 1}
    type_ = _announcement(host, state)
    data |= {"state": str(state), "error": error} if type_ != "host.changed" else {"changed": changed}
    event_log.append([event_log.NewEvent(type=type_, object=host.ref, object_name=host.name, actor=ACTOR, data=data)])


def _announcement(host: Host, state: LinkState) -> str:
    if state == LinkState.CONNECTING:
        return "host.changed"
    wanted = "host.online" if state == LinkState.ONLINE else "host.offline"
    last = (
        Event.objects.filter(object=host.ref, type__in=("host.online", "host.offline"))
        .order_by("-seq")
        .values_list("type", flat=True)
        .first()
    )
    return "host.changed" if last == wanted else wanted


def host_observe(hypervisor: Hypervisor, info: HostInfo, capabilities: Mapping[Feature, Support]) -> None:
    """Write down what the machine and the hypervisor on it are and can do.

    Raises:
        AlreadyExists: Another host is this machine (`host` and `id` in the context name it), or this endpoint is another
            machine than the host it was added to. Nothing is written then, and its guests must not be adopted.
    """
    facts = _host_facts(info)
    own = _hypervisor_facts(info, capabilities)
    try:
        with transaction.atomic():
            host = Host.objects.select_for_update().filter(pk=hypervisor.host_id).first()
            row = Hypervisor.objects.filter(pk=hypervisor.pk).first()
            if host is None or row is None:
                return
            _refuse_twin(host, row, info)
            changed = _host_changes(host, row, facts)
            own_changed = {name: value for name, value in own.items() if getattr(row, name) != value}
            now = timezone.now()
            Host.objects.filter(pk=host.pk).update(
                memory_free_bytes=_number(info.memory_free_bytes, _BIGINT_MAX),
                last_seen_at=now,
                **_boot(host, info, now),
            )
            if own_changed:
                Hypervisor.objects.filter(pk=row.pk).update(version=F("version") + 1, updated_at=now, **own_changed)
            if changed:
                Host.objects.filter(pk=host.pk).update(updated_at=now, **changed)
            if changed or own_changed:
                told = {key: value for key, value in changed.items() if key != "host_uuid"}
                if own_changed:
                    told["hypervisors"] = [{"id": str(row.pk), "driver": row.driver, "changed": sorted(own_changed)}]
                _derive(host, now, told)
    except IntegrityError:
        with transaction.atomic():
            _refuse_twin(hypervisor.host, hypervisor, info)
        raise


def _boot(host: Host, info: HostInfo, now: dt.datetime) -> dict[str, Any]:
    """Since when it is up, and `came_up_at` where that is another boot than the one we knew, a moment ago.

    A machine that is seen for the first time has not come up: nobody knows since when its guests are as they are. Neither has one
    that has been up for long: whoever wanted its guests to run has started them.
    """
    if info.uptime_seconds is None:
        return {}
    another = _another_boot(host, info)
    values: dict[str, Any] = {
        # What tells no name says nothing against the one that another of its hypervisors told, unless that was of another boot.
        "boot_id": _text(info.boot_id, 64) or ("" if another else host.boot_id),
        "uptime_seconds": info.uptime_seconds,
    }
    if another and info.uptime_seconds < FRESH_SECONDS:
        values["came_up_at"] = now - dt.timedelta(seconds=info.uptime_seconds)
    return values


def _another_boot(host: Host, info: HostInfo) -> bool:
    """By its name where it has one; else by the time it has been up, which only grows."""
    if host.uptime_seconds is None or info.uptime_seconds is None:
        return False
    if host.boot_id and info.boot_id:
        return host.boot_id != info.boot_id
    return info.uptime_seconds < host.uptime_seconds - COUNTER_SLACK_SECONDS


def _host_changes(host: Host, row: Hypervisor, facts: dict[str, Any]) -> dict[str, Any]:
    """The host's first hypervisor tells the facts, the others fill in what it does not: their words differ a little."""
    changed = {name: value for name, value in facts.items() if getattr(host, name) != value}
    if Hypervisor.objects.filter(host=host, pk__lt=row.pk).exists():
        changed = {name: value for name, value in changed.items() if getattr(host, name) in ("", 0, None)}
    return changed


def _refuse_twin(host: Host, row: Hypervisor, info: HostInfo) -> None:
    """Raises AlreadyExists when this machine is managed as another host, or is not this host's."""
    uuid = _text(info.host_uuid, 64).lower()
    if not uuid:
        return
    other = Host.objects.filter(host_uuid=uuid).exclude(pk=host.pk).first()
    if other is not None:
        raise AlreadyExists(
            f"This machine is managed already, as host {other.name}. Add {row.uri} to that one, and remove this.",
            id=str(other.pk),
            host=other.name,
        )
    siblings = Hypervisor.objects.filter(host=host, state=LinkState.ONLINE).exclude(pk=row.pk)
    if host.host_uuid and host.host_uuid != uuid and siblings.exists():
        raise AlreadyExists(
            f"{row.uri} is another machine than the rest of host {host.name}. Add it as a host of its own.",
            id=str(host.pk),
            host=host.name,
        )


def _host_facts(info: HostInfo) -> dict[str, Any]:
    facts = {
        "hostname": _text(info.hostname, 255),
        "host_uuid": _text(info.host_uuid, 64).lower(),
        "cpu_count": _number(info.cpu_count, _INT_MAX),
        "cpu_model": _text(info.cpu_model, 200),
        "cpu_architecture": _text(info.cpu_architecture, 30),
        "memory_total_bytes": _number(info.memory_total_bytes, _BIGINT_MAX),
        "kernel": _text(info.kernel, 200),
        "nested_virtualization": info.nested_virtualization,
    }
    # One machine's drivers do not all know the same: what one does not tell must not wipe out what another told.
    return {name: value for name, value in facts.items() if value not in ("", 0, None) or value is False}


def _hypervisor_facts(info: HostInfo, capabilities: Mapping[Feature, Support]) -> dict[str, Any]:
    return {
        "hypervisor_version": _text(info.hypervisor_version, 100),
        "library_version": _text(info.library_version, 100),
        "virtualization_type": str(info.virtualization_type),
        "techniques": [str(technique) for technique in info.techniques],
        "capabilities": {
            str(feature): {"supported": bool(support.supported), "reason": _text(support.reason, 500)}
            for feature, support in sorted(capabilities.items())
        },
    }


def interfaces_observe(hypervisor: Hypervisor, infos: Sequence[InterfaceInfo]) -> bool:
    """Write down all network interfaces of the machine; False when nothing changed. One reading where nothing did."""
    seen = {facts["name"]: facts for facts in map(_interface_facts, infos[:INTERFACES_MAX])}
    rows = HostInterface.objects.filter(host=hypervisor.host_id)
    if {row["name"]: row for row in rows.values(*_INTERFACE)} == seen:
        return False
    with transaction.atomic():
        host = Host.objects.select_for_update().filter(pk=hypervisor.host_id).first()
        if host is None:
            return False
        rows.delete()
        HostInterface.objects.bulk_create([HostInterface(host_id=host.pk, **facts) for facts in seen.values()])
        _derive(host, timezone.now(), {"interfaces": sorted(seen)})
    return True


def _interface_facts(info: InterfaceInfo) -> dict[str, Any]:
    return {
        "name": _text(info.name, 50),
        "kind": _text(info.kind, 20),
        "mac": _text(info.mac, 20).lower(),
        "up": info.up,
        "speed_mbps": None if info.speed_mbps is None else _number(info.speed_mbps, _INT_MAX),
        "master": _text(info.master, 50),
        "vlan": None if info.vlan is None else _number(info.vlan, _INT_MAX),
    }


def host_load_observe(hypervisor: Hypervisor, stats: HostStats) -> None:
    """How the machine is loaded just now. Bumps no version: an `ETag` that changes by itself would be of no use."""
    now = timezone.now()
    values: dict[str, Any] = {"last_seen_at": now}
    if stats.memory_free_bytes is not None:
        values["memory_free_bytes"] = _number(stats.memory_free_bytes, _BIGINT_MAX)
    if stats.uptime_seconds is not None:
        # Never less than is known: whether that means another boot is for `host_observe` to say.
        grown = Q(uptime_seconds__lte=stats.uptime_seconds)
        values["uptime_seconds"] = Case(When(grown, then=Value(stats.uptime_seconds)), default=F("uptime_seconds"))
    with transaction.atomic():
        Host.objects.filter(pk=hypervisor.host_id, state=LinkState.ONLINE).update(**values)
        Hypervisor.objects.filter(pk=hypervisor.pk, state=LinkState.ONLINE).update(last_seen_at=now)


def hypervisor_swept(hypervisor: Hypervisor) -> None:
    """A full listing has just ended."""
    now = timezone.now()
    Hypervisor.objects.filter(pk=hypervisor.pk).update(swept_at=now, last_seen_at=now)


def _text(value: object, limit: int) -> str:
    return str(value if value is not None else "").replace("\0", "")[:limit]


def _number(value: int | None, top: int) -> int:
    return min(max(int(value or 0), 0), top)
