"""QEMU guests, with KVM or without: the machine, its firmware, its processor and its devices.

What the host's libvirt does not offer is refused by the name of the field that asks for it, with what would work instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drivers import specs
from drivers.libvirtd.design import common
from drivers.libvirtd.xml.capabilities import CpuFeature
from drivers.libvirtd.xml.devices import (
    Channel,
    Controller,
    Graphics,
    Input,
    MemoryBalloon,
    Rng,
    Timer,
    Tpm,
    Video,
)
from drivers.libvirtd.xml.domain import Clock, Cpu, Features, FirmwareFeature, Os

if TYPE_CHECKING:
    from drivers.libvirtd.design.common import Host
    from drivers.libvirtd.xml.capabilities import DomainCapabilities, GuestCapability
    from drivers.libvirtd.xml.domain import Domain
    from drivers.types import GuestSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What an architecture has.

    Attributes:
        machines: The best first.
        cdrom_buses: The best first.
        bios: Whether there is firmware other than UEFI.
        most_vcpus: More need an interrupt controller that no design makes; 0: what libvirt says.
        nesting: By a processor's maker, the feature that makes a guest a host.
    """

    machines: tuple[str, ...]
    cdrom_buses: tuple[str, ...]
    bios: bool
    most_vcpus: int = 0
    nesting: tuple[tuple[str, str], ...] = ()


_X86 = Platform(
    machines=("q35", "pc"),
    cdrom_buses=("sata", "ide", "scsi"),
    bios=True,
    most_vcpus=255,
    nesting=(("Intel", "vmx"), ("AMD", "svm"), ("Hygon", "svm")),
)
_VIRT = Platform(machines=("virt",), cdrom_buses=("scsi", "usb"), bios=False)
PLATFORMS: Final = {"x86_64": _X86, "i686": _X86, "aarch64": _VIRT, "riscv64": _VIRT}
_NOT_INTEL: Final = frozenset({"AMD", "Hygon"})
_FEIGNED: Final = "arch-capabilities"
_DISK_BUSES: Final = ("virtio", "scsi", "sata", "ide")
_PARAVIRTUAL: Final = frozenset({"virtio", "scsi"})
_VIDEOS: Final = ("virtio", "vga", "bochs", "cirrus")
_NO_CONTAINER: Final = {
    "root": "a machine has disks; containers have root directories.",
    "init": "a machine has its own init.",
    "image": "container engines run images; give a machine disks.",
}
SPARE_PORTS: Final = 8
"""PCIe ports for devices that are plugged in later: each takes a port of its own, and none can be added while the guest runs."""
BALLOON_SECONDS: Final = 5
"""How often the guest is asked how much of its memory it uses; without it, libvirt knows what the host holds for it only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What was decided before anything is written down."""

    platform: Platform
    guest: GuestCapability
    type: str
    machine: str
    canonical: str
    offered: DomainCapabilities

    @property
    def x86(self) -> bool:
        return self.platform is _X86

    @property
    def pcie(self) -> bool:
        """Whether its bus is PCI Express, where a device can be plugged into free ports only."""
        return "q35" in self.canonical or "virt" in self.canonical


def design(spec: GuestSpec, host: Host) -> Domain:
    """The domain that this host would run for `spec`. Raises InvalidDefinition, Unsupported."""
    specs.check(spec)
    common.check_paths(spec)
    specs.refuse_wishes(spec, _NO_CONTAINER)
    chosen = _choose(spec, host)
    domain = common.begin(spec, chosen.type)
    _firmware(spec, domain, chosen)
    domain.cpu = _cpu(spec, chosen, host)
    _board(spec, domain, chosen)
    _disks(spec, domain, chosen)
    common.add_interfaces(spec, domain, model="virtio")
    common.put_in_boot_order(spec, domain)
    _devices(spec, domain, chosen)
    return domain


