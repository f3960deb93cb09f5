"""What callers may ask of definitions: check, change, compare, restore. REST and pages come through here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from accounts import policy
from core.errors import Missing, Stale, VmmError
from drivers.types import Finding
from operations import actions, engine
from vms.alternatives import with_alternatives
from vms.definitions.actions import (
    CheckDefinition,
    CheckParams,
    DefineParams,
    DefineVM,
    RefusedDefinition,
    takes_effect,
)
from vms.definitions.diff import Difference, difference
from vms.definitions.history import digest_of, text_of
from vms.inventory import definition_digest
from vms.models import Revision
from vms.readings import GuestReading
from vms.services import reading_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.db.models import QuerySet

    from accounts.actor import Actor
    from operations.models import Operation
    from vms.models import VM

CONFLICT_CHARACTERS: Final = 64_000
"""How much of a difference an answer of 412 carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found of a definition that somebody wrote, beside the one that the guest has.

    Attributes:
        digest: Of what the guest has now.
        valid: Whether nothing is known that would refuse it.
        change: From what the guest has to what was written.
        takes_effect: `now` or `next_start`.
    """

    digest: str
    valid: bool
    findings: tuple[Finding, ...]
    change: Difference
    takes_effect: str


def definition_check(*, vm: VM, xml: str, by: Actor, known: Collection[str] | None = None) -> Checked:
    """Ask the host what it thinks of a definition, by a worker, without changing anything. Blocks up to 25 s.

    Args:
        vm: Whose.
        xml: Anything.
        by: The caller.
        known: Digests, one of which the guest's present definition must have; None: any will do.

    Raises:
        Stale: It has none of them; the difference is in the context. PermissionRefused, Unsupported, Unreachable, WrongState, Timeout.
    """
    with with_alternatives(vm, by=by):
        operation = engine.submit(CheckDefinition, target=GuestReading.of(vm), by=by, params=CheckParams(xml=xml))
    found = reading_of(vm, operation)
    current = str(found["current"])
    digest = digest_of(current)
    if known is not None and digest not in known:
        raise _stale(vm, current, xml, known)
    findings = tuple(Finding(**one) for one in found["findings"])
    return Checked(
        digest=digest,
        valid=not any(one.fatal for one in findings),
        findings=findings,
        change=difference(current, xml),
        takes_effect=takes_effect(vm),
    )


def definition_change(
    *,
    vm: VM,
    xml: str,
    by: Actor,
    comment: str = "",
    known: Collection[str] | None = None,
    on_conflict: Literal["wait", "fail"] = "wait",
) -> Operation:
    """Check, then queue the change. The worker looks once more whether the definition is still the one that was checked against.

    Raises:
        RefusedDefinition: It has faults, each with its line. And as `definition_check`, InProgress.
    """
    checked = definition_check(vm=vm, xml=xml, by=by, known=known)
    if not checked.valid:
        raise RefusedDefinition.of(checked.findings)
    params = DefineParams(xml=xml, base=checked.digest, comment=comment)
    return engine.submit(DefineVM, target=vm, by=by, params=params, on_conflict=on_conflict)


def revision_restore(
    *,
    vm: VM,
    number: int,
    by: Actor,
    comment: str = "",
    known: Collection[str] | None = None,
    on_conflict: Literal["wait", "fail"] = "wait",
) -> Operation:
    """Queue the change back to a kept definition. Nothing of the host is read here: the worker finds out what it replaces.

    Args:
        vm: Whose.
        number: Of the revision.
        by: The caller.
        comment: Why.
        known: As for `definition_check`. Where it cannot be told here whether one of them is the present one, the worker tells.
        on_conflict: As everywhere.

    Raises:
        Missing: There is no such revision. Stale: the present definition is none of `known`. As `engine.submit`.
    """
    revision = revision_get(vm, number, by=by)
    base = ""
    if known:
        newest = revisions(vm, by=by)[0]
        present = definition_digest(newest.digest) == vm.xml_digest[:32]
        if present and newest.digest not in known:
            raise _stale(vm, newest.xml, revision.xml, known)
        base = newest.digest if newest.digest in known else min(known)
    params = DefineParams(xml=revision.xml, base=base, comment=comment, restored=revision.number)
    with with_alternatives(vm, by=by):
        return engine.submit(DefineVM, target=vm, by=by, params=params, on_conflict=on_conflict)


def why_fixed(vm: VM, *, by: Actor) -> str:
    """Why this caller cannot change the definition now, as a sentence; "" where he can. No query."""
    try:
        policy.require(by, DefineVM.verb, vm)
        actions.get(DefineVM.kind).check(vm, DefineParams(xml=""), idle=True)
    except VmmError as error:
        return error.detail
    return ""


def revisions(vm: VM, *, by: Actor) -> QuerySet[Revision]:
    """Those that are kept, the newest first."""
    policy.require(by, "vm.xml", vm)
    return Revision.objects.filter(vm=vm).order_by("-number")


def revision_get(vm: VM, number: int, *, by: Actor) -> Revision:
    """One of them. Raises Missing."""
    found = revisions(vm, by=by).filter(number=number).first()
    if found is None:
        raise Missing(f"There is no revision {number} of {vm.name}, or it is no longer kept.")
    return found


def revision_against(
    vm: VM, revision: Revision, against: int | None, *, by: Actor
) -> tuple[Revision | None, Difference]:
    """What leads to a revision: from the one before it, or from another. None for the first, which has none before it.

    Raises:
        Missing: There is no such other revision.
    """
    if against is not None:
        other: Revision | None = revision_get(vm, against, by=by)
    else:
        other = revisions(vm, by=by).filter(number__lt=revision.number).first()
    return other, difference(other.xml if other else revision.xml, revision.xml)


def _stale(vm: VM, current: str, wished: str, known: Collection[str]) -> Stale:
    """With the difference: what the others changed where what they changed it from is kept, and what is wished against it."""
    change = difference(current, wished, characters=CONFLICT_CHARACTERS)
    base = next((text for text in (text_of(vm.pk, digest) for digest in known) if text is not None), None)
    theirs = difference(base, current, characters=CONFLICT_CHARACTERS) if base is not None else None
    return Stale(
        f"The definition of {vm.name} changed since you read it. Look at the difference, and decide.",
        etag=f'"{digest_of(current)}"',
        diff=change.text,
        diff_cut=change.cut,
        changed=theirs.text if theirs else "",
    )
