"""Counters of containers, from the answers of both engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.dockerd.guests import container_id
from drivers.types import GuestStats

if TYPE_CHECKING:
    from drivers.dockerd.document import Document

_NANO = 1_000_000_000


def of_docker(found: Document, *, uuid: str, at: float, vcpus: int) -> GuestStats:
    """One container, from `stats`: since its start."""
    networks = [network for _name, network in found.items("networks")] if found.has("networks") else None
    return GuestStats(
        uuid=uuid,
        at=at,
        vcpus=vcpus,
        cpu_time_seconds=found.number("cpu_stats", "cpu_usage", "total_usage") / _NANO,
        memory_bytes=_memory(found.part("memory_stats")),
        disk_read_bytes=_moved(found, "io_service_bytes_recursive", "read"),
        disk_write_bytes=_moved(found, "io_service_bytes_recursive", "write"),
        disk_read_requests=_moved(found, "io_serviced_recursive", "read"),
        disk_write_requests=_moved(found, "io_serviced_recursive", "write"),
        network_receive_bytes=None if networks is None else sum(each.number("rx_bytes") for each in networks),
        network_transmit_bytes=None if networks is None else sum(each.number("tx_bytes") for each in networks),
    )


def of_podman(found: Document, *, at: float, vcpus: int) -> GuestStats:
    """One container's row of Podman's own answer for all of them."""
    return GuestStats(
        uuid=container_id(found, "ContainerID"),
        at=at,
        vcpus=vcpus,
        cpu_time_seconds=found.number("CPUNano") / _NANO,
        memory_bytes=found.number("MemUsage"),
        disk_read_bytes=found.number("BlockInput"),
        disk_write_bytes=found.number("BlockOutput"),
        network_receive_bytes=found.number("NetInput"),
        network_transmit_bytes=found.number("NetOutput"),
    )


def _memory(found: Document) -> int | None:
    """In use, without the file cache that goes as soon as somebody needs the room: what `docker stats` shows."""
    usage = found.number_or_none("usage")
    if usage is None:
        return None
    cache = found.number_or_none("stats", "total_inactive_file")  # cgroup v1
    if cache is None:
        cache = found.number("stats", "inactive_file")  # v2
    return usage - cache if 0 <= cache < usage else usage


def _moved(found: Document, name: str, operation: str) -> int | None:
    """Bytes or requests of all devices. An empty list is no traffic, null is not counted."""
    if not found.part("blkio_stats").has(name):
        return None
    return sum(row.number("value") for row in found.parts("blkio_stats", name) if row.text("op").lower() == operation)
