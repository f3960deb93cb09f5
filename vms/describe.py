"""What is ours to say of a guest, written into its definition, so that it outlives our database: adopted again, it is known again.

Bookkeeping beside the guest's own work: it takes no lock on the guest, is not listed, and nobody waits for it. The row is what
counts; what a hypervisor does not keep, or cannot be told now, is written with the next change.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from core.errors import Missing, VmmError
from drivers.types import Feature
from operations import engine
from operations.actions import Action, Params, Retry, action
from storage.reach import slot_of
from vms.facts import write_facts
from vms.models import VM
from vms.readings import GuestReading

if TYPE_CHECKING:
    import uuid

    from accounts.actor import Actor
    from operations.actions import Context

KEPT: Final = frozenset({"title", "description", "tags", "project", "owner"})
"""Fields of a guest's row that its definition keeps too."""


class DescribeParams(Params):
    """Which version of the row has called for it: a later change is not taken for the same."""

    version: int


@action
class DescribeVM(Action[GuestReading, DescribeParams]):
    """Write title, description, tags, project and owner into the definition, as they are when its turn comes."""

    kind = "vm.describe"
    title = "Describe"
    verb = "vm.edit"
    params = DescribeParams
    retry = Retry(times=5, base_seconds=2.0)
    timeout_seconds = 60.0

    def load(self, target_id: uuid.UUID) -> GuestReading:
        """With its hypervisor. Raises Missing for a guest that is gone."""
        vm = VM.objects.select_related("hypervisor__host", "owner").filter(pk=target_id, gone_at=None).first()
        if vm is None:
            raise Missing("This guest is gone from its hypervisor.")
        return GuestReading.of(vm)

    def slot(self, target: GuestReading) -> tuple[str, int]:
        """One of its hypervisor's."""
        return slot_of(target.vm.hypervisor)

    def run(self, ctx: Context, target: GuestReading, params: DescribeParams) -> dict[str, Any]:
        """Write it; the row itself is not touched."""
        del params
        vm = target.vm
        with ctx.session(vm.hypervisor.endpoint()) as session:
            why_not = write_facts(session, vm)
        return {"kept": False, "reason": why_not} if why_not else {"kept": True}


def describe(vm: VM, *, by: Actor) -> None:
    """Have it written, where the hypervisor keeps definitions. What stands against that now stands against nothing else."""
    if vm.hypervisor.support(Feature.DEFINE)[0] and not vm.hypervisor.out_of_reach:
        with contextlib.suppress(VmmError):
            engine.submit(DescribeVM, target=GuestReading.of(vm), by=by, params=DescribeParams(version=vm.version))
