"""A `GuestSpec` as what `CreateVM_Task` is sent, and as the `.vmx` that comes of it. No call, no thread.

Disks are files that lie on their datastores already; the guest's own files go into a folder of its name beside the first of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pyVmomi import vim

from drivers import osinfo, specs
from drivers.vsphere.systems import file_id, guest_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from drivers.types import DiskSpec, GuestSpec, NicSpec

NAME_MAX: Final = 80
"""Characters that vSphere takes."""
MEMORY_STEP: Final = 4 * 1024 * 1024
"""VMware takes memory in pieces of 4 MiB."""
FACT_PREFIX: Final = "vmmanager.fact."
TITLE_KEY: Final = "vmmanager.title"
"""Keys among a guest's extra configuration, which goes where its .vmx goes."""

_device = vim.vm.device
_ADAPTERS: Final[dict[str, tuple[type, str]]] = {
    "pvscsi": (_device.ParaVirtualSCSIController, "scsi"),
    "lsisas1068": (_device.VirtualLsiLogicSASController, "scsi"),
    "ahci": (_device.VirtualAHCIController, "sata"),
}
_CARDS: Final[dict[str, type]] = {
    "vmxnet3": _device.VirtualVmxnet3,
    "e1000e": _device.VirtualE1000e,
    "e1000": _device.VirtualE1000,
}
_UNITS: Final = {"scsi": 16, "sata": 30}
_OWN_UNIT: Final = 7
"""A SCSI controller is a unit of its own bus."""
_ORDER: Final = ("disk", "cdrom", "network")
_WISHES: Final = {
    "machine": "VMware has one kind of machine.",
    "tpm": "VMware makes a TPM only with a key provider, which is set up in its own client; add it there.",
    "cpu_mode": "VMware gives its guests the host's own processors; leave it empty.",
    "kernel": "VMware boots from disks, CDs and the network, and no kernel by itself.",
    "initrd": "VMware boots from disks, CDs and the network, and no kernel by itself.",
    "cmdline": "VMware boots from disks, CDs and the network, and no kernel by itself.",
    "root": "a machine has disks, and no directory of the host.",
    "init": "a machine runs what is on its disks.",
    "image": "a machine has disks, and no container image.",
}


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a disk goes: `scsi1:3`."""

    disk: DiskSpec
    adapter: str
    controller: int
    unit: int

    @property
    def bus(self) -> str:
        """`scsi` or `sata`."""
        return _ADAPTERS[self.adapter][1]


def check(spec: GuestSpec) -> None:
    """Raises InvalidDefinition and Unsupported with the field's name."""
    specs.check(spec)
    specs.refuse_wishes(spec, _WISHES)
    if len(spec.name) > NAME_MAX:
        raise specs.refusal("name", f"at most {NAME_MAX} characters.")
    if spec.accelerator != "auto":
        raise specs.lacking("accelerator", "VMware has one of its own; leave it auto.")
    if spec.memory_bytes % MEMORY_STEP:
        raise specs.refusal("memory_bytes", "VMware takes a multiple of 4 MiB.")
    if spec.graphics != "vnc":
        raise specs.lacking("graphics", "a machine of VMware always has a screen, which is no SPICE; leave it vnc.")
    places = [_ORDER.index(device) for device in spec.boot_order]
    if places != sorted(places):
        raise specs.lacking(
            "boot_order", "VMware tries disks, then CDs, then the network; its own client changes that."
        )
    for number, nic in enumerate(spec.interfaces):
        if nic.bridge:
            raise specs.lacking(f"interfaces[{number}].bridge", "VMware has no bridges; name a port group.")
        specs.one_of(f"interfaces[{number}].model", _card(spec, nic), _CARDS)
    _slots(spec)


def shown(spec: GuestSpec, api_version: str) -> str:
    """The `.vmx` that the guest would have, as far as it follows from the spec. Raises as `check`."""
    check(spec)
    return "".join(f'{key} = "{_quoted(value)}"\n' for key, value in _lines(spec, api_version))


def config(spec: GuestSpec, *, home: str, backings: Mapping[str, Any], api_version: str) -> Any:
    """What `CreateVM_Task` is sent.

    Args:
        spec: Checked.
        home: Datastore that its own files go to.
        backings: Name of a network -> how a card is plugged into it.
        api_version: Of the server.
    """
    return vim.vm.ConfigSpec(
        name=spec.name,
        instanceUuid=spec.uuid.lower(),
        annotation=spec.description,
        guestId=guest_id(spec.os_id, api_version),
        numCPUs=spec.vcpus,
        memoryMB=spec.memory_bytes >> 20,
        firmware="efi" if spec.firmware == "uefi" else "bios",
        bootOptions=vim.vm.BootOptions(efiSecureBootEnabled=True) if spec.secure_boot else None,
        nestedHVEnabled=spec.nested,
        files=vim.vm.FileInfo(vmPathName=f"[{home}]"),
        deviceChange=[
            _device.VirtualDeviceSpec(operation="add", device=device)
            for device in (*_storage(spec), *_cards(spec, backings))
        ],
        extraConfig=[vim.option.OptionValue(key=key, value=value) for key, value in _extra(spec)],
    )


def path_of(disk: DiskSpec) -> str:
    """`[datastore1] web.vmdk`."""
    return disk.path or f"[{disk.pool}] {disk.volume}"


def facts(extra: Mapping[str, str]) -> dict[str, str]:
    """Our own facts among a guest's extra configuration."""
    return {key.removeprefix(FACT_PREFIX): value for key, value in extra.items() if key.startswith(FACT_PREFIX)}


