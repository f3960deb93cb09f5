"""Guests of libvirt's test driver: they run nothing, so they are given little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers import specs
from drivers.libvirtd.design import common
from drivers.libvirtd.xml.domain import Clock, Features, Os

if TYPE_CHECKING:
    from drivers.libvirtd.design.common import Host
    from drivers.libvirtd.xml.domain import Domain
    from drivers.types import GuestSpec

_BUSES: Final = ("virtio", "scsi", "sata", "ide", "usb")
_LESS: Final = {
    "accelerator": "a simulated host accelerates nothing; leave it auto.",
    "firmware": "a simulated host has no UEFI; choose bios.",
    "secure_boot": "a simulated host has no UEFI; leave it off.",
    "tpm": "a simulated host has no TPM; leave it off.",
    "nested": "a simulated guest runs nothing; leave it off.",
    "cpu_mode": "a simulated guest has no processor of a kind; leave it empty.",
    "machine": "a simulated guest has no machine of a kind; leave it empty.",
    "root": "simulated guests are machines; give it disks.",
    "init": "simulated guests are machines; they have no init of the host's.",
    "image": "simulated guests are machines; give it disks.",
}


def design(spec: GuestSpec, host: Host) -> Domain:
    """The domain that the simulated host would keep for `spec`. Raises InvalidDefinition, Unsupported."""
    specs.check(spec)
    specs.refuse_wishes(spec, _LESS)
    common.check_paths(spec)
    guest = next(iter(host.guests("hvm")), None)
    domain = common.begin(spec, "test")
    domain.os = os = Os(type="hvm", arch=guest.arch if guest else None)
    os.kernel, os.initrd, os.cmdline = spec.kernel or None, spec.initrd or None, spec.cmdline or None
    domain.features = Features(acpi=True)
    domain.clock = Clock(offset="utc")
    targets = common.Targets()
    for number, disk in enumerate(spec.disks):
        where = f"disks[{number}]"
        made = common.disk(disk, where)
        made.bus = common.offered_bus(disk.bus, ("sata",) if disk.device == "cdrom" else _BUSES, _BUSES, where)
        made.target = targets.next(made.bus)
        domain.disks.add(made)
    common.add_interfaces(spec, domain, model="virtio")
    common.put_in_boot_order(spec, domain)
    return domain
