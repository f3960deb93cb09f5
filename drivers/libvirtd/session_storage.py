"""The facet of a session that speaks of storage: pools, volumes, and their bytes.

libvirt has no bulk call for volumes: listing them is one call for their names and one each for the rest (0.2 ms on this machine, a
round trip elsewhere). Pools have bulk calls for their names and marks, and two more each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import libvirt

from drivers.errors import DriverError, InvalidDefinition, NotFound, Timeout, Unreachable, Unsupported
from drivers.findings import refusing
from drivers.libvirtd.errors import driver_error, translate
from drivers.libvirtd.facet import Facet
from drivers.libvirtd.transfers import KEEPALIVE, Transfer
from drivers.libvirtd.xml.storage import SourceDevice, SourceHost, StoragePool, StorageVolume
from drivers.storage import (
    POOL_TYPES,
    check_backing,
    check_extent,
    check_growth,
    check_pool,
    check_volume,
    formats_of,
)
from drivers.types import Feature, PoolInfo, StorageState, VolumeInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drivers.libvirtd.patience import Patience
    from drivers.types import PoolSpec, VolumeSpec

LIST_SECONDS = 10.0
"""A listing takes milliseconds; one that takes longer waits for a pool whose storage hangs."""
LOOK_SECONDS = 8.0
"""For the pools one by one, once the listing hangs: three calls each, and each may take 2 s then (see `_line`)."""

_STATES: Final = {
    libvirt.VIR_STORAGE_POOL_INACTIVE: StorageState.INACTIVE,
    libvirt.VIR_STORAGE_POOL_BUILDING: StorageState.BUILDING,
    libvirt.VIR_STORAGE_POOL_RUNNING: StorageState.RUNNING,
    libvirt.VIR_STORAGE_POOL_DEGRADED: StorageState.DEGRADED,
    libvirt.VIR_STORAGE_POOL_INACCESSIBLE: StorageState.INACCESSIBLE,
}
_BUILT_WITH_CARE: Final = frozenset({"fs", "logical", "disk"})
"""Building these writes onto a device; libvirt looks first whether something is there. The others refuse the flag (measured: dir)."""
_BUILT_FROM_DEVICES: Final = frozenset({"logical", "zfs"})
_AUTHENTICATIONS: Final = {"iscsi": "chap", "rbd": "ceph"}
_FILES: Final = frozenset({"file", "network", "dir"})
_NO_BYTES = "A simulated volume has no bytes: it cannot be uploaded, downloaded, resized or wiped."


class StorageFacet(Facet):
    """Storage over the session's connection."""

    _patience: Patience
    _pools_seen: Sequence[PoolInfo]

    # -- pools ---------------------------------------------------------------------------------------------------------------
    def pools(self) -> Sequence[PoolInfo]:
        """All pools: three bulk calls, then two calls a pool.

        One pool whose storage hangs while it is refreshed holds libvirt's listing up. Then each pool that was seen before is
        asked by itself, and those that do not answer are `inaccessible`. Raises Timeout where none was seen before.
        """
        self._require(Feature.STORAGE_POOLS)
        with translate():
            connection = self._connection
            known = self._pools_seen
            if known and self._patience.waits("pools"):
                return self._pools_one_by_one(connection, known)
            try:
                found = self._patience.ask("pools", partial(_pools, connection), seconds=LIST_SECONDS)
            except TimeoutError:
                return self._pools_one_by_one(connection, known)
        self._pools_seen = found
        return found

    def _pools_one_by_one(self, connection: libvirt.virConnect, known: Sequence[PoolInfo]) -> list[PoolInfo]:
        if not known:
            raise Timeout(
                "The storage of one of this host's pools hangs, and libvirt lists none of them until it answers."
            )
        deadline = time.monotonic() + LOOK_SECONDS
        answers = [
            (info, self._patience.begin(f"pool {info.name}", partial(_again, connection, info))) for info in known
        ]
        found = []
        for info, answer in answers:
            try:
                found.append(answer.result(max(0.0, deadline - time.monotonic())))
            except TimeoutError:
                found.append(_inaccessible(info))
            except libvirt.libvirtError as error:
                if not isinstance(driver_error(error), NotFound):
                    raise
        return found

    def pool(self, name: str) -> PoolInfo:
        """One pool, read now: five short calls."""
        with self._at(pool=name):
            return _pool(self._pool(name))

    def pool_create(self, spec: PoolSpec) -> PoolInfo:
        """Define, build where asked, start, autostart; undone when a later step fails.

        What a build made (a directory, a file system) stays. What holds data is never built over.
        """
        with refusing():
            spec = check_pool(spec)
        with self._line(pool=spec.name) as line:
            pool = line.storagePoolDefineXML(_pool_document(spec).to_xml(), 0)
            try:
                _build(pool, spec)
                pool.create(0)
                if spec.autostart:
                    pool.setAutostart(1)
                return _pool(pool)
            except BaseException:
                with contextlib.suppress(libvirt.libvirtError):
                    if pool.isActive():
                        pool.destroy()
                    pool.undefine()
                raise

    def pool_start(self, name: str) -> None:
        """Start it, which reads what is in it."""
        with self._line(pool=name) as line:
            pool = line.storagePoolLookupByName(name)
            if not pool.isActive():
                pool.create(0)

    def pool_stop(self, name: str) -> None:
        """Stop it; an export or a device is unmounted."""
        with self._at(pool=name):
            pool = self._pool(name)
            if pool.isActive():
                pool.destroy()

    def pool_refresh(self, name: str) -> None:
        """Look again at what is in it: takes as long as its storage does."""
        with self._line(pool=name) as line:
            line.storagePoolLookupByName(name).refresh(0)

    def pool_set_autostart(self, name: str, *, enabled: bool) -> None:
        """Start with the host, or not."""
        with self._at(pool=name):
            self._pool(name).setAutostart(int(enabled))

    def pool_delete(self, name: str) -> None:
        """Stop and undefine it. Nothing in it is touched: libvirt's own `delete` would remove the directory, and is never called."""
        with self._at(pool=name):
            pool = self._pool(name)
            persistent = pool.isPersistent()
            if pool.isActive():
                pool.destroy()
            if persistent:
                pool.undefine()

    # -- volumes -------------------------------------------------------------------------------------------------------------
    def volumes(self, pool: str) -> Sequence[VolumeInfo]:
        """All volumes: one call for their names, one each for the rest. Raises Timeout when the pool's storage hangs."""
        with self._at(pool=pool):
            connection = self._connection
            try:
                listed = self._patience.ask(
                    f"volumes {pool}",
                    lambda: connection.storagePoolLookupByName(pool).listAllVolumes(0),
                    seconds=LIST_SECONDS,
                )
            except TimeoutError:
                raise Timeout(f"The storage of {pool} hangs: it does not say what is in it.", pool=pool) from None
            return [info for info in (_volume_or_none(pool, volume) for volume in listed) if info is not None]

    def volume(self, pool: str, name: str) -> VolumeInfo:
        """One volume, read now: three short calls."""
        with self._at(pool=pool, volume=name):
            return _volume(pool, self._volume(pool, name))

    def volume_create(self, pool: str, spec: VolumeSpec) -> VolumeInfo:
        """An empty volume, or an overlay. libvirt takes away what it could not finish (measured: full pool)."""
        with self._line(pool=pool, volume=spec.name) as line:
            place = line.storagePoolLookupByName(pool)
            document = _volume_document(place, spec)
            if spec.backing:
                backing = _volume(pool, place.storageVolLookupByName(spec.backing))
                with refusing():
                    check_backing(spec, backing)
                document.backing, document.backing_format = backing.path, backing.format
            reserved = spec.format == "qcow2" and spec.allocation_bytes
            flags = libvirt.VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA if reserved else 0
            return _volume(pool, place.createXML(document.to_xml(), flags))

    def volume_clone(self, pool: str, spec: VolumeSpec, *, source: str, source_pool: str = "") -> VolumeInfo:
        """A full copy, without what lay under `source`; then grown where more is asked for.

        libvirt copies a qcow2 volume at its own capacity, whatever is asked for (measured).
        """
        with self._line(pool=pool, volume=spec.name) as line:
            place = line.storagePoolLookupByName(pool)
            origin = line.storagePoolLookupByName(source_pool) if source_pool else place
            original = origin.storageVolLookupByName(source)
            with refusing():
                check_growth(_volume(source_pool or pool, original), spec.capacity_bytes)
            made = place.createXMLFrom(_volume_document(place, spec).to_xml(), original, 0)
            try:
                if made.info()[1] < spec.capacity_bytes:
                    made.resize(spec.capacity_bytes, 0)
                return _volume(pool, made)
            except BaseException:
                with contextlib.suppress(libvirt.libvirtError):
                    made.delete(0)
                raise

    def volume_resize(self, pool: str, name: str, *, capacity_bytes: int) -> None:
        """Grow it. libvirt would let a raw volume shrink down to what is allocated: refused here."""
        self._require_bytes()
        with self._at(pool=pool, volume=name):
            volume = self._volume(pool, name)
            info = _volume(pool, volume)
            with refusing():
                check_growth(info, capacity_bytes)
            if capacity_bytes != info.capacity_bytes:
                volume.resize(capacity_bytes, 0)

    def volume_wipe(self, pool: str, name: str) -> None:
        """Zeros over all of it: as long as writing it takes. A qcow2 volume is a volume of zeros afterwards, and no image."""
        self._require_bytes()
        with self._line(pool=pool, volume=name) as line:
            line.storagePoolLookupByName(pool).storageVolLookupByName(name).wipe(0)

    def volume_delete(self, pool: str, name: str) -> None:
        """Delete it. libvirt knows of its own jobs on it alone, not of guests and not of overlays."""
        with self._at(pool=pool, volume=name):
            self._volume(pool, name).delete(0)

    # -- bytes ---------------------------------------------------------------------------------------------------------------
    def volume_upload(
        self, pool: str, name: str, read: Callable[[int], bytes], *, length: int, offset: int = 0
    ) -> None:
        """Write into it, on a connection of its own. libvirt refreshes the pool afterwards, in its own time."""
        self._require_bytes()
        with self._transfer(pool, name) as (transfer, info):
            with refusing():
                check_extent(info, offset=offset, length=length)
            if length:
                transfer.upload(read, offset=offset, length=length)

    def volume_download(
        self, pool: str, name: str, write: Callable[[bytes], None], *, offset: int = 0, length: int = 0
    ) -> None:
        """Read it, on a connection of its own. A file in another format than raw comes as the file that it is."""
        self._require_bytes()
        with self._transfer(pool, name) as (transfer, info):
            end = info.capacity_bytes if info.format == "raw" else info.physical_bytes
            if not end:
                transfer.download(write, offset=offset, length=length)
            elif offset < end:
                there = end - offset
                transfer.download(write, offset=offset, length=min(length, there) if length else there, all_of_it=True)

    @contextlib.contextmanager
    def _transfer(self, pool: str, name: str) -> Iterator[tuple[Transfer, VolumeInfo]]:
        with self._line(pool=pool, volume=name) as line:
            transfer = Transfer(line, pool, name)
            yield transfer, _volume(pool, transfer.volume)

    # -- pieces --------------------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def _at(self, **context: str) -> Iterator[None]:
        self._require(Feature.STORAGE_POOLS)
        with translate(**context):
            yield

    @contextlib.contextmanager
    def _line(self, **context: str) -> Iterator[libvirt.virConnect]:
        """A connection of its own for what takes long, or may hang with its storage.

        libvirt's client loses wake-ups: while one call waits on a connection, every second of those that follow each other
        closely waits too, for the next tick of the keepalive (measured on 9.0: 2 s). So what waits does it where nobody else is.
        That this connection broke says nothing of the session's: it is `Timeout` then, not `Unreachable`.
        """
        self._require(Feature.STORAGE_POOLS)
        shared = self._connection
        if not self._driver.is_real:  # each open of the test driver is a world of its own
            with translate(**context):
                yield shared
            return
        try:
            line = self._driver.dial(self.endpoint)
        except Unreachable as error:
            raise self._only_this(error) from error
        try:
            line.setKeepAlive(*KEEPALIVE)
            yield line
        except libvirt.libvirtError as error:
            why = driver_error(error, **context)
            raise self._only_this(why) if isinstance(why, Unreachable) else why from error
        finally:
            with contextlib.suppress(libvirt.libvirtError, SystemError):
                line.close()

    def _only_this(self, error: Unreachable) -> DriverError:
        if not self.alive():
            return error
        return Timeout(
            "The connection for this broke off, while the host itself still answers: its storage may hang. Try again later.",
            **error.context,
        )

    def _require_bytes(self) -> None:
        self._require(Feature.STORAGE_POOLS)
        if not self._driver.is_real:
            raise Unsupported(_NO_BYTES, feature=str(Feature.STORAGE_POOLS))

    def _pool(self, name: str) -> libvirt.virStoragePool:
        return self._connection.storagePoolLookupByName(name)

    def _volume(self, pool: str, name: str) -> libvirt.virStorageVol:
        return self._pool(pool).storageVolLookupByName(name)


