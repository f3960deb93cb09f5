"""How hardware is changed, whatever the device: what is there is looked at, what is missing of the wish is done, and read back.

A worker that died is followed by one that does the same again: what is so already is left alone, live and in the definition, each for
itself. So an operation may be interrupted before and after each call.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeVar

from django.utils import timezone
from pydantic import StringConstraints

from core.errors import Missing, Stale
from drivers.errors import Unsupported, WrongState
from drivers.types import (
    CpuHardware,
    DiskHardware,
    Feature,
    GuestState,
    HostDeviceHardware,
    MemoryHardware,
    NicHardware,
)
from hosts.wishes import BEGUN
from operations.actions import Params, action
from vms.actions import GuestAction
from vms.definitions import drift, keeping
from vms.hardware.inventory import hardware_observe
from vms.hardware.selectors import known
from vms.hardware.values import digest_of
from vms.models import VM

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.base import Session
    from drivers.types import Device, GuestHardware, Hardware, HardwareOptions
    from operations.actions import Context

NEXT_START: Final = "next_start"
When = Literal["auto", "next_start"]
_CPU_LIVE: Final = (("vcpus",), ("pins",), ("emulator_pins",), ("memory_nodes", "memory_mode"))
_NIC_LIVE: Final = (("link",), ("network", "bridge", "direct", "direct_mode"), ("filter",), ("vlan",))
_RATES: Final = ("inbound_bytes_per_second", "outbound_bytes_per_second")

C = TypeVar("C", bound="type[HardwareAction]")


class HardwareParams(Params):
    """What all changes have in common.

    Attributes:
        when: `auto`: of a guest that runs at once where that can be, and always at its next start. `next_start`: only then.
        base: Digest of the hardware that it was decided by; "" for whatever there is.
    """

    when: When = "auto"
    base: Annotated[str, StringConstraints(max_length=64)] = ""
    comment: Annotated[str, StringConstraints(max_length=500)] = ""


@dataclass(slots=True)
class Work:
    """One guest whose hardware is being changed, in one attempt.

    Attributes:
        ready: What was prepared for it.
        reasons: Why something is left for the next start.
        told_bytes: How much memory the running guest was told to have.
    """

    ctx: Context
    session: Session
    vm: VM
    found: GuestHardware
    options: HardwareOptions
    when: When
    ready: Any = None
    reasons: list[str] = field(default_factory=list)
    told_bytes: int | None = None

    @property
    def both(self) -> tuple[Hardware, ...]:
        """What it has, and what it runs with, as far as there is either."""
        return tuple(one for one in (self.found.defined, self.found.live) if one is not None)

    def known(self, key: str) -> Device:
        """A device that it has or runs with. Raises Missing."""
        for one in self.both:
            if key in one.devices:
                return one.devices[key]
        raise Missing(f"{self.vm.name} has no {key} (any more).")

    # -- the change ------------------------------------------------------------------------------------------------------
    def bring(self, key: str, wished: Callable[[Device | None], Device | None]) -> None:
        """Make the device of this key what `wished` makes of it, where the wish goes; None: take it away.

        Raises what the hypervisor raises; what cannot be done while the guest runs is left for its next start, with the reason.
        """
        defined, live = self.found.defined, self.found.live
        if defined is None and (live is None or self.when == NEXT_START):
            raise WrongState(f"{self.vm.name} is transient: it has no next start.", state=self.vm.state)
        was = defined.devices.get(key) if defined else None
        is_to_be = wished(was) if defined else None
        now = live.devices.get(key) if live else None
        could = self._live_part(now, wished(now)) if live and self.when == "auto" else now
        in_definition, at_once = defined is not None and is_to_be != was, could != now
        if in_definition and at_once and (is_to_be, was is None) == (could, now is None):
            if self._tried(key, could, new=now is None, defined=True):
                return
            self._call(key, is_to_be, new=was is None, live=False, defined=True)
            self._in_parts(key, now, could)
            return
        if in_definition:
            self._call(key, is_to_be, new=was is None, live=False, defined=True)
        if at_once and not self._tried(key, could, new=now is None, defined=False):
            self._in_parts(key, now, could)

    def _tried(self, key: str, device: Device | None, *, new: bool, defined: bool) -> bool:
        """Of the running guest; False where it refuses. Raises Unsupported of a transient guest, which has no next start."""
        try:
            self._call(key, device, new=new, live=True, defined=defined)
        except Unsupported as error:
            if self.found.defined is None:
                raise
            self._later(error)
            return False
        return True

    def _in_parts(self, key: str, now: Device | None, could: Device | None) -> None:
        """What the running guest refused as a whole, group by group; nothing where there is only one."""
        parts = [] if now is None or could is None else _parts(now, could)
        for values in parts if len(parts) > 1 else ():
            assert now is not None  # noqa: S101 - it has parts
            some = dataclasses.replace(now, **values)
            if self._tried(key, some, new=False, defined=False):
                now = some

    def _later(self, error: Unsupported) -> None:
        self.reasons.append(error.detail)
        self.ctx.log(f"At its next start: {error.detail}")

    def _call(self, key: str, device: Device | None, *, new: bool, live: bool, defined: bool) -> None:
        self._say(key, device, new=new, live=live, defined=defined)
        if live and isinstance(device, MemoryHardware):
            self.told_bytes = device.memory_bytes

    def _say(self, key: str, device: Device | None, *, new: bool, live: bool, defined: bool) -> None:
        if device is None:
            self.session.detach(self.vm.guest_ref, key, live=live, defined=defined)
        elif new:
            self.session.attach(self.vm.guest_ref, device, live=live, defined=defined)
        else:
            self.session.update(self.vm.guest_ref, device, live=live, defined=defined)

    # -- what a running guest takes --------------------------------------------------------------------------------------
    def _live_part(self, now: Device | None, wished: Device | None) -> Device | None:
        """As much of a wish as a running guest takes, by what its hypervisor says; the reasons why not more."""
        if now == wished:
            return now
        if now is None or wished is None:
            word = _word(wished if now is None else now, "attach" if now is None else "detach")
            return wished if self._takes(word, wished or now) else now
        part = now
        for names, word in _fields_of(now):
            values = {name: getattr(wished, name) for name in names}
            if dataclasses.replace(now, **values) == now:
                continue
            why = self._limit(now, wished)
            if why:
                self.reasons.append(why)
            elif self._takes(word, now):
                part = dataclasses.replace(part, **values)
        return part

    def _takes(self, word: str, device: Device | None) -> bool:
        what = device.key if device else ""
        why = self.options.live.get(word, f"{what} can be changed at its next start only." if what else "")
        if why:
            self.reasons.append(why)
        return not why

    @staticmethod
    def _limit(now: Device, wished: Device) -> str:
        """Why a running guest cannot have so much of it; "" where it can."""
        if isinstance(now, CpuHardware) and isinstance(wished, CpuHardware):
            most = max(now.max_vcpus, now.vcpus)
            if wished.vcpus > most:
                return f"It was started with room for {most} vCPUs."
        if isinstance(now, MemoryHardware) and isinstance(wished, MemoryHardware):
            if wished.memory_bytes > max(now.max_memory_bytes, now.memory_bytes):
                return "It was started with room for less memory."
            if not now.balloon:
                return "It has no balloon, by which memory is changed while it runs."
        return ""


def _word(device: Device | None, verb: str) -> str:
    if isinstance(device, DiskHardware):
        return f"disk.{verb}"
    if isinstance(device, NicHardware):
        return f"nic.{verb}"
    return "host-device" if isinstance(device, HostDeviceHardware) else ""


def _fields_of(device: Device) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Which of its fields a running guest may take, each group by a word of `HardwareOptions.live`."""
    if isinstance(device, CpuHardware):
        return tuple((names, "cpu") for names in _CPU_LIVE)
    if isinstance(device, MemoryHardware):
        return ((("memory_bytes",), "memory"),)
    if isinstance(device, DiskHardware):
        media = () if device.device == "disk" else ((("path", "format"), "disk.media"),)
        return ((("limits",), "disk.limits"), *media)
    if isinstance(device, NicHardware):
        return (*((names, "nic.link") for names in _NIC_LIVE), (_RATES, "nic.bandwidth"))
    return ()


