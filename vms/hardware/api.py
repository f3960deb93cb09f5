"""REST: what guests are built of. Thin: parse, ask the service, make JSON. Runs in a request thread and never touches a hypervisor."""

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from ninja import Path, Query, Router

from accounts.access import access
from accounts.actor import Actor, actor_of
from core.errors import Stale
from core.rest import answer, moment, problems, tags_in
from hosts.services import host_get
from operations.answers import Started
from operations.api import OperationOut
from operations.models import Operation
from vms.hardware import services, shown
from vms.hardware.api_shapes import (
    ChangeQuery,
    DetachQuery,
    DiskList,
    DiskPatch,
    DiskSize,
    HardwareChange,
    HardwareOut,
    HostDevicesOut,
    NewDisk,
    NewNic,
    NicList,
    NicPatch,
    OtherList,
)
from vms.hardware.devices import KEY, DeviceChange, DeviceIn
from vms.hardware.disks import TARGET
from vms.hardware.nics import NicChange
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
    if found.digest in (tags_in(request, "If-None-Match") or ()) and not found.pending:
        return HttpResponseNotModified(headers={"ETag": etag})
    return answer(body, headers={"ETag": etag})


def _listed(request: HttpRequest, vm_id: UUID, show: Callable[[VM, Known], list[dict[str, Any]]]) -> HttpResponse:
    """Devices of one sort, read now."""
    by = actor_of(request)
    vm = vm_get(vm_id, by=by)
    found = services.hardware_read(vm=vm, by=by)
    items = show(vm, found)
    return _tagged(request, found, {"items": items, "total": len(items)})


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
    return _listed(request, vm_id, shown.disks_shown)


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
    return _listed(request, vm_id, lambda _vm, found: shown.nics_shown(found))


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
    return _listed(request, vm_id, lambda _vm, found: shown.others_shown(found))


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