# -- what libvirt says, as ours ----------------------------------------------------------------------------------------------
def _pools(connection: libvirt.virConnect) -> list[PoolInfo]:
    autostart = {
        pool.name() for pool in connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_AUTOSTART)
    }
    persistent = {
        pool.name() for pool in connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT)
    }
    found = []
    for pool in connection.listAllStoragePools(0):
        name = pool.name()
        try:
            found.append(_pool_info(pool, autostart=name in autostart, persistent=name in persistent))
        except (libvirt.libvirtError, InvalidDefinition) as error:
            why = driver_error(error) if isinstance(error, libvirt.libvirtError) else error
            if isinstance(why, Unreachable):
                raise
            if not isinstance(why, NotFound):  # one that cannot be read is no reason to hide the others, nor itself
                found.append(
                    _inaccessible(PoolInfo(uuid=pool.UUIDString(), name=name, type="", state=StorageState.INACCESSIBLE))
                )
    return found


def _again(connection: libvirt.virConnect, before: PoolInfo) -> PoolInfo:
    pool = connection.storagePoolLookupByName(before.name)
    return _pool_info(pool, autostart=before.autostart, persistent=before.persistent)


def _pool(pool: libvirt.virStoragePool) -> PoolInfo:
    persistent = bool(pool.isPersistent())
    return _pool_info(pool, autostart=persistent and bool(pool.autostart()), persistent=persistent)


