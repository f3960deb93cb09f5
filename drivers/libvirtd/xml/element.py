"""The mapping engine: an `Element` is a view of one lxml node, its fields read and edit that node in place.

What a class does not declare is never touched: unknown elements, comments, order and namespaces survive any edit.
A path is a chain of child steps with an attribute at its end, `source@file`, `driver/queue@size`, `@type`; a step may carry
conditions, `target[@type='virtio']`, which are written too when the step has to be made.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast, overload

from lxml import etree

from drivers.errors import InvalidDefinition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_BYTES = 2 * 1024 * 1024
"""As large as the largest request body: a definition beyond it is no definition."""

T = TypeVar("T")
E = TypeVar("E", bound="Element")

_STEP = re.compile(r"^(?P<tag>(?:\{[^}]*\})?[\w.:-]+)(?P<conditions>(?:\[@[\w:.-]+='[^']*'\])*)$")
_CONDITION = re.compile(r"\[@([\w:.-]+)='([^']*)'\]")
_SEPARATOR = re.compile(r"/(?![^{]*\})")


def parser() -> etree.XMLParser:
    """A parser that trusts nobody."""
    # No entities, no network, no DTD, no huge trees: a definition comes from people and from hosts, and neither is trusted.
    return etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False, remove_pis=False
    )


def parse(text: str) -> etree._Element:
    """The root of a document. Raises InvalidDefinition for what is no XML, too large, or has a document type."""
    data = text.encode()
    if len(data) > MAX_BYTES:
        message = f"The definition is larger than {MAX_BYTES} bytes."
        raise InvalidDefinition(message)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        message = "A definition may not have a document type or entities."
        raise InvalidDefinition(message)
    try:
        return etree.fromstring(data, parser())
    except etree.XMLSyntaxError as error:
        message = f"This is not well-formed XML: {error.msg}"
        raise InvalidDefinition(message) from error


def to_str(root: etree._Element) -> str:
    """The document as text."""
    return etree.tostring(root, encoding="unicode")


def laid_out(root: etree._Element) -> str:
    """The document as text with a line for each element, for people. Only for one that has no white space of its own."""
    etree.indent(root)
    return to_str(root)


class Path:
    """Where a field lives below its element."""

    __slots__ = ("attribute", "find", "steps")

    def __init__(self, text: str) -> None:
        place, at, attribute = text.rpartition("@")
        if not at or "[" in attribute or "]" in attribute:
            place, attribute = text, ""
        self.find = place.rstrip("/")
        self.attribute = attribute
        self.steps = [self._step(step) for step in _SEPARATOR.split(self.find)] if self.find else []

    @staticmethod
    def _step(text: str) -> tuple[str, str, list[tuple[str, str]]]:
        match = _STEP.match(text)
        if match is None:
            message = f"not a path step: {text!r}"
            raise ValueError(message)
        return text, match["tag"], _CONDITION.findall(match["conditions"])

    def node(self, root: etree._Element) -> etree._Element | None:
        """The node the path leads to, if there is one."""
        node = root
        for step, tag, conditions in self.steps:
            # iterchildren is two to three times as fast as find (measured), and a sweep makes 40 of these a guest.
            child = node.find(step) if conditions else next(node.iterchildren(tag), None)
            if child is None:
                return None
            node = child
        return node

    def nodes(self, root: etree._Element) -> list[etree._Element]:
        """All nodes the path leads to, in document order."""
        nodes = [root]
        for step, tag, conditions in self.steps:
            nodes = [
                child for node in nodes for child in (node.findall(step) if conditions else node.iterchildren(tag))
            ]
        return nodes

    def make(self, root: etree._Element) -> etree._Element:
        """The node the path leads to, made where it is missing."""
        node = root
        for step, tag, conditions in self.steps:
            child = node.find(step)
            if child is None:
                child = append(node, tag)
                for name, value in conditions:
                    child.set(name, value)
            node = child
        return node

    def prune(self, root: etree._Element) -> None:
        """Remove the path's last nodes as long as they say nothing: no attribute, no child, no text."""
        for length in range(len(self.steps), 0, -1):
            node = root.find("/".join(step for step, _tag, _conditions in self.steps[:length]))
            if node is None or node.attrib or len(node) or (node.text or "").strip():
                return
            remove(node)


def append(parent: etree._Element, tag: str) -> etree._Element:
    """A new last child, indented like its siblings."""
    child = etree.SubElement(parent, tag)
    before = child.getprevious()
    if before is not None:
        child.tail, before.tail = before.tail, parent.text
    return child


