"""The machine that an engine runs on: as the engine tells it, and as the kernel does where it is this one."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import docker

from drivers.dockerd.guests import Room
from drivers.types import HostInfo, HostStats, Technique, VirtualizationType

if TYPE_CHECKING:
    from drivers.dockerd.document import Document
    from drivers.dockerd.engine import Engine

_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one `/info` told.

    Attributes:
        here: It is this very machine, so its kernel can be asked for what no engine tells.
    """

    told: Document
    product: str
    api_version: str
    here: bool

    @classmethod
    def of(cls, engine: Engine) -> Machine:
        """Ask."""
        told = engine.document(lambda client: client.info(), what="info")
        return cls(
            told=told,
            product="Podman" if engine.podman else "Docker",
            api_version=engine.api_version,
            here=engine.local and _is_here(told),
        )

    @property
    def room(self) -> Room:
        """What a container without limits may use."""
        return Room(cpu_count=self.told.number("NCPU"), memory_bytes=self.told.number("MemTotal"))

    def info(self) -> HostInfo:
        """In the house's words. No engine knows the machine's UUID: its own identity is another one's."""
        told = self.told
        architecture = told.text("Architecture")
        free = self.stats().memory_free_bytes
        return HostInfo(
            hostname=told.text("Name"),
            cpu_count=self.room.cpu_count,
            cpu_model=_cpu_model() if self.here else "",
            cpu_architecture=_ARCHITECTURES.get(architecture, architecture),
            memory_total_bytes=self.room.memory_bytes,
            memory_free_bytes=free or 0,
            kernel=told.text("KernelVersion"),
            nested_virtualization=None,
            hypervisor_version=f"{self.product} {told.text('ServerVersion')}".strip(),
            library_version=f"Docker SDK {docker.__version__}, API {self.api_version}",
            virtualization_type=VirtualizationType.OS_LEVEL,
            techniques=(Technique.SHARED_KERNEL,),
        )

    def stats(self) -> HostStats:
        """Counters: load and free memory are known of this machine only."""
        room = self.room
        return HostStats(
            at=time.monotonic(),
            cpu_count=room.cpu_count,
            cpu_busy_seconds=_busy_seconds() if self.here else None,
            memory_total_bytes=room.memory_bytes or None,
            memory_free_bytes=_free_bytes(room.memory_bytes) if self.here else None,
        )


def _is_here(told: Document) -> bool:
    """A socket of this machine may lead elsewhere (a forwarded one, Docker Desktop's): name, kernel and memory decide."""
    here = os.uname()
    return (told.text("Name"), told.text("KernelVersion"), told.number("MemTotal")) == (
        here.nodename,
        here.release,
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def _cpu_model() -> str:
    for line in (_PROC / "cpuinfo").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return ""


def _busy_seconds() -> float:
    """All CPUs together, since the start: what is neither idle nor waiting for a disk."""
    words = (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, *rest = (int(word) for word in words[:8])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def _free_bytes(total: int) -> int | None:
    for line in (_PROC / "meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return min(total, int(value.split()[0]) * 1024)
    return None
