"""Our own facts inside a domain's `<metadata>`, under our own namespace: flat names and texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lxml import etree

from drivers.errors import InvalidDefinition
from drivers.libvirtd.xml.element import append, parse, remove, to_str

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.libvirtd.xml.domain import Domain

NAMESPACE = "https://vmmanager.invalid/xmlns/1"
PREFIX = "vmmanager"
_ROOT = f"{{{NAMESPACE}}}guest"
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


def read(domain: Domain) -> dict[str, str]:
    """Our facts of this guest; empty where it has none."""
    return facts(domain.node.find("metadata"))


def facts(metadata: etree._Element | None) -> dict[str, str]:
    """Our facts in a `<metadata>`."""
    node = None if metadata is None else metadata.find(_ROOT)
    if node is None:
        return {}
    prefix = f"{{{NAMESPACE}}}"
    return {str(child.tag).removeprefix(prefix): child.text or "" for child in node.iterchildren(tag=f"{prefix}*")}


def write(domain: Domain, own: Mapping[str, str]) -> None:
    """Replace our facts in the document; what others keep in `<metadata>` stays."""
    metadata = domain.node.find("metadata")
    old = None if metadata is None else metadata.find(_ROOT)
    if old is not None:
        remove(old)
    if not own:
        if metadata is not None and not len(metadata):
            remove(metadata)
        return
    if metadata is None:
        metadata = append(domain.node, "metadata")
    metadata.append(_element(own))


def document(facts: Mapping[str, str]) -> str:
    """The element alone, as `virDomainSetMetadata` takes it: libvirt puts the namespace in, and refuses one that is there."""
    node = etree.Element("guest")
    for child in _element(facts):
        etree.SubElement(node, str(child.tag).rpartition("}")[2]).text = child.text
    return to_str(node)


def parse_document(text: str) -> dict[str, str]:
    """What `virDomainGetMetadata` answers. Raises InvalidDefinition."""
    return {str(child.tag).rpartition("}")[2]: child.text or "" for child in parse(text) if isinstance(child.tag, str)}


def _element(facts: Mapping[str, str]) -> etree._Element:
    node = etree.Element(_ROOT, nsmap={PREFIX: NAMESPACE})
    for name, value in sorted(facts.items()):
        if not _NAME.match(name):
            message = f"Not a name for a fact: {name!r}"
            raise InvalidDefinition(message)
        etree.SubElement(node, f"{{{NAMESPACE}}}{name}").text = value
    return node
