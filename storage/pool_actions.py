"""What a worker does to pools. Facts come back through `storage.inventory`.

Each looks before it acts, so that it may be run again after an interruption. What makes something records before the call that it
was not there (`BEGUN`): what is found after an interruption is then its own work, and not somebody else's of the same name.
"""

from __future__ import annotations

import uuid  # noqa: TC003 - pydantic reads the annotation
from typing import TYPE_CHECKING, Any, ClassVar

from django.utils import timezone

from drivers.errors import AlreadyExists, NotFound, WrongState
from drivers.types import Feature, PoolInfo, PoolSpec, StorageState
from hosts.wishes import BEGUN, ToBe, hypervisor_of
from operations.actions import Action, Params, action
from storage import uses
from storage.choices import PoolState
from storage.inventory import pool_gone, pool_observe, volumes_observe
from storage.models import StoragePool
from storage.reach import STATE_WORDS, check_reach, pool_of, pool_or_none, slot_of

if TYPE_CHECKING:
    from drivers.base import Session
    from hosts.models import Hypervisor
    from operations.actions import Context


class PoolAction(Action[StoragePool, Params]):
    """What all actions on one pool share."""

    verb = "pool.manage"
    feature: ClassVar[Feature] = Feature.STORAGE_MANAGE
    states: ClassVar[frozenset[PoolState]] = frozenset(PoolState)
    """In which states it makes sense."""
    disturbs: ClassVar[bool] = False
    """Whether guests that run with something of it stand in the way."""

    def load(self, target_id: uuid.UUID) -> StoragePool:
        """With hypervisor and host, by one query. Raises Missing for a pool that is gone."""
        return pool_of(target_id)

    def slot(self, target: StoragePool) -> tuple[str, int]:
        """One of its hypervisor's slots."""
        return slot_of(target.hypervisor)

    def check(self, target: StoragePool, params: Params, *, idle: bool) -> None:
        """Capability, reach, who runs with it, and (if idle) state."""
        del params
        check_reach(target.hypervisor, self.feature)
        if idle:
            self.check_state(target, PoolState(target.state))
            self.check_users(target)

    def check_state(self, pool: StoragePool, state: PoolState) -> None:
        """Raises WrongState with the state as the reason."""
        if state not in self.states:
            raise WrongState(f"{pool.name} is {STATE_WORDS[state]}.", state=str(state))

    def check_users(self, pool: StoragePool) -> None:
        """Raises InUse naming guests that run with something of it."""
        if self.disturbs:
            users = uses.running_in(pool) if pool.users is None else pool.users
            uses.refuse(f"What is in {pool.name}", users, then="Shut down what runs there first.")

    def look(self, session: Session, pool: StoragePool) -> PoolInfo | None:
        """What it is now; None, and a tombstone, when it is not there, or another pool has its name."""
        seen_at = timezone.now()
        info = pool_or_none(session, pool.name)
        if info is None or info.uuid.lower() != pool.uuid:
            pool_gone(pool, seen_at=seen_at)
            return None
        return info

    def must_be(self, session: Session, pool: StoragePool) -> PoolInfo:
        """The same; raises NotFound where there is none."""
        info = self.look(session, pool)
        if info is None:
            raise NotFound(f"There is no pool {pool.name} on {pool.hypervisor.host.name} any more.")
        return info

    def run(self, ctx: Context, target: StoragePool, params: Params) -> dict[str, Any] | None:
        """Look, act, read back."""
        with ctx.session(target.hypervisor.endpoint()) as session:
            info = self.must_be(session, target)
            if not self.is_so(info, params):
                self.check_state(target, PoolState(info.state))
                self.check_users(target)
                self.act(session, target, params)
            read_pool(session, target.hypervisor, target.name)
        return None

    def is_so(self, info: PoolInfo, params: Params) -> bool:
        """Whether what is wished is so already."""
        del info, params
        return False

    def act(self, session: Session, pool: StoragePool, params: Params) -> None:
        """The verb itself."""
        raise session.unsupported(self.feature)


def read_pool(session: Session, hypervisor: Hypervisor, name: str) -> StoragePool:
    """Write down what a pool and its volumes are now, so that the answer is true without waiting for a sweep. Raises NotFound."""
    seen_at = timezone.now()  # before the reading: an observation counts from then
    info = session.pool(name)
    pool = pool_observe(hypervisor, info, seen_at=seen_at)
    if info.state in (StorageState.RUNNING, StorageState.DEGRADED):
        volumes_observe(pool, session.volumes(name), seen_at=seen_at, complete=True)
    return pool


@action
class StartPool(PoolAction):
    """Have the host reach what is in it."""

    kind = "pool.start"
    title = "Start pool"
    states = frozenset({PoolState.INACTIVE, PoolState.INACCESSIBLE})
    timeout_seconds = 300.0

    def is_so(self, info: PoolInfo, params: Params) -> bool:
        """Running is what is wished."""
        del params
        return info.state in (StorageState.RUNNING, StorageState.DEGRADED)

    def act(self, session: Session, pool: StoragePool, params: Params) -> None:
        """Start."""
        session.pool_start(pool.name)


@action
class StopPool(PoolAction):
    """Let go of it; what is in it stays. Not while guests run with it."""

    kind = "pool.stop"
    title = "Stop pool"
    states = frozenset(PoolState) - {PoolState.INACTIVE}
    disturbs = True
    timeout_seconds = 300.0

    def is_so(self, info: PoolInfo, params: Params) -> bool:
        """Stopped is what is wished."""
        del params
        return info.state is StorageState.INACTIVE

    def act(self, session: Session, pool: StoragePool, params: Params) -> None:
        """Stop."""
        session.pool_stop(pool.name)


