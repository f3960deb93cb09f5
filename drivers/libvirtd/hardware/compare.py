"""Wished and present devices, side by side."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivers.types import Device


def says(value: object) -> bool:
    """Whether a field says something; what is empty leaves it to the hypervisor."""
    if isinstance(value, bool):
        return True
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(getattr(value, field.name) for field in dataclasses.fields(value))
    return bool(value)


def differing(wished: Device, now: Device) -> set[str]:
    """The fields in which they differ; all of them where they are of different kinds."""
    fields = {field.name for field in dataclasses.fields(wished)}
    if type(wished) is not type(now):
        return fields
    return {name for name in fields if getattr(wished, name) != getattr(now, name)}


def covers(now: Device, wished: Device) -> bool:
    """Whether `now` has all that `wished` says."""
    return all(not says(getattr(wished, name)) for name in differing(wished, now))
