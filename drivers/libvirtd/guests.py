"""A domain's XML and state become a `GuestInfo`. Policy of reading only: no libvirt call, no thread of its own."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from drivers.libvirtd.xml import metadata
from drivers.libvirtd.xml.domain import Domain, Metadata
from drivers.libvirtd.xml.element import Parts, size_of
from drivers.types import DiskInfo, GraphicsInfo, GuestInfo, GuestKind, NicInfo, Technique, VirtualizationType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lxml import etree

    from drivers.types import GuestState


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a domain type means in the contract's words."""

    virtualization_type: VirtualizationType
    techniques: tuple[Technique, ...]
    kind: GuestKind = GuestKind.MACHINE


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """All that the inactive XML says of a guest."""

    name: str
    domain_type: str
    os_type: str
    vcpus: int
    memory_bytes: int
    max_memory_bytes: int
    title: str
    description: str
    disks: tuple[DiskInfo, ...]
    interfaces: tuple[NicInfo, ...]
    graphics: tuple[GraphicsInfo, ...]
    consoles: tuple[str, ...]
    os: str
    boot: Mapping[str, str]
    metadata: Mapping[str, str]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What libvirt tells of a guest beside its XML."""

    state: GuestState
    reason: str
    persistent: bool = True
    autostart: bool = False
    has_managed_save: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What only the live XML of a running guest says; its title may be changed without its definition."""

    title: str
    description: str
    metadata: Mapping[str, str]
    vcpus: int
    memory_bytes: int
    interfaces: tuple[NicInfo, ...] = field(default=())
    graphics: tuple[GraphicsInfo, ...] = field(default=())


@lru_cache(maxsize=4096)
def read_definition(xml: str) -> Definition:
    """Read an inactive definition. The same text always means the same, so a sweep over unchanged guests parses nothing.

    Raises:
        InvalidDefinition: The host sent what is no domain.
    """
    domain = Parts(Domain.parse(xml).node)
    devices = _devices(domain)
    graphics = tuple(map(_graphics, devices["graphics"]))
    memory = size_of(domain.part("memory")) or 0
    current = size_of(domain.part("currentMemory")) or memory
    own = domain.part("metadata")
    os = domain.part("os")
    boot = {} if os is None else _boot(Parts(os))
    return Definition(
        name=domain.text("name") or "",
        domain_type=domain.node.get("type") or "",
        os_type=boot.get("type", ""),
        vcpus=_vcpus(domain),
        memory_bytes=current,
        max_memory_bytes=max(memory, current),
        title=domain.text("title") or "",
        description=domain.text("description") or "",
        disks=tuple(map(_disk, devices["disk"])) or tuple(map(_filesystem, devices["filesystem"])),
        interfaces=tuple(map(_nic, devices["interface"])),
        graphics=graphics,
        consoles=_consoles(devices, graphics),
        os="" if own is None else Metadata(own).os_id or "",
        boot=boot,
        metadata=metadata.facts(own),
        digest=hashlib.sha256(xml.encode()).hexdigest(),
    )


def read_live(xml: str) -> Live:
    """Read what the live XML adds. Not kept: it changes with every start, and with the balloon."""
    domain = Parts(Domain.parse(xml).node)
    devices = _devices(domain)
    return Live(
        title=domain.text("title") or "",
        description=domain.text("description") or "",
        metadata=metadata.facts(domain.part("metadata")),
        vcpus=_vcpus(domain),
        memory_bytes=size_of(domain.part("currentMemory")) or size_of(domain.part("memory")) or 0,
        interfaces=tuple(map(_nic, devices["interface"])),
        graphics=tuple(map(_graphics, devices["graphics"])),
    )


def guest_info(*, uuid: str, inactive: Definition, running: Live | None, marks: Marks, profile: Profile) -> GuestInfo:
    """Put together what was read."""
    return GuestInfo(
        uuid=uuid,
        name=inactive.name,
        state=marks.state,
        state_reason=marks.reason,
        kind=profile.kind,
        virtualization_type=profile.virtualization_type,
        techniques=profile.techniques,
        domain_type=inactive.domain_type,
        vcpus=running.vcpus if running else inactive.vcpus,
        memory_bytes=running.memory_bytes if running else inactive.memory_bytes,
        max_memory_bytes=inactive.max_memory_bytes,
        persistent=marks.persistent,
        autostart=marks.autostart,
        has_managed_save=marks.has_managed_save,
        title=running.title if running else inactive.title,
        description=running.description if running else inactive.description,
        disks=inactive.disks,
        interfaces=running.interfaces if running else inactive.interfaces,
        graphics=running.graphics if running else inactive.graphics,
        consoles=inactive.consoles,
        os=inactive.os,
        boot=inactive.boot,
        metadata=running.metadata if running else inactive.metadata,
        xml_digest=inactive.digest,
    )


