"""What a worker does to a guest: the power verbs and autostart. Facts come back through `vms.inventory.vm_observe`."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from django.utils import timezone
from pydantic import Field

from core.errors import Missing
from core.memory import keep
from drivers.errors import Timeout, Unreachable, Unsupported, WrongState
from drivers.types import Feature, GuestState
from events import bell
from operations.actions import Action, Cancelled, Params, Retry, action
from vms.facts import UNORDERED, write_facts
from vms.inventory import vm_gone, vm_observe, vm_say
from vms.models import VM
from vms.readings import GuestReading, reading_key

if TYPE_CHECKING:
    import uuid
    from typing import Any

    from drivers.base import Session
    from operations.actions import Context

RUNNING, PAUSED, SHUTOFF = GuestState.RUNNING, GuestState.PAUSED, GuestState.SHUTOFF
SHUTTING_DOWN, CRASHED, PMSUSPENDED = GuestState.SHUTTING_DOWN, GuestState.CRASHED, GuestState.PMSUSPENDED
ALIVE = frozenset({RUNNING, PAUSED, SHUTTING_DOWN, CRASHED, PMSUSPENDED})

_STATE_WORDS: dict[str, str] = {
    RUNNING: "already running",
    PAUSED: "paused",
    SHUTTING_DOWN: "shutting down",
    SHUTOFF: "shut off",
    CRASHED: "crashed",
    PMSUSPENDED: "asleep",
    GuestState.UNKNOWN: "in an unknown state",
}


def state_words(state: str) -> str:
    """As what a guest is said to be in this state."""
    return _STATE_WORDS[state].removeprefix("already ")


def guest_of(target_id: uuid.UUID) -> VM:
    """With hypervisor and host, by one query, in the bin or not. Raises Missing for a guest that is gone."""
    vm = VM.objects.select_related("hypervisor__host").filter(pk=target_id, gone_at=None).first()
    if vm is None:
        raise Missing("This guest is gone from its hypervisor.")
    return vm


class GuestAction(Action[VM, Params]):
    """What all actions on one guest share: loading, slots, and the checks for reach, capability and state."""

    verb = "vm.operate"
    feature: ClassVar[Feature]
    """What the hypervisor must be able to do."""
    states: ClassVar[frozenset[GuestState]]
    """In which states it makes sense."""
    goal: ClassVar[GuestState | None] = None
    """The state that it brings about, where there is one: a guest in it needs nothing more."""
    in_bin: ClassVar[bool] = False
    """Whether it can be done to a guest in the bin."""
    wakes: ClassVar[bool] = False
    """Whether it makes a guest run that did not: not on a host in maintenance."""

    def load(self, target_id: uuid.UUID) -> VM:
        """With hypervisor and host, by one query. Raises Missing for a guest that is gone, WrongState for one in the bin."""
        vm = guest_of(target_id)
        self.check_bin(vm)
        return vm

    def slot(self, target: VM) -> tuple[str, int]:
        """One of its hypervisor's slots."""
        return target.hypervisor.ref, target.hypervisor.slots

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """The bin, capability, reach, maintenance, and (if idle) state."""
        del params
        self.check_bin(target)
        self.check_capability(target)
        self.check_reach(target)
        self.check_maintenance(target)
        if idle:
            self.check_state(target, GuestState(target.state))

    def check_bin(self, vm: VM) -> None:
        """Raises WrongState for a guest in the bin."""
        if vm.binned_at is not None and not self.in_bin:
            raise WrongState(f"{vm.name} is in the bin: restore it first.", state=vm.state)

    def check_capability(self, vm: VM) -> None:
        """Raises Unsupported with the hypervisor's reason."""
        if not vm.hypervisor.capabilities:
            return  # not probed yet: it has never been online, which check_reach says better
        supported, reason = vm.hypervisor.support(self.feature)
        if not supported:
            raise Unsupported(reason, feature=str(self.feature), hypervisor=str(vm.hypervisor_id))

    def check_reach(self, vm: VM) -> None:
        """Raises Unreachable while the hypervisor is offline."""
        if vm.hypervisor.out_of_reach:
            raise Unreachable(
                f"{vm.hypervisor.host.name} is out of reach; nothing can be changed there now.",
                host=str(vm.hypervisor.host_id),
            )

    def check_maintenance(self, vm: VM) -> None:
        """Raises WrongState for what would run a guest on a host in maintenance."""
        host = vm.hypervisor.host
        if self.wakes and host.maintenance:
            by = f" ({host.maintenance_by} put it there)" if host.maintenance_by else ""
            raise WrongState(
                f"{host.name} is in maintenance{by}: its guests are not started or resumed. End the maintenance first.",
                host=str(host.pk),
            )

    def check_state(self, vm: VM, state: GuestState) -> None:
        """Raises WrongState with the state as the reason."""
        if state not in self.states:
            raise WrongState(self.why_not(vm, state), state=str(state))

    def why_not(self, vm: VM, state: GuestState) -> str:
        """The reason as a sentence: web-01 is shut off."""
        words = _STATE_WORDS[state]
        if state is RUNNING and self.goal is not RUNNING:
            words = "running"
        elif state is self.goal is not RUNNING:
            words = f"already {words}"
        return f"{vm.name} is {words}."

    def read_back(self, session: Session, vm: VM) -> GuestState:
        """Write down what the hypervisor says now, so that the answer is true without waiting for its event."""
        seen_at = timezone.now()  # before the reading: an observation counts from then
        info = session.guest_or_none(vm.guest_ref)
        if info is None:
            vm_gone(vm.hypervisor, vm.uuid, seen_at=seen_at)
            return SHUTOFF
        vm_observe(vm.hypervisor, info, seen_at=seen_at)
        return info.state

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any] | None:
        """Check the state as it is now, act, read back."""
        self.check_maintenance(target)
        with ctx.session(target.hypervisor.endpoint()) as session:
            state, _ = session.guest_state(target.guest_ref)
            self.check_state(target, state)
            self.act(session, target, params)
            self.read_back(session, target)
        return None

    def act(self, session: Session, vm: VM, params: Params) -> None:
        """The verb itself, for actions that are one call. The others override `run`."""
        raise session.unsupported(self.feature)

    def satisfied(self, ctx: Context, target: VM, params: Params) -> bool:
        """After an interruption: is the guest in the state that was wished?"""
        del params
        if self.goal is None:
            return False
        with ctx.session(target.hypervisor.endpoint()) as session:
            return self.read_back(session, target) is self.goal


