"""Another hypervisor's lab with its rows, as the watcher would have left them: guests are made there over REST, as everywhere."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from drivers import registry
from drivers.pool import the_pool
from drivers.types import Feature, StorageState
from hosts.inventory import host_observe
from hosts.models import Hypervisor
from networks.inventory import networks_observe
from storage.inventory import pools_observe
from tests.factories import HypervisorFactory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.types import Endpoint
    from tests.conftest import Api


@contextlib.contextmanager
def managed(endpoint: Endpoint) -> Iterator[Hypervisor]:
    """The lab at `endpoint`, probed and surveyed."""
    credentials = dataclasses.asdict(endpoint.credentials) if endpoint.credentials else None
    row = HypervisorFactory(driver=endpoint.driver, uri=endpoint.uri, credentials=credentials, capabilities={})
    with contextlib.closing(registry.get(endpoint.driver).open(endpoint)) as session:
        host_observe(row, session.host_info(), session.capabilities())
        if session.capabilities()[Feature.STORAGE_POOLS].supported:
            pools = session.pools()
            there = {one.name: session.volumes(one.name) for one in pools if one.state is StorageState.RUNNING}
            pools_observe(row, pools, there, complete=True)
        if session.capabilities()[Feature.NETWORKS].supported:
            networks_observe(row, session.networks(), complete=True)
    yield Hypervisor.objects.select_related("host").get(pk=row.pk)
    the_pool().forget(endpoint)


def made(api: Api, spec: dict[str, Any]) -> dict[str, Any]:
    """The ended operation of `POST /vms`."""
    answer = api.post("/vms", spec, Prefer="wait=60")
    assert answer.status_code == 200, answer.content
    ended: dict[str, Any] = answer.json()
    return ended


def gone(api: Api, vm: str, *, storage: str = "delete") -> dict[str, Any]:
    """The result of deleting a guest for good, with its disks."""
    answer = api.delete(f"/vms/{vm}?force=true&storage={storage}&bin=false", Prefer="wait=60")
    assert answer.json().get("state") == "succeeded", answer.content
    result: dict[str, Any] = answer.json()["result"]
    return result