def remove(node: etree._Element) -> None:
    """Take a node out, with the white space that led to it and not the text that follows it."""
    parent = node.getparent()
    if parent is None:
        return
    before = node.getprevious()
    if node.tail and not node.tail.strip() and before is not None and node.getnext() is None:
        before.tail = node.tail
    elif node.tail and node.tail.strip():
        if before is not None:
            before.tail = (before.tail or "") + node.tail
        else:
            parent.text = (parent.text or "") + node.tail
    parent.remove(node)


def yes_no(text: str) -> bool:
    """Libvirt's booleans."""
    return text in {"yes", "on", "1"}


def _text_of(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


class Field(Generic[T]):
    """A value at a path. Reading what is absent or unreadable gives None; setting None removes it."""

    __slots__ = ("convert", "name", "path")

    def __init__(self, path: str, convert: Callable[[str], T]) -> None:
        self.path = Path(path)
        self.convert: Callable[[str], T] = convert
        self.name = ""

    def __set_name__(self, owner: type[Element], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, element: None, owner: type[Element]) -> Self: ...
    @overload
    def __get__(self, element: Element, owner: type[Element]) -> T | None: ...
    def __get__(self, element: Element | None, owner: type[Element]) -> Self | T | None:
        if element is None:
            return self
        raw = self._read(element.node)
        if raw is None:
            return None
        try:
            return self.convert(raw)
        except ValueError:  # a newer libvirt's word where we expect a number: unknown, not fatal
            return None

    def __set__(self, element: Element, value: T | None) -> None:
        if value is None:
            self._delete(element.node)
        else:
            self._write(element.node, _text_of(value))

    def _read(self, root: etree._Element) -> str | None:
        raise NotImplementedError

    def _write(self, root: etree._Element, text: str) -> None:
        raise NotImplementedError

    def _delete(self, root: etree._Element) -> None:
        raise NotImplementedError


class Attr(Field[T]):
    """An attribute: `Attr("source@file", str)`."""

    __slots__ = ()

    def _read(self, root: etree._Element) -> str | None:
        node = self.path.node(root)
        return None if node is None else node.get(self.path.attribute)

    def _write(self, root: etree._Element, text: str) -> None:
        self.path.make(root).set(self.path.attribute, text)

    def _delete(self, root: etree._Element) -> None:
        node = self.path.node(root)
        if node is not None and node.attrib.pop(self.path.attribute, None) is not None:
            self.path.prune(root)


class Text(Field[T]):
    """An element's text: `Text("name", str)`."""

    __slots__ = ()

    def _read(self, root: etree._Element) -> str | None:
        node = self.path.node(root)
        return None if node is None or node.text is None else node.text

    def _write(self, root: etree._Element, text: str) -> None:
        self.path.make(root).text = text

    def _delete(self, root: etree._Element) -> None:
        node = self.path.node(root)
        if node is not None:
            node.text = None
            if not node.attrib and not len(node):
                remove(node)


_UNITS = {
    "b": 1, "bytes": 1, "KB": 10**3, "k": 2**10, "KiB": 2**10, "MB": 10**6, "M": 2**20, "MiB": 2**20,
    "GB": 10**9, "G": 2**30, "GiB": 2**30, "TB": 10**12, "T": 2**40, "TiB": 2**40,
}  # fmt: skip


def size_of(node: etree._Element | None) -> int | None:
    """The bytes that a node with a unit says; None where it says nothing that can be read."""
    if node is None or node.text is None:
        return None
    factor = _UNITS.get(node.get("unit", "KiB"))
    amount = node.text.strip()
    if factor is None or not amount.isascii() or not amount.isdigit() or len(amount) > 20:
        return None
    return int(amount) * factor


class Size(Text[int]):
    """An amount with its unit beside it (`<memory unit='KiB'>`; KiB without one), as bytes."""

    __slots__ = ()

    def __init__(self, path: str) -> None:
        super().__init__(path, int)

    def _read(self, root: etree._Element) -> str | None:
        size = size_of(self.path.node(root))
        return None if size is None else str(size)

    def _write(self, root: etree._Element, text: str) -> None:
        node = self.path.make(root)
        value = int(text)
        # KiB is what libvirt itself prints; bytes only where they are needed.
        node.set("unit", "b" if value % 1024 else "KiB")
        node.text = str(value if value % 1024 else value // 1024)

    def _delete(self, root: etree._Element) -> None:
        node = self.path.node(root)
        if node is not None:
            node.attrib.pop("unit", None)
        super()._delete(root)


class Flag:
    """Whether an element is there: `Flag("readonly")`."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    @overload
    def __get__(self, element: None, owner: type[Element]) -> Self: ...
    @overload
    def __get__(self, element: Element, owner: type[Element]) -> bool: ...
    def __get__(self, element: Element | None, owner: type[Element]) -> Self | bool:
        return self if element is None else self.path.node(element.node) is not None

    def __set__(self, element: Element, value: bool) -> None:  # noqa: FBT001 - a descriptor's signature
        if value:
            self.path.make(element.node)
        else:
            node = self.path.node(element.node)
            if node is not None:
                remove(node)


class Child(Generic[E]):
    """One nested element: `Child("os", Os)`; None where it is absent."""

    __slots__ = ("kind", "path")

    def __init__(self, path: str, kind: type[E]) -> None:
        self.path = Path(path)
        self.kind: type[E] = kind

    @overload
    def __get__(self, element: None, owner: type[Element]) -> Self: ...
    @overload
    def __get__(self, element: Element, owner: type[Element]) -> E | None: ...
    def __get__(self, element: Element | None, owner: type[Element]) -> Self | E | None:
        if element is None:
            return self
        node = self.path.node(element.node)
        return None if node is None else self.kind(node)

    def __set__(self, element: Element, value: E | None) -> None:
        node = self.path.node(element.node)
        if node is not None:
            remove(node)
        if value is not None:
            place = self.path.make(element.node)
            for name, text in self.path.steps[-1][2]:
                value.node.set(name, text)
            value.node.tail = place.tail
            parent = place.getparent()
            if parent is not None:
                parent.replace(place, value.node)


class Collection(Generic[E]):
    """The elements at a path, in document order: iterate, count, add, remove."""

    __slots__ = ("_kind", "_path", "_root")

    def __init__(self, root: etree._Element, path: Path, kind: type[E]) -> None:
        self._root, self._path, self._kind = root, path, kind

    def __iter__(self) -> Iterator[E]:
        return (self._kind(node) for node in self._path.nodes(self._root))

    def __len__(self) -> int:
        return len(self._path.nodes(self._root))

    def __getitem__(self, index: int) -> E:
        return self._kind(self._path.nodes(self._root)[index])

    def add(self, item: E) -> E:
        """Put `item` after its like, or at the end of where they belong."""
        there = self._path.nodes(self._root)
        if there:
            last = there[-1]
            item.node.tail = last.tail
            last.addnext(item.node)
            return item
        node = self._path.make(self._root)
        parent = node.getparent()
        if parent is not None:
            item.node.tail = node.tail
            parent.replace(node, item.node)
        return item

    def remove(self, item: E) -> None:
        """Take `item` out."""
        remove(item.node)


class Children(Generic[E]):
    """Many nested elements: `Children("devices/disk", Disk)`."""

    __slots__ = ("kind", "path")

    def __init__(self, path: str, kind: type[E]) -> None:
        self.path = Path(path)
        self.kind: type[E] = kind

    @overload
    def __get__(self, element: None, owner: type[Element]) -> Self: ...
    @overload
    def __get__(self, element: Element, owner: type[Element]) -> Collection[E]: ...
    def __get__(self, element: Element | None, owner: type[Element]) -> Self | Collection[E]:
        return self if element is None else Collection(element.node, self.path, self.kind)


class Parts:
    """The first child of each tag of one node, found in one pass. For readings by the thousand: a field walks its path each time."""

    __slots__ = ("_first", "node")

    def __init__(self, node: etree._Element) -> None:
        self.node = node
        self._first: dict[object, etree._Element] = {}
        for child in node.iterchildren():
            self._first.setdefault(child.tag, child)

    def part(self, tag: str) -> etree._Element | None:
        """The child itself."""
        return self._first.get(tag)

    def text(self, tag: str) -> str | None:
        """Its text."""
        child = self._first.get(tag)
        return None if child is None else child.text

    def attr(self, tag: str, name: str) -> str | None:
        """An attribute of it."""
        child = self._first.get(tag)
        return None if child is None else child.get(name)


class Element:
    """A typed view of one node. `Disk()` makes an empty one, `Disk(node)` looks at a given one."""

    tag: ClassVar[str]
    __slots__ = ("node",)

    def __init__(self, node: etree._Element | None = None, **values: Any) -> None:  # Any: each field has its own type
        self.node: etree._Element = etree.Element(self.tag) if node is None else node
        for name, value in values.items():
            setattr(self, name, value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a document. Raises InvalidDefinition, also when its root is another element."""
        node = parse(text)
        if node.tag != cls.tag:
            message = f"This is a <{cast('str', node.tag)}>, not a <{cls.tag}>."
            raise InvalidDefinition(message)
        return cls(node)

    def to_xml(self) -> str:
        """The element as text, with all that was in it and is not ours."""
        return to_str(self.node)
