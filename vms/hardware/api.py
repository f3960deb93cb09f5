"""REST: what guests are built of. Thin: parse, ask the service, make JSON. Runs in a request thread and never touches a hypervisor."""

import datetime as dt
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from ninja import Path, Query, Router
from pydantic import BaseModel, Field, model_validator

from accounts.access import access
from accounts.actor import Actor, actor_of
from core.errors import Stale
from core.rest import Output, answer, moment, problems
from hosts.services import host_get
from operations.answers import Started
from operations.api import OperationOut
from operations.models import Operation
from vms.creation.spec import DISK_BYTES_MAX, DISK_BYTES_MIN, Mac, Reference
from vms.hardware import services, shown
from vms.hardware.change import When
from vms.hardware.devices import KEY, DeviceChange, DeviceIn
from vms.hardware.disks import TARGET, DiskChange
from vms.hardware.nics import NicChange
from vms.hardware.parts import BootChange, CpuChange, MemoryChange, Part
from vms.hardware.selectors import Known, known
from vms.hardware.sources import Ask
from vms.hardware.values import options_json
from vms.models import VM
from vms.services import vm_get

router = Router(tags=["vms"])

Target = Annotated[str, Path(pattern=TARGET, max_length=16, description="`vda`")]
MacPath = Annotated[
    str, Path(pattern=r"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$", max_length=17, description="`52:54:00:12:34:56`")
]
Key = Annotated[
    str, Path(pattern=KEY, max_length=40, description="`tpm`, `serial/0`, `display/vnc`, `pci/0000:01:00.0`")
]


# -- shapes --------------------------------------------------------------------------------------------------------------
class PendingOut(Output):
    """What of a device waits for the guest's next start."""

    change: Literal["added", "removed", "changed"]
    now: dict[str, Any] | None = Field(description="Of one that is changed: what it is now, of what differs.")


class Device(Output):
    """What all devices have. The fields beside are as at the next start."""

    key: str = Field(description="Unique in its guest.")
    pending: PendingOut | None = Field(description="null: what it is now is what it is at the next start.")


class LimitsOut(Output):
    """What a disk is held to; 0: nothing."""

    total_bytes_per_second: int
    read_bytes_per_second: int
    write_bytes_per_second: int
    total_requests_per_second: int
    read_requests_per_second: int
    write_requests_per_second: int


class DiskDeviceOut(Device):
    """A disk or a drive."""

    target: str
    device: str = Field(description="disk, cdrom, floppy, lun")
    bus: str
    source: str | None = Field(description="null: an empty drive.")
    pool: str | None = Field(description="With `volume`: null where it lies in no pool that is known here.")
    volume: str | None
    size_bytes: int | None
    format: str
    readonly: bool
    shareable: bool
    cache: str
    io: str
    discard: str
    serial: str
    boot_order: int = Field(description="0: not by number.")
    limits: LimitsOut


class NicDeviceOut(Device):
    """A network interface."""

    mac: str
    model: str
    network: str
    bridge: str
    direct: str = Field(description="Interface of the host that it shares (macvtap).")
    direct_mode: str
    link: Literal["up", "down"]
    inbound_bytes_per_second: int
    outbound_bytes_per_second: int
    filter: str
    vlan: int
    boot_order: int


class OtherDeviceOut(Device):
    """A screen, a small device, or a device of the host."""

    type: str
    model: str
    action: str
    address: str
    listen: str


class NumaNodeOut(Output):
    """A NUMA node that the guest sees."""

    cpus: str
    memory_bytes: int


class CpuOut(Output):
    """Processors."""

    vcpus: int
    max_vcpus: int
    sockets: int
    cores: int
    threads: int
    mode: str
    model: str
    pins: dict[str, str]
    emulator_pins: str
    nodes: list[NumaNodeOut]
    memory_nodes: str
    memory_mode: str
    pending: PendingOut | None


class MemoryOut(Output):
    """Memory."""

    memory_bytes: int
    max_memory_bytes: int
    balloon: bool
    now_bytes: int | None = Field(
        description="What it has now; null: it is off. A guest gives memory back when its balloon's driver gets to it."
    )
    pending: PendingOut | None


class BootOut(Output):
    """What it boots from."""

    order: list[str]
    menu: bool
    pending: PendingOut | None


class OptionsOut(Output):
    """What its hypervisor takes, the best first. What is not listed is refused by it."""

    disk_buses: list[str]
    disk_caches: list[str]
    cdrom_buses: list[str]
    nic_models: list[str]
    displays: list[str]
    videos: list[str]
    cpu_modes: list[str]
    cpu_models: list[str]
    max_vcpus: int
    kinds: dict[str, list[str]] = Field(description="Devices that can be added → their models.")
    live: dict[str, str] = Field(description='What can be changed while it runs → "", or why not.')


