"""Storage of an in-memory world: pools, and volumes whose bytes are really kept, so that a round trip can be compared.

A pool is as large as it was made: what does not fit is `NoSpace`, half written, as on a real disk. Guarded by the world's lock.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from drivers.errors import AlreadyExists, Busy, DriverError, NoSpace, NotFound, WrongState
from drivers.findings import refusing
from drivers.storage import (
    POOL_TYPES,
    check_backing,
    check_extent,
    check_growth,
    check_pool,
    check_volume,
    formats_of,
)
from drivers.types import Holding, HoldingEvent, PoolInfo, PoolSpec, StorageState, VolumeInfo, VolumeSpec

if TYPE_CHECKING:
    import threading
    import uuid as uuids
    from collections.abc import Callable, Iterator

PIECE_BYTES: Final = 64 * 1024
"""What a transfer moves at a time: small, so that a test of a few hundred KiB has several pieces."""
POOL_BYTES: Final = 100 << 30


@dataclass(slots=True, eq=False)
class _Volume:
    """One volume. `content`: what was written, from its start; beyond it lie zeros up to its capacity."""

    spec: VolumeSpec
    path: str
    backing_path: str = ""
    backing_format: str = ""
    content: bytearray = field(default_factory=bytearray)
    holders: int = 0

    @property
    def end(self) -> int:
        """How many bytes a download gives."""
        return max(len(self.content), self.spec.capacity_bytes if self.spec.format == "raw" else 0)

    @property
    def allocated(self) -> int:
        return max(len(self.content), self.spec.allocation_bytes)


@dataclass(slots=True, eq=False)
class _Pool:
    uuid: str
    spec: PoolSpec
    state: StorageState
    capacity_bytes: int
    target: str
    volumes: dict[str, _Volume] = field(default_factory=dict)

    @property
    def free_bytes(self) -> int:
        return self.capacity_bytes - sum(volume.allocated for volume in self.volumes.values())

    def info(self) -> PoolInfo:
        running = self.state in (StorageState.RUNNING, StorageState.DEGRADED)
        spec = self.spec
        return PoolInfo(
            uuid=self.uuid,
            name=spec.name,
            type=spec.type,
            state=self.state,
            capacity_bytes=self.capacity_bytes if running else None,
            allocation_bytes=self.capacity_bytes - self.free_bytes if running else None,
            available_bytes=self.free_bytes if running else None,
            target=self.target,
            source=":".join(
                filter(None, (spec.source_host, spec.source_directory or spec.source_device or spec.source_name))
            ),
            autostart=spec.autostart,
            formats=formats_of(spec.type),
        )


@dataclass(slots=True, eq=False)
class _Break:
    error: DriverError
    after_bytes: int
    times: int


class FakeStorage:
    """A world's storage: the scene and the faults for tests, the verbs for its sessions.

    Args:
        lock: The world's.
        uuid_of: Name → the uuid that a pool of this name has.
        tell: Takes news of pools. Called without the lock.
    """

    def __init__(
        self,
        lock: threading.Condition,
        uuid_of: Callable[[str], uuids.UUID],
        *,
        tell: Callable[[HoldingEvent], None],
    ) -> None:
        self._lock = lock
        self._uuid_of = uuid_of
        self._tell = tell
        self._pools: dict[str, _Pool] = {}
        self._breaks: list[_Break] = []
        self.new_pool_bytes = POOL_BYTES

    # -- the scene -----------------------------------------------------------------------------------------------------
    def add_pool(
        self,
        name: str = "default",
        *,
        type_: str = "dir",
        capacity_bytes: int = POOL_BYTES,
        target: str = "",
        state: StorageState = StorageState.RUNNING,
    ) -> PoolInfo:
        """A pool that somebody else made, of exactly this size."""
        spec = PoolSpec(name=name, type=type_, target=target or f"/pools/{name}")
        with self._lock:
            pool = _Pool(str(self._uuid_of(name)), spec, state, capacity_bytes, spec.target)
            self._pools[name] = pool
            info = pool.info()
        self._say(name, "defined")
        return info

    def set_state(self, name: str, state: StorageState) -> None:
        """A pool's storage fails, or comes back."""
        with self._lock:
            self._pool(name).state = state
        self._say(name, str(state))

    def remove_pool(self, name: str) -> None:
        """Somebody else removes a pool, with what was in it."""
        with self._lock:
            del self._pools[self._pool(name).spec.name]
        self._say(name, "undefined")

    def add_volume(
        self,
        pool: str,
        name: str,
        *,
        content: bytes = b"",
        capacity_bytes: int = 0,
        format_: str = "raw",
        backing: str = "",
    ) -> VolumeInfo:
        """A volume that somebody else made, with this in it."""
        spec = VolumeSpec(name=name, capacity_bytes=capacity_bytes or len(content), format=format_, backing=backing)
        with self._lock:
            place = self._pool(pool)
            place.volumes[name] = self._made(place, spec)
            place.volumes[name].content[:] = content
            return self._info(place, place.volumes[name])

    def remove_volume(self, pool: str, name: str) -> None:
        """Somebody else deletes a volume."""
        with self._lock:
            del self._pool(pool).volumes[name]

    def content(self, pool: str, name: str) -> bytes:
        """What is written in a volume, without the zeros behind it."""
        with self._lock:
            return bytes(self._volume(self._pool(pool), name).content)

    def hold(self, pool: str, name: str, *, held: bool = True) -> None:
        """Somebody else works on the volume (a copy, a wipe): until it is let go, deleting and wiping it is `Busy`."""
        with self._lock:
            self._volume(self._pool(pool), name).holders += 1 if held else -1

    def break_transfers(self, error: DriverError, *, after_bytes: int = 0, times: int = 1) -> None:
        """The next `times` uploads or downloads fail with `error` once they have moved this many bytes or more."""
        with self._lock:
            self._breaks.append(_Break(error, after_bytes, times))

    # -- verbs: pools --------------------------------------------------------------------------------------------------
    def pools(self) -> list[PoolInfo]:
        """All of them."""
        with self._lock:
            return [pool.info() for pool in self._pools.values()]

    def pool(self, name: str) -> PoolInfo:
        """One."""
        with self._lock:
            return self._pool(name).info()

    def pool_create(self, spec: PoolSpec) -> PoolInfo:
        """Made and running, `new_pool_bytes` large."""
        with refusing():
            spec = check_pool(spec)
        target = spec.target or POOL_TYPES[spec.type].target or f"/dev/{spec.source_name}"
        with self._lock:
            if spec.name in self._pools:
                raise AlreadyExists(f"There is a pool called {spec.name} already.")
            twin = next((pool for pool in self._pools.values() if spec.target and pool.target == target), None)
            if twin is not None:
                raise AlreadyExists(f"The pool {twin.spec.name} is made of {target} already.")
            uuid = str(self._uuid_of(spec.name))
            pool = self._pools[spec.name] = _Pool(uuid, spec, StorageState.RUNNING, self.new_pool_bytes, target)
            info = pool.info()
        self._say(spec.name, "started")
        return info

    def pool_start(self, name: str) -> None:
        """Inactive → running."""
        with self._lock:
            pool = self._pool(name)
            if pool.state is StorageState.INACTIVE:
                pool.state = StorageState.RUNNING
        self._say(name, "started")

    def pool_stop(self, name: str) -> None:
        """→ inactive."""
        self.set_state(name, StorageState.INACTIVE)

    def pool_refresh(self, name: str) -> None:
        """Nothing to look for: it is all here."""
        with self._lock:
            self._running(name)
        self._say(name, "refreshed")

    def pool_set_autostart(self, name: str, *, enabled: bool) -> None:
        """Start with the host, or not."""
        with self._lock:
            pool = self._pool(name)
            pool.spec = dataclasses.replace(pool.spec, autostart=enabled)

    def pool_delete(self, name: str) -> None:
        """Forgotten. Its volumes come back with a pool of the same target in no world: they are forgotten too."""
        self.remove_pool(name)

    def _say(self, name: str, reason: str) -> None:
        self._tell(HoldingEvent(kind=Holding.POOL, name=name, reason=reason))

    # -- verbs: volumes ------------------------------------------------------------------------------------------------
    def volumes(self, pool: str) -> list[VolumeInfo]:
        """All of a running pool."""
        with self._lock:
            place = self._running(pool)
            return [self._info(place, volume) for volume in place.volumes.values()]

    def volume(self, pool: str, name: str) -> VolumeInfo:
        """One."""
        with self._lock:
            place = self._running(pool)
            return self._info(place, self._volume(place, name))

    def volume_create(self, pool: str, spec: VolumeSpec) -> VolumeInfo:
        """Empty, or an overlay."""
        with self._lock:
            place = self._running(pool)
            volume = self._new(place, spec)
            if spec.backing:
                backing = self._info(place, self._volume(place, spec.backing))
                with refusing():
                    check_backing(spec, backing)
            place.volumes[spec.name] = volume
            return self._info(place, volume)

    def volume_clone(self, pool: str, spec: VolumeSpec, *, source: str, source_pool: str = "") -> VolumeInfo:
        """With all that is written in `source`."""
        with self._lock:
            place = self._running(pool)
            origin = self._running(source_pool) if source_pool else place
            original = self._volume(origin, source)
            with refusing():
                check_growth(self._info(origin, original), spec.capacity_bytes)
            volume = self._new(place, spec)
            if len(original.content) > place.free_bytes:
                raise _full(pool)
            volume.content[:] = original.content
            place.volumes[spec.name] = volume
            return self._info(place, volume)

    def volume_resize(self, pool: str, name: str, *, capacity_bytes: int) -> None:
        """Grow."""
        with self._lock:
            place = self._running(pool)
            volume = self._volume(place, name)
            with refusing():
                check_growth(self._info(place, volume), capacity_bytes)
            volume.spec = dataclasses.replace(volume.spec, capacity_bytes=capacity_bytes)

    def resize_at(self, path: str, *, capacity_bytes: int) -> None:
        """Grow the volume that lies there, under whoever runs with it."""
        with self._lock:
            for place in self._pools.values():
                for volume in place.volumes.values():
                    if path and volume.path == path:
                        with refusing():
                            check_growth(self._info(place, volume), capacity_bytes)
                        volume.spec = dataclasses.replace(volume.spec, capacity_bytes=capacity_bytes)
                        return
        raise NotFound(f"There is nothing at {path or 'no path'}.")

    def volume_wipe(self, pool: str, name: str) -> None:
        """Zeros where something was."""
        with self._lock:
            volume = self._idle(self._running(pool), name)
            volume.content[:] = bytes(len(volume.content))

    def volume_delete(self, pool: str, name: str) -> None:
        """Gone."""
        with self._lock:
            place = self._running(pool)
            self._idle(place, name)
            del place.volumes[name]

    # -- verbs: transfers, outside the lock but for each piece ------------------------------------------------------------
    def upload(
        self,
        pool: str,
        name: str,
        read: Callable[[int], bytes],
        *,
        length: int,
        offset: int,
        alive: Callable[[], None],
    ) -> None:
        """Write what `read` gives. `alive` is asked before each piece and raises when the connection is gone."""
        with self._lock:
            place = self._running(pool)
            volume = self._volume(place, name)
            with refusing():
                check_extent(self._info(place, volume), offset=offset, length=length)
        moved = 0
        while moved < length and (piece := read(min(PIECE_BYTES, length - moved))):
            alive()
            with self._lock:
                self._snap(moved)
                self._write(place, volume, offset + moved, piece)
            moved += len(piece)
        with self._lock:
            self._volume(self._running(pool), name)  # who deletes it meanwhile is not stopped, as in libvirt

    def download(
        self,
        pool: str,
        name: str,
        write: Callable[[bytes], None],
        *,
        length: int,
        offset: int,
        alive: Callable[[], None],
    ) -> None:
        """Hand it out: what is written, and for a raw volume the zeros up to its capacity."""
        with self._lock:
            volume = self._volume(self._running(pool), name)
            end = volume.end
        for start, size in _pieces(offset, min(end, offset + length) if length else end):
            alive()
            with self._lock:
                self._snap(start - offset)
                piece = bytes(volume.content[start : start + size])
            write(piece.ljust(size, b"\0"))

    # -- within the lock -------------------------------------------------------------------------------------------------
    def _pool(self, name: str) -> _Pool:
        pool = self._pools.get(name)
        if pool is None:
            raise NotFound(f"There is no storage pool {name}.", pool=name)
        return pool

    def _running(self, name: str) -> _Pool:
        pool = self._pool(name)
        if pool.state not in (StorageState.RUNNING, StorageState.DEGRADED):
            raise WrongState(f"The storage pool {name} is not running.", pool=name)
        return pool

    @staticmethod
    def _volume(pool: _Pool, name: str) -> _Volume:
        volume = pool.volumes.get(name)
        if volume is None:
            raise NotFound(f"There is no volume {name} in {pool.spec.name}.", pool=pool.spec.name, volume=name)
        return volume

    def _idle(self, pool: _Pool, name: str) -> _Volume:
        volume = self._volume(pool, name)
        if volume.holders:
            raise Busy(f"The volume {name} is in use.", pool=pool.spec.name, volume=name)
        return volume

    def _new(self, pool: _Pool, spec: VolumeSpec) -> _Volume:
        with refusing():
            check_volume(spec, type_=pool.spec.type)
        if spec.name in pool.volumes:
            raise AlreadyExists(f"There is a volume {spec.name} already.", pool=pool.spec.name, volume=spec.name)
        if spec.allocation_bytes > pool.free_bytes:
            raise _full(pool.spec.name)
        return self._made(pool, spec)

    def _made(self, pool: _Pool, spec: VolumeSpec) -> _Volume:
        volume = _Volume(spec, f"{pool.target}/{spec.name}")
        if spec.backing:
            backing = self._volume(pool, spec.backing)
            volume.backing_path, volume.backing_format = backing.path, backing.spec.format
        return volume

    @staticmethod
    def _info(pool: _Pool, volume: _Volume) -> VolumeInfo:
        return VolumeInfo(
            name=volume.spec.name,
            pool=pool.spec.name,
            path=volume.path,
            kind="file" if pool.spec.type in ("dir", "fs", "netfs") else "block",
            format=volume.spec.format,
            capacity_bytes=volume.spec.capacity_bytes,
            allocation_bytes=volume.allocated,
            backing=volume.backing_path,
            backing_format=volume.backing_format,
            physical_bytes=volume.end,
        )

    @staticmethod
    def _write(pool: _Pool, volume: _Volume, at: int, piece: bytes) -> None:
        more = at + len(piece) - volume.allocated
        if more > pool.free_bytes:
            raise _full(pool.spec.name)
        if at > len(volume.content):
            volume.content.extend(bytes(at - len(volume.content)))
        volume.content[at : at + len(piece)] = piece

    def _snap(self, moved: int) -> None:
        for fault in self._breaks:
            if moved >= fault.after_bytes:
                fault.times -= 1
                if fault.times <= 0:
                    self._breaks.remove(fault)
                raise type(fault.error)(fault.error.detail, **fault.error.context)


def _full(pool: str) -> NoSpace:
    return NoSpace(f"There is no space left in {pool}.", pool=pool)


def _pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        size = min(PIECE_BYTES, end - start)
        yield start, size
        start += size
