"""Hardware in an in-memory world: read from and written into libvirt-shaped XML, of what a guest has and of what it runs with.

What has no place in that shape stands beside it as JSON, in an attribute `hardware`. What a running guest takes is about what QEMU
takes; `FakeWorld.cannot_live` takes more away.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from pydantic import TypeAdapter

from drivers.errors import AlreadyExists, InvalidDefinition, NotFound, Timeout, Unsupported, WrongState
from drivers.types import (
    BootHardware,
    CpuHardware,
    DiskHardware,
    DisplayHardware,
    GuestEventKind,
    GuestHardware,
    GuestRef,
    Hardware,
    HardwareOptions,
    HostDevice,
    HostDeviceHardware,
    HostNode,
    MemoryHardware,
    NicHardware,
    SimpleHardware,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from drivers.fake.console import FakeConsole
    from drivers.fake.guest import Guest
    from drivers.fake.storage import FakeStorage
    from drivers.types import Device, GuestInfo

LIVE: Final = (
    "cpu", "memory", "disk.attach", "disk.detach", "disk.media", "disk.resize", "disk.limits", "nic.attach", "nic.detach",
    "nic.link", "nic.bandwidth", "host-device",
)  # fmt: skip
OPTIONS: Final = HardwareOptions(
    disk_buses=("virtio", "scsi", "sata", "usb"),
    disk_caches=("none", "writeback", "writethrough", "directsync", "unsafe"),
    cdrom_buses=("sata", "scsi"),
    nic_models=("virtio", "e1000e", "rtl8139"),
    displays=("vnc", "spice"),
    videos=("virtio", "qxl", "vga"),
    cpu_modes=("host-passthrough", "host-model", "maximum", "custom"),
    cpu_models=("Imaginary-8000", "Imaginary-4000"),
    max_vcpus=64,
    kinds={
        "tpm": ("tpm-crb", "tpm-tis"),
        "rng": ("virtio",),
        "watchdog": ("itco", "i6300esb"),
        "serial": ("isa-serial",),
        "sound": ("ich9", "ac97"),
        "input": ("tablet", "keyboard"),
    },
    live=dict.fromkeys(LIVE, ""),
)
_NEXT_START: Final = "{what} cannot be changed while the guest runs: it takes effect at its next start."
_BESIDE: Final = "hardware"


# -- between values and XML ------------------------------------------------------------------------------------------------
_ADAPTERS: Final[dict[type[Any], TypeAdapter[Any]]] = {
    cls: TypeAdapter(cls)
    for cls in (
        CpuHardware,
        BootHardware,
        DiskHardware,
        NicHardware,
        DisplayHardware,
        SimpleHardware,
        HostDeviceHardware,
    )
}


def _write_beside(element: ET.Element, device: Device, *shaped: str) -> None:
    """All fields but `shaped` as JSON, where they are not as usual."""
    values = _ADAPTERS[type(device)].dump_python(device, mode="json")
    rest = {name: value for name, value in values.items() if name not in shaped and value not in ("", 0, False, None)}
    rest = {name: value for name, value in rest.items() if value not in ([], {})}
    element.set(_BESIDE, json.dumps(rest))


def _read(cls: type[Any], element: ET.Element | None, **shaped: Any) -> Any:
    beside = "{}" if element is None else element.get(_BESIDE, "{}")
    return _ADAPTERS[cls].validate_python({**json.loads(beside), **shaped})


def hardware_of(root: ET.Element, *, vcpus: int, memory_bytes: int, max_memory_bytes: int) -> Hardware:
    """What a definition says of it."""
    vcpu = root.find("vcpu")
    maximum = int((vcpu.text or "1") if vcpu is not None else 1)
    memory = root.find("memory")
    return Hardware(
        cpu=_read(CpuHardware, vcpu, vcpus=vcpus, max_vcpus=maximum),
        memory=MemoryHardware(
            memory_bytes=memory_bytes,
            max_memory_bytes=max_memory_bytes,
            balloon=memory is None or memory.get("balloon") != "no",
        ),
        boot=_read(BootHardware, root.find("os")),
        disks=tuple(_disks(root)),
        interfaces=tuple(_nics(root)),
        displays=tuple(_read(DisplayHardware, one) for one in root.iterfind("devices/graphics")),
        others=tuple(
            _read(SimpleHardware, one, kind=one.tag)
            for one in root.iterfind("devices/*")
            if one.tag in OPTIONS.kinds or one.tag == "balloon"
        ),
        host_devices=tuple(_read(HostDeviceHardware, one) for one in root.iterfind("devices/hostdev")),
    )


def _disks(root: ET.Element) -> Iterator[DiskHardware]:
    for one in root.iterfind("devices/disk"):
        target, source, driver = one.find("target"), one.find("source"), one.find("driver")
        if target is not None:
            yield _read(
                DiskHardware,
                one,
                target=target.get("dev", ""),
                device=one.get("device", "disk"),
                bus=target.get("bus", ""),
                path="" if source is None else source.get("file", ""),
                format="" if driver is None else driver.get("type", ""),
                readonly=one.find("readonly") is not None,
            )


def _nics(root: ET.Element) -> Iterator[NicHardware]:
    for one in root.iterfind("devices/interface"):
        mac, source, model = one.find("mac"), one.find("source"), one.find("model")
        place = {} if source is None else {key: source.get(key, "") for key in ("network", "bridge", "direct")}
        yield _read(
            NicHardware,
            one,
            mac="" if mac is None else mac.get("address", ""),
            model="" if model is None else model.get("type", ""),
            **place,
        )


def _element_of(root: ET.Element, key: str) -> ET.Element | None:
    for one in root.iterfind("devices/*"):
        target, mac = one.find("target"), one.find("mac")
        beside = json.loads(one.get(_BESIDE, "{}"))
        found = {
            "disk": lambda: f"disk/{'' if target is None else target.get('dev', '')}",  # noqa: B023 - called at once
            "interface": lambda: f"nic/{'' if mac is None else mac.get('address', '')}",  # noqa: B023
            "graphics": lambda: f"display/{beside.get('type')}",  # noqa: B023
            "hostdev": lambda: f"{beside.get('kind')}/{beside.get('address')}",  # noqa: B023
            "serial": lambda: f"serial/{beside.get('number', 0)}",  # noqa: B023
        }.get(one.tag, lambda: one.tag)()  # noqa: B023
        if found == key:
            return one
    return None


def put(root: ET.Element, device: Device) -> None:
    """Write a device into a definition, in the place of the one of its key."""
    if isinstance(device, CpuHardware | MemoryHardware | BootHardware):
        _put_part(root, device)
        return
    devices = root.find("devices")
    if devices is None:
        devices = ET.SubElement(root, "devices")
    one = _element_of(root, device.key)
    if one is None:
        one = ET.SubElement(devices, _tag(device))
    if isinstance(device, DiskHardware):
        _put_disk(one, device)
    elif isinstance(device, NicHardware):
        _put_nic(one, device)
    else:
        _write_beside(one, device)


def _tag(device: Device) -> str:
    tags: dict[type[Any], str] = {
        DiskHardware: "disk",
        NicHardware: "interface",
        DisplayHardware: "graphics",
        HostDeviceHardware: "hostdev",
    }
    return device.kind if isinstance(device, SimpleHardware) else tags[type(device)]


def _child(parent: ET.Element, tag: str, **attributes: str) -> None:
    for old in parent.findall(tag):
        parent.remove(old)
    if attributes:
        ET.SubElement(parent, tag, attributes)


def _put_part(root: ET.Element, device: CpuHardware | MemoryHardware | BootHardware) -> None:
    if isinstance(device, CpuHardware):
        maximum = max(device.max_vcpus, device.vcpus)
        _child(root, "vcpu", current=str(device.vcpus))
        element = root.find("vcpu")
        assert element is not None  # noqa: S101 - it was just made
        element.text = str(maximum)
        if maximum == device.vcpus:
            del element.attrib["current"]
        _write_beside(element, device, "vcpus", "max_vcpus")
    elif isinstance(device, MemoryHardware):
        _child(root, "memory", unit="b", **({} if device.balloon else {"balloon": "no"}))
        _child(root, "currentMemory", unit="b")
        for tag, value in (
            ("memory", max(device.max_memory_bytes, device.memory_bytes)),
            ("currentMemory", device.memory_bytes),
        ):
            element = root.find(tag)
            assert element is not None  # noqa: S101 - it was just made
            element.text = str(value)
    else:
        os = root.find("os")
        _write_beside(os if os is not None else ET.SubElement(root, "os"), device)


def _put_disk(one: ET.Element, device: DiskHardware) -> None:
    source = one.find("source")
    before = "" if source is None else source.get("file", "")
    one.set("device", device.device)
    one.set("type", one.get("type", "file"))
    _child(one, "driver", name="fake", type=device.format or "raw")
    _child(one, "target", dev=device.target, bus=device.bus)
    if device.path != before or source is None:
        one.set("type", "file")
        _child(one, "source", **({"file": device.path} if device.path else {}))
    _child(one, "readonly")
    if device.readonly or device.device == "cdrom":
        ET.SubElement(one, "readonly")
    _write_beside(one, device, "target", "device", "bus", "path", "format", "readonly")


def _put_nic(one: ET.Element, device: NicHardware) -> None:
    place = {name: getattr(device, name) for name in ("network", "bridge", "direct") if getattr(device, name)}
    one.set("type", next(iter(place), "user"))
    _child(one, "mac", address=device.mac)
    _child(one, "source", **place)
    _child(one, "model", type=device.model or "virtio")
    _write_beside(one, device, "mac", "model", "network", "bridge", "direct")


def drop(root: ET.Element, key: str) -> bool:
    """Take a device out of a definition; False where it has none of this key."""
    element, devices = _element_of(root, key), root.find("devices")
    if element is None or devices is None:
        return False
    devices.remove(element)
    return True


# -- what it takes ---------------------------------------------------------------------------------------------------------
def check(device: Device) -> None:
    """Raises InvalidDefinition for what no guest of a world can have."""
    fault = ""
    if isinstance(device, CpuHardware):
        fault = _cpu_fault(device)
    elif isinstance(device, MemoryHardware) and device.memory_bytes <= 0:
        fault = "A guest has some memory."
    elif isinstance(device, DiskHardware):
        fault = _disk_fault(device)
    elif isinstance(device, NicHardware) and not (device.network or device.bridge or device.direct):
        fault = "An interface is on a network, a bridge or an interface of the host."
    elif isinstance(device, SimpleHardware) and device.kind not in OPTIONS.kinds:
        fault = f"There is no {device.kind} here."
    if fault:
        raise InvalidDefinition(fault)


def _cpu_fault(cpu: CpuHardware) -> str:
    most = cpu.max_vcpus or cpu.vcpus
    if not 1 <= cpu.vcpus <= most <= OPTIONS.max_vcpus:
        return f"A guest here has 1 to {OPTIONS.max_vcpus} vCPUs, and no more than it may have."
    if cpu.sockets and cpu.sockets * cpu.cores * cpu.threads != most:
        return f"{cpu.sockets} sockets of {cpu.cores} cores with {cpu.threads} threads are not {most} vCPUs."
    return ""


def _disk_fault(disk: DiskHardware) -> str:
    buses = OPTIONS.cdrom_buses if disk.device == "cdrom" else OPTIONS.disk_buses
    if not disk.target:
        return "A disk has a target."
    return "" if disk.bus in buses else f"A {disk.device} is on one of: {', '.join(buses)}."


def live_words(old: Device | None, new: Device) -> str:
    """By which word of `HardwareOptions.live` this change of a running guest goes; "" where it takes none of the kind."""
    if isinstance(new, CpuHardware) and isinstance(old, CpuHardware):
        moved = {name: getattr(new, name) for name in ("vcpus", "pins", "emulator_pins", "memory_nodes", "memory_mode")}
        return "cpu" if dataclasses.replace(old, **moved) == new and new.vcpus <= old.max_vcpus else ""
    if isinstance(new, MemoryHardware) and isinstance(old, MemoryHardware):
        same = dataclasses.replace(old, memory_bytes=new.memory_bytes) == new
        return "memory" if same and old.balloon and new.memory_bytes <= old.max_memory_bytes else ""
    if isinstance(new, DiskHardware):
        return _live_disk(old, new)
    if isinstance(new, NicHardware):
        return _live_nic(old, new)
    return "host-device" if isinstance(new, HostDeviceHardware) else ""


def _live_disk(old: Device | None, new: DiskHardware) -> str:
    if not isinstance(old, DiskHardware):
        return "disk.attach" if new.device == "disk" and new.bus != "sata" else ""
    if dataclasses.replace(old, limits=new.limits) == new:
        return "disk.limits"
    media = dataclasses.replace(old, path=new.path, format=new.format) == new
    return "disk.media" if media and new.device == "cdrom" else ""


def _live_nic(old: Device | None, new: NicHardware) -> str:
    if not isinstance(old, NicHardware):
        return "nic.attach"
    plugged = ("link", "network", "bridge", "direct", "direct_mode", "filter", "vlan")
    if dataclasses.replace(old, **{name: getattr(new, name) for name in plugged}) == new:
        return "nic.link"
    held = (*plugged, "inbound_bytes_per_second", "outbound_bytes_per_second")
    values = {name: getattr(new, name) for name in held}
    return "nic.bandwidth" if dataclasses.replace(old, **values) == new else ""


def _gone_word(key: str) -> str:
    kind = key.partition("/")[0]
    return {"disk": "disk.detach", "nic": "nic.detach", "pci": "host-device", "usb": "host-device"}.get(kind, "")


class HardwareVerbs:
    """The part of a `FakeWorld` that changes hardware. `do_…` is called by sessions, and by `outside` for somebody else."""

    storage: FakeStorage
    uuid_of: Callable[[str], str]
    define: Callable[[str], GuestInfo]
    _changed: threading.Condition

    def __init__(self) -> None:
        self._not_live: dict[str, str] = {}
        self._not_live_untold: dict[str, str] = {}
        self._host_devices: list[HostDevice] = []

    # -- the scene -----------------------------------------------------------------------------------------------------
    def cannot_live(self, word: str, why: str, *, told: bool = True) -> None:
        """From now on no running guest takes this (a word of `HardwareOptions.live`); untold: it shows only when it is tried."""
        with self._changed:
            (self._not_live if told else self._not_live_untold)[word] = why

    def add_host_device(self, address: str, *, kind: str = "pci", **facts: Any) -> HostDevice:
        """A device that guests can be given."""
        with self._changed:
            self._host_devices.append(HostDevice(kind=kind, address=address, **facts))
            return self._host_devices[-1]

    def runs_with(self, name: str) -> Hardware | None:
        """What a guest runs with; None when it is off."""
        return self.hardware(GuestRef(uuid="", name=name)).live

    # -- verbs ---------------------------------------------------------------------------------------------------------
    def hardware(self, ref: GuestRef) -> GuestHardware:
        """Both of one guest."""
        with self._changed:
            guest = self._find(ref)
            live = guest.alive and (guest.live or guest).hardware()
            return GuestHardware(defined=guest.hardware() if guest.persistent else None, live=live or None)

    def hardware_options(self, ref: GuestRef) -> HardwareOptions:
        """The same for all, but for what was taken away."""
        with self._changed:
            self._find(ref)
            return dataclasses.replace(OPTIONS, live={**OPTIONS.live, **self._not_live})

    def do_attach(self, ref: GuestRef, *, device: Device, live: bool, defined: bool) -> None:
        """Add it."""
        check(device)
        self._change(ref, device.key, device, live=live, defined=defined, new=True)

    def do_update(self, ref: GuestRef, *, device: Device, live: bool, defined: bool) -> None:
        """Change it."""
        check(device)
        self._change(ref, device.key, device, live=live, defined=defined, new=False)

    def do_detach(self, ref: GuestRef, *, key: str, live: bool, defined: bool) -> None:
        """Take it away. A guest that does not obey does not let go."""
        if key in ("cpu", "memory", "boot"):
            raise InvalidDefinition(f"No guest is without {key}.")
        self._change(ref, key, None, live=live, defined=defined, new=False)

    def do_disk_resize(self, ref: GuestRef, *, target: str, capacity_bytes: int) -> None:
        """Grow the volume that a running guest's disk is."""
        with self._changed:
            guest = self._find(ref)
            if not guest.alive:
                raise WrongState(f"{guest.name} is not running.")
            self._refuse_live("disk.resize", f"disk/{target}")
            disk = (guest.live or guest).hardware().devices.get(f"disk/{target}")
        if not isinstance(disk, DiskHardware):
            raise NotFound(f"{guest.name} has no disk {target}.")
        self.storage.resize_at(disk.path, capacity_bytes=capacity_bytes)

    def host_devices(self) -> list[HostDevice]:
        """Those that a test put there; what a running guest has is `vfio-pci`'s."""
        with self._changed:
            taken = {
                one.address
                for guest in self._all()
                if guest.alive
                for one in (guest.live or guest).hardware().host_devices
            }
            return [
                dataclasses.replace(one, driver="vfio-pci") if one.address in taken and one.kind == "pci" else one
                for one in self._host_devices
            ]

    def host_nodes(self) -> list[HostNode]:
        """Two, of four CPUs each."""
        return [HostNode(id=number, cpus=f"{number * 4}-{number * 4 + 3}", memory_bytes=8 << 30) for number in (0, 1)]

    # -- how -----------------------------------------------------------------------------------------------------------
    def _change(self, ref: GuestRef, key: str, device: Device | None, *, live: bool, defined: bool, new: bool) -> None:
        with self._changed:
            guest = self._find(ref)
            if live and not guest.alive:
                raise WrongState(f"{guest.name} is not running.")
            if defined and not guest.persistent:
                raise WrongState(f"{guest.name} is transient: it has no definition.")
            definition = _changed(guest, key, device, new=new) if defined else None
            running = self._changed_live(guest, key, device, new=new) if live else None
            if running is not None:
                # Made whole before it is shown: a fault above leaves both as they were.
                guest.run_with(running)
        if definition is not None:
            self.define(definition)
        elif running is not None:
            self._after(guest, GuestEventKind.CHANGED, "hardware/changed", None)

    def _changed_live(self, guest: Guest, key: str, device: Device | None, *, new: bool) -> str | None:
        running = guest.live or guest
        old = running.hardware().devices.get(key)
        if old == device:
            return None
        self._refuse_live(live_words(old, device) if device is not None else _gone_word(key), key)
        if device is None and not guest.obeys:
            raise Timeout(f"{guest.name} does not let go of {key}.")
        return _changed(running, key, device, new=new)

    def _refuse_live(self, word: str, key: str) -> None:
        why = _NEXT_START.format(what=key) if not word else self._not_live.get(word) or self._not_live_untold.get(word)
        if why:
            raise Unsupported(why)

    def _all(self) -> Iterator[Guest]:
        raise NotImplementedError

    def _find(self, ref: GuestRef) -> Guest:
        raise NotImplementedError

    def _after(self, guest: Guest, kind: GuestEventKind, reason: str, console: FakeConsole | None) -> None:
        raise NotImplementedError


def _changed(guest: Guest, key: str, device: Device | None, *, new: bool) -> str | None:
    """The definition with the device changed, None where nothing is to be done. Raises AlreadyExists, NotFound."""
    old = guest.hardware().devices.get(key)
    if old == device:
        return None
    if new and old is not None:
        raise AlreadyExists(f"{guest.name} has another {key} already.")
    if not new and old is None:
        raise NotFound(f"{guest.name} has no {key}.")
    root = ET.fromstring(guest.definition)  # noqa: S314 - our own text
    if device is None:
        drop(root, key)
    else:
        put(root, device)
    return ET.tostring(root, encoding="unicode")