class HardwareOut(Output):
    """All of it."""

    cpu: CpuOut
    memory: MemoryOut
    boot: BootOut
    disks: list[DiskDeviceOut]
    interfaces: list[NicDeviceOut]
    devices: list[OtherDeviceOut]
    pending: list[str] = Field(description="Keys of all that waits for the next start.")
    options: OptionsOut
    stale: bool = Field(description="Its host is out of reach: as it was seen last.")
    read_at: dt.datetime


class DiskList(Output):
    """Its disks."""

    items: list[DiskDeviceOut]
    total: int


class NicList(Output):
    """Its network interfaces."""

    items: list[NicDeviceOut]
    total: int


class OtherList(Output):
    """Its other devices."""

    items: list[OtherDeviceOut]
    total: int


class GuestRefOut(Output):
    """A guest."""

    id: UUID
    name: str


class HostDeviceOut(Output):
    """A device of the host that could be handed to a guest."""

    kind: Literal["pci", "usb"]
    address: str
    vendor: str
    product: str
    class_: str = Field(alias="class")
    driver: str = Field(description="The host's driver that has it now.")
    iommu_group: int | None = Field(description="All of a group go to one guest together; null: there is no IOMMU.")
    guests: list[GuestRefOut] = Field(description="Who has it, now or at the next start.")


class HostNodeOut(Output):
    """A NUMA node of the host."""

    id: int
    cpus: str
    memory_bytes: int
    free_bytes: int | None


class HostDevicesOut(Output):
    """Devices of a host, and its NUMA nodes."""

    items: list[HostDeviceOut]
    total: int
    nodes: list[HostNodeOut]


# -- what is asked -------------------------------------------------------------------------------------------------------
class ChangeQuery(BaseModel):
    """How a change is queued, and when it counts."""

    when: When = Field(
        "auto",
        description="`auto`: of a guest that runs at once where that can be, and always at its next start; `next_start`: only then.",
    )
    comment: Annotated[str, Field(max_length=500, description="Why; kept with the revision.")] = ""
    on_conflict: Literal["wait", "fail"] = Field(
        "wait", description="`fail`: 409 when anything is queued or running on the guest."
    )


class DetachQuery(ChangeQuery):
    """How a disk is taken away."""

    storage: Literal["keep", "delete"] = Field(
        "keep", description="Whether its volume goes too, if it is the guest's alone."
    )


class HardwareChange(Part):
    """One of them."""

    cpu: CpuChange | None = None
    memory: MemoryChange | None = None
    boot: BootChange | None = None

    @model_validator(mode="after")
    def _one(self) -> "HardwareChange":
        if len(self.said) != 1:
            raise ValueError("one of cpu, memory and boot: each is an operation of its own")
        return self


class MediumIn(Part):
    """What is put into a drive."""

    image: Reference | None = Field(None, description="Id or name of an image.")
    volume: Reference | None = Field(None, description="Name or id of a volume of the host.")
    pool: Reference | None = None

    @model_validator(mode="after")
    def _one(self) -> "MediumIn":
        if (self.image is None) == (self.volume is None):
            raise ValueError("either an image or a volume")
        return self


class NewDisk(DiskChange):
    """A disk to be attached: a new volume (`size_bytes`), a volume that is there, an image, or with `device: cdrom` an empty drive."""

    size_bytes: Annotated[int, Field(ge=DISK_BYTES_MIN, le=DISK_BYTES_MAX)] | None = None
    image: Reference | None = Field(None, description="Id or name of an image, or the name of a volume to be copied.")
    volume: Reference | None = Field(
        None, description="Name or id of a volume of the host: it itself. Nobody else may use it."
    )
    pool: Reference | None = Field(None, description="Id or name; left out: the one with most room.")
    format: Literal["qcow2", "raw"] | None = None
    clone: Literal["linked", "full"] = Field("linked", description="An overlay of the image, or a copy of its own.")
    device: Literal["disk", "cdrom"] | None = Field(None, description="Left out: as what it is made of.")

    @model_validator(mode="after")
    def _whole(self) -> "NewDisk":
        if self.volume is not None and (
            self.image is not None or self.size_bytes is not None or self.format is not None
        ):
            raise ValueError("a volume is taken as it is: no image, size_bytes or format beside it")
        if self.image is not None and self.clone == "linked" and self.format == "raw":
            raise ValueError("a linked disk is qcow2; take clone: full for a raw one")
        return self

    @property
    def ask(self) -> Ask:
        """What it is made of."""
        names = ("size_bytes", "image", "volume", "pool", "format", "clone", "device")
        return Ask(
            **{name: getattr(self, name) for name in names},
            readonly=bool(self.readonly),
            shareable=bool(self.shareable),
        )

    @property
    def disk(self) -> DiskChange:
        """How it is attached."""
        return DiskChange(**{name: value for name, value in self.said.items() if name in DiskChange.model_fields})


