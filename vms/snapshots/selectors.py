"""Reads of snapshots that pages and REST share: the tree, how a page shows it, and what may be done with each. No query."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from accounts import policy
from core.errors import VmmError
from vms.snapshots.actions import DeleteSnapshot, OneSnapshotAction, RevertSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from accounts.actor import Actor
    from vms.models import VM, Snapshot

_ACTIONS: Final[dict[str, OneSnapshotAction]] = {"revert": RevertSnapshot(), "delete": DeleteSnapshot()}


@dataclass(slots=True, eq=False)
class Node:
    """A snapshot with what grew from it, oldest first."""

    snapshot: Snapshot
    children: list[Node] = field(default_factory=list)

    @property
    def below(self) -> int:
        """How many grew from it, at any depth."""
        count, waiting = 0, list(self.children)
        while waiting:
            node = waiting.pop()
            count += 1
            waiting += node.children
        return count


def tree(rows: Iterable[Snapshot]) -> list[Node]:
    """The roots, oldest first.

    What a hypervisor says may be no tree: an unknown parent makes a root, and so does being one's own ancestor.
    """
    nodes = {row.name: Node(row) for row in sorted(rows, key=_age)}
    roots = []
    for name, node in nodes.items():
        parent = nodes.get(node.snapshot.parent)
        if parent is None or name in _ancestry(nodes, node.snapshot.parent):
            roots.append(node)
        else:
            parent.children.append(node)
    return roots


def _age(row: Snapshot) -> tuple[bool, Any, str]:
    return row.created_at is not None, row.created_at, row.name


def _ancestry(nodes: dict[str, Node], name: str) -> set[str]:
    """It and what it grew from."""
    seen: set[str] = set()
    while name in nodes and name not in seen:
        seen.add(name)
        name = nodes[name].snapshot.parent
    return seen


Token = tuple[Literal["item", "end", "open", "close"], Node | None]


def tokens(roots: Sequence[Node]) -> list[Token]:
    """How a page draws the tree: the line that leads to the present state is straight, and what branched off is set in below its fork.

    A chain of a hundred is so a list, not a hundred lists. `item` … `end` is an element, `open` … `close` a list within one.
    """
    line = _line_to_present(roots)
    found: list[Token] = []
    waiting: list[tuple[str, Node | None]] = [("chain", root) for root in reversed(roots)]
    while waiting:
        kind, node = waiting.pop()
        if kind != "chain" or node is None:
            found.append((kind, node))  # type: ignore[arg-type]  # "chain" aside they are a token's words
            continue
        found.append(("item", node))
        straight = next((child for child in node.children if child in line), None) or next(
            iter(node.children[-1:]), None
        )
        if straight is not None:
            waiting.append(("chain", straight))
        waiting.append(("end", None))
        for child in reversed(node.children):
            if child is not straight:
                waiting += [("close", None), ("chain", child), ("open", None)]
    return found


def _line_to_present(roots: Sequence[Node]) -> set[Node]:
    """The nodes on the way from a root to the current one."""
    above: dict[Node, Node] = {}
    waiting = list(roots)
    present: Node | None = None
    while waiting:
        node = waiting.pop()
        if node.snapshot.current:
            present = node
        for child in node.children:
            above[child] = node
            waiting.append(child)
    line: set[Node] = set()
    while present is not None:
        line.add(present)
        present = above.get(present)
    return line


def snapshot_actions(row: Snapshot, vm: VM, *, by: Actor) -> dict[str, dict[str, Any]]:
    """`{"revert": {"allowed", "reason", "code"}, "delete": …}` for this caller, now. No query."""
    return {name: _allowed(action, row, vm, by) for name, action in _ACTIONS.items()}


def _allowed(action: OneSnapshotAction, row: Snapshot, vm: VM, by: Actor) -> dict[str, Any]:
    try:
        policy.require(by, action.verb, vm)
        action.check_row(vm, row)
    except VmmError as error:
        return {"allowed": False, "reason": error.detail, "code": error.code}
    return {"allowed": True, "reason": "", "code": None}