# -- pieces ------------------------------------------------------------------------------------------------------------
def _windows(spec: GuestSpec) -> bool:
    return osinfo.defaults(spec.os_id).family == "windows" or "microsoft.com" in spec.os_id


def _adapter(spec: GuestSpec, disk: DiskSpec, number: int) -> str:
    """Windows' installer has no driver for VMware's own adapter; a CD goes where it can be changed while the guest runs."""
    match disk.bus or ("sata" if disk.device == "cdrom" else "scsi"):
        case "scsi" if disk.device == "disk":
            return "lsisas1068" if _windows(spec) else "pvscsi"
        case "sata":
            return "ahci"
    wanted = "sata" if disk.device == "cdrom" else "scsi or sata"
    raise specs.lacking(f"disks[{number}].bus", f"here it is {wanted}; leave it empty for the best.")


def _slots(spec: GuestSpec) -> list[Slot]:
    """Units are given in the order of the disks, so that the first is what is booted."""
    taken: dict[str, int] = {}
    found = []
    for number, disk in enumerate(spec.disks):
        adapter = _adapter(spec, disk, number)
        bus = _ADAPTERS[adapter][1]
        place = taken.get(bus, 0)
        if bus == "scsi" and place % _UNITS[bus] == _OWN_UNIT:
            place += 1
        taken[bus] = place + 1
        found.append(Slot(disk, adapter, *divmod(place, _UNITS[bus])))
    return found


def _card(spec: GuestSpec, nic: NicSpec) -> str:
    return nic.model or ("e1000e" if _windows(spec) else "vmxnet3")


def _storage(spec: GuestSpec) -> Iterator[Any]:
    """Controllers with keys of ours, and what is on them."""
    keys: dict[tuple[str, int], int] = {}
    for number, slot in enumerate(_slots(spec)):
        place = (slot.bus, slot.controller)
        if place not in keys:
            keys[place] = -100 - len(keys)
            yield _controller(slot, keys[place])
        where: dict[str, Any] = {"key": -200 - number, "controllerKey": keys[place], "unitNumber": slot.unit}
        if slot.disk.device == "cdrom":
            iso = _device.VirtualCdrom.IsoBackingInfo(fileName=path_of(slot.disk))
            plug = _device.VirtualDevice.ConnectInfo(startConnected=True, allowGuestControl=True, connected=True)
            yield _device.VirtualCdrom(backing=iso, connectable=plug, **where)
        else:
            mode = "independent_nonpersistent" if slot.disk.readonly else "persistent"
            file = _device.VirtualDisk.FlatVer2BackingInfo(fileName=path_of(slot.disk), diskMode=mode)
            yield _device.VirtualDisk(backing=file, capacityInKB=0, **where)


def _controller(slot: Slot, key: int) -> Any:
    kind, bus = _ADAPTERS[slot.adapter]
    shared = {"sharedBus": "noSharing"} if bus == "scsi" else {}
    return kind(key=key, busNumber=slot.controller, **shared)


def _cards(spec: GuestSpec, backings: Mapping[str, Any]) -> Iterator[Any]:
    for number, nic in enumerate(spec.interfaces):
        plug = _device.VirtualDevice.ConnectInfo(startConnected=True, allowGuestControl=True, connected=True)
        address = {"addressType": "manual", "macAddress": nic.mac} if nic.mac else {"addressType": "generated"}
        yield _CARDS[_card(spec, nic)](key=-300 - number, backing=backings[nic.network], connectable=plug, **address)


def _extra(spec: GuestSpec) -> Iterator[tuple[str, str]]:
    if spec.title:
        yield TITLE_KEY, spec.title
    for name, value in spec.metadata.items():
        yield f"{FACT_PREFIX}{name}", value


def _lines(spec: GuestSpec, api_version: str) -> Iterator[tuple[str, str]]:
    yield "displayName", spec.name
    yield "guestOS", file_id(guest_id(spec.os_id, api_version))
    yield "vc.uuid", spec.uuid.lower()
    yield "numvcpus", str(spec.vcpus)
    yield "memSize", str(spec.memory_bytes >> 20)
    yield "firmware", "efi" if spec.firmware == "uefi" else "bios"
    if spec.secure_boot:
        yield "uefi.secureBoot.enabled", "TRUE"
    if spec.nested:
        yield "vhv.enable", "TRUE"
    if spec.description:
        yield "annotation", spec.description
    for slot in _slots(spec):
        controller = f"{slot.bus}{slot.controller}"
        if not slot.unit:
            yield f"{controller}.present", "TRUE"
            if slot.bus == "scsi":
                yield f"{controller}.virtualDev", slot.adapter
        place = f"{controller}:{slot.unit}"
        yield f"{place}.present", "TRUE"
        yield f"{place}.deviceType", "cdrom-image" if slot.disk.device == "cdrom" else f"{slot.bus}-hardDisk"
        yield f"{place}.fileName", path_of(slot.disk)
        if slot.disk.readonly and slot.disk.device == "disk":
            yield f"{place}.mode", "independent-nonpersistent"
    for number, nic in enumerate(spec.interfaces):
        card = f"ethernet{number}"
        yield f"{card}.present", "TRUE"
        yield f"{card}.virtualDev", _card(spec, nic)
        yield f"{card}.networkName", nic.network
        yield f"{card}.addressType", "static" if nic.mac else "generated"
        if nic.mac:
            yield f"{card}.address", nic.mac
    yield from _extra(spec)


def _quoted(value: str) -> str:
    """As VMware writes what cannot stand in its quotes: `|22`."""
    return "".join(f"|{ord(one):02X}" if one in '"|\n\r\t' else one for one in value)