def _pool_info(pool: libvirt.virStoragePool, *, autostart: bool, persistent: bool) -> PoolInfo:
    state, capacity, allocation, available = pool.info()
    document = StoragePool.parse(pool.XMLDesc(0))
    known = _STATES.get(state, StorageState.INACCESSIBLE)
    measured = known in (StorageState.RUNNING, StorageState.DEGRADED)
    type_ = document.type or ""
    return PoolInfo(
        uuid=(document.uuid or "").lower(),
        name=document.name or "",
        type=type_,
        state=known,
        capacity_bytes=capacity if measured else None,
        allocation_bytes=allocation if measured else None,
        available_bytes=available if measured else None,
        target=document.target or "",
        source=_source(document),
        autostart=autostart,
        persistent=persistent,
        formats=formats_of(type_),
    )


def _inaccessible(info: PoolInfo) -> PoolInfo:
    return dataclasses.replace(
        info, state=StorageState.INACCESSIBLE, capacity_bytes=None, allocation_bytes=None, available_bytes=None
    )


def _source(document: StoragePool) -> str:
    """`nas.lab:/export/vm`, `/dev/sdb`, `vg0`: for people."""
    hosts = ",".join((host.name or "") + (f":{host.port}" if host.port else "") for host in document.hosts)
    devices = ",".join(device.path or "" for device in document.devices)
    what = document.directory or document.source_name or devices or document.adapter or ""
    return f"{hosts}:{what}" if hosts else what


