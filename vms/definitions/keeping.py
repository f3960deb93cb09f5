"""After a change of ours: what the guest has become is read back, and its definition kept as this operation's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone

from drivers.errors import DriverError, Timeout, Unreachable
from drivers.types import Feature
from operations.models import Operation
from vms.choices import RevisionSource
from vms.definitions import drift
from vms.definitions.history import Cause, record
from vms.hardware.inventory import hardware_observe
from vms.inventory import definition_digest, vm_observe

if TYPE_CHECKING:
    from drivers.base import Session
    from operations.actions import Context
    from vms.models import VM, Revision


def has(vm: VM, feature: Feature) -> bool:
    """Whether its hypervisor has it, as far as is known here."""
    return vm.hypervisor.support(feature)[0]


def before(session: Session, vm: VM) -> str:
    """The definition as it is, kept as what somebody else made it; "" where there is none to be had."""
    if not has(vm, Feature.XML):
        return ""
    xml = session.definition(vm.guest_ref)
    record(vm, xml, Cause(source=RevisionSource.OUTSIDE))
    return xml


def read_hardware(
    ctx: Context, session: Session, vm: VM, *, needed: bool = False, told_bytes: int | None = None
) -> None:
    """Write down what it is built of now. Where that is not `needed`, what stands against it is a line of the log."""
    if not has(vm, Feature.HARDWARE):
        return
    seen_at = timezone.now()
    try:
        found, options = session.hardware(vm.guest_ref), session.hardware_options(vm.guest_ref)
    except (Unreachable, Timeout):
        raise
    except DriverError as error:
        if needed:
            raise
        ctx.log(f"Its hardware could not be read: {error.detail}")
    else:
        hardware_observe(vm, found, options, seen_at=seen_at, told_bytes=told_bytes)


def after(
    ctx: Context,
    session: Session,
    vm: VM,
    *,
    comment: str = "",
    restored: int | None = None,
    hardware: bool = False,
    told_bytes: int | None = None,
) -> tuple[Revision | None, str]:
    """Read back what it has become, and keep that as this operation's; the revision and the definition.

    None and "" where its hypervisor has no definitions, and of a transient guest's. `hardware`: that is what was changed. `told_bytes`:
    how much memory it was told to have, while it ran.
    """
    seen_at = timezone.now()
    info = session.guest(vm.guest_ref)
    xml = session.definition(vm.guest_ref) if has(vm, Feature.XML) else ""
    vm_observe(vm.hypervisor, info, seen_at=seen_at)
    read_hardware(ctx, session, vm, needed=hardware, told_bytes=told_bytes)
    if not xml:
        return None, ""
    asked_by = Operation.objects.values_list("requested_by", flat=True).get(pk=ctx.operation_id)
    cause = Cause(
        source=RevisionSource.OURS,
        actor=asked_by,
        comment=comment,
        operation=ctx.operation_id,
        restored=restored,
    )
    revision, known = record(vm, xml, cause)
    if known[:32] != definition_digest(info.xml_digest):
        drift.follow_up(vm)  # somebody else was quick: it was seen while we wrote
    return revision, xml
