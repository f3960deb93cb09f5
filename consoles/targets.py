"""From a used ticket to an open console of the guest that it names. Runs in threads, never on the server's loop."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounts import audit, policy
from core.errors import Missing
from drivers.pool import the_pool
from vms.models import VM

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actor import Actor
    from drivers.base import Console
    from drivers.types import Endpoint, GuestRef
    from live.callers import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleTarget:
    """Everything needed to open one console: no row is read again."""

    vm: str
    endpoint: Endpoint
    guest: GuestRef
    kind: str
    take_over: bool

    def open(self) -> Console:
        """Connect. Blocks up to the pool's deadline. Raises DriverError."""
        with the_pool().session(self.endpoint, channel="console") as session:
            return session.open_console(self.guest, self.kind, take_over=self.take_over)

    def there(self, actor: Actor) -> bool:
        """Whether the guest is still one of ours that `actor` may see. A query."""
        return _guests(actor).filter(pk=_identity(self.vm)).exists()


def target_of(caller: Caller) -> ConsoleTarget:
    """The console that the caller's ticket is for; writes the audit line. Queries.

    Raises:
        Missing: The guest is gone, or may no longer be seen. PermissionRefused.
    """
    ticket = caller.ticket
    if ticket is None:
        raise Missing("A console is opened with a ticket.")
    vm = _guests(caller.actor).select_related("hypervisor__host").filter(pk=_identity(ticket.object)).first()
    if vm is None:
        raise Missing("This guest is gone.")
    policy.require(caller.actor, "vm.console", vm)
    kind, take_over = str(ticket.params["type"]), bool(ticket.params["take_over"])
    audit.record(caller.actor, "console_opened", object=vm.ref, object_name=vm.name, type=kind, take_over=take_over)
    return ConsoleTarget(
        vm=vm.ref, endpoint=vm.hypervisor.endpoint(), guest=vm.guest_ref, kind=kind, take_over=take_over
    )


def _guests(actor: Actor) -> QuerySet[VM]:
    return policy.visible(actor, VM.objects.filter(gone_at=None))


def _identity(ref: str) -> uuid.UUID:
    return uuid.UUID(ref.partition("/")[2])
