"""What the Hardware tab says of each device, in words: a row each, with what waits for the next start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l
from django.utils.translation import ngettext

from core.units import format_bytes
from drivers.types import (
    BootHardware,
    CpuHardware,
    DiskHardware,
    DisplayHardware,
    HostDeviceHardware,
    MemoryHardware,
    NicHardware,
    SimpleHardware,
)
from vms.hardware.shown import volumes_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drivers.types import Device, IoLimits
    from storage.models import Volume
    from vms.hardware.selectors import Known
    from vms.models import VM

FIELDS: Final = {
    "vcpus": _l("vCPUs"), "max_vcpus": _l("vCPUs at most"), "sockets": _l("sockets"), "cores": _l("cores"), "threads": _l("threads"),
    "mode": _l("mode"), "model": _l("model"), "pins": _l("pinning"), "emulator_pins": _l("pinning of the emulator"),
    "nodes": _l("NUMA nodes"), "memory_nodes": _l("NUMA nodes of the host"), "memory_mode": _l("NUMA mode"),
    "memory_bytes": _l("memory"), "max_memory_bytes": _l("memory at most"), "balloon": _l("balloon"),
    "order": _l("order"), "menu": _l("menu"), "bus": _l("bus"), "path": _l("medium"), "format": _l("format"),
    "readonly": _l("read-only"), "shareable": _l("shareable"), "cache": _l("cache"), "io": _l("I/O"), "discard": _l("discard"),
    "serial": _l("serial"), "boot_order": _l("boot order"), "limits": _l("limits"), "network": _l("network"),
    "bridge": _l("bridge"), "direct": _l("host interface"), "direct_mode": _l("mode"), "link": _l("link"),
    "inbound_bytes_per_second": _l("inbound"), "outbound_bytes_per_second": _l("outbound"), "filter": _l("filter"),
    "vlan": _l("VLAN"), "video": _l("card"), "listen": _l("listens on"), "action": _l("action"),
}  # fmt: skip
KINDS: Final = {
    "tpm": _l("TPM"), "rng": _l("Random numbers"), "watchdog": _l("Watchdog"), "serial": _l("Serial port"),
    "balloon": _l("Memory balloon"), "sound": _l("Sound"), "input": _l("Input"), "vnc": _l("Screen (VNC)"),
    "spice": _l("Screen (SPICE)"), "pci": _l("PCI device"), "usb": _l("USB device"),
}  # fmt: skip
BOOT_WORDS: Final = {"hd": _l("disk"), "cdrom": _l("CD drive"), "network": _l("network"), "fd": _l("floppy drive")}


@dataclass(slots=True, kw_only=True)
class Row:
    """One device. `forms`: what can be done with it, each name with its label and icon."""

    key: str
    name: str
    facts: str = ""
    small: str = ""
    pending: str = ""
    down: bool = False
    forms: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Section:
    """Devices of a kind. `add`: the forms by which one is added."""

    id: str
    title: str
    icon: str
    rows: list[Row]
    empty: str = ""
    add: list[tuple[str, str]] = field(default_factory=list)


def sections(vm: VM, found: Known) -> list[Section]:
    """All of it, in the order of the page. One query, for the volumes."""
    devices = list(found.devices.values())
    disks = [one for one in devices if isinstance(one, DiskHardware)]
    at = volumes_at(vm, (one.path for one in disks))
    small = [one for one in devices if isinstance(one, DisplayHardware | SimpleHardware)]
    return [
        Section(id="cpu", title=_("Processors"), icon="pulse", rows=_rows(found, devices, CpuHardware)),
        Section(id="memory", title=_("Memory"), icon="matrix", rows=_rows(found, devices, MemoryHardware)),
        Section(
            id="disks",
            title=_("Disks"),
            icon="disk",
            rows=[_row(found, one, at.get(one.path)) for one in disks],
            empty=_("None: it runs from memory, or from what its definition mounts."),
            add=[("disk-attach", _("Add disk"))],
        ),
        Section(
            id="nics",
            title=_("Network interfaces"),
            icon="nic",
            rows=_rows(found, devices, NicHardware),
            empty=_("None: it is not connected to any network."),
            add=[("nic-attach", _("Add interface"))],
        ),
        Section(id="boot", title=_("Boot order"), icon="power", rows=_rows(found, devices, BootHardware)),
        Section(
            id="devices",
            title=_("Display and devices"),
            icon="window",
            rows=[_row(found, one) for one in small],
            empty=_("None."),
            add=[("device-attach", _("Add device"))],
        ),
        Section(
            id="host",
            title=_("Host devices"),
            icon="hosts",
            rows=_rows(found, devices, HostDeviceHardware),
            empty=_("None: it has no device of its host to itself."),
            add=[("host-attach", _("Add host device"))],
        ),
    ]


def _rows(found: Known, devices: Iterable[Device], cls: type[Any]) -> list[Row]:
    return [_row(found, one) for one in devices if isinstance(one, cls)]


def _row(found: Known, one: Device, volume: Volume | None = None) -> Row:
    row = _of(one, volume)
    live = found.found.live
    if isinstance(one, MemoryHardware) and live and live.memory.memory_bytes != one.memory_bytes:
        row.facts = _joined(_("has %(size)s now") % {"size": format_bytes(live.memory.memory_bytes)}, row.facts)
    row.pending = pending_text(found, one.key)
    difference = found.difference(one.key)
    if difference is not None and difference.then is None:
        row.forms = []  # it goes: there is nothing left to be changed
    return row


def _of(one: Device, volume: Volume | None) -> Row:
    if isinstance(one, DiskHardware):
        return _disk(one, volume)
    words: dict[type[Any], Any] = {
        CpuHardware: _cpu,
        MemoryHardware: _memory,
        BootHardware: _boot,
        NicHardware: _nic,
        HostDeviceHardware: _host_device,
        DisplayHardware: _small,
        SimpleHardware: _small,
    }
    row: Row = words[type(one)](one)
    return row


def _host_device(one: HostDeviceHardware) -> Row:
    forms = [("device-detach", _("Remove"), "trash")]
    return Row(key=one.key, name=str(KINDS.get(one.kind, one.kind)), small=one.address, forms=forms)


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _cpu(cpu: CpuHardware) -> Row:
    most = max(cpu.max_vcpus, cpu.vcpus)
    return Row(
        key=cpu.key,
        name=ngettext("%(n)s vCPU", "%(n)s vCPUs", cpu.vcpus) % {"n": cpu.vcpus},
        facts=_joined(
            _("up to %(n)s while it runs") % {"n": most} if most > cpu.vcpus else "",
            _("%(sockets)s sockets, %(cores)s cores, %(threads)s threads")
            % {"sockets": cpu.sockets, "cores": cpu.cores, "threads": cpu.threads}
            if cpu.sockets
            else "",
            cpu.model or cpu.mode,
        ),
        small=_joined(
            _("pinned: %(pins)s") % {"pins": "; ".join(f"{number} → {at}" for number, at in sorted(cpu.pins.items()))}
            if cpu.pins
            else "",
            _("NUMA nodes: %(n)s") % {"n": len(cpu.nodes)} if cpu.nodes else "",
            _("memory from the host's nodes %(nodes)s") % {"nodes": cpu.memory_nodes} if cpu.memory_nodes else "",
        ),
        forms=[("cpu", _("Change"), "tag")],
    )


def _memory(memory: MemoryHardware) -> Row:
    most = max(memory.max_memory_bytes, memory.memory_bytes)
    return Row(
        key=memory.key,
        name=format_bytes(memory.memory_bytes),
        facts=_joined(
            _("up to %(size)s while it runs") % {"size": format_bytes(most)} if most > memory.memory_bytes else "",
            "" if memory.balloon else _("without a balloon"),
        ),
        forms=[("memory", _("Change"), "tag")],
    )


def boot_name(key: str) -> str:
    """An entry of a boot order, for people."""
    return str(BOOT_WORDS.get(key) or key.partition("/")[2] or key)


def _boot(boot: BootHardware) -> Row:
    return Row(
        key=boot.key,
        name=", ".join(boot_name(key) for key in boot.order) or _("as its hypervisor sees fit"),
        facts=_("with a menu") if boot.menu else "",
        forms=[("boot", _("Change"), "tag")],
    )


def limits_text(limits: IoLimits) -> str:
    """What a disk is held to; "" where it is not."""
    words = {"total": _("in all"), "read": _("read"), "write": _("written")}
    parts = []
    for which, word in words.items():
        held = getattr(limits, f"{which}_bytes_per_second")
        if held:
            parts.append(f"{format_bytes(held)}/s {word}")
        held = getattr(limits, f"{which}_requests_per_second")
        if held:
            parts.append(_("%(n)s requests/s %(which)s") % {"n": held, "which": word})
    return _joined(*parts)


def _disk(disk: DiskHardware, volume: Volume | None) -> Row:
    is_disk = disk.device == "disk"
    forms = [("disk-update", _("Change"), "tag")]
    if is_disk and volume is not None:
        forms.append(("disk-resize", _("Resize"), "up"))
    if not is_disk:
        forms.append(("medium", _("Medium"), "disk"))
    forms.append(("disk-detach", _("Remove"), "trash"))
    limits = limits_text(disk.limits)
    return Row(
        key=disk.key,
        name=f"{disk.target} {format_bytes(volume.capacity_bytes)}" if volume and is_disk else disk.target,
        facts=_joined(
            disk.bus,
            disk.format if disk.path else "",
            "" if is_disk else disk.device,
            _("read-only") if disk.readonly and is_disk else "",
            _("shareable") if disk.shareable else "",
            _("cache %(cache)s") % {"cache": disk.cache} if disk.cache else "",
            _("at most %(limits)s") % {"limits": limits} if limits else "",
        ),
        small=f"{volume.pool.name}/{volume.name}" if volume else disk.path or _("empty"),
        forms=forms,
    )


def _nic(nic: NicHardware) -> Row:
    place = nic.network or (nic.bridge and _("bridge %(name)s") % {"name": nic.bridge})
    place = place or (nic.direct and _("host interface %(name)s") % {"name": nic.direct})
    return Row(
        key=nic.key,
        name=place or _("not connected"),
        facts=_joined(
            nic.model,
            _("VLAN %(tag)s") % {"tag": nic.vlan} if nic.vlan else "",
            _("filter %(name)s") % {"name": nic.filter} if nic.filter else "",
            _("at most %(rate)s/s in") % {"rate": format_bytes(nic.inbound_bytes_per_second)}
            if nic.inbound_bytes_per_second
            else "",
            _("at most %(rate)s/s out") % {"rate": format_bytes(nic.outbound_bytes_per_second)}
            if nic.outbound_bytes_per_second
            else "",
        ),
        small=nic.mac,
        down=nic.link == "down",
        forms=[("nic-update", _("Change"), "tag"), ("nic-detach", _("Remove"), "trash")],
    )


def _small(one: DisplayHardware | SimpleHardware) -> Row:
    forms = [("device-detach", _("Remove"), "trash")]
    if isinstance(one, DisplayHardware):
        forms.insert(0, ("device-update", _("Change"), "tag"))
        return Row(
            key=one.key, name=str(KINDS.get(one.type, one.type)), facts=_joined(one.video, one.listen), forms=forms
        )
    if one.kind in ("tpm", "watchdog", "sound"):
        forms.insert(0, ("device-update", _("Change"), "tag"))
    if one.kind in ("balloon", "input"):
        forms = []
    name = str(KINDS.get(one.kind, one.kind))
    return Row(
        key=one.key,
        name=f"{name} {one.number}" if one.kind == "serial" else name,
        facts=_joined(one.model, one.action),
        forms=forms,
    )


# -- what waits ----------------------------------------------------------------------------------------------------------
def pending_text(found: Known, key: str) -> str:
    """What becomes of it at the next start; "" where nothing waits."""
    difference = found.difference(key)
    if difference is None:
        return ""
    if difference.now is None:
        return _("at next start: added")
    if difference.then is None:
        return _("at next start: removed")
    changes = [f"{FIELDS.get(name, name)} {_value(name, then)}" for name, (_now, then) in difference.changed.items()]
    return _("at next start: %(changes)s") % {"changes": ", ".join(changes)}


def _value(name: str, value: Any) -> str:
    """One of its fields, in words."""
    words: dict[str, Any] = {
        "limits": limits_text,
        "order": lambda order: ", ".join(boot_name(key) for key in order),
        "path": lambda path: path.rpartition("/")[2],
        "pins": lambda pins: "; ".join(f"{number} → {at}" for number, at in sorted(pins.items())),
        "nodes": lambda nodes: str(len(nodes)),
    }
    if name in words:
        return words[name](value) or _("none")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if name.endswith("_bytes"):
        return format_bytes(value)
    if name.endswith("_bytes_per_second"):
        return f"{format_bytes(value)}/s" if value else _("unlimited")
    return str(value) or _("the hypervisor's")
