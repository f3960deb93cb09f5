"""What an engine says of a container becomes a `GuestInfo`. Reading only: no call, no thread."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from drivers.dockerd import errors
from drivers.dockerd.design import DESCRIPTION_LABEL, TITLE_LABEL, facts
from drivers.types import DiskInfo, GuestInfo, GuestKind, GuestState, NicInfo, Technique, VirtualizationType

if TYPE_CHECKING:
    from drivers.dockerd.document import Document

_ID = re.compile(r"[0-9a-f]{12,64}")
_EXITED = re.compile(r"Exited \((-?[0-9]{1,9})\)")

_STATES: dict[str, tuple[GuestState, str]] = {
    "running": (GuestState.RUNNING, "booted"),
    "paused": (GuestState.PAUSED, "user"),
    "restarting": (GuestState.RUNNING, "restarting"),
    "created": (GuestState.SHUTOFF, "created"),
    "configured": (GuestState.SHUTOFF, "created"),
    "initialized": (GuestState.SHUTOFF, "created"),
    "dead": (GuestState.CRASHED, "dead"),
    "removing": (GuestState.SHUTTING_DOWN, "removing"),
    "stopping": (GuestState.SHUTTING_DOWN, "stopping"),
}
"""Words of both engines. `restarting`: its process ended and the engine is about to start it again."""

ALWAYS = frozenset({"always", "unless-stopped"})
"""Restart policies that bring a container back with its host."""
CONSOLES = ("serial", "shell")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a container without limits has: the whole machine."""

    cpu_count: int
    memory_bytes: int


def container_id(found: Document, name: str = "Id") -> str:
    """The container's identity. Goes into paths of the API, so it must be what an engine makes."""
    text = found.text(name)
    if not _ID.fullmatch(text):
        raise errors.unreadable("a container whose identity is none")
    return text


def is_id(text: str) -> bool:
    """Whether this can be a container's identity at all."""
    return _ID.fullmatch(text) is not None


def state(status: str, *, exit_code: int = 0, out_of_memory: bool = False) -> tuple[GuestState, str]:
    """State and reason in the house's words."""
    if status in ("exited", "stopped"):
        return GuestState.SHUTOFF, f"{'out-of-memory' if out_of_memory else 'exited'}({exit_code})"
    return _STATES.get(status, (GuestState.UNKNOWN, ""))


def inspected_state(found: Document) -> tuple[GuestState, str]:
    """State and reason from `inspect`."""
    told = found.part("State")
    return state(told.text("Status"), exit_code=told.number("ExitCode"), out_of_memory=told.flag("OOMKilled"))


def inspected(found: Document, room: Room) -> GuestInfo:
    """All of one container, from `inspect`."""
    where, reason = inspected_state(found)
    policy = found.text("HostConfig", "RestartPolicy", "Name")
    labels = found.texts_by_name("Config", "Labels")
    disks, interfaces = _disks(found), _interfaces(found)
    boot = _boot(found, policy)
    memory = found.number("HostConfig", "Memory")
    memory = memory if 0 < memory < room.memory_bytes or not room.memory_bytes else room.memory_bytes
    return GuestInfo(
        uuid=container_id(found),
        name=found.text("Name").removeprefix("/"),
        state=where,
        state_reason=reason,
        kind=GuestKind.CONTAINER,
        virtualization_type=VirtualizationType.OS_LEVEL,
        techniques=(Technique.SHARED_KERNEL,),
        domain_type=found.text("HostConfig", "Runtime"),
        vcpus=_vcpus(found.part("HostConfig"), room),
        memory_bytes=memory,
        max_memory_bytes=memory,
        persistent=not found.flag("HostConfig", "AutoRemove"),
        autostart=policy in ALWAYS,
        title=labels.get(TITLE_LABEL, ""),
        description=labels.get(DESCRIPTION_LABEL, ""),
        disks=disks,
        interfaces=interfaces,
        consoles=CONSOLES,
        os=found.text("Config", "Image"),
        boot=boot,
        metadata=facts(labels),
        xml_digest=_digest(disks, interfaces, sorted(boot.items())),
    )