class OnceAction(GuestAction):
    """For verbs whose repetition would be a second effect (reboot, reset): recorded before they are sent, never sent twice."""

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any] | None:
        """Check, record, act, read back."""
        with ctx.session(target.hypervisor.endpoint()) as session:
            state, _ = session.guest_state(target.guest_ref)
            self.check_state(target, state)
            ctx.checkpoint("sent")
            self.act(session, target, params)
            self.read_back(session, target)
        return None

    def resumable(self, ctx: Context) -> bool:
        """Only while nothing was sent."""
        return not ctx.done("sent")


@action
class StartVM(GuestAction):
    """Bring a defined guest to running; from its managed save if it has one."""

    kind = "vm.start"
    title = "Start"
    wakes = True
    feature = Feature.START
    states = frozenset({SHUTOFF, CRASHED})
    goal = RUNNING
    timeout_seconds = 300.0

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any] | None:
        """A guest that runs when its turn comes is what was wished."""
        with ctx.session(target.hypervisor.endpoint()) as session:
            state, _ = session.guest_state(target.guest_ref)
            if state is not RUNNING:
                self.check_state(target, state)
                self.check_maintenance(target)
                session.start(target.guest_ref)
            self.read_back(session, target)
        return None


class ShutdownParams(Params):
    """How long to wait for the guest, and what then."""

    timeout_seconds: int = Field(default=120, ge=1, le=3600)
    force_after: bool = False


