"""What `/metrics` says of guests, hosts and operations: a fixed number of queries, however many guests there are."""

from __future__ import annotations

import datetime as dt
import platform
from importlib import metadata
from itertools import chain
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import Count
from django.utils import timezone

from hosts.choices import LinkState
from hosts.models import Host, Hypervisor
from metrics import store
from metrics.models import Latest
from metrics.prometheus import Family, render
from metrics.rates import NAMES
from operations.choices import State as OperationState
from operations.models import Operation
from vms.choices import State
from vms.models import PRESENT, VM

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

_GUEST_HELP = {
    "cpu_ratio": "CPU in use, 1: all vCPUs of the guest.",
    "memory_bytes": "Memory in use by the guest.",
    "disk_read_bytes_per_second": "Bytes read from all disks.",
    "disk_write_bytes_per_second": "Bytes written to all disks.",
    "network_receive_bytes_per_second": "Bytes received on all interfaces.",
    "network_transmit_bytes_per_second": "Bytes sent on all interfaces.",
}
_CHUNK = 2000


def text() -> bytes:
    """The whole answer of `/metrics`; its content type is `metrics.prometheus.CONTENT_TYPE`."""
    return render(chain(application(), hosts(), operations(), guests()))


def application() -> Iterator[Family]:
    """What runs here."""
    labels = (_version(), platform.python_version())
    yield Family(
        name="vmm_build_info",
        help="Version of the application.",
        labels=("version", "python_version"),
        samples=[(labels, 1)],
    )


def _version() -> str:
    try:
        return metadata.version("vmmanager")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "development"


def hosts() -> Iterator[Family]:
    """Hosts and hypervisors: two queries and one for their load."""
    rows = list(Host.objects.order_by("pk"))
    latest = store.latest([row.pk for row in rows])
    named = [((str(row.pk), row.name), row) for row in rows]
    labels = ("host", "name")
    yield Family(
        name="vmm_host_up",
        help="1 while any hypervisor of the host can be reached.",
        labels=labels,
        samples=[(key, int(row.state == LinkState.ONLINE)) for key, row in named],
    )
    for name, text in (
        ("cpu_count", "CPUs of the host."),
        ("memory_total_bytes", "Memory of the host."),
        ("memory_free_bytes", "Memory of the host that is free."),
    ):
        samples = [(key, getattr(row, name)) for key, row in named]
        yield Family(name=f"vmm_host_{name}", help=text, labels=labels, samples=samples)
    yield Family(
        name="vmm_host_cpu_ratio",
        help="CPU of the host in use, 1: all CPUs.",
        labels=labels,
        samples=[(key, latest[row.pk].cpu_ratio) for key, row in named if row.pk in latest],
    )
    links = Hypervisor.objects.order_by("pk").values_list("pk", "host__name", "driver", "uri", "state")
    yield Family(
        name="vmm_hypervisor_up",
        help="1 while the hypervisor can be reached.",
        labels=("hypervisor", "host_name", "driver", "uri"),
        samples=[
            ((str(pk), host, driver, uri), int(state == LinkState.ONLINE)) for pk, host, driver, uri, state in links
        ],
    )


def operations() -> Iterator[Family]:
    """How many operations are kept, by state."""
    counted = dict(Operation.objects.order_by().values_list("state").annotate(count=Count("pk")))
    yield Family(
        name="vmm_operations",
        help="Operations kept, by state.",
        labels=("state",),
        samples=[((str(state),), counted.get(state, 0)) for state in OperationState.values],
    )


def guests() -> Iterator[Family]:
    """Guests: one query for what they are, one for what they use."""
    counted = VM.objects.filter(PRESENT).order_by().values_list("hypervisor__host__name", "hypervisor__driver", "state")
    by_host = {(host, driver, state): count for host, driver, state, count in counted.annotate(count=Count("pk"))}
    places = sorted({key[:2] for key in by_host})
    yield Family(
        name="vmm_vms",
        help="Guests, by state.",
        labels=("host_name", "driver", "state"),
        samples=[((*place, state), by_host.get((*place, state), 0)) for place in places for state in State.values],
    )
    rows = VM.objects.filter(PRESENT).order_by("pk")
    keys: dict[uuid.UUID, tuple[str, str, str]] = {}
    sizes: list[tuple[tuple[str, str, str], int, int, int]] = []
    for pk, name, host, state, vcpus, memory in rows.values_list(
        "pk", "name", "hypervisor__host__name", "state", "vcpus", "memory_bytes"
    ).iterator(chunk_size=_CHUNK):
        key = keys[pk] = (str(pk), name, host)
        sizes.append((key, int(state == State.RUNNING), vcpus, memory))
    labels = ("vm", "name", "host_name")
    yield Family(
        name="vmm_vm_running",
        help="1 while the guest runs.",
        labels=labels,
        samples=((row[0], row[1]) for row in sizes),
    )
    yield Family(name="vmm_vm_vcpus", help="vCPUs.", labels=labels, samples=((row[0], row[2]) for row in sizes))
    yield Family(
        name="vmm_vm_memory_assigned_bytes",
        help="Memory that the guest was given.",
        labels=labels,
        samples=((row[0], row[3]) for row in sizes),
    )
    yield from _used(keys, labels)


def _used(keys: dict[uuid.UUID, tuple[str, str, str]], labels: tuple[str, ...]) -> Iterator[Family]:
    oldest = timezone.now() - dt.timedelta(seconds=max(store.FRESH_SECONDS, 4 * settings.ENV.sample_seconds))
    measured = [
        (keys[row[0]], row[1:])
        for row in Latest.objects.filter(at__gte=oldest).values_list("subject", *NAMES).iterator(chunk_size=_CHUNK)
        if row[0] in keys
    ]
    for place, name in enumerate(NAMES):
        yield Family(
            name=f"vmm_vm_{name}",
            help=_GUEST_HELP[name],
            labels=labels,
            samples=[(key, values[place]) for key, values in measured],
        )