# -- what it runs on -----------------------------------------------------------------------------------------------------
def _choose(spec: GuestSpec, host: Host) -> _Choice:
    guest = next(iter(host.guests("hvm")), None)
    platform = PLATFORMS.get(guest.arch or "") if guest else None
    if guest is None or platform is None or (guest.arch != host.architecture and host.architecture not in PLATFORMS):
        raise specs.lacking(
            "machine",
            f"guests are made here for {', '.join(PLATFORMS)} hosts, and this one is {host.architecture or 'unknown'}.",
        )
    kind = _accelerator(spec, guest)
    machine, canonical = _machine(spec, guest, platform)
    offered = host.domains(kind, guest.arch or "", machine)
    common.check_vcpus(spec, min(platform.most_vcpus or 1 << 16, offered.most_vcpus or 1 << 16))
    return _Choice(platform=platform, guest=guest, type=kind, machine=machine, canonical=canonical, offered=offered)


def _accelerator(spec: GuestSpec, guest: GuestCapability) -> str:
    there = {domain.type for domain in guest.domains}
    if spec.accelerator == "tcg":
        return "qemu"
    if "kvm" in there:
        return "kvm"
    if spec.accelerator == "kvm":
        raise specs.lacking(
            "accelerator",
            "this host has no KVM (no /dev/kvm that libvirt may use: is virtualization on in its firmware?); tcg emulates, auto takes "
            "what there is.",
        )
    return "qemu"


def _machine(spec: GuestSpec, guest: GuestCapability, platform: Platform) -> tuple[str, str]:
    known = {machine.name or "": machine.canonical or machine.name or "" for machine in guest.machines}
    wanted = (spec.machine,) if spec.machine else platform.machines
    found = next((name for name in wanted if name in known), None)
    if found is None:
        best = ", ".join(name for name in platform.machines if name in known) or "none that is known here"
        raise specs.lacking("machine", f"QEMU on this host has no {' or '.join(wanted)}; it has {best}.")
    return found, known[found]


def _firmware(spec: GuestSpec, domain: Domain, chosen: _Choice) -> None:
    domain.os = os = Os(type="hvm", arch=chosen.guest.arch, machine=chosen.machine)
    os.kernel, os.initrd, os.cmdline = spec.kernel or None, spec.initrd or None, spec.cmdline or None
    needs_uefi = not chosen.platform.bios and not spec.kernel
    if spec.firmware != "uefi" and not needs_uefi:
        return
    offered = chosen.offered
    if "efi" not in common.words(offered.firmwares):
        raise specs.lacking(
            "firmware",
            "QEMU on this host has no UEFI; install ovmf there (edk2-ovmf, qemu-efi-aarch64)"
            + (", or choose bios." if chosen.platform.bios else "."),
        )
    os.firmware = "efi"
    if spec.secure_boot:
        if "q35" not in chosen.canonical or "yes" not in common.words(offered.loader_secure):
            raise specs.lacking(
                "secure_boot",
                "this host has no UEFI that can do it for this machine; install OVMF's Secure Boot build there and take q35, or "
                "leave it off.",
            )
        os.loader_secure = "yes"
    for name in ("secure-boot", "enrolled-keys") if spec.secure_boot else ("enrolled-keys",):
        # Without keys a firmware that could check signatures checks none; some hosts have no other (RHEL).
        os.firmware_features.add(FirmwareFeature(name=name, enabled="yes" if spec.secure_boot else "no"))


def _cpu(spec: GuestSpec, chosen: _Choice, host: Host) -> Cpu | None:
    modes = {mode.name: mode for mode in chosen.offered.modes if mode.supported == "yes"}
    preferred = ("host-passthrough", "host-model") if chosen.type == "kvm" else ("maximum",)
    name = spec.cpu_mode or next((mode for mode in preferred if mode in modes), "")
    if not name:
        cpu = None  # an old QEMU's own default
    elif name in modes and name != "custom":
        cpu = Cpu(mode=name)
        if chosen.x86 and chosen.type == "kvm":
            hide_what_is_feigned(cpu, _maker(host))
    elif name in ("host-passthrough", "host-model", "maximum", "custom"):
        offered = ", ".join(sorted(mode for mode in modes if mode and mode != "custom")) or "none"
        why = " without KVM" if chosen.type != "kvm" else ""
        raise specs.lacking("cpu_mode", f"{name} is not there{why}; there is {offered}, or a model's name.")
    else:
        cpu = _named_cpu(name, chosen)
    if spec.nested:
        _nest(cpu, chosen, host)
    return cpu


