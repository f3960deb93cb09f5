"""What callers may ask of consoles: the one-use ticket that opens one. What a guest has is known in `vms.consoles`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from accounts import policy
from live import tickets
from vms.alternatives import with_alternatives
from vms.consoles import check_console

if TYPE_CHECKING:
    from accounts.actor import Actor
    from live.models import Ticket
    from vms.models import VM

PURPOSE: Final = "console"


def console_ticket(*, vm: VM, kind: str, take_over: bool, by: Actor) -> tuple[str, Ticket]:
    """The secret of a ticket for one connection within 30 s, and its row.

    Raises:
        PermissionRefused, BadInput, Unsupported, Unreachable, WrongState.
    """
    policy.require(by, "vm.console", vm)
    with with_alternatives(vm, by=by):
        check_console(vm, kind)
    return tickets.issue(by, PURPOSE, vm.ref, {"type": kind, "take_over": take_over})
