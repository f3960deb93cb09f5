"""A domain's XML and state become a `GuestInfo`. Policy of reading only: no libvirt call, no thread of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from drivers.libvirtd.xml import metadata
from drivers.libvirtd.xml.domain import Domain
from drivers.types import DiskInfo, GraphicsInfo, GuestInfo, GuestKind, NicInfo, Technique, VirtualizationType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.libvirtd.xml.devices import Disk, Graphics, Interface
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
    domain = Domain.parse(xml)
    os = domain.os
    graphics = tuple(_graphics(item) for item in domain.graphics)
    current = domain.current_memory_bytes or domain.memory_bytes or 0
    own = domain.metadata
    return Definition(
        name=domain.name or "",
        domain_type=domain.type or "",
        os_type=(os.type if os else None) or "",
        vcpus=domain.current_vcpus or domain.vcpus or 1,
        memory_bytes=current,
        max_memory_bytes=max(domain.memory_bytes or 0, current),
        title=domain.title or "",
        description=domain.description or "",
        disks=tuple(_disk(item) for item in domain.disks) or _filesystems(domain),
        interfaces=tuple(_nic(item) for item in domain.interfaces),
        graphics=graphics,
        consoles=_consoles(domain, graphics),
        os=(own.os_id if own else None) or "",
        boot=_boot(domain),
        metadata=metadata.read(domain) if own else {},
        digest=hashlib.sha256(xml.encode()).hexdigest(),
    )


def read_live(xml: str) -> Live:
    """Read what the live XML adds. Not kept: it changes with every start, and with the balloon."""
    domain = Domain.parse(xml)
    return Live(
        title=domain.title or "",
        description=domain.description or "",
        metadata=metadata.read(domain),
        vcpus=domain.current_vcpus or domain.vcpus or 1,
        memory_bytes=domain.current_memory_bytes or domain.memory_bytes or 0,
        interfaces=tuple(_nic(item) for item in domain.interfaces),
        graphics=tuple(_graphics(item) for item in domain.graphics),
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


def _disk(disk: Disk) -> DiskInfo:
    source = disk.file or disk.dev or disk.volume or disk.directory
    if source is None and disk.protocol:
        source = f"{disk.protocol}:{disk.source_name or ''}"
    return DiskInfo(
        target=disk.target or "",
        device=disk.device or "disk",
        bus=disk.bus,
        source=source,
        pool=disk.pool,
        format=disk.format,
        readonly=disk.readonly,
    )


def _filesystems(domain: Domain) -> tuple[DiskInfo, ...]:
    # A container has directories where a machine has disks.
    return tuple(
        DiskInfo(
            target=item.target or "",
            device="filesystem",
            source=item.source_dir or item.source_file,
            format=item.type,
            readonly=item.readonly,
        )
        for item in domain.filesystems
    )


def _nic(interface: Interface) -> NicInfo:
    return NicInfo(
        mac=(interface.mac or "").lower(),
        model=interface.model,
        network=interface.network or interface.bridge or interface.source_dev or interface.type,
        link=interface.link or "up",
        target=interface.target,
    )


def _graphics(graphics: Graphics) -> GraphicsInfo:
    port = graphics.port
    return GraphicsInfo(
        type=graphics.type or "",
        listen=graphics.listen_address or graphics.listen,
        port=port if port is not None and port > 0 else None,
        socket=graphics.listen_socket or graphics.socket,
    )


def _consoles(domain: Domain, graphics: tuple[GraphicsInfo, ...]) -> tuple[str, ...]:
    found = []
    # libvirt opens a console only where it is a pty; a serial port to a file or a socket is somebody else's.
    if any(item.type == "pty" for item in domain.consoles) or any(item.type == "pty" for item in domain.serials):
        found.append("serial")
    found += sorted({item.type for item in graphics} & {"vnc", "spice"}, reverse=True)
    return tuple(found)


def _boot(domain: Domain) -> dict[str, str]:
    os = domain.os
    if os is None:
        return {}
    facts = {
        "type": os.type,
        "machine": os.machine,
        "architecture": os.arch,
        "kernel": os.kernel,
        "initrd": os.initrd,
        "cmdline": os.cmdline,
        "init": os.init,
        "devices": ",".join(boot.dev or "" for boot in os.boots),
    }
    if os.type == "hvm":
        facts["firmware"] = "uefi" if os.firmware == "efi" or os.loader_type == "pflash" else "bios"
    return {name: value for name, value in facts.items() if value}