class DiskPatch(DiskChange):
    """What of a disk is changed. What is not said stays."""

    medium: MediumIn | None = Field(None, description="What is put into the drive; null: it is taken out.")

    @model_validator(mode="after")
    def _something(self) -> "DiskPatch":
        if not self.said and not self.eject:
            raise ValueError("nothing is to be changed")
        return self

    @property
    def eject(self) -> bool:
        """Whether the medium is taken out."""
        return "medium" in self.model_fields_set and self.medium is None

    @property
    def disk(self) -> DiskChange:
        """How it is attached."""
        return DiskChange(**{name: value for name, value in self.said.items() if name in DiskChange.model_fields})


class DiskSize(Part):
    """How large it is to be."""

    size_bytes: Annotated[int, Field(ge=DISK_BYTES_MIN, le=DISK_BYTES_MAX)]


class NewNic(NicChange):
    """An interface to be attached: on a network, a bridge, or an interface of the host."""

    mac: Mac | None = Field(None, description="Left out: a new one.")

    @property
    def nic(self) -> NicChange:
        """Without its address."""
        return NicChange(**{name: value for name, value in self.said.items() if name != "mac"})


class NicPatch(NicChange):
    """What of an interface is changed. What is not said stays."""

    @model_validator(mode="after")
    def _something(self) -> "NicPatch":
        if not self.said:
            raise ValueError("nothing is to be changed")
        return self


# -- answers -------------------------------------------------------------------------------------------------------------
def hardware_json(vm: VM, found: Known) -> dict[str, Any]:
    """The contract's hardware. One query."""
    return {
        **shown.parts_shown(found),
        "disks": shown.disks_shown(vm, found),
        "interfaces": shown.nics_shown(found),
        "devices": shown.others_shown(found),
        "pending": [one.key for one in found.pending],
        "options": options_json(found.options),
        "stale": vm.stale,
        "read_at": moment(found.read_at),
    }


def _tagged(request: HttpRequest, found: Known, body: dict[str, Any]) -> HttpResponse:
    """With the ETag that `If-Match` of a change takes: of what can be changed."""
    etag = f'"{found.digest}"'
    known_tags = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
    if etag in known_tags and not found.pending:
        return HttpResponseNotModified(headers={"ETag": etag})
    return answer(body, headers={"ETag": etag})


def _base(request: HttpRequest, vm: VM) -> str:
    """The digest that a change was decided by; "" where the caller does not care. Raises Stale for one that is none, or no longer is."""
    header = request.headers.get("If-Match", "")
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in header[:2000].split(",") if tag.strip()]
    if not tags or "*" in tags:
        return ""
    seen = known(vm)
    digest = next((tag for tag in tags if seen is None or tag == seen.digest), None)
    if digest is None or len(digest) != 64:
        raise Stale(f"The hardware of {vm.name} changed since you read it. Read it again and repeat your change.")
    return digest


def _change(request: HttpRequest, vm_id: UUID, query: ChangeQuery) -> tuple[services.Change, Actor]:
    by = actor_of(request)
    vm = vm_get(vm_id, by=by)
    change = services.Change(
        vm, by, when=query.when, base=_base(request, vm), comment=query.comment, on_conflict=query.on_conflict
    )
    return change, by


def _started(request: HttpRequest, operation: Operation, by: Actor) -> HttpResponse:
    return Started(request, operation, by)


