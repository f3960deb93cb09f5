"""Reads a definition that somebody wrote and says what is wrong with it, with lines. No libvirt call: the hypervisor decides later."""

from __future__ import annotations

import re
import uuid as uuids
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lxml import etree

from drivers.libvirtd.xml.element import MAX_BYTES, parse, parser
from drivers.libvirtd.xml.schema import FAULTS_MAX, schema
from drivers.types import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

RAW_NAMESPACES: Final = tuple(
    f"http://libvirt.org/schemas/domain/{name}/1.0" for name in ("qemu", "lxc", "xen", "bhyve")
)
"""Namespaces whose elements hand words straight to the hypervisor's program, past all that libvirt checks."""
RAW_REFUSED: Final = "Raw command lines and namespace passthrough are refused in a definition."
_DECLARED = re.compile(r"^\s*<\?xml[^>]*?\bencoding\s*=\s*[\"']([\w.-]+)[\"']")
_DOCUMENT_TYPE = re.compile(r"<!(?:DOCTYPE|ENTITY)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose definition it is to be."""

    name: str
    uuid: str


def check(xml: str, *, identity: Identity | None, schema_decides: bool) -> list[Finding]:
    """All that can be said of it without its hypervisor, in the order of its lines.

    Args:
        xml: Anything.
        identity: The guest it is for, whose name and uuid must stay.
        schema_decides: Whether this machine's schema is no older than the host's: else what it does not know is no fault.
    """
    fault = _unreadable(xml)
    if fault:
        return [fault]
    # A declared encoding was true of the bytes that the text came as; the text is encoded anew.
    data = _DECLARED.sub("<?xml version='1.0' encoding='utf-8'", xml, count=1) if _DECLARED.match(xml) else xml
    reader = parser()
    try:
        document = etree.fromstring(data.encode(), reader)
    except etree.XMLSyntaxError as error:
        return _syntax(error, reader)
    if document.tag != "domain":
        tag = str(document.tag).rpartition("}")[2]
        return [Finding(detail=f"This is a <{tag[:80]}>, not a <domain>.", line=document.sourceline or 1, path="/")]
    found = [*_raw(document), *(_identity(document, identity) if identity else ())]
    found += _by_schema(document, decides=schema_decides)
    return sorted(found, key=lambda one: (one.line or 10**9, not one.fatal))


def _unreadable(xml: str) -> Finding | None:
    """What is not even parsed."""
    try:
        if len(xml) > MAX_BYTES or len(xml.encode()) > MAX_BYTES:
            return Finding(detail=f"A definition has at most {MAX_BYTES // 2**20} MiB.")
    except UnicodeEncodeError:
        return Finding(detail="It has half a character in it, which no text has.")
    if not xml.strip():
        return Finding(detail="There is nothing here.", line=1)
    odd = _DOCUMENT_TYPE.search(xml)
    if odd:
        line = xml.count("\n", 0, odd.start()) + 1
        return Finding(detail="A definition has no document type and no entities.", line=line)
    declared = _DECLARED.match(xml)
    if declared and declared[1].lower() not in ("utf-8", "utf8", "us-ascii", "ascii"):
        return Finding(detail=f"It says that it is {declared[1][:40]}: send UTF-8.", line=1)
    return None


def _syntax(error: etree.XMLSyntaxError, reader: etree.XMLParser) -> list[Finding]:
    """Its faults as XML, one a line: what follows from the first is said, too, for it is often the real place."""
    said: dict[int, str] = {}
    for entry in reader.error_log:
        said.setdefault(entry.line, entry.message.strip())
    if not said:
        said[error.lineno or 1] = str(error.msg)
    lines = sorted(said.items())[:5]
    return [Finding(detail=f"This is not well-formed XML: {text[:300]}.", line=line) for line, text in lines]


def is_raw(node: etree._Element) -> bool:
    """Whether this child of a `<domain>` is one of those elements."""
    return any(str(node.tag).startswith(f"{{{namespace}}}") for namespace in RAW_NAMESPACES)


def _raw(document: etree._Element) -> Iterator[Finding]:
    for node in document.iterchildren("{*}*"):
        if is_raw(node):
            yield Finding(
                detail=RAW_REFUSED, line=node.sourceline or 0, path=f"/domain/{str(node.tag).rpartition('}')[2]}"
            )


def _identity(document: etree._Element, identity: Identity) -> Iterator[Finding]:
    """A changed uuid would make another guest, a changed name is libvirt's error without a line."""
    name, uuid = document.find("name"), document.find("uuid")
    if name is None:
        yield Finding(detail=f"The <name> is missing; this guest's is {identity.name}.", line=1, path="/domain")
    elif (name.text or "") != identity.name:
        detail = f"The name of this guest is {identity.name}. Its definition cannot change that: rename it instead."
        yield Finding(detail=detail, line=name.sourceline or 0, path="/domain/name")
    if uuid is None:
        yield Finding(detail=f"The <uuid> is missing; this guest's is {identity.uuid}.", line=1, path="/domain")
    elif not _same_uuid(uuid.text or "", identity.uuid):
        detail = (
            f"The uuid of this guest is {identity.uuid}, and stays so: under another one it would be another guest."
        )
        yield Finding(detail=detail, line=uuid.sourceline or 0, path="/domain/uuid")


def _same_uuid(one: str, other: str) -> bool:
    try:
        return uuids.UUID(one.strip()) == uuids.UUID(other)
    except ValueError:
        return False


def _by_schema(document: etree._Element, *, decides: bool) -> list[Finding]:
    known = schema()
    if known is None:
        detail = "libvirt's schema is not installed on this machine: what its words mean is checked by the host alone."
        return [Finding(detail=detail, fatal=False)]
    found = known.faults(document)[:FAULTS_MAX]
    if decides:
        return found
    older = "The host's libvirt is newer than the schema here and may know better."
    return [Finding(detail=f"{one.detail} {older}", line=one.line, path=one.path, fatal=False) for one in found]


# -- whether a change is in what a host wrote ------------------------------------------------------------------------------
def holds_change(before: str, wished: str, found: str) -> bool:
    """Whether `found` has all that `wished` adds to `before`, and nothing of what it takes out.

    A host adds to what it is given (addresses, defaults, models), turns units into KiB, and leaves passwords out: so two
    definitions are compared as heaps of facts (this element has this attribute, this text).
    """
    old, new, now = _facts(before), _facts(wished), _facts(found)
    added, removed = new - old, old - new
    if not added and not removed:
        return False
    return not (added - now) and not any(now[fact] > new[fact] for fact in removed)


_SECRETS: Final = frozenset({"passwd", "password"})
_UNITS: Final = {
    "b": 1, "bytes": 1, "KB": 10**3, "k": 2**10, "KiB": 2**10, "MB": 10**6, "M": 2**20, "MiB": 2**20,
    "GB": 10**9, "G": 2**30, "GiB": 2**30, "TB": 10**12, "T": 2**40, "TiB": 2**40,
}  # fmt: skip
_SIZES: Final = frozenset({"memory", "currentMemory", "maxMemory"})


def _facts(xml: str) -> Counter[tuple[str, str]]:
    """Raises InvalidDefinition for what is no XML."""
    heap: Counter[tuple[str, str]] = Counter()
    todo = [(parse(xml), "")]
    while todo:
        node, above = todo.pop()
        place = f"{above}/{node.tag!s}"
        text = (node.text or "").strip()
        attributes = {str(name): str(value) for name, value in node.attrib.items()}
        if node.tag in _SIZES and text.isascii() and text.isdigit() and len(text) < 20:
            text = str(int(text) * _UNITS.get(attributes.pop("unit", "KiB"), 1))
        heap[(place, text)] += 1
        for name, value in attributes.items():
            if name not in _SECRETS:
                heap[(f"{place}@{name}", value)] += 1
        todo += [(child, place) for child in node if isinstance(child.tag, str)]
    return heap
