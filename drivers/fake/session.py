"""Driver and session of the in-memory hypervisor: each verb is a call over an imaginary wire to a `FakeWorld`."""
# ruff: noqa: D102 - what the verbs do stands in `drivers.base`

from __future__ import annotations

import functools
import uuid as uuids
from typing import TYPE_CHECKING, ClassVar, Concatenate, ParamSpec, TypeVar

from drivers.base import Driver, Session
from drivers.errors import DriverError, NotFound, Unreachable
from drivers.fake import design
from drivers.fake.snapshots import check_name
from drivers.fake.world import (
    NAMESPACE,
    SCHEME,
    FakeWorld,
    world,
)
from drivers.types import (
    DhcpHost,
    Endpoint,
    Feature,
    FilterInfo,
    Finding,
    GuestInfo,
    GuestRef,
    GuestState,
    GuestStats,
    HostInfo,
    HostInterface,
    HostStats,
    LeaseInfo,
    NetworkInfo,
    NetworkSpec,
    News,
    PoolInfo,
    PoolSpec,
    SnapshotInfo,
    SnapshotSpec,
    Support,
    Technique,
    VirtualizationType,
    VolumeInfo,
    VolumeSpec,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from drivers.fake.console import FakeConsole
    from drivers.fake.world import FakeWorld
    from drivers.types import (
        AddressInfo,
        CloneSpec,
        Device,
        GuestHardware,
        GuestSpec,
        HardwareOptions,
        HostDevice,
        HostNode,
    )

_P = ParamSpec("_P")
_R = TypeVar("_R")


_FEATURES = frozenset(
    {
        Feature.START,
        Feature.SHUTDOWN,
        Feature.REBOOT,
        Feature.RESET,
        Feature.FORCE_OFF,
        Feature.SUSPEND,
        Feature.RESUME,
        Feature.MANAGED_SAVE,
        Feature.DISCARD_MANAGED_SAVE,
        Feature.AUTOSTART,
        Feature.DEFINE,
        Feature.RENAME,
        Feature.UNDEFINE,
        Feature.XML,
        Feature.CONSOLE_SERIAL,
        Feature.METRICS_CPU,
        Feature.METRICS_MEMORY,
        Feature.METRICS_DISK,
        Feature.METRICS_NETWORK,
        Feature.EVENTS,
        Feature.CREATE,
        Feature.CLONE,
        Feature.ADDRESSES,
        Feature.STORAGE_POOLS,
        Feature.STORAGE_MANAGE,
        Feature.STORAGE_CONTENT,
        Feature.NETWORKS,
        Feature.NETWORKS_MANAGE,
        Feature.SNAPSHOTS_DISK,
        Feature.SNAPSHOTS_MEMORY,
        Feature.SNAPSHOTS_LIVE,
        Feature.HARDWARE,
        Feature.HOTPLUG_CPU,
        Feature.HOTPLUG_MEMORY,
        Feature.HOTPLUG_DISK,
        Feature.HOTPLUG_INTERFACE,
        Feature.HOST_DEVICES,
    }
)


class FakeDriver(Driver):
    """The in-memory hypervisor (`fake:///name`)."""

    kind = "fake"
    label = "In memory"
    schemes = ("fake",)
    transports = ("",)
    features: ClassVar[frozenset[Feature]] = _FEATURES
    reasons: ClassVar[Mapping[Feature, str]] = {
        feature: "The in-memory hypervisor has nothing of the kind." for feature in Feature if feature not in _FEATURES
    }

    def open(self, endpoint: Endpoint) -> FakeSession:
        """Connect to the world named by the URI; a new, empty world when there is none of that name."""
        if not endpoint.uri.startswith(SCHEME):
            raise Unreachable(f"{endpoint.uri} is not an in-memory hypervisor.")
        place = world(endpoint.uri.removeprefix(SCHEME))
        place.enter("open", None)
        session = FakeSession(endpoint, place)
        place.attach(session)
        return session


def _verb(method: Callable[Concatenate[FakeSession, _P], _R]) -> Callable[Concatenate[FakeSession, _P], _R]:
    """Make a session's method a call over the wire: counted, and subject to the world's faults."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: FakeSession, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        place = self.world
        try:
            place.enter(name, self)
            return place.answer(name, method(self, *args, **kwargs))
        finally:
            place.leave(self)

    return call


class FakeSession(Session):
    """One connection to a world.

    Attributes:
        broken: Why it is closed, "" while it stands.
        under_way: Verbs that have not returned yet.
    """

    def __init__(self, endpoint: Endpoint, place: FakeWorld) -> None:
        self.endpoint = endpoint
        self.world = place
        self.broken = ""
        self.under_way = 0
        self.sinks: list[Callable[[News], None]] = []
        self._on_close: list[Callable[[str], None]] = []

    @_verb
    def host_info(self) -> HostInfo:
        """A made-up host, the same each time."""
        stats = self.world.host_stats()
        return HostInfo(
            hostname=f"{self.world.name}.fake",
            host_uuid=str(uuids.uuid5(NAMESPACE, self.world.name)),
            cpu_count=stats.cpu_count,
            cpu_model="Imaginary 8000",
            cpu_architecture="x86_64",
            memory_total_bytes=stats.memory_total_bytes or 0,
            memory_free_bytes=stats.memory_free_bytes or 0,
            kernel="6.1.0-fake",
            nested_virtualization=False,
            hypervisor_version="In memory 1.0",
            library_version="1.0",
            virtualization_type=VirtualizationType.HYBRID,
            techniques=(Technique.EMULATION,),
            boot_id=self.world.boot_id,
            uptime_seconds=stats.uptime_seconds,
        )

    def capabilities(self) -> Mapping[Feature, Support]:
        """What the driver declares; no round trip."""
        return {
            feature: Support(supported=feature in FakeDriver.features, reason=FakeDriver.reasons.get(feature, ""))
            for feature in Feature
        }

    @_verb
    def guests(self) -> Sequence[GuestInfo]:
        return self.world.infos()

    @_verb
    def guest(self, ref: GuestRef) -> GuestInfo:
        return self.world.info(ref)

    @_verb
    def guest_state(self, ref: GuestRef) -> tuple[GuestState, str]:
        info = self.world.info(ref)
        return info.state, info.state_reason

    @_verb
    def guest_or_none(self, ref: GuestRef) -> GuestInfo | None:
        try:
            return self.world.info(ref)
        except NotFound:
            return None

    @_verb
    def definition(self, ref: GuestRef) -> str:
        return self.world.definition(ref)

    @_verb
    def define(self, xml: str) -> GuestInfo:
        return self.world.define(xml)

    @_verb
    def check_definition(self, xml: str, *, ref: GuestRef | None = None) -> Sequence[Finding]:
        return self.world.check(xml, ref)

    @_verb
    def holds_change(self, ref: GuestRef, *, before: str, wished: str) -> bool:
        return before != wished and self.world.holds(ref, wished)

    @_verb
    def rename(self, ref: GuestRef, name: str) -> None:
        self.world.do_rename(ref, name=name)

    @_verb
    def start(self, ref: GuestRef) -> None:
        self.world.do_start(ref)

    @_verb
    def shutdown(self, ref: GuestRef) -> None:
        self.world.do_shutdown(ref)

    @_verb
    def reboot(self, ref: GuestRef) -> None:
        self.world.do_reboot(ref)

    @_verb
    def reset(self, ref: GuestRef) -> None:
        self.world.do_reset(ref)

    @_verb
    def force_off(self, ref: GuestRef) -> None:
        self.world.do_force_off(ref)

    @_verb
    def suspend(self, ref: GuestRef) -> None:
        self.world.do_suspend(ref)

    @_verb
    def resume(self, ref: GuestRef) -> None:
        self.world.do_resume(ref)

    @_verb
    def managed_save(self, ref: GuestRef) -> None:
        self.world.do_managed_save(ref)

    @_verb
    def discard_managed_save(self, ref: GuestRef) -> None:
        self.world.do_discard_managed_save(ref)

    @_verb
    def set_autostart(self, ref: GuestRef, *, enabled: bool) -> None:
        self.world.do_set_autostart(ref, enabled=enabled)

    @_verb
    def undefine(self, ref: GuestRef) -> None:
        self.world.do_undefine(ref)

    # -- a guest to be made -----------------------------------------------------------------------------------------------
    @_verb
    def design(self, spec: GuestSpec) -> str:
        return design.design(spec)

    @_verb
    def create(self, spec: GuestSpec) -> GuestInfo:
        return self.world.create(spec)

    @_verb
    def clone(self, ref: GuestRef, spec: CloneSpec) -> GuestInfo:
        return self.world.clone(ref, spec)

    @_verb
    def set_metadata(self, ref: GuestRef, facts: Mapping[str, str], *, title: str, description: str) -> None:
        self.world.set_metadata(ref, facts, title=title, description=description)

    @_verb
    def addresses(self, ref: GuestRef) -> Mapping[str, Sequence[AddressInfo] | str]:
        return self.world.addresses(ref)

    # -- hardware ------------------------------------------------------------------------------------------------------
    @_verb
    def hardware(self, ref: GuestRef) -> GuestHardware:
        return self.world.hardware(ref)

    @_verb
    def hardware_options(self, ref: GuestRef) -> HardwareOptions:
        return self.world.hardware_options(ref)

    @_verb
    def attach(self, ref: GuestRef, device: Device, *, live: bool, defined: bool) -> None:
        self.world.do_attach(ref, device=device, live=live, defined=defined)

    @_verb
    def detach(self, ref: GuestRef, key: str, *, live: bool, defined: bool) -> None:
        self.world.do_detach(ref, key=key, live=live, defined=defined)

    @_verb
    def update(self, ref: GuestRef, device: Device, *, live: bool, defined: bool) -> None:
        self.world.do_update(ref, device=device, live=live, defined=defined)

    @_verb
    def disk_resize(self, ref: GuestRef, target: str, *, capacity_bytes: int) -> None:
        self.world.do_disk_resize(ref, target=target, capacity_bytes=capacity_bytes)

    @_verb
    def host_devices(self) -> Sequence[HostDevice]:
        return self.world.host_devices()

    @_verb
    def host_nodes(self) -> Sequence[HostNode]:
        return self.world.host_nodes()

    # -- storage and networks ------------------------------------------------------------------------------------------
    @_verb
    def pools(self) -> Sequence[PoolInfo]:
        return self.world.storage.pools()

    @_verb
    def pool(self, name: str) -> PoolInfo:
        return self.world.storage.pool(name)

    @_verb
    def pool_create(self, spec: PoolSpec) -> PoolInfo:
        return self.world.storage.pool_create(spec)

    @_verb
    def pool_start(self, name: str) -> None:
        self.world.storage.pool_start(name)

    @_verb
    def pool_stop(self, name: str) -> None:
        self.world.storage.pool_stop(name)

    @_verb
    def pool_refresh(self, name: str) -> None:
        self.world.storage.pool_refresh(name)

    @_verb
    def pool_set_autostart(self, name: str, *, enabled: bool) -> None:
        self.world.storage.pool_set_autostart(name, enabled=enabled)

    @_verb
    def pool_delete(self, name: str) -> None:
        self.world.storage.pool_delete(name)

    @_verb
    def volumes(self, pool: str) -> Sequence[VolumeInfo]:
        return self.world.storage.volumes(pool)

    @_verb
    def volume(self, pool: str, name: str) -> VolumeInfo:
        return self.world.storage.volume(pool, name)

    @_verb
    def volume_create(self, pool: str, spec: VolumeSpec) -> VolumeInfo:
        return self.world.storage.volume_create(pool, spec)

    @_verb
    def volume_clone(self, pool: str, spec: VolumeSpec, *, source: str, source_pool: str = "") -> VolumeInfo:
        return self.world.storage.volume_clone(pool, spec, source=source, source_pool=source_pool)

    @_verb
    def volume_resize(self, pool: str, name: str, *, capacity_bytes: int) -> None:
        self.world.storage.volume_resize(pool, name, capacity_bytes=capacity_bytes)

    @_verb
    def volume_wipe(self, pool: str, name: str) -> None:
        self.world.storage.volume_wipe(pool, name)

    @_verb
    def volume_delete(self, pool: str, name: str) -> None:
        self.world.storage.volume_delete(pool, name)

    @_verb
    def volume_upload(
        self, pool: str, name: str, read: Callable[[int], bytes], *, length: int, offset: int = 0
    ) -> None:
        """A connection that is cut meanwhile breaks it off with the next piece."""
        self.world.storage.upload(pool, name, read, length=length, offset=offset, alive=self._still_here)

    @_verb
    def volume_download(
        self, pool: str, name: str, write: Callable[[bytes], None], *, offset: int = 0, length: int = 0
    ) -> None:
        """As `volume_upload`."""
        self.world.storage.download(pool, name, write, length=length, offset=offset, alive=self._still_here)

    @_verb
    def networks(self) -> Sequence[NetworkInfo]:
        return self.world.networks.networks()

    @_verb
    def leases(self, network: str) -> Sequence[LeaseInfo]:
        return self.world.networks.leases(network)

    @_verb
    def network_create(self, spec: NetworkSpec) -> NetworkInfo:
        return self.world.networks.network_create(spec)

    @_verb
    def network_start(self, name: str) -> None:
        self.world.networks.network_start(name)

    @_verb
    def network_stop(self, name: str) -> None:
        self.world.networks.network_stop(name)

    @_verb
    def network_set_autostart(self, name: str, *, enabled: bool) -> None:
        self.world.networks.network_set_autostart(name, enabled=enabled)

    @_verb
    def network_delete(self, name: str) -> None:
        self.world.networks.network_delete(name)

    @_verb
    def network_keep(self, name: str, host: DhcpHost) -> None:
        self.world.networks.network_keep(name, host)

    @_verb
    def network_release(self, name: str, mac: str) -> None:
        self.world.networks.network_release(name, mac)

    @_verb
    def host_interfaces(self) -> Sequence[HostInterface]:
        return self.world.networks.host_interfaces()

    @_verb
    def filters(self) -> Sequence[FilterInfo]:
        return self.world.networks.filters()

    @_verb
    def filter_define(self, xml: str, *, name: str = "") -> FilterInfo:
        return self.world.networks.filter_define(xml, name=name)

    @_verb
    def filter_delete(self, name: str) -> None:
        self.world.networks.filter_delete(name)

    def _still_here(self) -> None:
        if self.broken:
            raise Unreachable(f"The connection to {self.world.name} is closed: {self.broken}.")

    # -- watching and consoles -----------------------------------------------------------------------------------------
    # -- snapshots -------------------------------------------------------------------------------------------------------
    @_verb
    def snapshots(self, ref: GuestRef) -> Sequence[SnapshotInfo]:
        return self.world.snapshots(ref)

    @_verb
    def snapshots_of_all(self) -> Mapping[str, Sequence[SnapshotInfo]]:
        return self.world.snapshots_of_all()

    @_verb
    def snapshot_create(self, ref: GuestRef, spec: SnapshotSpec) -> None:
        check_name(spec.name)
        self.world.do_snapshot_create(ref, name=spec.name, description=spec.description, memory=spec.memory)

    @_verb
    def snapshot_revert(self, ref: GuestRef, name: str) -> None:
        self.world.do_snapshot_revert(ref, name=name)

    @_verb
    def snapshot_delete(self, ref: GuestRef, name: str, *, children: bool = False) -> None:
        self.world.do_snapshot_delete(ref, name=name, children=children)

    @_verb
    def stats(self) -> Sequence[GuestStats]:
        return self.world.stats()

    @_verb
    def host_stats(self) -> HostStats:
        return self.world.host_stats()

    @_verb
    def subscribe(self, sink: Callable[[News], None]) -> None:
        """News comes in the thread that causes it."""
        self.sinks.append(sink)

    @_verb
    def open_console(self, ref: GuestRef, kind: str, *, take_over: bool = False) -> FakeConsole:
        if kind != "serial":
            raise self.unsupported(Feature(f"console.{kind}"))
        return self.world.open_console(ref, take_over=take_over)

    def alive(self) -> bool:
        return not self.broken

    def on_close(self, callback: Callable[[str], None]) -> None:
        self._on_close.append(callback)
        if self.broken:
            self.lost(self.broken)

    def close(self) -> None:
        """Hangs while the world is frozen, as libvirt's does."""
        try:
            self.world.enter("close", self)
        except DriverError:
            pass  # whatever stood in its way, the connection is given up
        finally:
            self.world.leave(self)
            self.world.detach(self)

    def lost(self, reason: str) -> None:
        """Fire the close callbacks, once."""
        callbacks, self._on_close = self._on_close, []
        for callback in callbacks:
            callback(reason)
