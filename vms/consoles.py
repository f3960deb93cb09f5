"""Which consoles a guest has, and whether one can be opened now: facts for buttons and for tickets. No query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from accounts import policy
from core.errors import BadInput, VmmError
from drivers.errors import Unreachable, Unsupported, WrongState
from vms.choices import ACTIVE

if TYPE_CHECKING:
    from accounts.actor import Actor
    from vms.models import VM

TYPES: Final = ("serial", "shell", "vnc", "spice")


def console_types(vm: VM) -> list[str]:
    """What this guest's definition offers and its hypervisor can carry, best first for a first look."""
    return [kind for kind in TYPES if kind in vm.consoles and vm.hypervisor.support(f"console.{kind}")[0]]


def check_console(vm: VM, kind: str) -> None:
    """Raises BadInput, Unsupported, Unreachable or WrongState when this console cannot be opened now."""
    if kind not in TYPES:
        raise BadInput(
            f"type is one of {', '.join(TYPES)}.", errors=[{"pointer": "/type", "detail": f"one of {', '.join(TYPES)}"}]
        )
    supported, reason = vm.hypervisor.support(f"console.{kind}")
    if vm.hypervisor.capabilities and not supported:
        raise Unsupported(reason, feature=f"console.{kind}")
    if kind not in vm.consoles:
        raise Unsupported(f"{vm.name} has no {kind} console in its definition.", feature=f"console.{kind}")
    if not vm.hypervisor.online:
        raise Unreachable(f"{vm.hypervisor.host.name} is out of reach.", host=str(vm.hypervisor.host_id))
    if vm.state not in ACTIVE:
        raise WrongState(f"{vm.name} is off: start it first.", state=vm.state)


def console_action(vm: VM, *, by: Actor) -> dict[str, Any]:
    """`{"allowed", "reason"}` like the entries of `vm_actions`, for its best console."""
    found = console_types(vm)
    try:
        policy.require(by, "vm.console", vm)
        if not found and vm.hypervisor.capabilities:
            raise Unsupported(f"{vm.name} has no console in its definition that can be shown here.")
        check_console(vm, found[0] if found else TYPES[0])
    except VmmError as error:
        return {"allowed": False, "reason": error.detail, "code": error.code}
    return {"allowed": True, "reason": ""}