def _volume(pool: str, volume: libvirt.virStorageVol) -> VolumeInfo:
    document = StorageVolume.parse(volume.XMLDesc(0))
    kind = document.type or "file"
    return VolumeInfo(
        name=document.name or "",
        pool=pool,
        path=document.path or document.key or "",
        kind=kind,
        # A partition's format is what its table says it is for; to a guest it is a raw disk.
        format=(document.format or "raw") if kind in _FILES else "raw",
        capacity_bytes=document.capacity_bytes or 0,
        allocation_bytes=document.allocation_bytes or 0,
        backing=document.backing or "",
        backing_format=document.backing_format or "",
        physical_bytes=document.physical_bytes or 0,
    )


def _volume_or_none(pool: str, volume: libvirt.virStorageVol) -> VolumeInfo | None:
    """One of a listing; None where it went away meanwhile, or has a name that no text can hold (measured: a file of Latin-1)."""
    try:
        return _volume(pool, volume)
    except UnicodeDecodeError:
        return None
    except (libvirt.libvirtError, InvalidDefinition) as error:
        why = driver_error(error) if isinstance(error, libvirt.libvirtError) else error
        if isinstance(why, Unreachable):
            raise
        # What cannot be read is there all the same; name and key cost no call.
        return None if isinstance(why, NotFound) else VolumeInfo(name=volume.name(), pool=pool, path=volume.key())