@action
class ShutdownVM(GuestAction):
    """Ask the guest to shut down, and wait until it is off. At the deadline: force it off if asked to, else say so and offer it."""

    kind = "vm.shutdown"
    title = "Shut down"
    params = ShutdownParams
    feature = Feature.SHUTDOWN
    states = frozenset({RUNNING, SHUTTING_DOWN})
    goal = SHUTOFF
    timeout_seconds = 3700.0
    cancellable = True
    ASK_AGAIN_SECONDS: ClassVar[float] = 20.0
    """A guest that was still booting has missed the first power-button press: it is pressed again."""

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any] | None:
        """Press, wait (woken by events, not by polling), press again, force or give up."""
        assert isinstance(params, ShutdownParams)  # noqa: S101 - narrows the type; the registry pairs them
        started = time.monotonic()
        asked_at = 0.0
        while True:
            with ctx.session(target.hypervisor.endpoint()) as session:
                state = self.read_back(session, target)
                if state is SHUTOFF:
                    return {"forced": False}
                waited = time.monotonic() - started
                if waited >= params.timeout_seconds:
                    return self._at_deadline(session, target, params)
                if not asked_at:
                    self.check_state(target, state)
                if time.monotonic() - asked_at >= self.ASK_AGAIN_SECONDS:
                    ctx.log("Pressing the power button." if not asked_at else "Still running; pressing it again.")
                    session.shutdown(target.guest_ref)
                    asked_at = time.monotonic()
            ctx.progress(None, f"Waiting for the guest, {int(params.timeout_seconds - waited)} s left")
            self._wait(ctx, target, min(2.0, params.timeout_seconds - waited))
            if ctx.cancelled():
                raise Cancelled("No longer waiting. The guest was asked to shut down and may still do so.")

    def _wait(self, ctx: Context, vm: VM, seconds: float) -> None:
        """Until the watcher has seen it off or somebody cancels; at most `seconds` (then the hypervisor is asked itself)."""

        def over() -> bool:
            return VM.objects.filter(pk=vm.pk, state=SHUTOFF).exists() or ctx.cancelled()

        bell.wait_until(over, timeout_seconds=max(0.05, seconds))

    def _at_deadline(self, session: Session, vm: VM, params: ShutdownParams) -> dict[str, Any]:
        if not params.force_after:
            raise GuestIgnoredShutdown(
                f"{vm.name} did not shut down within {params.timeout_seconds} s: it ignores the power button, or is busy. Force it off?",
                offer="force-off",
            )
        session.force_off(vm.guest_ref)
        self.read_back(session, vm)
        return {"forced": True}


class GuestIgnoredShutdown(Timeout):
    """The guest did not shut down in time."""

    retryable = False


@action
class RebootVM(OnceAction):
    """Ask the guest to reboot."""

    kind = "vm.reboot"
    title = "Reboot"
    feature = Feature.REBOOT
    states = frozenset({RUNNING})

    def act(self, session: Session, vm: VM, params: Params) -> None:
        """Ask."""
        session.reboot(vm.guest_ref)


@action
class ResetVM(OnceAction):
    """Press the reset button."""

    kind = "vm.reset"
    title = "Reset"
    feature = Feature.RESET
    states = frozenset({RUNNING, PAUSED, CRASHED})

    def act(self, session: Session, vm: VM, params: Params) -> None:
        """Press."""
        session.reset(vm.guest_ref)


@action
class ForceOffVM(GuestAction):
    """Pull the plug. Makes a pending shutdown or reboot pointless, and does not wait for it."""

    kind = "vm.force-off"
    title = "Force off"
    feature = Feature.FORCE_OFF
    states = ALIVE
    goal = SHUTOFF
    timeout_seconds = 120.0
    supersedes = frozenset({"vm.shutdown", "vm.reboot"})
    breaks = frozenset({"vm.managed-save", "vm.snapshot", "vm.snapshot-revert", "vm.snapshot-delete"})
    """A QEMU that hangs while its memory is written keeps them waiting for ever: once 29 minutes, until it was forced off (measured)."""

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any] | None:
        """A guest that is off when its turn comes is what was wished."""
        with ctx.session(target.hypervisor.endpoint()) as session:
            state, _ = session.guest_state(target.guest_ref)
            if state is not SHUTOFF:
                session.force_off(target.guest_ref)
            self.read_back(session, target)
        return None


@action
class SuspendVM(GuestAction):
    """Freeze the guest in memory."""

    kind = "vm.suspend"
    title = "Suspend"
    feature = Feature.SUSPEND
    states = frozenset({RUNNING})
    goal = PAUSED

    def act(self, session: Session, vm: VM, params: Params) -> None:
        """Freeze."""
        session.suspend(vm.guest_ref)


@action
class ResumeVM(GuestAction):
    """Let a paused guest run on."""

    kind = "vm.resume"
    title = "Resume"
    wakes = True
    feature = Feature.RESUME
    states = frozenset({PAUSED, PMSUSPENDED})
    goal = RUNNING

    def act(self, session: Session, vm: VM, params: Params) -> None:
        """Thaw."""
        session.resume(vm.guest_ref)


@action
class ManagedSaveVM(GuestAction):
    """Save memory to disk and stop; the next start resumes."""

    kind = "vm.managed-save"
    title = "Save"
    feature = Feature.MANAGED_SAVE
    states = frozenset({RUNNING, PAUSED})
    goal = SHUTOFF
    timeout_seconds = 1800.0

    def check_state(self, vm: VM, state: GuestState) -> None:
        """Besides: a transient guest has no definition to come back to."""
        super().check_state(vm, state)
        if not vm.persistent:
            raise WrongState(
                f"{vm.name} is transient: it has no definition to be started from again.", state=str(state)
            )

    def act(self, session: Session, vm: VM, params: Params) -> None:
        """Save."""
        session.managed_save(vm.guest_ref)


