"""YAML that anybody may have written: bounded, made into plain values, with the line of every part.

Three passes. The parser's events are counted first (libyaml's parser does not recurse, so depth and size cost nothing). Then the
tree is composed, and weighed with every alias counted as often as it is used: that is what a document of nested aliases grows to.
Only what is light is made into values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import yaml

BYTES_MAX: Final = 256 * 1024
DEPTH_MAX: Final = 40
NODES_MAX: Final = 20_000
"""Values in a document, aliases counted as often as they are used."""
LIST_MAX: Final = 1000
"""Entries of one list: a schema compares those of some lists with each other."""

Path = tuple[str | int, ...]


class Unreadable(ValueError):
    """It is no document that could be used; `line` counts from 1, 0 where it is the whole."""

    def __init__(self, detail: str, line: int = 0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """What was read. `repeated`: keys that stand twice in one mapping, with their lines; the last one counts."""

    value: Any
    root: yaml.Node | None
    repeated: tuple[tuple[Path, int], ...] = ()

    def line(self, path: Path) -> int:
        """Where the part at `path` begins, or as near to it as there is something."""
        node, line = self.root, self.root.start_mark.line + 1 if self.root and self.root.start_mark else 1
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            node, line = found
        return line


def read(text: str) -> Document:
    """Read it. Raises Unreadable. Blocks for a tenth of a second at most, whatever it is."""
    if len(text.encode("utf-8", "surrogatepass")) > BYTES_MAX:
        raise Unreadable(f"It is larger than {BYTES_MAX // 1024} KiB.")
    try:
        _survey(text)
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
        if root is None:
            return Document(None, None)
        _weigh(root, {}, set())
        repeated = tuple(_repeated(root, ()))
        loader = yaml.CSafeLoader("")
        try:
            return Document(loader.construct_document(root), root, repeated)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = " ".join(filter(None, (error.context, error.problem)))
        raise Unreadable(f"No YAML: {words or 'it cannot be read'}.", mark.line + 1 if mark else 0) from None
    except yaml.reader.ReaderError as error:
        raise Unreadable(
            "No YAML: a character that may not be in it.", text.count("\n", 0, error.position) + 1
        ) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"No YAML: {str(error)[:200]}.") from None


def _survey(text: str) -> None:
    """Count events before anything is made of them."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        documents += isinstance(event, yaml.DocumentStartEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        line = event.start_mark.line + 1 if event.start_mark else 0
        if depth > DEPTH_MAX:
            raise Unreadable(f"It is nested deeper than {DEPTH_MAX} levels.", line)
        if nodes > NODES_MAX:
            raise Unreadable(f"It has more than {NODES_MAX:,} values.", line)
        if documents > 1:
            raise Unreadable("It is more than one document.", line)


def _weigh(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """How many values it has, aliases counted as often as they are used. Raises Unreadable."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise Unreadable("An alias stands within what it names.", node.start_mark.line + 1)
    if id(node) not in known:
        above.add(id(node))
        if isinstance(node, yaml.SequenceNode) and len(node.value) > LIST_MAX:
            raise Unreadable(f"A list with more than {LIST_MAX:,} entries.", node.start_mark.line + 1)
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_weigh(part, known, above) for part in parts)
        above.discard(id(node))
        if known[id(node)] > NODES_MAX:
            raise Unreadable(f"Its aliases make it grow beyond {NODES_MAX:,} values.", node.start_mark.line + 1)
    return known[id(node)]


def _repeated(node: yaml.Node, path: Path) -> list[tuple[Path, int]]:
    found: list[tuple[Path, int]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            if name and name != "<<" and name in seen:
                found.append(((*path, name), key.start_mark.line + 1))
            seen.add(name)
            found += _repeated(value, (*path, name))
    elif isinstance(node, yaml.SequenceNode):
        for number, part in enumerate(node.value):
            found += _repeated(part, (*path, number))
    return found


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):
            if isinstance(key, yaml.ScalarNode) and key.value == str(step):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        part = node.value[step]
        return part, part.start_mark.line + 1
    return None
