"""The dialogs of the Hardware tab: what each asks, of what is known, and which call it makes. Drawn by one template, sent by one script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.utils.translation import gettext as _

from accounts.policy import may, visible
from core.errors import Missing
from core.units import format_bytes
from drivers.types import CpuHardware, DisplayHardware, MemoryHardware, NicHardware, SimpleHardware
from networks.models import Network
from vms.hardware.desk import CHOICES_MAX, GIB, Desk, Field, choice
from vms.hardware.disk_forms import DISK_FORMS
from vms.hardware.rows import BOOT_WORDS, KINDS, boot_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.actor import Actor
    from vms.hardware.desk import Form
    from vms.hardware.selectors import Known
    from vms.models import VM

ACTIONS_OF_WATCHDOG: Final = ("reset", "poweroff", "pause", "none", "dump", "inject-nmi")


def form_of(name: str, vm: VM, found: Known, by: Actor, *, key: str = "") -> Form:
    """The dialog of this name, of the device with this key. Raises Missing."""
    make = _FORMS.get(name)
    if make is None:
        raise Missing(_("There is no such form."))
    return make(Desk(vm, found, by, key))


# -- parts ---------------------------------------------------------------------------------------------------------------
def _cpu(desk: Desk) -> Form:
    shown = desk.found.shown
    assert shown is not None  # noqa: S101 - a guest has something
    cpu: CpuHardware = shown.cpu
    later = desk.late("")
    modes = choice(desk.options.cpu_modes, cpu.mode, _("the hypervisor's choice"))
    return desk.form(
        title=_("Processors"),
        action=_("Save"),
        method="PATCH",
        path=f"{desk.path}/hardware",
        root="cpu",
        fields=[
            Field(name="vcpus", label=_("vCPUs"), kind="number", value=cpu.vcpus, late=desk.late("cpu")),
            Field(
                name="max_vcpus",
                label=_("vCPUs at most"),
                kind="number",
                value=max(cpu.max_vcpus, cpu.vcpus),
                hint=_("As many can be plugged in while it runs."),
                late=later,
            ),
            Field(name="sockets", label=_("Sockets"), kind="number", value=cpu.sockets or "", late=later, more=True),
            Field(name="cores", label=_("Cores of each"), kind="number", value=cpu.cores or "", late=later, more=True),
            Field(
                name="threads",
                label=_("Threads of each"),
                kind="number",
                value=cpu.threads or "",
                hint=_("Sockets, cores and threads together: their product is the vCPUs at most."),
                late=later,
                more=True,
            ),
            Field(
                name="mode", label=_("CPU mode"), kind="select", value=cpu.mode, options=modes, late=later, more=True
            ),
            Field(
                name="model",
                label=_("CPU model"),
                value=cpu.model,
                options=choice(desk.options.cpu_models, cpu.model),
                hint=_("With the mode custom."),
                late=later,
                more=True,
            ),
            Field(
                name="pins",
                label=_("Pinning"),
                kind="pins",
                value="\n".join(f"{number}: {at}" for number, at in sorted(cpu.pins.items())),
                hint=_("A line each: number of a vCPU, then the host's CPUs that it may run on, as 0: 0-3,8"),
                late=desk.late("cpu"),
                more=True,
            ),
            Field(
                name="emulator_pins",
                label=_("Pinning of the emulator"),
                value=cpu.emulator_pins,
                hint=_("CPUs of the host, as 0-3,8"),
                late=desk.late("cpu"),
                more=True,
            ),
            Field(
                name="nodes",
                label=_("NUMA nodes that it sees"),
                kind="nodes",
                value="\n".join(f"{one.cpus}: {one.memory_bytes / GIB:g}" for one in cpu.nodes),
                hint=_("A line each: its vCPUs, then GiB of memory, as 0-1: 2"),
                late=later,
                more=True,
            ),
            Field(
                name="memory_nodes",
                label=_("Memory from the host's NUMA nodes"),
                value=cpu.memory_nodes,
                hint=_("As 0-1; empty: from any."),
                late=desk.late("cpu"),
                more=True,
            ),
            Field(
                name="memory_mode",
                label=_("NUMA mode"),
                kind="select",
                value=cpu.memory_mode,
                options=choice(("strict", "preferred", "interleave"), "", _("the hypervisor's choice")),
                late=desk.late("cpu"),
                more=True,
            ),
        ],
    )


def _memory(desk: Desk) -> Form:
    shown = desk.found.shown
    assert shown is not None  # noqa: S101 - a guest has something
    memory: MemoryHardware = shown.memory
    live = desk.found.found.live
    room = max(live.memory.max_memory_bytes, live.memory.memory_bytes) if live else 0
    hint = _("At once up to %(size)s; more at its next start.") % {"size": format_bytes(room)} if room else ""
    return desk.form(
        title=_("Memory"),
        action=_("Save"),
        method="PATCH",
        path=f"{desk.path}/hardware",
        root="memory",
        fields=[
            Field(
                name="memory_bytes",
                label=_("Memory in GiB"),
                kind="gib",
                value=memory.memory_bytes,
                hint=hint if not desk.late("memory") else "",
                late=desk.late("memory"),
            ),
            Field(
                name="max_memory_bytes",
                label=_("At most, in GiB"),
                kind="gib",
                value=max(memory.max_memory_bytes, memory.memory_bytes),
                hint=_("What it may grow to while it runs. It grows with the memory itself."),
                late=desk.late(""),
            ),
        ],
    )


def _boot(desk: Desk) -> Form:
    shown = desk.found.shown
    assert shown is not None  # noqa: S101 - a guest has something
    boot = shown.boot
    bootable = [
        *(one.key for one in shown.disks),
        *(one.key for one in shown.interfaces),
        *(one.key for one in shown.host_devices),
    ]
    by_word = all(key in BOOT_WORDS for key in boot.order) and bool(boot.order)
    rest = list(BOOT_WORDS) if by_word else bootable
    keys = [*boot.order, *(key for key in rest if key not in boot.order)]
    kinds = {"disk": _("disk"), "nic": _("network"), "pci": _("PCI device"), "usb": _("USB device")}
    labels: list[tuple[str, str]] = [
        (key, boot_name(key) if key in BOOT_WORDS else f"{kinds.get(key.partition('/')[0], '')} {boot_name(key)}")
        for key in keys
    ]
    return desk.form(
        title=_("Boot order"),
        action=_("Save"),
        method="PATCH",
        path=f"{desk.path}/hardware",
        root="boot",
        late=desk.late(""),
        text=_("It is tried from top to bottom; what is not marked is left out."),
        fields=[
            Field(name="order", label=_("Boots from"), kind="order", value=list(boot.order), options=labels),
            Field(name="menu", label=_("Offer a menu at its start"), kind="check", value=boot.menu),
        ],
    )


# -- interfaces ------------------------------------------------------------------------------------------------------------
def _networks(desk: Desk) -> list[tuple[str, str]]:
    rows = visible(desk.by, Network.objects.filter(host=desk.vm.hypervisor.host_id, gone_at=None)).order_by("name")
    return [(one.name, one.name if one.active else f"{one.name} ({_('not active')})") for one in rows[:CHOICES_MAX]]


def _nic_fields(desk: Desk, nic: NicHardware, *, new: bool) -> list[Field]:
    later = "" if new else desk.late("")
    plugged = "" if new else desk.late("nic.link")
    held = "" if new else desk.late("nic.bandwidth")
    networks = _networks(desk)
    kinds = [("network", _("Network"))]
    if may(desk.by, "network.manage"):
        kinds += [("bridge", _("Bridge of the host")), ("direct", _("Interface of the host"))]
    present = next((name for name in ("direct", "bridge", "network") if getattr(nic, name)), "network")
    if present not in dict(kinds):
        kinds.append((present, present))
    if nic.network and nic.network not in dict(networks):
        networks.insert(0, (nic.network, nic.network))
    return [
        Field(name="kind", label=_("Connected to"), kind="radio", value=present, options=kinds),
        Field(
            name="network",
            label=_("Network"),
            kind="select",
            value=nic.network,
            options=networks,
            when="network",
            keep=new,
            late=plugged,
        ),
        Field(name="bridge", label=_("Bridge"), value=nic.bridge, when="bridge", keep=new, late=plugged),
        Field(name="direct", label=_("Interface"), value=nic.direct, when="direct", keep=new, late=plugged),
        Field(
            name="direct_mode",
            label=_("Mode"),
            kind="select",
            value=nic.direct_mode or "bridge",
            options=choice(("bridge", "vepa", "private", "passthrough")),
            when="direct",
            late=plugged,
        ),
        Field(
            name="model",
            label=_("Model"),
            kind="select",
            value=nic.model,
            options=choice(desk.options.nic_models, nic.model, "" if nic.model else _("the hypervisor's best")),
            late=later,
        ),
        Field(
            name="link",
            label=_("Cable"),
            kind="select",
            value=nic.link,
            options=[("up", _("plugged in")), ("down", _("pulled out"))],
            late=plugged,
        ),
        Field(
            name="vlan",
            label=_("VLAN"),
            kind="number",
            value=nic.vlan,
            hint=_("1 to 4094; 0: none."),
            late=plugged,
            more=True,
        ),
        Field(name="filter", label=_("Network filter"), value=nic.filter, late=plugged, more=True),
        Field(
            name="inbound_bytes_per_second",
            label=_("Inbound at most, MiB/s"),
            kind="mib",
            value=nic.inbound_bytes_per_second,
            late=held,
            more=True,
        ),
        Field(
            name="outbound_bytes_per_second",
            label=_("Outbound at most, MiB/s"),
            kind="mib",
            value=nic.outbound_bytes_per_second,
            late=held,
            more=True,
        ),
    ]


def _nic_attach(desk: Desk) -> Form:
    form = desk.form(
        title=_("Add network interface"),
        action=_("Add interface"),
        method="POST",
        path=f"{desk.path}/interfaces",
        late=desk.late("nic.attach"),
        fields=_nic_fields(desk, NicHardware(), new=True),
    )
    form.fields.append(Field(name="mac", label=_("MAC address"), hint=_("Left empty: a new one."), more=True))
    return form


def _nic(desk: Desk) -> NicHardware:
    found = desk.device
    if not isinstance(found, NicHardware):
        raise Missing(_("The guest does not have this device any more."))
    return found


def _nic_update(desk: Desk) -> Form:
    nic = _nic(desk)
    return desk.form(
        title=_("Change %(name)s") % {"name": nic.mac},
        action=_("Save"),
        method="PATCH",
        path=f"{desk.path}/interfaces/{nic.mac}",
        fields=_nic_fields(desk, nic, new=False),
    )


def _nic_detach(desk: Desk) -> Form:
    nic = _nic(desk)
    return desk.form(
        title=_("Remove %(name)s?") % {"name": nic.mac},
        action=_("Remove interface"),
        method="DELETE",
        path=f"{desk.path}/interfaces/{nic.mac}",
        text=_("The guest is no longer on %(place)s by it.")
        % {"place": nic.network or nic.bridge or nic.direct or _("its network")},
        late=desk.late("nic.detach"),
        danger=True,
    )


# -- devices ---------------------------------------------------------------------------------------------------------------
def _device_attach(desk: Desk) -> Form:
    options = desk.options
    there = desk.found.devices
    kinds = [
        (kind, str(KINDS.get(kind, kind)))
        for kind in (*options.displays, *options.kinds)
        if kind in KINDS and (kind == "serial" or not {kind, f"display/{kind}"} & there.keys())
    ]
    fields = [
        Field(
            name="type", label=_("Device"), kind="radio", value=kinds[0][0] if kinds else "", options=kinds, keep=True
        )
    ]
    for kind, models in (*((one, options.videos) for one in options.displays), *options.kinds.items()):
        if kind in dict(kinds) and models:
            fields.append(
                Field(
                    name=f"model@{kind}",
                    label=_("Card behind it") if kind in options.displays else _("Model"),
                    kind="select",
                    options=choice(models, "", _("the hypervisor's best")),
                    when=kind,
                )
            )
    if "watchdog" in dict(kinds):
        actions = choice(ACTIONS_OF_WATCHDOG, "", _("the hypervisor's choice"))
        fields.append(Field(name="action", label=_("When it bites"), kind="select", options=actions, when="watchdog"))
    return desk.form(
        title=_("Add device"),
        action=_("Add device"),
        method="POST",
        path=f"{desk.path}/devices",
        late=desk.late(""),
        text="" if kinds else _("It has all that its hypervisor can give it."),
        fields=fields if kinds else [],
    )


def _host_attach(desk: Desk) -> Form:
    return desk.form(
        title=_("Add host device"),
        action=_("Add host device"),
        method="POST",
        path=f"{desk.path}/devices",
        late=desk.late("host-device"),
        text=_("The host loses it while the guest has it. All devices of an IOMMU group go to one guest together."),
        fields=[
            Field(
                name="address",
                label=_("Device"),
                kind="device",
                value=f"/hosts/{desk.vm.hypervisor.host_id}/devices",
                keep=True,
            )
        ],
    )


def _device_update(desk: Desk) -> Form:
    one = desk.device
    later = desk.late("")
    fields = []
    if isinstance(one, DisplayHardware):
        name, label, models, present = (
            str(KINDS.get(one.type, one.type)),
            _("Card behind it"),
            desk.options.videos,
            one.video,
        )
    elif isinstance(one, SimpleHardware):
        name, label = str(KINDS.get(one.kind, one.kind)), _("Model")
        models, present = desk.options.kinds.get(one.kind, ()), one.model
        if one.kind == "watchdog":
            fields.append(
                Field(
                    name="action",
                    label=_("When it bites"),
                    kind="select",
                    value=one.action,
                    options=choice(ACTIONS_OF_WATCHDOG, one.action),
                    late=later,
                )
            )
    else:
        raise Missing(_("There is nothing to be changed of it."))
    fields.insert(
        0, Field(name="model", label=label, kind="select", value=present, options=choice(models, present), late=later)
    )
    return desk.form(
        title=_("Change %(name)s") % {"name": name},
        action=_("Save"),
        method="PATCH",
        path=f"{desk.path}/devices/{one.key}",
        fields=fields,
    )


def _device_detach(desk: Desk) -> Form:
    one = desk.device
    host = one.key.startswith(("pci/", "usb/"))
    return desk.form(
        title=_("Remove %(name)s?") % {"name": one.key},
        action=_("Remove device"),
        method="DELETE",
        path=f"{desk.path}/devices/{one.key}",
        text=_("The host has it back then.") if host else _("The guest loses it."),
        late=desk.late("host-device" if host else ""),
        danger=True,
    )


_FORMS: Final[dict[str, Callable[[Desk], Form]]] = {
    "cpu": _cpu,
    "memory": _memory,
    "boot": _boot,
    **DISK_FORMS,
    "nic-attach": _nic_attach,
    "nic-update": _nic_update,
    "nic-detach": _nic_detach,
    "device-attach": _device_attach,
    "host-attach": _host_attach,
    "device-update": _device_update,
    "device-detach": _device_detach,
}
