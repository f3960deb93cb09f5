"""What is only looked at: a guest under its own name, so that a look neither waits for a change of the guest nor holds one up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from operations.actions import READING

if TYPE_CHECKING:
    import uuid

    from vms.models import VM


@dataclass(frozen=True, slots=True)
class GuestReading:
    """A guest that is only looked at. Two equal looks at once are one: the second request joins the first one's operation."""

    pk: uuid.UUID
    name: str
    vm: VM

    @classmethod
    def of(cls, vm: VM) -> GuestReading:
        """A look at `vm`."""
        return cls(vm.pk, vm.name, vm)

    @property
    def ref(self) -> str:
        """`reading/<id>`."""
        return f"{READING}{self.pk}"


def reading_key(operation_id: uuid.UUID) -> str:
    """Where the cache holds what an operation read."""
    return f"reading:{operation_id}"
