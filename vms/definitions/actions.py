"""What a worker does to a definition: check it, change it, and give a guest another name."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import StringConstraints, field_validator

from core.errors import BadInput, Stale
from core.memory import keep
from drivers.errors import WrongState
from drivers.types import Feature, GuestState
from operations.actions import Action, Params, Retry, action
from vms.actions import GuestAction, guest_of
from vms.choices import ACTIVE, RevisionSource
from vms.definitions import drift, keeping
from vms.definitions.history import Cause, digest_of, newest, record, text_of
from vms.readings import GuestReading, reading_key

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from drivers.base import Session
    from drivers.types import Finding
    from operations.actions import Context
    from vms.models import VM

XML_MAX: Final = 2 * 1024 * 1024
CHECK_KEPT_SECONDS: Final = 60


class RefusedDefinition(BadInput):
    """The definition has faults."""

    code = "invalid_definition"

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> RefusedDefinition:
        """From what a check has found; those that are no faults are left out."""
        faults = [one for one in findings if one.fatal]
        first = faults[0]
        errors = [{"pointer": one.path, "line": one.line or None, "detail": one.detail} for one in faults]
        where = f"Line {first.line}: " if first.line else ""
        more = f" And {len(faults) - 1} more." if len(faults) > 1 else ""
        return cls(f"{where}{first.detail}{more}", errors=errors)


def takes_effect(vm: VM) -> str:
    """When a new definition counts: what runs, or was saved while it ran, goes on as it was started."""
    return "next_start" if vm.state in ACTIVE or vm.has_managed_save else "now"


# -- checking --------------------------------------------------------------------------------------------------------------
class CheckParams(Params):
    """What somebody wrote. It may have a password in it."""

    secret = frozenset({"xml"})
    xml: Annotated[str, StringConstraints(max_length=XML_MAX)]


@action
class CheckDefinition(Action[GuestReading, CheckParams]):
    """See what speaks against a definition, beside what the guest has now. Nothing is changed; what was found goes through the cache."""

    kind = "vm.check-definition"
    title = "Check definition"
    verb = "vm.xml"
    params = CheckParams
    retry = Retry(times=0)
    timeout_seconds = 20.0

    def load(self, target_id: uuid.UUID) -> GuestReading:
        """Raises Missing for a guest that is gone."""
        return GuestReading.of(guest_of(target_id))

    def check(self, target: GuestReading, params: CheckParams, *, idle: bool) -> None:
        """What would refuse the change itself, but for the state that passes."""
        del params, idle
        action = DefineVM()
        action.check_capability(target.vm)
        action.check_reach(target.vm)
        action.check_state(target.vm, GuestState(target.vm.state))

    def run(self, ctx: Context, target: GuestReading, params: CheckParams) -> dict[str, Any]:
        """Read, check, and leave it where the request looks."""
        vm = target.vm
        with ctx.session(vm.hypervisor.endpoint()) as session:
            current = session.definition(vm.guest_ref)
            findings = session.check_definition(params.xml, ref=vm.guest_ref)
        found = {"current": current, "findings": [asdict(one) for one in findings]}
        keep(reading_key(ctx.operation_id), found, seconds=CHECK_KEPT_SECONDS)
        return {"size": len(current)}


# -- changing --------------------------------------------------------------------------------------------------------------
class DefineParams(Params):
    """The new definition, which one it is meant to replace, and why.

    Attributes:
        xml: It may have a password in it.
        base: Digest of the definition that it was made from; "" for whatever there is.
        restored: The number of the revision that it is.
    """

    secret = frozenset({"xml"})
    xml: Annotated[str, StringConstraints(max_length=XML_MAX)]
    base: Annotated[str, StringConstraints(max_length=64)] = ""
    comment: Annotated[str, StringConstraints(max_length=500)] = ""
    restored: int | None = None


@action
class DefineVM(GuestAction):
    """Give a guest another definition, if it still has the one that this was made from. Each one before and after is kept.

    Who was interrupted compares: the change is in what the host has now, or the host has what it had, or somebody else was there.
    """

    kind = drift.DEFINE
    title = "Change definition"
    verb = "vm.xml"
    params = DefineParams
    feature = Feature.DEFINE
    states = frozenset(GuestState)

    def check_state(self, vm: VM, state: GuestState) -> None:
        """A transient guest has no definition; defining would make it one that stays."""
        if not vm.persistent:
            raise WrongState(f"{vm.name} is transient: it has no definition that could be changed.", state=str(state))

    def run(self, ctx: Context, target: VM, params: Params) -> dict[str, Any] | None:
        """Look whether it is still the one that was edited, keep it, define, read back, keep that."""
        assert isinstance(params, DefineParams)  # noqa: S101 - narrows the type; the registry pairs them
        with ctx.session(target.hypervisor.endpoint()) as session:
            before = session.definition(target.guest_ref)
            base = _base(ctx, target, params)
            if base and digest_of(before) != base:
                if self._is_there(session, target, params, base):
                    return self._keep(ctx, session, target, params)
                revision, _known = record(target, before, Cause(source=RevisionSource.OUTSIDE))
                raise Stale(
                    f"The definition of {target.name} changed meanwhile (revision {revision.number}). Nothing was done.",
                    revision=revision.number,
                )
            findings = session.check_definition(params.xml, ref=target.guest_ref)
            if any(one.fatal for one in findings):
                raise RefusedDefinition.of(findings)
            record(target, before, Cause(source=RevisionSource.OUTSIDE))
            if target.state in ACTIVE:
                keeping.read_hardware(ctx, session, target)  # what it runs with is compared with what it gets
            ctx.checkpoint(_from(digest_of(before)))
            session.define(params.xml)
            return self._keep(ctx, session, target, params, before=before)

    def _keep(
        self, ctx: Context, session: Session, vm: VM, params: DefineParams, *, before: str = ""
    ) -> dict[str, Any]:
        """Read back what it has become, and keep that as this operation's."""
        revision, xml = keeping.after(ctx, session, vm, comment=params.comment, restored=params.restored)
        number = revision.number if revision else None
        return {"revision": number, "changed": xml != before, "takes_effect": takes_effect(vm)}

    def _is_there(self, session: Session, vm: VM, params: DefineParams, base: str) -> bool:
        """Whether what was wished is in what the host has, although that is not what was edited."""
        text = text_of(vm.pk, base)
        return text is not None and session.holds_change(vm.guest_ref, before=text, wished=params.xml)

    def satisfied(self, ctx: Context, target: VM, params: Params) -> bool:
        """After an interruption: it is there. Then it is this operation's, too, and is kept as such."""
        assert isinstance(params, DefineParams)  # noqa: S101 - narrows the type; the registry pairs them
        base = _base(ctx, target, params)
        if not base:
            return False
        with ctx.session(target.hypervisor.endpoint()) as session:
            there = self._is_there(session, target, params, base)
            if there:
                self._keep(ctx, session, target, params)
        return there