def hide_what_is_feigned(cpu: Cpu, maker: str) -> None:
    """A register of Intel's that KVM feigns on all stays off on others' processors, where the guest has the host's.

    Windows falls over it, and some hosts cannot set it (measured: QEMU then ends at once). Newer QEMU leaves it out itself.
    """
    if maker in _NOT_INTEL and cpu.mode != "custom" and not any(one.name == _FEIGNED for one in cpu.features):
        cpu.features.add(CpuFeature(name=_FEIGNED, policy="disable"))


def _maker(host: Host) -> str:
    cpu = host.capabilities.host_cpu
    return (cpu.vendor if cpu else None) or ""


def _named_cpu(name: str, chosen: _Choice) -> Cpu:
    custom = next((mode for mode in chosen.offered.modes if mode.name == "custom" and mode.supported == "yes"), None)
    models = {model.name: model.usable for model in custom.models} if custom else {}
    if models.get(name, "no") == "no":
        usable = sorted(model for model, answer in models.items() if model and answer != "no")
        raise specs.lacking(
            "cpu_mode", f"this host cannot give a guest the model {name}; it can give {', '.join(usable) or 'none'}."
        )
    return Cpu(mode="custom", match="exact", model=name, fallback="forbid")


def _nest(cpu: Cpu | None, chosen: _Choice, host: Host) -> None:
    if not chosen.x86 or cpu is None:
        raise specs.lacking("nested", "only x86 guests with a processor of a known kind can be hosts themselves here.")
    if chosen.type == "kvm":
        if host.nests() is False:
            raise specs.lacking(
                "nested",
                "KVM on this host gives guests no vmx and no svm; switch nested on for kvm_intel or kvm_amd there, or take tcg.",
            )
        if cpu.mode == "host-passthrough":
            return
    maker = _maker(host) if chosen.type == "kvm" else "AMD"  # what QEMU emulates
    feature = dict(chosen.platform.nesting).get(maker)
    if feature is None:
        raise specs.lacking(
            "nested", f"not known how a processor by {maker or 'an unknown maker'} does it; take host-passthrough."
        )
    cpu.features.add(CpuFeature(name=feature, policy="require"))


# -- what it has ---------------------------------------------------------------------------------------------------------
def _board(spec: GuestSpec, domain: Domain, chosen: _Choice) -> None:
    domain.features = features = Features(acpi=True)
    windows = spec.os_id.startswith(common.WINDOWS)
    domain.clock = clock = Clock(offset="localtime" if windows else "utc")
    if not chosen.x86:
        return
    features.apic = True
    features.vmport = "off"
    if spec.secure_boot:
        features.smm = "on"
    if windows and chosen.type == "kvm" and chosen.offered.hyperv == "yes":
        features.hyperv_relaxed = features.hyperv_vapic = features.hyperv_spinlocks = "on"
        features.hyperv_spinlock_retries = 8191
        clock.timers.add(Timer(name="hypervclock", present="yes"))
    # A guest that misses ticks catches up by its clock; the HPET costs CPU time while the guest is idle.
    clock.timers.add(Timer(name="rtc", tickpolicy="catchup"))
    clock.timers.add(Timer(name="pit", tickpolicy="delay"))
    clock.timers.add(Timer(name="hpet", present="no"))
    domain.suspend_to_memory = domain.suspend_to_disk = "no"