# -- all of it -------------------------------------------------------------------------------------------------------------
@router.get(
    "/vms/{vm_id}/hardware",
    response=HardwareOut,
    operation_id="get_vm_hardware",
    summary="What it is built of, read now",
)
@access("view")
@problems(502, 503, 504)
def hardware_get(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """Each device as it is at the next start, and what differs from that now. A worker looks, and this call waits for it."""
    by = actor_of(request)
    vm = vm_get(vm_id, by=by)
    found = services.hardware_read(vm=vm, by=by)
    return _tagged(request, found, hardware_json(vm, found))


@router.patch(
    "/vms/{vm_id}/hardware",
    response={202: OperationOut, 200: OperationOut},
    operation_id="change_vm_hardware",
    summary="Change processors, memory or boot order",
)
@access("vm.edit")
@problems(409, 412, 503)
def hardware_change(
    request: HttpRequest, vm_id: UUID, query: Query[ChangeQuery], payload: HardwareChange
) -> HttpResponse:
    """An operation; its `result.takes_effect` is `now` or `next_start`, with the `reason` where it could not be at once."""
    change, by = _change(request, vm_id, query)
    if payload.cpu is not None:
        return _started(request, change.cpu(payload.cpu), by)
    if payload.memory is not None:
        return _started(request, change.memory(payload.memory), by)
    assert payload.boot is not None  # noqa: S101 - its shape says so
    return _started(request, change.boot(payload.boot), by)


# -- disks -----------------------------------------------------------------------------------------------------------------
@router.get("/vms/{vm_id}/disks", response=DiskList, operation_id="list_vm_disks", summary="Its disks, read now")
@access("view")
@problems(502, 503, 504)
def disk_list(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """As `GET /vms/{id}/hardware` has them."""
    by = actor_of(request)
    vm = vm_get(vm_id, by=by)
    found = services.hardware_read(vm=vm, by=by)
    items = shown.disks_shown(vm, found)
    return _tagged(request, found, {"items": items, "total": len(items)})


@router.post(
    "/vms/{vm_id}/disks",
    response={202: OperationOut, 200: OperationOut},
    operation_id="attach_vm_disk",
    summary="Attach a disk or a drive",
)
@access("vm.edit")
@problems(409, 412, 503)
def disk_attach(request: HttpRequest, vm_id: UUID, query: Query[ChangeQuery], payload: NewDisk) -> HttpResponse:
    """An operation; `result.key` names the device. What has to be made for it is made first."""
    change, by = _change(request, vm_id, query)
    return _started(request, change.disk_attach(payload.ask, payload.disk), by)


@router.patch(
    "/vms/{vm_id}/disks/{target}",
    response={202: OperationOut, 200: OperationOut},
    operation_id="change_vm_disk",
    summary="Change a disk, or what is in a drive",
)
@access("vm.edit")
@problems(409, 412, 503)
def disk_change(
    request: HttpRequest, vm_id: UUID, target: Target, query: Query[ChangeQuery], payload: DiskPatch
) -> HttpResponse:
    """An operation."""
    change, by = _change(request, vm_id, query)
    medium = payload.medium
    ask = None if medium is None else Ask(image=medium.image, volume=medium.volume, pool=medium.pool)
    return _started(request, change.disk_update(target, payload.disk, medium=ask, eject=payload.eject), by)


@router.delete(
    "/vms/{vm_id}/disks/{target}",
    response={202: OperationOut, 200: OperationOut},
    operation_id="detach_vm_disk",
    summary="Detach a disk or a drive",
)
@access("vm.edit")
@problems(409, 412, 503)
def disk_detach(request: HttpRequest, vm_id: UUID, target: Target, query: Query[DetachQuery]) -> HttpResponse:
    """An operation. Its volume stays, unless `storage=delete`."""
    change, by = _change(request, vm_id, query)
    return _started(request, change.disk_detach(target, storage=query.storage), by)


@router.post(
    "/vms/{vm_id}/disks/{target}/resize",
    response={202: OperationOut, 200: OperationOut},
    operation_id="resize_vm_disk",
    summary="Make a disk larger",
)
@access("vm.edit")
@problems(409, 412, 503)
def disk_resize(
    request: HttpRequest, vm_id: UUID, target: Target, query: Query[ChangeQuery], payload: DiskSize
) -> HttpResponse:
    """An operation. Of a guest that runs it is larger at once; the file system in it is the guest's own to grow."""
    change, by = _change(request, vm_id, query)
    return _started(request, change.disk_resize(target, payload.size_bytes), by)


# -- interfaces ------------------------------------------------------------------------------------------------------------
@router.get(
    "/vms/{vm_id}/interfaces", response=NicList, operation_id="list_vm_interfaces", summary="Its interfaces, read now"
)
@access("view")
@problems(502, 503, 504)
def nic_list(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """As `GET /vms/{id}/hardware` has them."""
    by = actor_of(request)
    vm = vm_get(vm_id, by=by)
    found = services.hardware_read(vm=vm, by=by)
    items = shown.nics_shown(found)
    return _tagged(request, found, {"items": items, "total": len(items)})


@router.post(
    "/vms/{vm_id}/interfaces",
    response={202: OperationOut, 200: OperationOut},
    operation_id="attach_vm_interface",
    summary="Attach a network interface",
)
@access("vm.edit")
@problems(409, 412, 503)
def nic_attach(request: HttpRequest, vm_id: UUID, query: Query[ChangeQuery], payload: NewNic) -> HttpResponse:
    """An operation; `result.key` is `nic/` and its address."""
    change, by = _change(request, vm_id, query)
    return _started(request, change.nic_attach(payload.nic, payload.mac or ""), by)


@router.patch(
    "/vms/{vm_id}/interfaces/{mac}",
    response={202: OperationOut, 200: OperationOut},
    operation_id="change_vm_interface",
    summary="Change a network interface",
)
@access("vm.edit")
@problems(409, 412, 503)
def nic_change(
    request: HttpRequest, vm_id: UUID, mac: MacPath, query: Query[ChangeQuery], payload: NicPatch
) -> HttpResponse:
    """An operation. `link: down` pulls its cable."""
    change, by = _change(request, vm_id, query)
    return _started(request, change.nic_update(mac, NicChange(**payload.said)), by)


@router.delete(
    "/vms/{vm_id}/interfaces/{mac}",
    response={202: OperationOut, 200: OperationOut},
    operation_id="detach_vm_interface",
    summary="Detach a network interface",
)
@access("vm.edit")
@problems(409, 412, 503)
def nic_detach(request: HttpRequest, vm_id: UUID, mac: MacPath, query: Query[ChangeQuery]) -> HttpResponse:
    """An operation."""
    change, by = _change(request, vm_id, query)
    return _started(request, change.nic_detach(mac), by)


# -- devices ---------------------------------------------------------------------------------------------------------------
@router.get(
    "/vms/{vm_id}/devices", response=OtherList, operation_id="list_vm_devices", summary="Its other devices, read now"
)
@access("view")
@problems(502, 503, 504)
def device_list(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """Screens, small devices, and devices of the host: as `GET /vms/{id}/hardware` has them."""
    by = actor_of(request)
    vm = vm_get(vm_id, by=by)
    found = services.hardware_read(vm=vm, by=by)
    items = shown.others_shown(found)
    return _tagged(request, found, {"items": items, "total": len(items)})


@router.post(
    "/vms/{vm_id}/devices",
    response={202: OperationOut, 200: OperationOut},
    operation_id="attach_vm_device",
    summary="Attach a device",
)
@access("vm.edit")
@problems(409, 412, 503)
def device_attach(request: HttpRequest, vm_id: UUID, query: Query[ChangeQuery], payload: DeviceIn) -> HttpResponse:
    """An operation. Devices of the host need the scope `admin`."""
    change, by = _change(request, vm_id, query)
    return _started(request, change.device_attach(payload), by)


@router.patch(
    "/vms/{vm_id}/devices/{path:key}",
    response={202: OperationOut, 200: OperationOut},
    operation_id="change_vm_device",
    summary="Change a device",
)
@access("vm.edit")
@problems(409, 412, 503)
def device_change(
    request: HttpRequest, vm_id: UUID, key: Key, query: Query[ChangeQuery], payload: DeviceChange
) -> HttpResponse:
    """An operation."""
    change, by = _change(request, vm_id, query)
    return _started(request, change.device_update(key, payload), by)


@router.delete(
    "/vms/{vm_id}/devices/{path:key}",
    response={202: OperationOut, 200: OperationOut},
    operation_id="detach_vm_device",
    summary="Detach a device",
)
@access("vm.edit")
@problems(409, 412, 503)
def device_detach(request: HttpRequest, vm_id: UUID, key: Key, query: Query[ChangeQuery]) -> HttpResponse:
    """An operation."""
    change, by = _change(request, vm_id, query)
    return _started(request, change.device_detach(key), by)


# -- what the host has -----------------------------------------------------------------------------------------------------
@router.get(
    "/hosts/{host_id}/devices",
    response=HostDevicesOut,
    operation_id="list_host_devices",
    summary="Devices that could be handed to guests, read now",
    tags=["hosts"],
)
@access("view")
@problems(502, 503, 504)
def host_device_list(request: HttpRequest, host_id: UUID) -> HttpResponse:
    """With their IOMMU groups, who has them, and the host's NUMA nodes. A worker looks, and this call waits for it."""
    by = actor_of(request)
    found = services.host_devices(host=host_get(host_id, by=by), by=by)
    items = [
        {("class" if name == "class_" else name): value for name, value in one.items()} for one in found["devices"]
    ]
    return answer({"items": items, "total": len(items), "nodes": found["nodes"]})