def _base(ctx: Context, vm: VM, params: DefineParams) -> str:
    """What it was made from; where nobody said, what an interrupted attempt found."""
    if params.base:
        return params.base
    last = newest(vm.pk)
    return last.digest if last and ctx.done(_from(last.digest)) else ""


def _from(digest: str) -> str:
    return f"from {digest}"


# -- the name --------------------------------------------------------------------------------------------------------------
class RenameParams(Params):
    """The new name."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]

    @field_validator("name")
    @classmethod
    def _check(cls, value: str) -> str:
        if "/" in value or not value.isprintable() or value != value.strip():
            raise ValueError("no slash, no blank at an end, and nothing that cannot be printed")
        return value


@action
class RenameVM(GuestAction):
    """Give a stopped guest another name. Its identity, its disks and their files stay."""

    kind = "vm.rename"
    title = "Rename"
    verb = "vm.edit"
    params = RenameParams
    feature = Feature.RENAME
    states = frozenset({GuestState.SHUTOFF, GuestState.CRASHED})

    def check_state(self, vm: VM, state: GuestState) -> None:
        """Besides: saved memory belongs to a guest of the old name."""
        super().check_state(vm, state)
        if vm.has_managed_save:
            raise WrongState(f"{vm.name} has saved memory: start it, or discard that first.", state=str(state))

    def why_not(self, vm: VM, state: GuestState) -> str:
        """What to do instead."""
        return f"{super().why_not(vm, state).rstrip('.')}: only a guest that is off can be renamed. Shut it down first."

    def act(self, session: Session, vm: VM, params: Params) -> None:
        """Rename."""
        assert isinstance(params, RenameParams)  # noqa: S101 - narrows the type; the registry pairs them
        session.rename(vm.guest_ref, params.name)

    def satisfied(self, ctx: Context, target: VM, params: Params) -> bool:
        """It is called so."""
        assert isinstance(params, RenameParams)  # noqa: S101 - narrows the type; the registry pairs them
        with ctx.session(target.hypervisor.endpoint()) as session:
            self.read_back(session, target)
            info = session.guest_or_none(target.guest_ref)
        return info is not None and info.name == params.name
