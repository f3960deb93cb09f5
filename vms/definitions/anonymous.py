"""A definition without what names the one guest that it was of: for people, beside the template that was made of it."""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree as ET

OWN: Final = (
    "name", "uuid", "genid", "title", "description", "metadata", "seclabel", "os/nvram", "devices/interface/mac", "devices/disk/source",
    "devices/disk/serial",
)  # fmt: skip


def anonymous(xml: str) -> str:
    """What is left of it; "" for what is no XML, or has a document type."""
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        return ""
    try:
        root = ET.fromstring(xml)  # noqa: S314 - without a document type there are no entities to be expanded
    except ET.ParseError:
        return ""
    for path in OWN:
        above, _slash, tag = path.rpartition("/")
        for parent in root.findall(above) if above else [root]:
            for node in parent.findall(tag):
                parent.remove(node)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")
