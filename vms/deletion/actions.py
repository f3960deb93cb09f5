"""Deleting guests: into the bin, out of it again, and for good. What is deleted by mistake is had back; what is not, goes by itself.

Each step can be the last one before a crash. Whatever is changed at a hypervisor was written down before (`binned.intend`), the
row becomes a guest of the bin only when all is done there, and what fails on the way is taken back (`undo`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from django.utils import timezone
from pydantic import Field, StringConstraints

from core.errors import Missing
from core.rest import moment
from drivers.errors import AlreadyExists, InvalidDefinition, NotFound, Unsupported, WrongState
from drivers.types import Feature, GuestState
from operations.actions import Params, action
from vms.actions import ALIVE, CRASHED, SHUTOFF, GuestAction, state_words
from vms.deletion import binned, leftovers
from vms.inventory import vm_gone
from vms.models import VM

if TYPE_CHECKING:
    import uuid
    from typing import ClassVar

    from drivers.base import Session
    from drivers.types import GuestInfo
    from operations.actions import Context

INTENDED: Final = "intended"
UNDEFINING: Final = "undefining"
UNDEFINED: Final = "undefined"
_NO_MATTER: Final = (WrongState, AlreadyExists, InvalidDefinition, Unsupported)
"""Why a guest may keep its name or its autostart in the bin: that is no reason to delete it for good, or not at all."""


class Removal(GuestAction):
    """What deleting and purging share: a guest that is gone is what was wished, and its disks may go with it."""

    verb = "vm.delete"
    feature = Feature.UNDEFINE
    states = frozenset({SHUTOFF, CRASHED})
    timeout_seconds = 900.0
    in_bin = True

    def load(self, target_id: uuid.UUID) -> VM:
        """One that is gone too: an earlier attempt may have come so far."""
        vm = VM.objects.select_related("hypervisor__host").filter(pk=target_id).first()
        if vm is None:
            raise Missing("This guest was forgotten together with its hypervisor.")
        return vm

    def check_storage(self, vm: VM, storage: str) -> None:
        """Raises Unsupported where disks are wished to go and its hypervisor has no pools."""
        supported, reason = vm.hypervisor.support(Feature.STORAGE_POOLS)
        if storage == "delete" and vm.hypervisor.capabilities and not supported:
            raise Unsupported(f"Its disks cannot be deleted: {reason} Leave storage=keep.", feature="storage.pools")

    def for_good(self, ctx: Context, session: Session, vm: VM, storage: str) -> dict[str, Any]:
        """Undefine what is off, then delete what is its alone. The definition is in the result."""
        info = session.guest_or_none(vm.guest_ref)
        definition = ""
        if info is not None and ctx.done(UNDEFINED):
            raise WrongState(f"{vm.name} was defined anew by somebody else meanwhile: it stays.", state=str(info.state))
        if info is not None:
            self.read_back(session, vm)  # what disks it has is known exactly before it goes
            definition = session.definition(vm.guest_ref) if _has(session, Feature.XML) else ""
            ctx.checkpoint(UNDEFINING)
            if info.persistent:
                try:
                    session.undefine(vm.guest_ref)
                except NotFound:
                    ctx.log("It was gone already.")
            if session.guest_or_none(vm.guest_ref) is not None:
                raise WrongState(
                    f"{vm.name} is still there after it was removed: somebody started it.", state="unknown"
                )
        vm_gone(vm.hypervisor, vm.uuid)
        if ctx.done(UNDEFINING):
            ctx.checkpoint(UNDEFINED)
        result: dict[str, Any] = {"definition": definition}
        if storage == "delete" and not ctx.done(UNDEFINING):
            reason = "Somebody else had removed the guest before: it may be in use elsewhere."
            return result | leftovers.all_kept(vm, reason)
        return result | (leftovers.delete(ctx, session, vm) if storage == "delete" else {})


class DeleteParams(Params):
    """Whether a running guest may be forced off first, what its disks do, and whether it can be had back for a while."""

    force: bool = False
    storage: Literal["keep", "delete"] = "keep"
    bin: bool = True

    @property
    def to_bin(self) -> bool:
        """Whether it goes to the bin."""
        return self.bin and binned.bin_hours() > 0


@action
class DeleteVM(Removal):
    """Put a guest into the bin, or remove it for good."""

    kind = "vm.delete"
    title = "Delete"
    params: ClassVar[type[Params]] = DeleteParams

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """A running guest only with `force`; a protected one never."""
        assert isinstance(params, DeleteParams)  # noqa: S101 - narrows the type; the registry pairs them
        self.check_capability(target)
        self.check_reach(target)
        check_protection(target)
        self.check_storage(target, params.storage)
        if idle:
            check_not_binned(target)
            if not params.force:
                self.check_state(target, GuestState(target.state))
            if params.to_bin:
                check_persistent(target, persistent=target.persistent)

    def why_not(self, vm: VM, state: GuestState) -> str:
        """What to do instead."""
        return f"{vm.name} is {state_words(state)}: shut it down first, or delete with force."

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any] | None:
        """Force off if allowed, then into the bin or for good; a guest that is gone is what was wished."""
        assert isinstance(params, DeleteParams)  # noqa: S101 - narrows the type; the registry pairs them
        check_protection(target)
        check_not_binned(target)
        with ctx.session(target.hypervisor.endpoint()) as session:
            info = session.guest_or_none(target.guest_ref)
            if info is not None and params.to_bin:
                check_persistent(target, persistent=info.persistent)
            if info is not None and info.state in ALIVE - {CRASHED}:
                if not params.force:
                    self.check_state(target, info.state)
                if not params.to_bin:  # a transient guest goes with that
                    self.read_back(session, target)
                    ctx.checkpoint(UNDEFINING)
                session.force_off(target.guest_ref)
                ctx.log("Forced off.")
            if info is None or not params.to_bin:
                return self.for_good(ctx, session, target, params.storage)
            return self._to_bin(ctx, session, target, info, params)

    def _to_bin(self, ctx: Context, session: Session, vm: VM, info: GuestInfo, params: DeleteParams) -> dict[str, Any]:
        if not ctx.done(INTENDED):
            name = binned.name_in_bin(vm) if _has(session, Feature.RENAME) else ""
            binned.intend(vm, name=name, autostart=info.autostart or vm.bin_autostart)
            ctx.checkpoint(INTENDED)
        self.read_back(session, vm)
        if info.autostart:
            try:
                session.set_autostart(vm.guest_ref, enabled=False)
            except _NO_MATTER as error:
                ctx.log(f"It still starts with its host: {error.detail}")
        if vm.bin_name and info.name != vm.bin_name:
            try:
                session.rename(vm.guest_ref, vm.bin_name)
            except _NO_MATTER as error:
                ctx.log(f"It keeps its name on {vm.hypervisor.host.name}: {error.detail}")
                binned.intend(vm, name="", autostart=vm.bin_autostart)
        self.read_back(session, vm)
        row = binned.put_in(vm, storage=params.storage, operation_id=ctx.operation_id)
        return {"binned": True, "bin_until": moment(row.bin_until), "renamed": bool(row.bin_name)}

    def satisfied(self, ctx: Context, target: VM, params: Params) -> bool:
        """In the bin is done. What was to go for good is looked at by `run`: its disks may be left."""
        del ctx
        assert isinstance(params, DeleteParams)  # noqa: S101 - narrows the type; the registry pairs them
        return params.to_bin and target.binned_at is not None

    def undo(self, ctx: Context, target: VM, params: Params) -> None:
        """What did not get into the bin is called, and starts, as before."""
        del params
        if not target.half_binned or target.gone_at is not None:
            return
        with ctx.session(target.hypervisor.endpoint()) as session:
            info = session.guest_or_none(target.guest_ref)
            if info is not None:
                make_undone(session, target, info, name=target.name)
                binned.take_out(target, operation_id=ctx.operation_id)
                self.read_back(session, target)


class PurgeParams(Params):
    """What its disks do."""

    storage: Literal["keep", "delete"] = "keep"
    due: bool = False
    """Only if its time is up when the turn comes: somebody may have had it back, and deleted it anew."""


@action
class PurgeVM(Removal):
    """Remove a guest of the bin for good."""

    kind = "vm.purge"
    title = "Delete for good"
    params: ClassVar[type[Params]] = PurgeParams

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """Only what is in the bin."""
        assert isinstance(params, PurgeParams)  # noqa: S101 - narrows the type; the registry pairs them
        self.check_capability(target)
        self.check_reach(target)
        self.check_storage(target, params.storage)
        if idle:
            check_binned(target)

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any] | None:
        """Not when it came out meanwhile, or runs."""
        assert isinstance(params, PurgeParams)  # noqa: S101 - narrows the type; the registry pairs them
        if not ctx.done(UNDEFINING):
            check_binned(target)
            if params.due and (target.bin_until is None or target.bin_until > timezone.now()):
                raise WrongState(
                    f"{target.name} stays in the bin until {moment(target.bin_until)}.", state=target.state
                )
        with ctx.session(target.hypervisor.endpoint()) as session:
            info = session.guest_or_none(target.guest_ref)
            if info is not None and info.state in ALIVE - {CRASHED}:
                self.read_back(session, target)
                raise WrongState(f"{target.name} was started: it is out of the bin.", state=str(info.state))
            return self.for_good(ctx, session, target, params.storage)


class RestoreParams(Params):
    """Under which name; its own when left out."""

    name: (
        Annotated[
            str,
            StringConstraints(
                min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f\x7f]*[^/\s\x00-\x1f\x7f][^/\x00-\x1f\x7f]*$"
            ),
        ]
        | None
    ) = Field(default=None)


@action
class RestoreVM(GuestAction):
    """Take a guest out of the bin: called as before, starting with its host as before, and off."""

    kind = "vm.restore"
    title = "Restore"
    verb = "vm.delete"
    params: ClassVar[type[Params]] = RestoreParams
    feature = Feature.UNDEFINE  # whatever could be deleted
    states = frozenset(GuestState)
    in_bin = True
    supersedes = frozenset({"vm.purge"})

    def check(self, target: VM, params: Params, *, idle: bool) -> None:
        """Only what is in the bin. No query: whether its name is free is asked when it is asked for (`check_name`)."""
        del params
        self.check_reach(target)
        if idle and not target.half_binned:
            check_binned(target)

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any] | None:
        """Rename, autostart, and out."""
        assert isinstance(params, RestoreParams)  # noqa: S101 - narrows the type; the registry pairs them
        if not target.half_binned:
            check_binned(target)
        with ctx.session(target.hypervisor.endpoint()) as session:
            info = session.guest_or_none(target.guest_ref)
            if info is None:
                self.read_back(session, target)
                raise Missing(f"{target.name} is gone from its hypervisor: somebody else removed it.")
            name = params.name or (target.name if target.bin_name else info.name)
            try:
                make_undone(session, target, info, name=name)
            except AlreadyExists:
                raise _taken(target, name) from None
            binned.take_out(target, operation_id=ctx.operation_id)
            self.read_back(session, target)
        return {"name": name}

    def satisfied(self, ctx: Context, target: VM, params: Params) -> bool:
        """Out is done."""
        del ctx, params
        return target.binned_at is None and not target.half_binned


def check_name(vm: VM, params: Params) -> None:
    """Raises AlreadyExists where another guest of the hypervisor has the name by now that it would get. One query."""
    assert isinstance(params, RestoreParams)  # noqa: S101 - narrows the type; its caller pairs them
    name = params.name or vm.name
    rows = VM.objects.filter(hypervisor=vm.hypervisor_id, name=name, gone_at=None, bin_name="").exclude(pk=vm.pk)
    if (vm.bin_name or name != vm.name) and rows.exists():
        raise _taken(vm, name)


def make_undone(session: Session, vm: VM, info: GuestInfo, *, name: str) -> None:
    """Its name and its autostart, as they were before it went to the bin. Raises AlreadyExists."""
    if info.name != name:
        session.rename(vm.guest_ref, name)
    if vm.bin_autostart and not info.autostart:
        session.set_autostart(vm.guest_ref, enabled=True)


def check_protection(vm: VM) -> None:
    """Raises WrongState for a guest that is protected from being deleted."""
    if vm.protected:
        raise WrongState(f"{vm.name} is protected from being deleted: switch that off first.", protected=True)


def check_not_binned(vm: VM) -> None:
    """Raises WrongState for a guest in the bin."""
    if vm.binned_at is not None:
        raise WrongState(f"{vm.name} is in the bin already. With bin=false it goes for good.", state=vm.state)


def check_binned(vm: VM) -> None:
    """Raises WrongState for any other."""
    if vm.binned_at is None or vm.gone_at is not None:
        raise WrongState(f"{vm.name} is not in the bin.", state=vm.state)


def check_persistent(vm: VM, *, persistent: bool) -> None:
    """Raises WrongState for a guest of which nothing would be left to be had back."""
    if not persistent:
        raise WrongState(
            f"{vm.name} is transient: it has no definition that a bin could keep. Delete it with bin=false.",
            state=vm.state,
        )


def _taken(vm: VM, name: str) -> AlreadyExists:
    return AlreadyExists(
        f"There is another guest {name} on {vm.hypervisor.host.name} by now: restore it under another name.", name=name
    )


def _has(session: Session, feature: Feature) -> bool:
    support = session.capabilities().get(feature)
    return support is not None and support.supported
