"""What is offered for many guests: asked once for all that agree in the columns by which it is decided.

A list has a hundred guests of a handful of kinds, and to ask eleven actions of each was a third of a row. So a stand-in is asked for
each kind, and where the reason of a refusal names it, the guest's own name is put in.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from vms.models import VM

DECIDING: Final = (
    "hypervisor_id",
    "state",
    "persistent",
    "has_managed_save",
    "protected",
    "binned_at",
    "bin_name",
    "bin_autostart",
    "consoles",
)
"""All columns that a check looks at, save those that only stand in its reason: id and name. `tests/web/test_alike.py` watches."""
_NAME: Final = "\0name\0"

Asked = dict[str, dict[str, Any]]


class Offers:
    """For one caller and one answer.

    Args:
        ask: As `services.vm_actions`: names to `{"allowed": …, "reason": …}`, by a guest.
    """

    def __init__(self, ask: Callable[[VM], Asked]) -> None:
        self._ask = ask
        self._kinds: dict[tuple[Any, ...], Asked] = {}

    def of(self, vm: VM) -> Asked:
        """What `ask` would say of this guest. To be read only: guests of a kind share it."""
        *columns, consoles = map(vm.__dict__.__getitem__, DECIDING)
        kind = (*columns, *consoles)
        if kind not in self._kinds:
            stand_in = copy.copy(vm)
            stand_in.name = _NAME
            self._kinds[kind] = self._ask(stand_in)
        return {name: _named(one, vm) for name, one in self._kinds[kind].items()}


def _named(one: dict[str, Any], vm: VM) -> dict[str, Any]:
    reason = one["reason"]
    return {**one, "reason": reason.replace(_NAME, vm.name)} if _NAME in reason else one