def listed(row: Document, last: GuestInfo | None, room: Room) -> GuestInfo:
    """What the list alone tells, over what was known last: for a container whose `inspect` hangs."""
    exited = _EXITED.match(row.text("Status"))
    where, reason = state(row.text("State"), exit_code=int(exited[1]) if exited else 0)
    if last is not None:
        return dataclasses.replace(last, state=where, state_reason=reason)
    names = row.texts("Names")
    return GuestInfo(
        uuid=container_id(row),
        name=(names[0] if names else "").removeprefix("/"),
        state=where,
        state_reason=reason,
        kind=GuestKind.CONTAINER,
        virtualization_type=VirtualizationType.OS_LEVEL,
        techniques=(Technique.SHARED_KERNEL,),
        vcpus=max(1, room.cpu_count),
        memory_bytes=room.memory_bytes,
        max_memory_bytes=room.memory_bytes,
        consoles=CONSOLES,
        os=row.text("Image"),
        xml_digest=_digest("listed"),
    )


def stop_signal(found: Document) -> str:
    """What asks this container to stop: a name or a number, as its image says."""
    told = found.text("Config", "StopSignal")
    return told if re.fullmatch(r"[A-Z0-9+-]{1,16}", told) else "SIGTERM"


def _vcpus(limits: Document, room: Room) -> int:
    """CPUs that it can use at once, rounded up: 1.5 CPUs are two that are not always there."""
    everything = max(1, room.cpu_count)
    nano, quota, period = limits.number("NanoCpus"), limits.number("CpuQuota"), limits.number("CpuPeriod")
    counts = [everything]
    if nano > 0:
        counts.append(ceil(nano / 1_000_000_000))
    if quota > 0:
        counts.append(ceil(quota / (period or 100_000)))
    pinned = _cpu_set(limits.text("CpusetCpus"))
    if pinned:
        counts.append(pinned)
    return max(1, min(counts))


def _cpu_set(text: str) -> int:
    """How many CPUs `0-2,5` names."""
    count = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        if (
            first.isascii()
            and first.isdecimal()
            and (not last or (last.isascii() and last.isdecimal()))
            and len(part) < 16
        ):
            count += max(0, int(last or first) - int(first) + 1)
    return count


def _disks(found: Document) -> tuple[DiskInfo, ...]:
    """The root file system, and what is mounted into it."""
    root = DiskInfo(
        target="/",
        device="filesystem",
        source=found.text("Config", "Image") or None,
        format=found.text("GraphDriver", "Name") or found.text("Driver") or None,
        readonly=found.flag("HostConfig", "ReadonlyRootfs"),
    )
    disks = {root.target: root}
    for mount in found.parts("Mounts"):
        target = mount.text("Destination")
        if target:
            disks[target] = DiskInfo(
                target=target,
                device="filesystem",
                source=mount.text("Source") or None,
                pool=mount.text("Name") or None,
                format=mount.text("Type") or None,
                readonly=not mount.flag("RW"),
            )
    return tuple(disks.values())


def _interfaces(found: Document) -> tuple[NicInfo, ...]:
    """Only a running container has addresses."""
    return tuple(
        NicInfo(mac=mac.lower(), network=name)
        for name, network in found.items("NetworkSettings", "Networks")
        if (mac := network.text("MacAddress"))
    )


def _boot(found: Document, policy: str) -> dict[str, str]:
    command = [found.text("Path"), *found.texts("Args")]
    facts = {
        "image": found.text("Config", "Image"),
        "command": " ".join(command).strip()[:1000],
        "restart": policy,
        "user": found.text("Config", "User"),
    }
    return {name: value for name, value in facts.items() if value}


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
