"""Settings objects as Hyper-V takes them: instances in CIM-XML, embedded as texts, and the paths by which they name each other."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Value: TypeAlias = "tuple[str, str | list[str]]"
"""CIM's type of it, and the value; a list for an array."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A settings object that is to be."""

    class_name: str
    values: Mapping[str, Value]


def instance(thing: Thing) -> str:
    """As a text in CIM-XML."""
    made = ET.Element("INSTANCE", CLASSNAME=thing.class_name)
    for name, (kind, value) in thing.values.items():
        if isinstance(value, list):
            array = ET.SubElement(ET.SubElement(made, "PROPERTY.ARRAY", NAME=name, TYPE=kind), "VALUE.ARRAY")
            for each in value:
                ET.SubElement(array, "VALUE").text = each
        else:
            ET.SubElement(ET.SubElement(made, "PROPERTY", NAME=name, TYPE=kind), "VALUE").text = value
    return ET.tostring(made, encoding="unicode")


def path_of(host: str, class_name: str, **keys: str) -> str:
    r"""An object's path: `\\HV01\root\virtualization\v2:Class.InstanceID="Microsoft:…\\0"`."""
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in keys.items())
    return f"\\\\{host}\\root\\virtualization\\v2:{class_name}.{told}"


def shown(things: Iterable[Thing]) -> str:
    """For people: each object with its class above, a property a line."""
    parts = []
    for thing in things:
        lines = [
            f"{name} = {'; '.join(value) if isinstance(value, list) else value}"
            for name, (_, value) in thing.values.items()
        ]
        parts.append("\n".join([f"[{thing.class_name}]", *lines]))
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
