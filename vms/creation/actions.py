"""Making a guest: one operation of named steps (`vms.creation.maker`), then its start, and waiting until it is of use.

No lock but the hypervisor's slots: twenty are made side by side, and who only waits for his guest holds none. What a failed one has
made is undone; a guest that has once started stays, though it may not be as ready as was asked for.

The target is the guest that is to be. Its id stands in its definition, so whoever sees it first, watcher or this action, makes the
same row of it (`vms.inventory`).
"""

from __future__ import annotations

import uuid  # noqa: TC003 - pydantic reads the annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from django.utils import timezone

from core.errors import VmmError
from core.memory import keep
from drivers.errors import AlreadyExists, Unreachable, Unsupported, WrongState
from drivers.types import Feature, GuestRef, GuestState
from hosts.wishes import ToBe, hypervisor_of
from operations.actions import READING, Action, Params, Retry, action
from vms.actions import READING_KEPT_SECONDS
from vms.creation.layout import STARTED
from vms.creation.maker import DEFINED, Maker, cancelled
from vms.creation.plan import Plan  # noqa: TC001 - pydantic reads the annotations
from vms.creation.ready import Wait
from vms.definitions.head import head, with_uuid
from vms.inventory import vm_gone, vm_observe
from vms.models import VM
from vms.readings import reading_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drivers.base import Session
    from drivers.types import GuestInfo
    from hosts.models import Hypervisor
    from operations.actions import Context
    from vms.addresses import Address

_UP: Final = frozenset({GuestState.RUNNING, GuestState.PAUSED, GuestState.SHUTTING_DOWN, GuestState.PMSUSPENDED})


class NewGuest(ToBe):
    """A guest to be."""

    kind = "vm"


class MakeParams(Params):
    """Where a guest is made, and what is done when it is there."""

    hypervisor: uuid.UUID
    start: bool = True
    wait_for: str = ""
    wait_timeout_seconds: int = 300


P = TypeVar("P", bound=MakeParams)


class MakeGuest(Action[NewGuest, P], Generic[P]):
    """What making a guest shares, from a spec or from a definition: the checks, the start, the waiting."""

    retry = Retry(times=3, base_seconds=2.0)
    timeout_seconds = 6 * 3600.0
    """Images are large, and hosts far away."""
    cancellable = True
    feature: ClassVar[Feature]

    def load(self, target_id: uuid.UUID) -> NewGuest:
        """Its row may be there already, or not."""
        name = VM.objects.filter(pk=target_id).values_list("name", flat=True).first()
        return NewGuest(target_id, name or "")

    def slot(self, target: NewGuest) -> tuple[str, int]:
        """One of its hypervisor's."""
        return (target.hypervisor.ref, target.hypervisor.slots) if target.hypervisor else ("", 0)

    def check(self, target: NewGuest, params: P, *, idle: bool) -> None:
        """Capability, reach, maintenance."""
        del idle
        hypervisor = target.hypervisor or hypervisor_of(params.hypervisor)
        for feature in self.features(params):
            supported, reason = hypervisor.support(feature)
            if not supported:
                raise Unsupported(reason, feature=str(feature), hypervisor=str(hypervisor.pk))
        if hypervisor.out_of_reach:
            raise Unreachable(
                f"{hypervisor.host.name} is out of reach; nothing can be made there now.", host=str(hypervisor.host_id)
            )
        check_maintenance(hypervisor, start=params.start)

    def features(self, params: P) -> Iterator[Feature]:
        """What it takes."""
        yield self.feature
        if params.start:
            yield Feature.START
        if (params.start and params.wait_for in ("address", "ssh")) or params.wait_for.startswith("port:"):
            yield Feature.ADDRESSES

    def stays(self, ctx: Context, name: str) -> bool:
        """Whether it has started: then it is not undone."""
        if ctx.done(STARTED):
            ctx.log(f"{name} stays: it was made, and has started.")
            return True
        return False

    def started(self, ctx: Context, vm: VM, params: P) -> list[Address]:
        """Start it and wait until it is ready; its addresses, where they were waited for."""
        if not params.start:
            return []
        cancelled(ctx)
        ctx.progress(0.9, "Starting")
        with ctx.session(vm.hypervisor.endpoint()) as session:
            state, _ = session.guest_state(vm.guest_ref)
            if state not in _UP and not ctx.done(STARTED):
                check_maintenance(hypervisor_of(vm.hypervisor_id), start=True)
                session.start(vm.guest_ref)
                ctx.log("Started.")
            ctx.checkpoint(STARTED)
            seen_at = timezone.now()
            vm_observe(vm.hypervisor, session.guest(vm.guest_ref), seen_at=seen_at)
        ctx.free_slot()
        return Wait(ctx, vm, params.wait_for, params.wait_timeout_seconds).ready()

    def take_away(self, ctx: Context, hypervisor: Hypervisor, find: Callable[[Session], GuestInfo | None]) -> None:
        """Undefine the guest, if this operation has made one."""
        if not ctx.done(DEFINED):
            return
        with ctx.session(hypervisor.endpoint()) as session:
            info = find(session)
            if info is None:
                return
            if info.state in _UP:
                session.force_off(info.ref)
            session.undefine(info.ref)
            vm_gone(hypervisor, info.uuid, cause="undone")
        ctx.log(f"Undone: the guest {info.name}.")


