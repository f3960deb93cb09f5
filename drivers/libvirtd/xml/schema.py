"""libvirt's own schema of a definition (RelaxNG), as far as this machine has it, and where a document breaks it.

What libxml2 says of a broken interleave is hardly ever the place: "Extra element devices in interleave", line 0 (measured, for a wrong
attribute of one disk). Whether a document is valid it says in a millisecond. So the place is found by trying: what can be taken
out so that the rest is valid holds the fault; inside of it, the same again.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lxml import etree

from drivers.types import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIRECTORY: Final = Path("/usr/share/libvirt/schemas")
SECONDS: Final = 1.5
"""How long the place of faults is looked for. A hostile document gets a coarser answer, not more time."""
FAULTS_MAX: Final = 20
_RNG: Final = "{http://relaxng.org/ns/structure/1.0}"
_VALUE: Final = frozenset({"RELAXNG_ERR_TYPEVAL", "RELAXNG_ERR_DATATYPE", "RELAXNG_ERR_VALUE"})


@dataclass(frozen=True, slots=True)
class Words:
    """Every name that elements and attributes have in the schema."""

    elements: frozenset[str]
    attributes: frozenset[str]


class Schema:
    """The schema, and its words. Any thread may use it."""

    def __init__(self, root: Path) -> None:
        self._grammar = etree.RelaxNG(etree.parse(str(root)))
        self._lock = threading.Lock()
        self.words = _words(root.parent)

    def holds(self, document: etree._Element) -> bool:
        """Whether the document is valid."""
        with self._lock:
            return self._grammar.validate(document)

    def value_error(self, document: etree._Element, element: etree._Element) -> bool:
        """Whether it is what stands in `element` that is refused."""
        path = element.getroottree().getpath(element)
        with self._lock:
            self._grammar.validate(document)
            return any(entry.type_name in _VALUE and entry.path == path for entry in self._grammar.error_log)

    def named(self, document: etree._Element) -> list[str]:
        """The elements that libxml2 names as extra, in its order."""
        with self._lock:
            self._grammar.validate(document)
            log = [entry.message for entry in self._grammar.error_log]
        return [words[2] for words in (line.split() for line in log) if words[:2] == ["Extra", "element"]]

    def faults(self, document: etree._Element) -> list[Finding]:
        """Each fault with its place; empty for a valid document. The document is the same again afterwards."""
        return [] if self.holds(document) else _Search(self, document).all()


@functools.cache
def schema() -> Schema | None:
    """This machine's schema of domains; None where libvirt's files are not installed, or are not whole."""
    root = DIRECTORY / "domain.rng"
    try:
        return Schema(root) if root.is_file() else None
    except (etree.XMLSyntaxError, etree.RelaxNGError, OSError):
        return None


def _words(directory: Path) -> Words:
    elements: set[str] = set()
    attributes: set[str] = set()
    for path in directory.glob("*.rng"):
        root = etree.parse(str(path)).getroot()
        elements.update(node.get("name", "") for node in root.iter(f"{_RNG}element"))
        attributes.update(node.get("name", "") for node in root.iter(f"{_RNG}attribute"))
    return Words(frozenset(elements - {""}), frozenset(attributes - {""}))


@dataclass(frozen=True, slots=True)
class _Fault:
    """Its place is told when the document is whole again: until then it has another number among its like."""

    element: etree._Element
    detail: str


class _Search:
    """One search for the places, within its time."""

    def __init__(self, schema_: Schema, document: etree._Element) -> None:
        self._schema, self._document = schema_, document
        self._until = time.monotonic() + SECONDS
        self._too_many: list[etree._Element] = []

    def all(self) -> list[Finding]:
        faults = self._inside(self._document)
        path = self._document.getroottree().getpath
        found = [Finding(detail=one.detail, line=one.element.sourceline or 0, path=path(one.element)) for one in faults]
        return sorted(found, key=lambda one: one.line)[:FAULTS_MAX]

    def _in_time(self) -> bool:
        return time.monotonic() < self._until

    def _inside(self, element: etree._Element) -> list[_Fault]:
        """The faults of `element`, given that all is well around it."""
        if element in self._too_many:
            return [_Fault(element, f"<{_tag(element)}> stands here once too often.")]
        for name in list(element.attrib):
            if self._in_time() and self._valid_without_attribute(element, name):
                return [_Fault(element, self._of_attribute(element, str(name)))]
        culprits, more = self._culprits(element)
        if not culprits:
            return [self._deeper(element) or _Fault(element, self._of_element(element))]
        found: list[_Fault] = []
        for culprit in culprits:
            # The others stay out while one is looked at: what is wrong then is wrong with this one.
            with _out([*(other for other in culprits if other is not culprit), *more]):
                if len(found) < FAULTS_MAX and not self._schema.holds(self._document):
                    found += self._inside(culprit)
        return found or [_Fault(element, f"What stands in <{_tag(element)}> does not go together.")]

    def _deeper(self, element: etree._Element) -> _Fault | None:
        """An attribute of something inside, where nothing of it may be left out (`<target bus=…>` of a disk)."""
        for node in element.iterdescendants(etree.Element):
            for name in list(node.attrib):
                if not self._in_time():
                    return None
                if self._valid_without_attribute(node, name):
                    return _Fault(node, self._of_attribute(node, str(name)))
        return None

    def _culprits(self, element: etree._Element) -> tuple[list[etree._Element], list[etree._Element]]:
        """Children with whom out the document is valid: those to look into, and those that nobody has the time to look into.

        None where taking out does not help.
        """
        children = [child for child in element if isinstance(child.tag, str)]
        single = [child for child in children if self._in_time() and self._valid_without(child)]
        if single:
            if len(single) > 1 and single[-1].tag == single[-2].tag:
                self._too_many.append(single[-1])  # either will do, and the later one is too many
            return single[-1:], []
        found = self._each_by_itself(element, children)
        return found if found[0] else (self._as_named(element), [])

    def _each_by_itself(
        self, element: etree._Element, children: list[etree._Element]
    ) -> tuple[list[etree._Element], list[etree._Element]]:
        """Where none of the children has to be there (`<devices>`): those that are wrong alone."""
        wrong: list[etree._Element] = []
        with _out(children):
            if not self._schema.holds(self._document):
                return [], []
            for number, child in enumerate(children):
                if not self._in_time() or len(wrong) >= FAULTS_MAX:
                    return wrong, children[number:]
                element.append(child)
                if not self._schema.holds(self._document):
                    wrong.append(child)
                element.remove(child)
        return wrong, []

    def _as_named(self, element: etree._Element) -> list[etree._Element]:
        """Children out one after the other as libxml2 names them, until the rest is valid."""
        out: list[etree._Element] = []
        while self._in_time() and len(out) < FAULTS_MAX:
            with _out(out):
                if self._schema.holds(self._document):
                    return out
                names = self._schema.named(self._document)
                unknown = [child for child in element if self._unknown(child)]
                suspects = unknown or [child for name in names for child in element.iterchildren(name)]
            if not suspects:
                return []
            out.append(suspects[-1])
        return []

    def _unknown(self, child: etree._Element) -> bool:
        return isinstance(child.tag, str) and child.tag not in self._schema.words.elements and "{" not in child.tag

    def _valid_without(self, node: etree._Element) -> bool:
        with _out([node]):
            return self._schema.holds(self._document)

    def _valid_without_attribute(self, element: etree._Element, name: str | bytes) -> bool:
        kept = list(element.attrib.items())
        del element.attrib[name]
        valid = self._schema.holds(self._document)
        element.attrib.clear()  # and all of them again, in their order
        element.attrib.update(kept)
        return valid

    # -- in words ---------------------------------------------------------------------------------------------------------
    def _of_attribute(self, element: etree._Element, name: str) -> str:
        words = self._schema.words.attributes
        if name not in words and "{" not in name:
            return f"There is no attribute {name} in a definition.{_meant(name, words, '{}')}"
        value = element.get(name, "")
        return f"<{_tag(element)}> takes no {name}, or not with this value: {value[:80]!r}."

    def _of_element(self, element: etree._Element) -> str:
        tag, words = _tag(element), self._schema.words.elements
        if self._unknown(element):
            return f"There is no <{tag}> in a definition.{_meant(tag, words, '<{}>')}"
        text = (element.text or "").strip()
        if text and not len(element):
            odd = not element.attrib or self._schema.value_error(self._document, element)
            rest = "or does not belong here." if odd else "does not belong here, or has a wrong attribute."
            return f"<{tag}> cannot be {text[:80]!r}, {rest}"
        if element is self._document:
            return f"<{tag}> lacks something, or has a value that libvirt does not know."
        return f"<{tag}> does not belong here, lacks something, or has a value that libvirt does not know."


@contextlib.contextmanager
def _out(nodes: Iterable[etree._Element]) -> Iterator[None]:
    """While it lasts, these elements are not in their document; their order is the same again afterwards."""
    parents = {node.getparent() for node in nodes}
    kept = [(parent, list(parent)) for parent in parents if parent is not None]
    gone = set(nodes)
    for parent, children in kept:
        parent[:] = [child for child in children if child not in gone]
    try:
        yield
    finally:
        for parent, children in kept:
            parent[:] = children


def _tag(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _meant(name: str, words: frozenset[str], form: str) -> str:
    near = difflib.get_close_matches(name[:40], words, n=1, cutoff=0.7)
    return f" Did you mean {form.format(near[0])}?" if near else ""
