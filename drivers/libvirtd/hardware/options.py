"""What a guest's hypervisor takes, by kind. Pure functions over the guest's definition and the host's answer about its machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.libvirtd.design.common import words
from drivers.types import HardwareOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from drivers.libvirtd.xml.capabilities import DomainCapabilities
    from drivers.libvirtd.xml.domain import Domain

_CACHES: Final = ("none", "writeback", "writethrough", "directsync", "unsafe")
_BUSES: Final = ("virtio", "scsi", "sata", "ide", "usb")
_VIDEOS: Final = ("virtio", "qxl", "vga", "bochs", "cirrus", "ramfb")
_MODES: Final = ("host-passthrough", "host-model", "maximum", "custom")
_X86: Final = ("x86_64", "i686")
_NICS: Final = ("virtio", "e1000e", "e1000", "rtl8139")
_INPUTS: Final = ("tablet", "keyboard", "mouse", "virtio-tablet", "virtio-keyboard", "virtio-mouse")
_MOST_X86_VCPUS: Final = 255
"""More need an interrupt controller that no design makes."""


def _known(best_first: Iterable[str], there: set[str]) -> tuple[str, ...]:
    return tuple(word for word in best_first if word in there)


def qemu(domain: Domain, offered: Callable[[], DomainCapabilities]) -> HardwareOptions:
    """As the host's QEMU says for this machine and accelerator."""
    host = offered()
    os = domain.os
    x86 = (os.arch if os is not None else "") in _X86
    pcie = any(one.type == "pci" and one.model == "pcie-root" for one in domain.controllers)
    buses = _known(_BUSES, words(host.buses))
    modes = {mode.name: mode for mode in host.modes if mode.supported == "yes"}
    custom = modes.get("custom")
    models = tuple(sorted(one.name for one in custom.models if one.name and one.usable != "no")) if custom else ()
    most = host.most_vcpus or 0
    return HardwareOptions(
        disk_buses=buses,
        disk_caches=_CACHES,
        cdrom_buses=tuple(bus for bus in ("sata", "ide", "scsi", "usb") if bus in buses),
        nic_models=_NICS if x86 else ("virtio", "e1000e"),
        displays=_known(("vnc", "spice"), words(host.graphics)),
        videos=_known(_VIDEOS, words(host.videos)),
        cpu_modes=tuple(mode for mode in _MODES if mode in modes and (mode != "custom" or models)),
        cpu_models=models,
        max_vcpus=min(most, _MOST_X86_VCPUS) if x86 and most else most,
        kinds=_qemu_kinds(host, x86=x86, pcie=pcie),
    )


def _qemu_kinds(host: DomainCapabilities, *, x86: bool, pcie: bool) -> dict[str, tuple[str, ...]]:
    kinds: dict[str, tuple[str, ...]] = {}
    if "emulator" in words(host.tpm_backends):
        kinds["tpm"] = tuple(word for word in ("tpm-crb", "tpm-tis") if word in words(host.tpm_models))
    if host.rng == "yes":
        kinds["rng"] = ("virtio",)
    if x86:
        kinds["watchdog"] = ("i6300esb",) if pcie else ("i6300esb", "ib700")
        kinds["serial"] = ("isa-serial", "pci-serial", "usb-serial")
        kinds["sound"] = (
            ("ich9", "ich6", "ac97", "es1370", "usb") if pcie else ("ich6", "ac97", "es1370", "sb16", "usb")
        )
    else:
        kinds["serial"] = ("pci-serial", "usb-serial")
        kinds["sound"] = ("usb",)
    kinds["balloon"] = ("virtio",)
    kinds["input"] = _INPUTS
    return kinds


def lxc(domain: Domain, offered: Callable[[], DomainCapabilities]) -> HardwareOptions:
    """A container has the host's processors, and directories where machines have disks; libvirt gives it networks."""
    del domain, offered
    return HardwareOptions(max_vcpus=0)


def xen(domain: Domain, offered: Callable[[], DomainCapabilities]) -> HardwareOptions:
    """PV and PVH guests have Xen's own devices alone; HVM guests have those of an old PC beside."""
    host = offered()
    hvm = domain.os is not None and domain.os.type == "hvm"
    there = words(host.buses) if hvm else {"xen"}
    return HardwareOptions(
        disk_buses=_known(("xen", "scsi", "ide"), there),
        cdrom_buses=("ide",) if hvm else (),
        nic_models=("netfront", "e1000", "rtl8139") if hvm else (),
        displays=("vnc",),
        videos=_known(("vga", "cirrus", "xen"), words(host.videos)) if hvm else (),
        max_vcpus=host.most_vcpus or 0,
        kinds={"input": ("tablet",), "sound": ("ich6", "ac97", "es1370", "sb16")} if hvm else {},
    )


def simulated(domain: Domain, offered: Callable[[], DomainCapabilities]) -> HardwareOptions:
    """What libvirt's test driver keeps without asking. It tells nothing of itself."""
    del domain, offered
    return HardwareOptions(
        disk_buses=_BUSES,
        disk_caches=_CACHES,
        cdrom_buses=("sata", "ide", "scsi", "usb"),
        nic_models=_NICS,
        displays=("vnc", "spice"),
        videos=("vga", "cirrus", "qxl"),
        kinds={
            "rng": ("virtio",),
            "watchdog": ("i6300esb", "ib700"),
            "balloon": ("virtio",),
            "sound": ("ich6", "ac97"),
            "input": ("tablet", "keyboard", "mouse"),
        },
    )