def check_maintenance(hypervisor: Hypervisor, *, start: bool) -> None:
    """Raises WrongState for what would run a guest on a host in maintenance."""
    if start and hypervisor.host.maintenance:
        raise WrongState(
            f"{hypervisor.host.name} is in maintenance: no guest is started there. Make it without starting it, or elsewhere.",
            host=str(hypervisor.host_id),
        )


def find(session: Session, vm_id: uuid.UUID) -> GuestInfo | None:
    """The guest that we made under this id, whatever identifier its hypervisor gave it; None where there is none."""
    info = session.guest_or_none(GuestRef(uuid=str(vm_id)))
    if info is None:
        info = next((one for one in session.guests() if one.metadata.get("id") == str(vm_id)), None)
    return info


# -- from a spec -------------------------------------------------------------------------------------------------------
class CreateParams(MakeParams):
    """All that is settled, and what cloud-init shall find (passwords and keys among it)."""

    plan: Plan
    cloud_init: dict[str, Any] | None = None

    secret: ClassVar[frozenset[str]] = frozenset({"cloud_init"})


@action
class CreateVM(MakeGuest[CreateParams]):
    """Make a guest as planned. What a failed one has made is undone."""

    kind = "vm.create"
    title = "Create"
    verb = "vm.create"
    params = CreateParams
    feature = Feature.CREATE

    def features(self, params: CreateParams) -> Iterator[Feature]:
        """What its plan takes."""
        yield from super().features(params)
        plan = params.plan
        if plan.disks or plan.seed or plan.kernel:
            yield Feature.STORAGE_POOLS
        if plan.seed or any(disk.image or disk.how in ("linked", "full") for disk in plan.disks):
            yield Feature.STORAGE_CONTENT
        if plan.autostart:
            yield Feature.AUTOSTART

    def run(self, ctx: Context, target: NewGuest, params: CreateParams) -> dict[str, Any]:
        """Check, copy, volumes, seed, define, start, ready."""
        plan = params.plan
        maker = Maker(ctx, target.pk, plan, params.cloud_init)
        vm = maker.made()
        addresses = self.started(ctx, vm, params)
        return {
            "vm": str(vm.pk),
            "name": vm.name,
            "placement": plan.placement.model_dump(mode="json"),
            "volumes": [{"pool": file.pool, "name": file.volume} for file in maker.files()],
            "addresses": addresses,
        }

    def undo(self, ctx: Context, target: NewGuest, params: CreateParams) -> None:
        """In reverse: the guest, then its volumes. One that has run stays; it is only not as ready as was asked for."""
        if self.stays(ctx, params.plan.name):
            return
        maker = Maker(ctx, target.pk, params.plan, params.cloud_init)
        failures: list[VmmError] = []
        try:
            self.take_away(ctx, hypervisor_of(params.hypervisor), lambda session: find(session, target.pk))
        except VmmError as error:
            failures.append(error)  # its volumes go all the same: nothing else will ever use them
        failures += maker.delete_volumes()
        if failures:
            raise failures[0]


