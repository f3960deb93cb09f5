"""Snapshots in an in-memory world: a tree a guest, each with the whole guest as it was, so that going back really goes back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from drivers.errors import AlreadyExists, InvalidDefinition, NotFound, Unsupported, WrongState
from drivers.snapshots import why_no_name
from drivers.types import GuestEventKind, GuestState, SnapshotInfo

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from drivers.fake.console import FakeConsole
    from drivers.fake.guest import Guest
    from drivers.types import GuestRef

_KEPT = ("definition", "vcpus", "memory_bytes", "max_memory_bytes", "title", "description", "os", "disks", "interfaces")
_ALIVE = (GuestState.RUNNING, GuestState.PAUSED)
_BYTES_OF_A_DISK = 1 << 20


@dataclass(slots=True)
class Kept:
    """One snapshot: what is told of it, and what the guest was."""

    info: SnapshotInfo
    guest: Mapping[str, object]
    marks: frozenset[str]


@dataclass(slots=True)
class Tree:
    """A guest's snapshots by name, and which of them its present state grew from."""

    kept: dict[str, Kept] = field(default_factory=dict)
    current: str = ""

    def infos(self) -> list[SnapshotInfo]:
        """All of them."""
        return [replace(one.info, current=name == self.current) for name, one in self.kept.items()]

    def children(self, name: str) -> list[str]:
        """Those that grew from it at once."""
        return [other for other, one in self.kept.items() if one.info.parent == name]

    def drop(self, name: str, *, children: bool) -> None:
        """Take it out, with all below it or not."""
        parent = self.kept[name].info.parent
        for child in self.children(name):
            if children:
                self.drop(child, children=True)
            else:
                self.kept[child].info = replace(self.kept[child].info, parent=parent)
        del self.kept[name]
        if self.current == name:
            self.current = parent


class SnapshotVerbs:
    """The part of a `FakeWorld` that keeps snapshots. `do_…` is called by sessions, and by `outside` for somebody else."""

    tells_of_snapshots = True
    """False: like libvirt, which tells of going back only."""
    clock: Callable[[], float]
    _changed: threading.Condition
    _guests: dict[str, Guest]

    def snapshots(self, ref: GuestRef) -> list[SnapshotInfo]:
        """Of one guest."""
        with self._changed:
            return self._find(ref).tree.infos()

    def snapshots_of_all(self) -> dict[str, Sequence[SnapshotInfo]]:
        """Of all that have any."""
        with self._changed:
            return {uuid: guest.tree.infos() for uuid, guest in self._guests.items() if guest.tree.kept}

    def do_snapshot_create(self, ref: GuestRef, *, name: str, description: str = "", memory: bool = False) -> None:
        """Keep the guest as it is now; somebody else may give it any name."""
        with self._changed:
            guest = self._find(ref)
            if name in guest.tree.kept:
                raise AlreadyExists(f"{guest.name} has a snapshot {name} already.")
            if guest.state not in (*_ALIVE, GuestState.SHUTOFF):
                raise WrongState(f"{guest.name} is {guest.state.value}.")
            if guest.has_managed_save:
                raise WrongState(f"{guest.name} has saved memory, which a snapshot would not hold.")
            alive = guest.state in _ALIVE
            info = SnapshotInfo(
                name=name,
                description=description,
                parent=guest.tree.current,
                created_at=time.time(),
                state=guest.state if alive and memory else GuestState.SHUTOFF,
                memory=alive and memory,
                disks=tuple(disk.target for disk in guest.disks if not disk.readonly),
                size_bytes=_BYTES_OF_A_DISK * len(guest.disks) + (guest.memory_bytes if alive and memory else 0),
            )
            values = {key: getattr(guest, key) for key in _KEPT}
            guest.tree.kept[name] = Kept(info, values, frozenset(guest.marks))
            guest.tree.current = name
        if self.tells_of_snapshots:
            self._after(guest, GuestEventKind.CHANGED, "snapshot/created", None)

    def do_snapshot_revert(self, ref: GuestRef, *, name: str) -> None:
        """Be what it was then."""
        with self._changed:
            guest = self._find(ref)
            kept = self._kept(guest, name)
            if kept.info.no_revert:
                raise Unsupported(kept.info.no_revert)
            for key, value in kept.guest.items():
                setattr(guest, key, value)
            guest.marks, guest.live = set(kept.marks), None
            guest.state, guest.reason, guest.has_managed_save = kept.info.state, "from_snapshot", False
            guest.started_at = self.clock()
            guest.tree.current = name
            console, guest.console = guest.console, None
        news = "stopped" if kept.info.state is GuestState.SHUTOFF else "started"
        self._after(guest, GuestEventKind.CHANGED, f"{news}/from_snapshot", console)
        self._after(guest, GuestEventKind.DEFINED, "defined/from_snapshot", None)

    def do_snapshot_delete(self, ref: GuestRef, *, name: str, children: bool = False) -> None:
        """Take it away, with all that grew from it or not."""
        with self._changed:
            guest = self._find(ref)
            kept = self._kept(guest, name)
            if kept.info.no_delete:
                raise Unsupported(kept.info.no_delete)
            guest.tree.drop(name, children=children)
        if self.tells_of_snapshots:
            self._after(guest, GuestEventKind.CHANGED, "snapshot/deleted", None)

    def mend_snapshot(self, guest: str, name: str, **values: object) -> None:
        """Make a snapshot look otherwise (`no_revert="…"`, `kind="external"`), as somebody else's tools may leave it."""
        with self._changed:
            kept = next(one for one in self._guests.values() if one.name == guest).tree.kept[name]
            kept.info = replace(kept.info, **values)  # type: ignore[arg-type]  # the fields of SnapshotInfo

    def mark(self, guest: str, mark: str) -> None:
        """Write something on the guest's disk."""
        with self._changed:
            next(one for one in self._guests.values() if one.name == guest).marks.add(mark)

    def marks(self, guest: str) -> set[str]:
        """What stands on the guest's disk."""
        with self._changed:
            return set(next(one for one in self._guests.values() if one.name == guest).marks)

    @staticmethod
    def _kept(guest: Guest, name: str) -> Kept:
        kept = guest.tree.kept.get(name)
        if kept is None:
            raise NotFound(f"{guest.name} has no snapshot {name}.")
        return kept

    def _find(self, ref: GuestRef) -> Guest:
        raise NotImplementedError

    def _after(self, guest: Guest, kind: GuestEventKind, reason: str, console: FakeConsole | None) -> None:
        raise NotImplementedError


def check_name(name: str) -> None:
    """Raises InvalidDefinition for what no driver takes."""
    why = why_no_name(name)
    if why:
        raise InvalidDefinition(why)