# -- ours, as libvirt reads it -----------------------------------------------------------------------------------------------
def _pool_document(spec: PoolSpec) -> StoragePool:
    document = StoragePool(type=spec.type, name=spec.name)
    for place in filter(None, spec.source_host.split(",")):
        document.hosts.add(_host(place, bracketed=spec.type == "netfs"))
    if spec.source_directory:
        document.directory = spec.source_directory
    if spec.source_device:
        document.devices.add(SourceDevice(path=spec.source_device))
    for field, value in (
        ("source_name", spec.source_name),
        ("source_format", spec.source_format),
        ("initiator", spec.initiator),
        ("target", spec.target or POOL_TYPES[spec.type].target or _own_target(spec)),
    ):
        if value:
            setattr(document, field, value)
    if spec.username:
        document.auth_type = _AUTHENTICATIONS[spec.type]
        document.username, document.secret_uuid = spec.username, spec.secret_uuid
    return document


def _own_target(spec: PoolSpec) -> str:
    """Libvirt's schema asks for it, though it can have no other."""
    return f"/dev/{spec.source_name}" if spec.type == "logical" else ""


def _host(place: str, *, bracketed: bool) -> SourceHost:
    """`mount` wants the brackets of an IPv6 address, libvirt's own clients put them there themselves."""
    name, colon, port = place.rpartition(":")
    if not colon or name.startswith("[") is not name.endswith("]"):
        name, port = place, ""
    host = SourceHost(name=name if bracketed else name.strip("[]"))
    host.port = int(port) if port else None
    return host


def _build(pool: libvirt.virStoragePool, spec: PoolSpec) -> None:
    known = POOL_TYPES[spec.type]
    if spec.type == "fs" and not spec.build:
        pool.build(
            libvirt.VIR_STORAGE_POOL_BUILD_NEW
        )  # without a flag this makes the mount point and touches no device
    elif spec.build and known.build and (spec.type not in _BUILT_FROM_DEVICES or spec.source_device):
        careful = spec.type in _BUILT_WITH_CARE
        pool.build(libvirt.VIR_STORAGE_POOL_BUILD_NO_OVERWRITE if careful else libvirt.VIR_STORAGE_POOL_BUILD_NEW)


def _volume_document(place: libvirt.virStoragePool, spec: VolumeSpec) -> StorageVolume:
    type_ = StoragePool.parse(place.XMLDesc(0)).type or ""
    with refusing():
        check_volume(spec, type_=type_)
    # Without an allocation libvirt reserves all of a raw volume (measured), without a compat it writes qcow2 of 2010.
    document = StorageVolume(name=spec.name, capacity_bytes=spec.capacity_bytes, allocation_bytes=spec.allocation_bytes)
    if "qcow2" in formats_of(type_):
        document.format = spec.format
        document.compat = "1.1" if spec.format == "qcow2" else None
    return document