# -- from a definition -------------------------------------------------------------------------------------------------
class FromXmlParams(MakeParams):
    """The definition, which may hold a console's password."""

    name: str
    xml: str

    secret: ClassVar[frozenset[str]] = frozenset({"xml"})


@action
class CreateFromXml(MakeGuest[FromXmlParams]):
    """Make a guest from a definition as it is. One that is there already is never changed by it."""

    kind = "vm.create-from-xml"
    title = "Define"
    verb = "vm.xml"
    params = FromXmlParams
    feature = Feature.DEFINE

    def run(self, ctx: Context, target: NewGuest, params: FromXmlParams) -> dict[str, Any]:
        """Define, start, ready."""
        hypervisor = hypervisor_of(params.hypervisor)
        ref = self._ref(target, params)
        with ctx.session(hypervisor.endpoint()) as session:
            there = session.guest_or_none(ref)
            if there is not None and not ctx.done(DEFINED):
                raise AlreadyExists(
                    f"{there.name} on {hypervisor.host.name} has the identifier {ref.uuid} already. Leave <uuid> out, or change that guest."
                )
            if there is None:
                cancelled(ctx)
                ctx.checkpoint(DEFINED)
                found = head(params.xml)
                there = session.define(params.xml if found.uuid else with_uuid(params.xml, found, ref.uuid))
            seen_at = timezone.now()
            vm = vm_observe(hypervisor, session.guest(there.ref), seen_at=seen_at, pk=target.pk)
        vm.hypervisor = hypervisor
        addresses = self.started(ctx, vm, params)
        return {"vm": str(vm.pk), "name": vm.name, "hypervisor": str(hypervisor.pk), "addresses": addresses}

    def undo(self, ctx: Context, target: NewGuest, params: FromXmlParams) -> None:
        """Undefine it. Its disks were there before."""
        if not self.stays(ctx, params.name):
            ref = self._ref(target, params)
            self.take_away(ctx, hypervisor_of(params.hypervisor), lambda session: session.guest_or_none(ref))

    @staticmethod
    def _ref(target: NewGuest, params: FromXmlParams) -> GuestRef:
        """By the identifier that stands in it, else by the one that we give it."""
        return GuestRef(uuid=head(params.xml).uuid or str(target.pk), name=params.name)


# -- a dry run ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Draft:
    """A guest that is only drawn: under a name of its own, so that drafts neither wait for nor join each other."""

    pk: uuid.UUID
    name: str

    @property
    def ref(self) -> str:
        """`reading/<id>`."""
        return f"{READING}{self.pk}"


class DraftParams(Params):
    """Of what."""

    plan: Plan


@action
class DesignVM(Action[Draft, DraftParams]):
    """The definition that a guest would get. Nothing is made."""

    kind = "vm.design"
    title = "Dry run"
    verb = "vm.create"
    params = DraftParams
    retry = Retry(times=0)
    timeout_seconds = 20.0

    def load(self, target_id: uuid.UUID) -> Draft:
        """There is nothing to load."""
        return Draft(target_id, "")

    def run(self, ctx: Context, target: Draft, params: DraftParams) -> dict[str, Any]:
        """Draw it, and leave it where the request looks: the row keeps its size alone."""
        found = Maker(ctx, target.pk, params.plan, None).design()
        keep(reading_key(ctx.operation_id), found, seconds=READING_KEPT_SECONDS)
        return {"size": len(found)}