def _devices(domain: Parts) -> defaultdict[object, list[etree._Element]]:
    """All devices by tag, in document order."""
    found: defaultdict[object, list[etree._Element]] = defaultdict(list)
    for devices in domain.node.iterchildren("devices"):
        for device in devices.iterchildren():
            found[device.tag].append(device)
    return found


def _vcpus(domain: Parts) -> int:
    return _number(domain.attr("vcpu", "current")) or _number(domain.text("vcpu")) or 1


def _number(text: str | None) -> int | None:
    """None also for a newer libvirt's word where we expect a number: unknown, not fatal."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _disk(node: etree._Element) -> DiskInfo:
    disk = Parts(node)
    place = disk.part("source")
    source = None
    if place is not None:
        source = place.get("file") or place.get("dev") or place.get("volume") or place.get("dir")
        protocol = place.get("protocol")
        if source is None and protocol:
            source = f"{protocol}:{place.get('name') or ''}"
    return DiskInfo(
        target=disk.attr("target", "dev") or "",
        device=node.get("device") or "disk",
        bus=disk.attr("target", "bus"),
        source=source,
        pool=disk.attr("source", "pool"),
        format=disk.attr("driver", "type"),
        readonly=disk.part("readonly") is not None,
    )


def _filesystem(node: etree._Element) -> DiskInfo:
    """A container has directories where a machine has disks."""
    item = Parts(node)
    return DiskInfo(
        target=item.attr("target", "dir") or "",
        device="filesystem",
        source=item.attr("source", "dir") or item.attr("source", "file"),
        format=node.get("type"),
        readonly=item.part("readonly") is not None,
    )


def _nic(node: etree._Element) -> NicInfo:
    nic = Parts(node)
    network = nic.attr("source", "network") or nic.attr("source", "bridge") or nic.attr("source", "dev")
    return NicInfo(
        mac=(nic.attr("mac", "address") or "").lower(),
        model=nic.attr("model", "type"),
        network=network or node.get("type"),
        link=nic.attr("link", "state") or "up",
        target=nic.attr("target", "dev"),
        filter=nic.attr("filterref", "filter"),
    )


def _graphics(node: etree._Element) -> GraphicsInfo:
    screen = Parts(node)
    port = _number(node.get("port"))
    return GraphicsInfo(
        type=node.get("type") or "",
        listen=screen.attr("listen", "address") or node.get("listen"),
        port=port if port is not None and port > 0 else None,
        socket=screen.attr("listen", "socket") or node.get("socket"),
    )


def _consoles(
    devices: Mapping[object, Sequence[etree._Element]], graphics: tuple[GraphicsInfo, ...]
) -> tuple[str, ...]:
    found = []
    # libvirt opens a console only where it is a pty; a serial port to a file or a socket is somebody else's.
    if any(item.get("type") == "pty" for tag in ("console", "serial") for item in devices.get(tag, ())):
        found.append("serial")
    found += sorted({item.type for item in graphics} & {"vnc", "spice"}, reverse=True)
    return tuple(found)


def _boot(os: Parts) -> dict[str, str]:
    facts = {
        "type": os.text("type"),
        "machine": os.attr("type", "machine"),
        "architecture": os.attr("type", "arch"),
        "kernel": os.text("kernel"),
        "initrd": os.text("initrd"),
        "cmdline": os.text("cmdline"),
        "init": os.text("init"),
        "devices": ",".join(boot.get("dev") or "" for boot in os.node.iterchildren("boot")),
    }
    if facts["type"] == "hvm":
        uefi = os.node.get("firmware") == "efi" or os.attr("loader", "type") == "pflash"
        facts["firmware"] = "uefi" if uefi else "bios"
    return {name: value for name, value in facts.items() if value}