@action
class RefreshPool(PoolAction):
    """Have the host look again at what is in it: files that somebody put there become volumes."""

    kind = "pool.refresh"
    title = "Refresh pool"
    feature = Feature.STORAGE_POOLS
    states = frozenset({PoolState.RUNNING, PoolState.DEGRADED})
    timeout_seconds = 300.0

    def act(self, session: Session, pool: StoragePool, params: Params) -> None:
        """Refresh."""
        session.pool_refresh(pool.name)


class AutostartParams(Params):
    """On or off."""

    enabled: bool


@action
class AutostartPool(PoolAction):
    """Start with the host, or not."""

    kind = "pool.autostart"
    title = "Autostart of pool"
    params = AutostartParams

    def check(self, target: StoragePool, params: Params, *, idle: bool) -> None:
        """Only what has a definition can start with the host."""
        super().check(target, params, idle=idle)
        if not target.persistent:
            raise WrongState(f"{target.name} is transient: it has no definition to be started from.")

    def is_so(self, info: PoolInfo, params: Params) -> bool:
        """As wished."""
        assert isinstance(params, AutostartParams)  # noqa: S101 - narrows the type; the registry pairs them
        return info.autostart is params.enabled

    def act(self, session: Session, pool: StoragePool, params: Params) -> None:
        """Set it."""
        assert isinstance(params, AutostartParams)  # noqa: S101 - narrows the type; the registry pairs them
        session.pool_set_autostart(pool.name, enabled=params.enabled)


@action
class DeletePool(PoolAction):
    """Take the definition away; volumes stay where they are. Not while guests run with them."""

    kind = "pool.delete"
    title = "Remove pool"
    disturbs = True
    timeout_seconds = 300.0

    def load(self, target_id: uuid.UUID) -> StoragePool:
        """One that is gone too: an earlier attempt may have come so far."""
        return pool_of(target_id, gone=True)

    def run(self, ctx: Context, target: StoragePool, params: Params) -> dict[str, Any] | None:
        """A pool that is gone is what was wished."""
        del params
        if target.gone_at is not None:
            return None
        with ctx.session(target.hypervisor.endpoint()) as session:
            if self.look(session, target) is None:
                ctx.log("It was gone already.")
                return None
            self.check_users(target)
            try:
                session.pool_delete(target.name)
            except NotFound:
                ctx.log("It was gone already.")
            self.look(session, target)
        return None


class NewPool(ToBe):
    """A pool to be."""

    kind = StoragePool.kind


class CreatePoolParams(Params):
    """Where, and what as `drivers.types.PoolSpec` has it."""

    hypervisor: uuid.UUID
    name: str
    type: str
    target: str = ""
    source_host: str = ""
    source_directory: str = ""
    source_device: str = ""
    source_name: str = ""
    source_format: str = ""
    initiator: str = ""
    username: str = ""
    secret_uuid: str = ""
    autostart: bool = True
    build: bool = True

    def spec(self) -> PoolSpec:
        """As drivers take it."""
        return PoolSpec(**self.model_dump(exclude={"hypervisor"}))


@action
class CreatePool(Action[NewPool, CreatePoolParams]):
    """Define a pool, build it where asked, start it."""

    kind = "pool.create"
    title = "Make pool"
    verb = "pool.manage"
    params = CreatePoolParams
    timeout_seconds = 900.0

    def load(self, target_id: uuid.UUID) -> NewPool:
        """There is nothing to load yet."""
        return NewPool(target_id, "")

    def slot(self, target: NewPool) -> tuple[str, int]:
        """One of the hypervisor's slots."""
        return slot_of(target.hypervisor) if target.hypervisor else ("", 0)

    def check(self, target: NewPool, params: CreatePoolParams, *, idle: bool) -> None:
        """Capability, reach, and that no pool there has this name."""
        del idle
        hypervisor = target.hypervisor or hypervisor_of(params.hypervisor)
        check_reach(hypervisor, Feature.STORAGE_MANAGE)
        twin = StoragePool.objects.filter(host=hypervisor.host_id, name=params.name, gone_at=None).first()
        if twin is not None:
            raise AlreadyExists(f"There is a pool {twin.name} on {hypervisor.host.name} already.", id=str(twin.pk))

    def run(self, ctx: Context, target: NewPool, params: CreatePoolParams) -> dict[str, Any]:
        """What an attempt before this one left half made is made anew: nothing can be in it yet."""
        del target
        hypervisor = hypervisor_of(params.hypervisor)
        with ctx.session(hypervisor.endpoint()) as session:
            seen = pool_or_none(session, params.name)
            if seen is not None and not ctx.done(BEGUN):
                raise AlreadyExists(f"There is a pool {params.name} on {hypervisor.host.name} already.")
            if seen is not None and seen.state is StorageState.INACTIVE:
                ctx.log("An earlier attempt was cut off between its steps: its definition is made anew.")
                session.pool_delete(params.name)
                seen = None
            if seen is None:
                ctx.checkpoint(BEGUN)
                session.pool_create(params.spec())
            elif seen.autostart is not params.autostart:
                session.pool_set_autostart(params.name, enabled=params.autostart)
            pool = read_pool(session, hypervisor, params.name)
        return {"pool": str(pool.pk)}
