"""What workers look at: the hardware of a guest, and the devices of a host that could be handed to guests."""

from __future__ import annotations

import dataclasses
import uuid  # noqa: TC003 - pydantic reads the annotation
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from core.memory import keep
from drivers.types import Feature
from hosts.wishes import check_able, hypervisor_of
from operations.actions import READING, Action, NoParams, Retry, action
from vms.actions import READING_KEPT_SECONDS, ReadGuest
from vms.hardware.devices import holders
from vms.hardware.inventory import hardware_observe
from vms.readings import reading_key

if TYPE_CHECKING:
    from drivers.base import Session
    from hosts.models import Hypervisor
    from operations.actions import Context
    from vms.models import VM


@action
class ReadHardware(ReadGuest):
    """What a guest is built of now. What was read is in its row, where everybody finds it."""

    kind = "vm.hardware"
    title = "Read hardware"
    verb = "view"
    feature = Feature.HARDWARE

    def read(self, session: Session, vm: VM) -> str:
        """Its digest."""
        seen_at = timezone.now()
        found, options = session.hardware(vm.guest_ref), session.hardware_options(vm.guest_ref)
        return hardware_observe(vm, found, options, seen_at=seen_at).digest


@dataclass(frozen=True, slots=True)
class HostReading:
    """A hypervisor that is only looked at. Two equal looks at once are one."""

    pk: uuid.UUID
    name: str
    hypervisor: Hypervisor

    @property
    def ref(self) -> str:
        """`reading/<id>`."""
        return f"{READING}{self.pk}"


@action
class ReadHostDevices(Action[HostReading, NoParams]):
    """Devices of a host, its NUMA nodes, and which guest has which device."""

    kind = "host.devices"
    title = "Read devices"
    verb = "view"
    retry = Retry(times=0)
    timeout_seconds = 20.0

    def load(self, target_id: uuid.UUID) -> HostReading:
        """Raises Missing."""
        hypervisor = hypervisor_of(target_id)
        return HostReading(hypervisor.pk, hypervisor.host.name, hypervisor)

    def check(self, target: HostReading, params: NoParams, *, idle: bool) -> None:
        """Capability and reach."""
        del params, idle
        check_able(target.hypervisor, Feature.HOST_DEVICES)

    def run(self, ctx: Context, target: HostReading, params: NoParams) -> dict[str, Any]:
        """Read, and leave it where the request looks."""
        del params
        with ctx.session(target.hypervisor.endpoint()) as session:
            devices, nodes, taken = session.host_devices(), session.host_nodes(), holders(session)
        found = {
            "devices": [
                {**dataclasses.asdict(one), "guests": [uuid for uuid, _ in taken.get(one.address, [])]}
                for one in devices
            ],
            "nodes": [dataclasses.asdict(one) for one in nodes],
        }
        keep(reading_key(ctx.operation_id), found, seconds=READING_KEPT_SECONDS)
        return {"size": len(devices)}
