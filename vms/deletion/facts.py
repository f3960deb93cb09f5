"""What observations mean for a guest in the bin: used by `vms.inventory` alone, beside `vms.deletion.binned`."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from vms.choices import AWAKE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vms.models import VM

OUT_OF_BIN: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "binned_at": None,
        "binned_by": "",
        "bin_until": None,
        "bin_storage": "",
        "bin_name": "",
        "bin_autostart": False,
    }
)
"""Of a guest that is not in the bin."""


def heed_bin(row: VM, facts: Mapping[str, Any], changes: dict[str, Any]) -> None:
    """What is in the bin is shown under its own name, and comes out by itself when somebody starts it."""
    if facts["state"] in AWAKE:
        changes |= {name: value for name, value in OUT_OF_BIN.items() if getattr(row, name) != value}
    elif changes.get("name") == row.bin_name:
        del changes["name"]