def _parts(now: Device, could: Device) -> list[dict[str, Any]]:
    """What differs, each group of fields that goes together for itself."""
    groups = [{name: getattr(could, name) for name in names} for names, _word in _fields_of(now)]
    return [values for values in groups if dataclasses.replace(now, **values) != now]


class HardwareAction(GuestAction):
    """What all changes of hardware share."""

    verb = "vm.edit"
    feature = Feature.HARDWARE
    states: ClassVar[frozenset[GuestState]] = frozenset(GuestState) - {GuestState.UNKNOWN}
    timeout_seconds = 300.0

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any]:
        """Look, check that it is still what was decided by, prepare, do, read back, keep."""
        assert isinstance(params, HardwareParams)  # noqa: S101 - narrows the type; the registry pairs them
        ready = self.prepare(ctx, target, params)
        with ctx.session(target.hypervisor.endpoint()) as session:
            state, _ = session.guest_state(target.guest_ref)
            self.check_state(target, state)
            work = self._look(ctx, session, target, params)
            work.ready = ready
            if not ctx.done(BEGUN):
                self.inspect(work, params)
                keeping.before(session, target)
                ctx.checkpoint(BEGUN)
            key = self.change(work, params)
            revision, _xml = keeping.after(
                ctx,
                session,
                target,
                comment=params.comment or self.title,
                hardware=True,
                told_bytes=work.told_bytes,
            )
        result = self._result(work, key)
        return result | ({"revision": revision.number} if revision else {}) | self.finish(ctx, target, params, result)

    def _look(self, ctx: Context, session: Session, vm: VM, params: HardwareParams) -> Work:
        seen_at = timezone.now()
        found, options = session.hardware(vm.guest_ref), session.hardware_options(vm.guest_ref)
        if not ctx.done(BEGUN):
            hardware_observe(vm, found, options, seen_at=seen_at)
        if params.base and not ctx.done(BEGUN) and digest_of(found) != params.base:
            raise Stale(f"The hardware of {vm.name} changed meanwhile. Nothing was done: look at it, and decide.")
        return Work(ctx, session, vm, found, options, params.when)

    @staticmethod
    def _result(work: Work, key: str) -> dict[str, Any]:
        """When it counts, by what was just read back: what differs from what runs waits for the next start."""
        vm = VM.objects.get(pk=work.vm.pk)
        found = known(vm)
        assert found is not None  # noqa: S101 - it was just written down
        off = found.found.live is None
        waits = found.difference(key) is not None or (off and vm.has_managed_save)
        result: dict[str, Any] = {"key": key, "takes_effect": "next_start" if waits else "now"}
        if waits and work.when == "auto":
            saved = "What was saved of it goes on with the hardware that it had." if off else ""
            reason = " ".join(dict.fromkeys([*work.reasons, *filter(None, [saved])]))
            result |= {"reason": reason} if reason else {}
        return result

    def prepare(self, ctx: Context, vm: VM, params: Any) -> Any:
        """Before anything of the guest is touched: what it needs is made, and becomes `Work.ready`. May be called again."""
        del ctx, vm, params

    def inspect(self, work: Work, params: Any) -> None:
        """Once, before the first change: raises what stands against it that only the hypervisor knows."""

    @abstractmethod
    def change(self, work: Work, params: Any) -> str:
        """Do it; the key of the device."""

    def finish(self, ctx: Context, vm: VM, params: Any, result: dict[str, Any]) -> dict[str, Any]:
        """When the guest is as wished: what is left to do, and what the result says of that."""
        del ctx, vm, params, result
        return {}


def hardware_action(cls: C) -> C:
    """Register it, as one that keeps its own revisions."""
    drift.KEEPERS.add(cls.kind)
    return action(cls)
