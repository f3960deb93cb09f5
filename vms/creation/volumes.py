"""Volumes that an operation makes: each once, whole or not at all, and deleted again where it fails. Runs in its thread.

What is about to be made is written down (`Context.checkpoint`) before it is made. So a later attempt knows it for ours, and what is
undone is that and nothing else.
"""

from __future__ import annotations

import contextlib
import io
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cloudinit
from core.errors import Missing, VmmError
from drivers.errors import AlreadyExists, NotFound
from drivers.types import VolumeSpec
from images.copies import remove
from storage.reach import pool_of, volume_or_none
from storage.volume_actions import read_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from drivers.base import Session
    from operations.actions import Context
    from storage.models import StoragePool
    from vms.creation.plan import PlannedFile


@dataclass(slots=True)
class Volumes:
    """Those of one operation, in one attempt."""

    ctx: Context
    paths: dict[tuple[str, str], str] = field(default_factory=dict)
    """Pool and volume → where that is on the host."""

    @contextmanager
    def new(self, pool: StoragePool, name: str) -> Iterator[Session | None]:
        """A session to make the volume with, None where it is made already. It is ours from now on, and whole at the end.

        Half of one that an attempt before this one left is deleted first, once its host has let go of it. Raises AlreadyExists when
        somebody else has one of this name there.
        """
        begun, made = f"volume {pool.pk} {name}", f"whole {pool.pk} {name}"
        with self.ctx.session(pool.hypervisor.endpoint()) as session:
            there = volume_or_none(session, pool.name, name)
            if there is not None and not self.ctx.done(begun):
                raise AlreadyExists(f"There is a volume {name} in {pool.name} already.", pool=pool.name, volume=name)
            if there is not None and not self.ctx.done(made):
                remove(self.ctx, session, pool, name)
                there = None
            if there is None:
                self.ctx.checkpoint(begun)
                yield session
                self.ctx.checkpoint(made)
                _write_down(session, pool, name)
            else:
                yield None
        self.read_path(pool, name)

    def seed(self, pool: StoragePool, name: str, parts: cloudinit.Parts) -> None:
        """What cloud-init reads at the first boot, on a disc of its own."""
        with self.new(pool, name) as session:
            if session is not None:
                content = cloudinit.iso(cloudinit.seed_of(parts).files())
                session.volume_create(pool.name, VolumeSpec(name=name, capacity_bytes=len(content)))
                session.volume_upload(pool.name, name, io.BytesIO(content).read, length=len(content))
                self.ctx.log(f"Made the seed {name} in {pool.name}.")

    def read_path(self, pool: StoragePool, name: str) -> None:
        """Where a volume is on its host. Raises NotFound."""
        with self.ctx.session(pool.hypervisor.endpoint()) as session:
            self.paths[pool.name, name] = session.volume(pool.name, name).path

    def delete(self, files: Iterable[PlannedFile]) -> list[VmmError]:
        """Delete those that this operation has made, in this order; what could not be deleted, and why."""
        failures: list[VmmError] = []
        for file in files:
            if not self.ctx.done(f"volume {file.pool_id} {file.volume}"):
                continue
            try:
                pool = pool_of(file.pool_id)
                with self.ctx.session(pool.hypervisor.endpoint()) as session:
                    session.volume_delete(pool.name, file.volume)
                    _write_down(session, pool, file.volume)
            except NotFound:
                continue
            except VmmError as error:
                self.ctx.log(f"{file.volume} in {file.pool} could not be deleted: {error.detail}")
                failures.append(error)
            else:
                self.ctx.log(f"Undone: the volume {file.volume} in {file.pool}.")
        return failures


def _write_down(session: Session, pool: StoragePool, name: str) -> None:
    """A volume as it is now, in its row. A row is not what a guest waits for: the next survey of the pool sees it too."""
    with contextlib.suppress(Missing):
        read_volume(session, pool, name)
