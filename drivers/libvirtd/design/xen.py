"""Xen guests: PVH and PV with a kernel given, HVM with firmware of their own. Seen with Xen 4.17 and libvirt 9.0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers import specs
from drivers.libvirtd.design import common
from drivers.libvirtd.xml.devices import Boot, CharDevice, Input
from drivers.libvirtd.xml.domain import Clock, Features, Os

if TYPE_CHECKING:
    from drivers.libvirtd.design.common import Host
    from drivers.libvirtd.xml.capabilities import DomainCapabilities, GuestCapability
    from drivers.libvirtd.xml.domain import Domain
    from drivers.types import GuestSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of Xen guests, in libvirt's three words for it: in capabilities, in definitions, as a machine."""

    offered_as: str
    os_type: str
    machine: str
    alias: str


PVH: Final = Kind(offered_as="xenpvh", os_type="xenpvh", machine="xenpvh", alias="pvh")
PV: Final = Kind(offered_as="xen", os_type="linux", machine="xenpv", alias="pv")
HVM: Final = Kind(offered_as="hvm", os_type="hvm", machine="xenfv", alias="hvm")
KINDS: Final = (PVH, PV, HVM)
_NO_QEMU: Final = {
    "accelerator": "Xen is neither KVM nor TCG; leave it auto.",
    "secure_boot": "libvirt sets no Secure Boot up on Xen; leave it off.",
    "tpm": "libvirt gives Xen guests no TPM; leave it off.",
    "cpu_mode": "a Xen guest has the host's processor; leave it empty.",
    "nested": "Xen guests are made here without hardware for guests of their own.",
    "root": "a machine has disks; containers have root directories.",
    "init": "a machine has its own init.",
    "image": "container engines run images; give a machine disks.",
}
_BOOT_WORDS: Final = {"disk": "hd", "cdrom": "cdrom", "network": "network"}


def design(spec: GuestSpec, host: Host) -> Domain:
    """The domain that this host would run for `spec`. Raises InvalidDefinition, Unsupported."""
    specs.check(spec)
    specs.refuse_wishes(spec, _NO_QEMU)
    common.check_paths(spec)
    kind, guest = _kind(spec, host)
    offered = host.domains("xen", guest.arch or "", kind.machine)
    common.check_vcpus(spec, offered.most_vcpus)
    domain = common.begin(spec, "xen")
    domain.os = os = Os(type=kind.os_type, arch=guest.arch, machine=kind.machine)
    os.kernel, os.initrd, os.cmdline = spec.kernel or None, spec.initrd or None, spec.cmdline or None
    domain.clock = Clock(offset="localtime" if spec.os_id.startswith(common.WINDOWS) else "utc")
    _disks(spec, domain, kind, offered)
    common.add_interfaces(spec, domain, model=None)
    if kind is HVM:
        _firmware(spec, domain, os, offered)
        common.add_serial_console(domain)
    else:
        if spec.firmware == "uefi":
            raise specs.lacking("firmware", "only HVM guests have firmware; set machine to xenfv, or choose bios.")
        domain.consoles.add(CharDevice(type="pty", target_type="xen", target_port=0))
    if spec.graphics != "none":
        _screen(spec, domain, kind)
    return domain


def _kind(spec: GuestSpec, host: Host) -> tuple[Kind, GuestCapability]:
    """PVH before PV where a kernel is given, HVM where none is: a guest's own boot loader needs firmware."""
    there = {kind.machine: found[0] for kind in KINDS if (found := host.guests(kind.offered_as))}
    if spec.machine:
        wanted = [kind for kind in KINDS if spec.machine in (kind.machine, kind.alias)]
        kind = next((kind for kind in wanted if kind.machine in there), None)
        if kind is None:
            raise specs.lacking(
                "machine", f"this host runs no {spec.machine} guests; it runs {', '.join(there) or 'none'}."
            )
        if kind is not HVM and not spec.kernel:
            raise specs.refusal(
                "kernel", f"a {kind.alias.upper()} guest is given its kernel; name one, or take machine xenfv."
            )
        return kind, there[kind.machine]
    kind = next((kind for kind in ((PVH, PV) if spec.kernel else (HVM,)) if kind.machine in there), None)
    if kind is None:
        raise specs.lacking(
            "kernel", "this Xen host's processor runs no HVM guests, and others are given their kernel; name one."
        )
    return kind, there[kind.machine]


def _firmware(spec: GuestSpec, domain: Domain, os: Os, offered: DomainCapabilities) -> None:
    loaders = sorted(common.words(offered.loaders))
    if spec.firmware == "uefi":
        os.loader = next((path for path in loaders if "ovmf" in path.lower()), None)
        if os.loader is None:
            raise specs.lacking("firmware", "Xen on this host has no OVMF; install it there, or choose bios.")
        os.loader_readonly, os.loader_type = "yes", "pflash"
    else:
        os.loader = next((path for path in loaders if "hvmloader" in path), None)
        os.loader_type = "rom" if os.loader else None
    # libxl reads the order of kinds; numbers on the devices themselves mean nothing to it.
    for word in dict.fromkeys(_BOOT_WORDS[device] for device, _ in common.boot_orders(spec)):
        os.boots.add(Boot(dev=word))
    domain.features = Features(acpi=True, apic=True, pae=True)


def _disks(spec: GuestSpec, domain: Domain, kind: Kind, offered: DomainCapabilities) -> None:
    # Firmware sees the first four of an HVM guest's disks, whatever they are called; so they are lettered together.
    targets = common.Targets(apart=kind is not HVM)
    there = common.words(offered.buses) if kind is HVM else {"xen"}
    for number, disk in enumerate(spec.disks):
        where = f"disks[{number}]"
        made = common.disk(disk, where)
        preferred = ("ide",) if disk.device == "cdrom" and kind is HVM else ("xen",)
        made.bus = common.offered_bus(disk.bus, preferred, there, where)
        made.target = targets.next(made.bus)
        # The kernel's own back end serves block devices; all else goes through a device model in dom0.
        made.driver_name = "phy" if made.type == "block" and made.format == "raw" else "qemu"
        domain.disks.add(made)


def _screen(spec: GuestSpec, domain: Domain, kind: Kind) -> None:
    if spec.graphics == "spice":
        raise specs.lacking("graphics", "screens of Xen guests are shown by VNC; take vnc or none.")
    domain.graphics.add(common.loopback_screen("vnc"))
    if kind is HVM:
        domain.inputs.add(Input(type="tablet", bus="usb"))