@action
class DiscardManagedSaveVM(GuestAction):
    """Throw the saved memory away: the next start boots."""

    kind = "vm.discard-managed-save"
    title = "Discard saved memory"
    feature = Feature.DISCARD_MANAGED_SAVE
    states = frozenset(GuestState)

    def check_state(self, vm: VM, state: GuestState) -> None:
        """There must be something to discard."""
        if not vm.has_managed_save:
            raise WrongState(f"{vm.name} has no saved memory.", state=str(state))

    def act(self, session: Session, vm: VM, params: Params) -> None:
        """Discard."""
        session.discard_managed_save(vm.guest_ref)


class AutostartParams(Params):
    """On or off."""

    enabled: bool


@action
class AutostartVM(GuestAction):
    """Start with the host by the hypervisor's own doing, or not at all: in neither case is there a place in our order any more."""

    kind = "vm.autostart"
    title = "Autostart"
    params = AutostartParams
    feature = Feature.AUTOSTART
    states = frozenset(GuestState)

    def check_state(self, vm: VM, state: GuestState) -> None:
        """Only what has a definition can start with the host."""
        if not vm.persistent:
            raise WrongState(f"{vm.name} is transient: it has no definition to be started from.", state=str(state))

    def act(self, session: Session, vm: VM, params: Params) -> None:
        """Set it."""
        assert isinstance(params, AutostartParams)  # noqa: S101 - narrows the type; the registry pairs them
        session.set_autostart(vm.guest_ref, enabled=params.enabled)
        if vm.autostart_order is not None:
            vm_say(vm, **UNORDERED)
            write_facts(session, vm)


# -- readings ----------------------------------------------------------------------------------------------------------
READING_KEPT_SECONDS = 60


class ReadGuest(Action[GuestReading, Params]):
    """What readings share. What was read goes through the cache for a minute; the operation's row keeps its size alone.

    So a definition or a picture is never kept in the database. No slot is taken: those are for changes, and a shutdown that
    waits for its guest must not keep anybody from looking at it.
    """

    retry = Retry(times=0)
    timeout_seconds = 20.0
    feature: ClassVar[Feature]

    def load(self, target_id: uuid.UUID) -> GuestReading:
        """Raises Missing for a guest that is gone."""
        return GuestReading.of(guest_of(target_id))

    def check(self, target: GuestReading, params: Params, *, idle: bool) -> None:
        """Capability and reach."""
        del params, idle
        supported, reason = target.vm.hypervisor.support(self.feature)
        if target.vm.hypervisor.capabilities and not supported:
            raise Unsupported(reason, feature=str(self.feature), hypervisor=str(target.vm.hypervisor_id))
        if target.vm.hypervisor.out_of_reach:
            raise Unreachable(
                f"{target.vm.hypervisor.host.name} is out of reach.", host=str(target.vm.hypervisor.host_id)
            )

    def run(self, ctx: Context, target: GuestReading, params: Params) -> dict[str, Any]:
        """Read, and leave it where the request looks."""
        del params
        with ctx.session(target.vm.hypervisor.endpoint()) as session:
            found = self.read(session, target.vm)
        keep(reading_key(ctx.operation_id), found, seconds=READING_KEPT_SECONDS)
        return {"size": len(found)}

    @abstractmethod
    def read(self, session: Session, vm: VM) -> str | bytes:
        """The one call."""


@action
class ReadDefinition(ReadGuest):
    """The definition as the hypervisor has it now, without console passwords."""

    kind = "vm.xml"
    title = "Read definition"
    verb = "vm.xml"
    feature = Feature.XML

    def read(self, session: Session, vm: VM) -> str:
        """XML."""
        return session.definition(vm.guest_ref)


@action
class TakeScreenshot(ReadGuest):
    """The guest's screen. Needs what a console needs: it shows the same."""

    kind = "vm.screenshot"
    title = "Screenshot"
    verb = "vm.console"
    feature = Feature.SCREENSHOT

    def check(self, target: GuestReading, params: Params, *, idle: bool) -> None:
        """Besides: a guest that is off has no screen."""
        super().check(target, params, idle=idle)
        if target.vm.state not in (RUNNING, PAUSED, SHUTTING_DOWN):
            raise WrongState(
                f"{target.vm.name} is {state_words(target.vm.state)}: it has no screen.", state=target.vm.state
            )

    def read(self, session: Session, vm: VM) -> bytes:
        """PNG."""
        return session.screenshot(vm.guest_ref)