def _disks(spec: GuestSpec, domain: Domain, chosen: _Choice) -> None:
    offered = common.words(chosen.offered.buses)
    targets = common.Targets()
    windows = spec.os_id.startswith(common.WINDOWS)
    for number, disk in enumerate(spec.disks):
        where = f"disks[{number}]"
        made = common.disk(disk, where)
        preferred = chosen.platform.cdrom_buses if disk.device == "cdrom" else _DISK_BUSES
        system = next((one.bus for one in domain.disks if one.bus in _PARAVIRTUAL), None)
        if disk.seed and system and not disk.bus and not windows:
            # No CD, but a disk beside the system's own. Debian's kernel for clouds has no AHCI, and never sees a CD on SATA; and
            # cloud-init decides whether it runs before any driver is loaded but those that find the system.
            preferred, made.device = (system,), "disk"
        made.driver_name = "qemu"
        made.bus = common.offered_bus(disk.bus, preferred, offered, where)
        made.target = targets.next(made.bus)
        if disk.device == "disk" and not disk.readonly:
            made.discard = "unmap"  # what the guest gives back, the volume gives back
        domain.disks.add(made)
    if any(disk.bus == "scsi" for disk in domain.disks):
        domain.controllers.add(Controller(type="scsi", model="virtio-scsi"))


def _devices(spec: GuestSpec, domain: Domain, chosen: _Choice) -> None:
    offered = chosen.offered
    common.add_serial_console(domain)
    if spec.agent:
        domain.channels.add(Channel(type="unix", target_type="virtio", target_name="org.qemu.guest_agent.0"))
    if spec.graphics != "none":
        _screen(spec, domain, chosen)
    if spec.tpm:
        if "emulator" not in common.words(offered.tpm_backends):
            raise specs.lacking("tpm", "QEMU on this host has no emulated TPM; install swtpm there, or leave it off.")
        crb = "tpm-crb" in common.words(offered.tpm_models)
        domain.tpms.add(Tpm(model="tpm-crb" if crb else "tpm-tis", backend_type="emulator", backend_version="2.0"))
    if offered.rng == "yes":
        domain.rngs.add(Rng(model="virtio", backend_model="random", backend="/dev/urandom"))
    domain.balloon = MemoryBalloon(model="virtio", stats_period_seconds=BALLOON_SECONDS)
    if chosen.pcie:
        _ports(domain)


def _ports(domain: Domain) -> None:
    """A PCIe port for each device that needs one (channels share one), and some for devices to come."""
    own = sum(disk.bus == "virtio" for disk in domain.disks) + len(domain.interfaces) + len(domain.controllers)
    own += len(domain.rngs) + bool(len(domain.channels)) + 1
    domain.controllers.add(Controller(type="pci", model="pcie-root"))
    for _ in range(own + SPARE_PORTS):
        domain.controllers.add(Controller(type="pci", model="pcie-root-port"))


def _screen(spec: GuestSpec, domain: Domain, chosen: _Choice) -> None:
    there = common.words(chosen.offered.graphics)
    if there and spec.graphics not in there:
        raise specs.lacking("graphics", f"QEMU on this host has no {spec.graphics}; it has {', '.join(sorted(there))}.")
    if spec.graphics == "vnc":
        # A socket in the guest's own directory: libvirt hands it out to whoever may open the guest's screen. A port of the
        # loopback would be open, without a password, to every account of the host.
        domain.graphics.add(Graphics(type="vnc", listen_type="socket"))
    else:
        domain.graphics.add(common.loopback_screen("spice"))
        domain.channels.add(Channel(type="spicevmc", target_type="virtio", target_name="com.redhat.spice.0"))
    video = next((model for model in _VIDEOS if model in common.words(chosen.offered.videos)), None)
    if video:
        domain.videos.add(Video(model=video))
    domain.controllers.add(Controller(type="usb", model="qemu-xhci"))
    domain.inputs.add(Input(type="tablet", bus="usb"))  # a pointer that is where the browser's is
    if not chosen.x86:
        domain.inputs.add(Input(type="keyboard", bus="usb"))
