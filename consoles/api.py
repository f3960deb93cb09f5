"""REST of consoles: the ticket."""

import datetime as dt
import uuid
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import ConfigDict

from accounts.access import access
from consoles.services import console_ticket
from vms.services import vm_get

router = Router(tags=["consoles"])


class ConsoleIn(Schema):
    """Which console, and whether to throw out who holds it."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["serial", "shell", "vnc", "spice"]
    take_over: bool = False


class ConsoleOut(Schema):
    """A ticket: one use, 30 seconds, bound to its caller. Send `protocols` as the socket's subprotocols."""

    url: str
    ticket: str
    protocols: list[str]
    type: str
    expires_at: dt.datetime


@router.post(
    "/vms/{uuid:vm_id}/console", response={201: ConsoleOut}, operation_id="open_console", summary="Open a console"
)
@access("vm.console")
def open_console(request: HttpRequest, vm_id: uuid.UUID, payload: ConsoleIn) -> Any:
    """A ticket for `/ws/console`."""
    by = request.actor  # type: ignore[attr-defined]  # set by ApiAuth
    vm = vm_get(vm_id, by=by)
    secret, ticket = console_ticket(vm=vm, kind=payload.type, take_over=payload.take_over, by=by)
    body = {
        "url": "/ws/console",
        "ticket": secret,
        "protocols": [f"ticket.{secret}", "binary"],
        "type": payload.type,
        "expires_at": ticket.expires_at,
    }
    return Status(201, body)
