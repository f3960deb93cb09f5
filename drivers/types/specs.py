"""A guest to be made, in nobody's dialect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpec:
    """One disk of a guest to be made: a volume that is there already.

    Attributes:
        bus: `virtio scsi sata ide usb xen`; "" takes what is best for the guest.
        device: `disk` or `cdrom`.
        seed: Nothing boots from it; the system that runs from the disks reads it. Where a CD would be seen late or never it is made
            a disk that cannot be written to.
    """

    pool: str
    volume: str
    path: str
    format: str = "raw"
    bus: str = ""
    device: str = "disk"
    readonly: bool = False
    seed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NicSpec:
    """One network interface of a guest to be made: on a network, or straight on a bridge of the host."""

    network: str = ""
    bridge: str = ""
    model: str = ""
    mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec:
    """A guest to be made, in nobody's dialect; each driver's design makes its own definition of it.

    Attributes:
        uuid: Given by us, so that a guest made by an interrupted attempt is known again; a hypervisor that gives its own ignores it.
        accelerator: `auto` (the best the host has), `kvm` or `tcg`.
        firmware: `bios` or `uefi`; `secure_boot` needs the latter.
        kernel, initrd: Paths on the host, for direct kernel boot.
        root: Directory on the host that a container runs in. `image`: what a container engine runs.
        cpu_mode: `host-passthrough host-model maximum` or a model's name; "" takes what is best.
        graphics: `vnc`, `spice` or `none`.
        metadata: Our own facts, kept in the definition.
    """

    name: str
    uuid: str
    vcpus: int = 1
    memory_bytes: int = 0
    accelerator: str = "auto"
    machine: str = ""
    firmware: str = "bios"
    secure_boot: bool = False
    tpm: bool = False
    cpu_mode: str = ""
    nested: bool = False
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""
    boot_order: tuple[str, ...] = ()
    root: str = ""
    init: str = ""
    image: str = ""
    os_id: str = ""
    title: str = ""
    description: str = ""
    disks: tuple[DiskSpec, ...] = ()
    interfaces: tuple[NicSpec, ...] = ()
    graphics: str = "vnc"
    agent: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
