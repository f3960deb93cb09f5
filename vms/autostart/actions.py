"""What a worker does for the order: give a guest its place, and start one after the other when their host came up.

A guest with a place is started by us alone: its hypervisor's own switch, which knows no order, is off while it has one.
"""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - pydantic reads the annotation
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.db.models.functions import Lower
from django.utils import timezone
from pydantic import Field

from accounts.actor import SYSTEM
from core.errors import Conflict, Missing, VmmError
from drivers.errors import Unreachable, Unsupported
from drivers.types import Feature, GuestState
from events import bell
from hosts.choices import LinkState
from hosts.models import Host, Hypervisor
from operations import engine
from operations.actions import Action, Cancelled, Params, Retry, action
from operations.choices import State as OperationState
from vms.actions import GuestAction, StartVM
from vms.choices import State
from vms.facts import DELAY_MAX_SECONDS, ORDER_MAX, UNORDERED, write_facts
from vms.inventory import vm_say
from vms.models import PRESENT, VM

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from django.db.models import QuerySet

    from operations.actions import Context

LATE: Final = 1800.0
"""After how many seconds beyond what the order takes nothing is started any more: by then people have seen to it themselves."""
ADDRESS_SECONDS: Final = 300.0
"""How long a guest is waited for that should have an address before the next one starts."""
REACH_SECONDS: Final = 180.0
"""How long a hypervisor of the host is waited for: the daemons of a machine that boots come one after the other."""
CHECK_SECONDS: Final = 2.0


def in_order(host: Host) -> QuerySet[VM]:
    """The guests of a host that have a place, in their order, with hypervisor and host."""
    rows = VM.objects.filter(PRESENT, hypervisor__host=host, autostart_order__isnull=False)
    return rows.select_related("hypervisor__host", "owner").order_by("autostart_order", Lower("name"), "pk")


class OrderParams(Params):
    """Its place (None: none; it starts by its hypervisor's own doing), and what the next one waits for."""

    order: int | None = Field(ge=0, le=ORDER_MAX)
    delay_seconds: int = Field(default=0, ge=0, le=DELAY_MAX_SECONDS)
    wait: bool = False


@action
class OrderAutostart(GuestAction):
    """Give a guest its place in the order in which its host's guests start, or take it away."""

    kind = "vm.autostart-order"
    title = "Start order"
    verb = "vm.edit"
    params = OrderParams
    feature = Feature.AUTOSTART
    states = frozenset(GuestState)

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """Besides: it must have a definition, and its host tell when it came up."""
        super().check(target, params, idle=idle)
        if not target.persistent:
            self.check_state(target, GuestState(target.state))
            raise Unsupported(f"{target.name} is transient: it has no definition to be started from.")
        host = target.hypervisor.host
        if host.uptime_seconds is None:
            raise Unsupported(
                f"{host.name} does not tell when it came up, so that nothing can be started there in an order. "
                "Its own autostart goes without one.",
                feature=str(self.feature),
                hypervisor=str(target.hypervisor_id),
            )

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any] | None:
        """The hypervisor's switch first: a guest that were started by both would be too early."""
        assert isinstance(params, OrderParams)  # noqa: S101 - narrows the type; the registry pairs them
        ordered = params.order is not None
        values = {
            "autostart_order": params.order,
            "autostart_delay_seconds": params.delay_seconds,
            "autostart_wait": params.wait,
        }
        with ctx.session(target.hypervisor.endpoint()) as session:
            if session.guest(target.guest_ref).autostart is ordered:
                session.set_autostart(target.guest_ref, enabled=not ordered)
            vm_say(target, **(values if ordered else UNORDERED))
            write_facts(session, target)
            self.read_back(session, target)
        return None


class CameUpParams(Params):
    """Which coming up of the host it is about."""

    came_up_at: dt.datetime


