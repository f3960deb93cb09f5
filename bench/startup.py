"""How long one waits for it: the first start on nothing, the next one, and this machine as a host with its hypervisors."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import libvirt

from bench.report import Row, median
from tests.labs.local import LXC_URI, QEMU_URI, ensure_libvirtd
from tests.server import Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

IMPORTS = "import celery, channels, django, libvirt, lxml.etree, pydantic, uvicorn"


def _first_page(server: Server, since: float) -> float:
    """Seconds until the sign-in page is there."""

    def there() -> bool:
        server.check_alive()
        with contextlib.suppress(httpx.TransportError):
            return server.page("/login").status_code == 200
        return False

    wait_until(there, 60, "first page", interval=0.01)
    return time.monotonic() - since


def _local_host(server: Server, since: float) -> float:
    """Seconds until this machine is online as a host, with QEMU and LXC."""

    def there() -> bool:
        found: dict[str, Any] = {row["driver"]: row["state"] for row in server.get("/hypervisors")["items"]}
        return found.get("qemu") == found.get("lxc") == "online"

    wait_until(there, 60, "QEMU and LXC online", interval=0.02)
    return time.monotonic() - since


def _imports() -> float:
    since = time.monotonic()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.monotonic() - since


def _raw_hypervisors() -> float:
    since = time.monotonic()
    for uri in (QEMU_URI, LXC_URI):
        connection = libvirt.open(uri)
        connection.getCapabilities()
        for domain in connection.listAllDomains(0):
            domain.info()
            domain.XMLDesc(0)
        connection.close()
    return time.monotonic() - since


def run(quick: bool) -> Iterator[Row]:  # noqa: FBT001 - the one option of every bench
    """The disk's cache is warm: what is measured is the work, not the disk."""
    ensure_libvirtd()
    times: dict[str, list[float]] = {name: [] for name in ("imports", "cold", "again", "local", "raw")}
    for _ in range(1 if quick else 5):
        times["imports"].append(_imports())
        times["raw"].append(_raw_hypervisors())
        server = Server(VMM_LOCAL_HOST="auto")
        try:
            since = time.monotonic()
            server.start(wait=False)
            times["cold"].append(_first_page(server, since))
            server.token()  # by a process of its own: waiting for the local host must not pay for it
            server.stop()
            since = time.monotonic()
            server.start(wait=False)
            times["again"].append(_first_page(server, since))
        finally:
            server.__exit__()
        with Server(VMM_LOCAL_HOST="none") as prepared:
            # A second server on a data directory that has a token but never had a host: the registration is all new.
            prepared.token()
            prepared.stop()
            prepared.env["VMM_LOCAL_HOST"] = "auto"
            since = time.monotonic()
            prepared.start(wait=False)
            _first_page(prepared, since)
            times["local"].append(_local_host(prepared, since))
    runs = len(times["cold"])
    floor = median(times["imports"])
    base = {"bench": "startup", "unit": "s"}
    imports = {"floor": floor, "against": "importing the libraries", **base}
    yield Row(figure=f"empty data directory to first page, p50 of {runs}", ours=median(times["cold"]), **imports)
    yield Row(figure=f"second start to first page, p50 of {runs}", ours=median(times["again"]), **imports)
    yield Row(
        figure=f"start to local host online with QEMU and LXC, p50 of {runs}", ours=median(times["local"]),
        floor=floor + median(times["raw"]), against="imports, raw open and read of both", **base,
    )  # fmt: skip
