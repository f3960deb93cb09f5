"""What callers may ask of hardware: permission, validation, submit. REST and pages come through here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from django.db.models import F

from accounts import policy
from core.errors import Missing
from core.units import format_bytes
from drivers.errors import Unsupported
from drivers.types import DiskHardware, Feature
from hosts.wishes import serving
from networks.models import Network
from operations import engine
from vms.alternatives import with_alternatives
from vms.creation.layout import new_mac
from vms.creation.plan import wrong
from vms.deletion.leftovers import fates
from vms.hardware import sources
from vms.hardware.devices import (
    HOST,
    AttachDevice,
    DetachDevice,
    DeviceAttachParams,
    DeviceDetachParams,
    DeviceUpdateParams,
    UpdateDevice,
)
from vms.hardware.disks import (
    AttachDisk,
    DetachDisk,
    DiskAttachParams,
    DiskChange,
    DiskDetachParams,
    DiskResizeParams,
    DiskUpdateParams,
    ResizeDisk,
    UpdateDisk,
)
from vms.hardware.nics import (
    AttachNic,
    DetachNic,
    NicAttachParams,
    NicDetachParams,
    NicUpdateParams,
    UpdateNic,
)
from vms.hardware.parts import BootParams, ChangeBoot, ChangeCpu, ChangeMemory, CpuParams, MemoryParams
from vms.hardware.readings import HostReading, ReadHardware, ReadHostDevices
from vms.hardware.selectors import known
from vms.models import VM, VMNic
from vms.services import found_by_reading, read_now

if TYPE_CHECKING:
    from accounts.actor import Actor
    from hosts.models import Host
    from operations.actions import Params
    from operations.models import Operation
    from vms.hardware.change import HardwareAction, When
    from vms.hardware.devices import DeviceChange, DeviceIn
    from vms.hardware.nics import NicChange
    from vms.hardware.parts import BootChange, CpuChange, MemoryChange
    from vms.hardware.selectors import Known
    from vms.hardware.sources import Ask

OnConflict = Literal["wait", "fail"]


# -- looking -----------------------------------------------------------------------------------------------------------
def hardware_read(*, vm: VM, by: Actor) -> Known:
    """What it is built of, looked at by a worker now. Blocks up to 25 s. Of a guest out of reach what was seen last.

    Raises:
        Unsupported, Timeout, and what the hypervisor reports. Missing: out of reach, and never looked at.
    """
    supported(vm, by=by)
    if not vm.stale:
        read_now(ReadHardware, vm, by)
        vm.refresh_from_db(fields=["version", "state", "started_at"])
    found = known(vm)
    if found is None:
        raise Missing(
            f"{vm.hypervisor.host.name} is out of reach, and nobody has looked at this guest's hardware before."
        )
    return found


def supported(vm: VM, *, by: Actor) -> None:
    """Raises Unsupported where its hypervisor tells nothing of hardware."""
    able, reason = vm.hypervisor.support(Feature.HARDWARE)
    if vm.hypervisor.capabilities and not able:
        with with_alternatives(vm, by=by):
            raise Unsupported(reason, feature=str(Feature.HARDWARE), hypervisor=str(vm.hypervisor_id))


def host_devices(*, host: Host, by: Actor) -> dict[str, Any]:
    """Devices of a host with who has them, and its NUMA nodes, looked at by a worker now. Blocks up to 25 s.

    Raises:
        Unsupported, Unreachable, Timeout, and what the hypervisor reports.
    """
    policy.require(by, "view", host)
    hypervisor = serving(host, Feature.HOST_DEVICES, "devices that could be handed to guests")
    target = HostReading(hypervisor.pk, host.name, hypervisor)
    found: dict[str, Any] = found_by_reading(engine.submit(ReadHostDevices, target=target, by=by), host.name)
    uuids = {uuid for one in found["devices"] for uuid in one["guests"]}
    rows = policy.visible(by, VM.objects.filter(hypervisor=hypervisor, uuid__in=uuids, gone_at=None))
    names = (
        {row.uuid: {"id": str(row.pk), "name": row.name} for row in rows.only("pk", "uuid", "name")} if uuids else {}
    )
    for one in found["devices"]:
        one["guests"] = [names[uuid] for uuid in one["guests"] if uuid in names]
    return found


# -- changing ----------------------------------------------------------------------------------------------------------
class Change:
    """How a change is queued: by whom, when it counts, and what it was decided by."""

    def __init__(
        self,
        vm: VM,
        by: Actor,
        *,
        when: When = "auto",
        base: str = "",
        comment: str = "",
        on_conflict: OnConflict = "wait",
    ) -> None:
        policy.require(by, "vm.edit", vm)
        supported(vm, by=by)
        self.vm, self.by = vm, by
        self._common: dict[str, Any] = {"when": when, "base": base, "comment": comment}
        self._on_conflict = on_conflict

    def submit(self, action: type[HardwareAction], params: type[Params], **values: Any) -> Operation:
        """Queue it, or return the equal one under way."""
        with with_alternatives(self.vm, by=self.by):
            return engine.submit(
                action,
                target=self.vm,
                by=self.by,
                params=params(**self._common, **values),
                on_conflict=self._on_conflict,
            )

    # -- parts -----------------------------------------------------------------------------------------------------------
    def cpu(self, cpu: CpuChange) -> Operation:
        """Processors. Raises BadInput for more than the host has."""
        has = self.vm.hypervisor.host.cpu_count
        for name in ("vcpus", "max_vcpus"):
            if 0 < has < (getattr(cpu, name) or 0):
                raise wrong(f"/cpu/{name}", f"{self.vm.hypervisor.host.name} has {has} CPUs")
        return self.submit(ChangeCpu, CpuParams, cpu=cpu)

    def memory(self, memory: MemoryChange) -> Operation:
        """Memory. Raises BadInput for more than the host has."""
        has = self.vm.hypervisor.host.memory_total_bytes
        for name in ("memory_bytes", "max_memory_bytes"):
            if 0 < has < (getattr(memory, name) or 0):
                raise wrong(f"/memory/{name}", f"{self.vm.hypervisor.host.name} has {format_bytes(has)} in all")
        return self.submit(ChangeMemory, MemoryParams, memory=memory)

    def boot(self, boot: BootChange) -> Operation:
        """What it boots from."""
        return self.submit(ChangeBoot, BootParams, boot=boot)

    # -- disks -----------------------------------------------------------------------------------------------------------
    def disk_attach(self, ask: Ask, disk: DiskChange) -> Operation:
        """One more. Raises BadInput, InUse."""
        source = sources.settle(self.vm, ask, by=self.by)
        if disk.limits is not None:
            disk.of(DiskHardware())
        return self.submit(AttachDisk, DiskAttachParams, source=source, disk=disk)

    def disk_detach(self, target: str, *, storage: Literal["keep", "delete"] = "keep") -> Operation:
        """One less; with `delete` its volume goes too. Raises BadInput where it is not the guest's alone."""
        volume = None
        if storage == "delete":
            policy.require(self.by, "volume.manage", self.vm)
            fate = next((one for one in fates(self.vm) if one.disk.target == target), None)
            if fate is None or fate.kept or fate.volume is None or fate.stands_on:
                why = (fate.kept if fate else "") or "it is no disk with a volume of its own"
                raise wrong("/storage", f"its volume cannot be deleted: {why}")
            volume = fate.volume.pk
        return self.submit(DetachDisk, DiskDetachParams, target=target, volume=volume)

    def disk_update(
        self, target: str, disk: DiskChange, *, medium: Ask | None = None, eject: bool = False
    ) -> Operation:
        """Another property, or another medium. Raises BadInput."""
        source = None
        if medium is not None:
            medium.device = "cdrom"
            source = sources.settle(self.vm, medium, by=self.by)
        return self.submit(UpdateDisk, DiskUpdateParams, target=target, disk=disk, medium=source, eject=eject)

    def disk_resize(self, target: str, size_bytes: int) -> Operation:
        """Larger."""
        return self.submit(ResizeDisk, DiskResizeParams, target=target, size_bytes=size_bytes)

    # -- interfaces ------------------------------------------------------------------------------------------------------
    def nic_attach(self, nic: NicChange, mac: str = "") -> Operation:
        """One more. Raises BadInput."""
        nic = self._settled(nic)
        if not (nic.network or nic.bridge or nic.direct):
            raise wrong("/network", "say on which network")
        mac = mac.lower() or new_mac(self.vm.hypervisor.driver)
        if not mac:
            raise wrong("/mac", "this hypervisor's addresses are not made up here: say one")
        taken = VMNic.objects.filter(vm__hypervisor__host=self.vm.hypervisor.host_id, vm__gone_at=None, mac__iexact=mac)
        owner = taken.values_list(F("vm__name"), flat=True).first()
        if owner is not None:
            raise wrong("/mac", f"{mac} is {owner}'s")
        return self.submit(AttachNic, NicAttachParams, mac=mac, nic=nic)

    def nic_detach(self, mac: str) -> Operation:
        """One less."""
        return self.submit(DetachNic, NicDetachParams, mac=mac.lower())

    def nic_update(self, mac: str, nic: NicChange) -> Operation:
        """Another property. Raises BadInput."""
        return self.submit(UpdateNic, NicUpdateParams, mac=mac.lower(), nic=self._settled(nic))

    def _settled(self, nic: NicChange) -> NicChange:
        """With the name of its network. Bridges and interfaces of the host are for who manages networks."""
        if nic.bridge is not None or nic.direct is not None:
            policy.require(self.by, "network.manage", self.vm)
        if nic.network is None:
            return nic
        rows = policy.visible(self.by, Network.objects.filter(host=self.vm.hypervisor.host_id, gone_at=None))
        found = next((one for one in rows if nic.network in (str(one.pk), one.ref, one.name)), None)
        host = self.vm.hypervisor.host.name
        if found is None:
            raise wrong("/network", f"there is no network {nic.network} on {host}")
        if not found.active:
            raise wrong("/network", f"the network {found.name} is not active; start it first")
        return nic.model_copy(update={"network": found.name})

    # -- devices ---------------------------------------------------------------------------------------------------------
    def device_attach(self, device: DeviceIn) -> Operation:
        """One more. Devices of the host are for who manages hosts."""
        if device.type in HOST:
            policy.require(self.by, "host.manage", self.vm)
            able, reason = self.vm.hypervisor.support(Feature.HOST_DEVICES)
            if self.vm.hypervisor.capabilities and not able:
                raise Unsupported(reason, feature=str(Feature.HOST_DEVICES), hypervisor=str(self.vm.hypervisor_id))
        return self.submit(AttachDevice, DeviceAttachParams, device=device)

    def device_detach(self, key: str) -> Operation:
        """One less."""
        return self.submit(DetachDevice, DeviceDetachParams, key=key)

    def device_update(self, key: str, device: DeviceChange) -> Operation:
        """Another property."""
        return self.submit(UpdateDevice, DeviceUpdateParams, key=key, device=device)