@action
class StartInOrder(Action[Host, CameUpParams]):
    """Start a host's guests that have a place, one after the other. Who cannot is named, and the others go on.

    Each start is an ordinary operation of its own. What was started is recorded, so that an attempt that goes on after a kill starts
    nobody a second time, not even one that somebody has shut down meanwhile.
    """

    kind = "host.autostart"
    title = "Start guests in order"
    verb = "host.manage"
    params = CameUpParams
    retry = Retry(times=0)
    timeout_seconds = 12 * 3600.0
    cancellable: ClassVar[bool] = True
    supersedes = frozenset({"host.autostart"})
    """Of a host that came up once more meanwhile."""

    def load(self, target_id: uuid.UUID) -> Host:
        """Raises Missing for a host that is no longer managed."""
        host = Host.objects.filter(pk=target_id).first()
        if host is None:
            raise Missing("This host is no longer managed.")
        return host

    def run(self, ctx: Context, target: Host, params: CameUpParams) -> dict[str, Any]:
        """One after the other, until it is too late for that."""
        vms = list(in_order(target))
        takes = sum(vm.autostart_delay_seconds + (ADDRESS_SECONDS if vm.autostart_wait else 0.0) for vm in vms)
        items = []
        for number, vm in enumerate(vms):
            if ctx.done(f"over {vm.pk}"):
                continue
            ctx.progress(number / len(vms), f"{vm.name}, {number + 1} of {len(vms)}")
            if (timezone.now() - params.came_up_at).total_seconds() > LATE + takes:
                raise Conflict(f"{target.name} has been up for too long: what does not run yet is left alone.")
            items.append(self._one(ctx, vm, params.came_up_at))
            ctx.checkpoint(f"over {vm.pk}")
        if items and all(item["state"] == OperationState.FAILED for item in items):
            raise Conflict(f"None of the {len(items)} could be started: {items[0]['reason']}")
        return {"items": items}

    def _one(self, ctx: Context, vm: VM, came_up_at: dt.datetime) -> dict[str, Any]:
        """Start it, and wait for what the next one waits for."""
        item: dict[str, Any] = {"vm": str(vm.pk), "name": vm.name, "state": str(OperationState.SUCCEEDED)}
        if not ctx.done(f"started {vm.pk}"):
            try:
                item["operation"] = self._start(ctx, vm, came_up_at)
            except Cancelled:
                raise
            except VmmError as error:
                ctx.log(f"{vm.name}: {error.detail}")
                return {**item, "state": str(OperationState.FAILED), "code": error.code, "reason": error.detail}
            ctx.checkpoint(f"started {vm.pk}")
        if vm.autostart_wait and not _until(ctx, ADDRESS_SECONDS, lambda: _has_address(vm)):
            ctx.log(f"{vm.name} has no address after {ADDRESS_SECONDS:.0f} s; going on.")
        _until(ctx, vm.autostart_delay_seconds, lambda: False)
        return item

    def _start(self, ctx: Context, vm: VM, came_up_at: dt.datetime) -> str | None:
        """The operation that started it; None where it runs already. Raises what stands against it."""
        there = Hypervisor.objects.filter(pk=vm.hypervisor_id, state=LinkState.ONLINE, swept_at__gte=came_up_at)
        if not _until(ctx, REACH_SECONDS, there.exists):  # until then its rows are of before the boot
            raise Unreachable(f"{vm.hypervisor.uri} did not come back within {REACH_SECONDS:.0f} s.")
        fresh = StartVM().load(vm.pk)
        if fresh.state == State.RUNNING:
            return None
        child = engine.submit(StartVM, target=fresh, by=SYSTEM, parent=ctx.operation_id)
        # Here, unless another worker is quicker: many hosts that come up at once must not wait for each other's workers.
        engine.execute(child.pk)
        ended = engine.wait_ended(child, timeout_seconds=StartVM.timeout_seconds)
        if ended.error:
            raise Conflict(ended.error["detail"])
        if ended.state != OperationState.SUCCEEDED:
            raise Conflict(f"Its start is {ended.get_state_display().lower()}.")
        return str(child.pk)


def _has_address(vm: VM) -> bool:
    return VM.objects.filter(pk=vm.pk, state=State.RUNNING).exclude(addresses=[]).exists()


def _until(ctx: Context, seconds: float, over: Callable[[], bool]) -> bool:
    """Whether it came about within the time. Raises Cancelled."""
    deadline = time.monotonic() + seconds
    cancelled = False

    def enough() -> bool:
        nonlocal cancelled
        cancelled = ctx.cancelled()
        return cancelled or over()

    while True:
        left = deadline - time.monotonic()
        came = bell.wait_until(enough, timeout_seconds=max(0.0, left), recheck_seconds=CHECK_SECONDS)
        if cancelled:
            raise Cancelled("The guests that were not started yet are left as they are.")
        if came or left <= 0:
            return bool(came)
