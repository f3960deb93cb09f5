"""This machine as the first host: registered by itself, with every hypervisor that answers, and once only.

Runs in a thread of its own beside the watcher (a hypervisor that hangs must not hold up the first page). A hypervisor that is missing
is looked for again each 30 s: libvirtd that starts later, a driver that is installed later. What somebody removed stays
removed (`LocalEndpoint`).
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from django.conf import settings
from django.db import Error as DatabaseProblem
from django.db import connections, transaction

from accounts.actor import SYSTEM
from core.errors import VmmError
from core.threads import LongThread
from drivers.errors import DriverError
from drivers.pool import the_pool
from drivers.types import Endpoint
from drivers.uris import parse_uri
from hosts.models import Host, Hypervisor, LocalEndpoint
from hosts.services import NewHypervisor, host_add, hypervisor_add

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from drivers.pool import SessionPool
    from drivers.types import HostInfo

log = logging.getLogger(__name__)

SYSTEM_URIS = ("qemu:///system", "lxc:///")
SESSION_URIS = ("qemu:///session",)
"""Besides, for who is not root: that user's own guests."""
ENGINE_URIS = ("docker+unix:///var/run/docker.sock", "podman+unix:///run/podman/podman.sock")
"""Container engines, where something listens on their sockets and lets this account in."""
RETRY_SECONDS = 30.0
ANSWER_SECONDS = 8.0

_looking_since: float | None = None


def looked() -> bool:
    """Whether this process need not be waited for: it has looked for local hypervisors once, or does not look at all."""
    return _looking_since is None


def is_local(uri: str) -> bool:
    """Whether a checked URI names this machine: it has no host."""
    return not urlsplit(uri).netloc


def candidates() -> tuple[str, ...]:
    """What may answer on this machine."""
    if os.geteuid() == 0:
        return SYSTEM_URIS + ENGINE_URIS
    own = f"podman+unix:///run/user/{os.geteuid()}/podman/podman.sock"
    return SYSTEM_URIS + SESSION_URIS + ENGINE_URIS + (own,)


def register_local(*, uris: Sequence[str] | None = None, pool: SessionPool | None = None) -> list[str]:
    """Try what is not registered yet, and register what answers; what is still missing.

    Blocks for up to 8 s a hypervisor that hangs. Creates nothing where nothing answers.
    """
    pool = pool or the_pool()
    marks = {mark.uri: mark for mark in LocalEndpoint.objects.select_related("host")}
    if marks and not any(mark.host for mark in marks.values()):
        return []  # the host was removed
    known = {row.uri: row.host for row in Hypervisor.objects.select_related("host").exclude(host__demo=True)}
    wanted = [uri for uri in uris or candidates() if uri not in marks and uri not in known]
    answers = {uri: info for uri in wanted if (info := _ask(uri, pool)) is not None}
    if answers:
        host = next((mark.host for mark in marks.values() if mark.host), None) or next(
            (known[uri] for uri in SYSTEM_URIS + SESSION_URIS + ENGINE_URIS if uri in known), None
        )
        _register(host, answers)
    return [uri for uri in wanted if uri not in answers]


def _ask(uri: str, pool: SessionPool) -> HostInfo | None:
    parsed = parse_uri(uri, data_dir=settings.DATA_DIR)
    if parsed.socket and not _listens(parsed.socket):
        return None  # most machines have no container engine: not worth an attempt that the pool remembers
    endpoint = Endpoint(driver=parsed.driver, uri=parsed.text)
    try:
        with pool.session(endpoint, timeout_seconds=ANSWER_SECONDS) as session:
            return session.host_info()
    except DriverError as error:
        log.debug("no local hypervisor: %s", error.detail, extra={"uri": uri})
        pool.forget(endpoint)
        return None


def _listens(path: str) -> bool:
    """Whether somebody takes connections on this unix socket, and ours."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(1.0)
        try:
            stream.connect(path)
        except OSError:
            return False
    return True


def _register(host: Host | None, answers: dict[str, HostInfo]) -> None:
    machine = next(iter(answers.values()))
    twin = Host.objects.filter(host_uuid=machine.host_uuid).first() if machine.host_uuid else None
    if host is None and twin is not None:
        # Somebody manages this machine by a network address: its guests must not be listed twice.
        log.info("this machine is managed already", extra={"host": twin.name})
        return
    with transaction.atomic():
        if host is None:
            new = [NewHypervisor(uri=uri) for uri in answers]
            host = host_add(name=_free_name(machine), hypervisors=new, by=SYSTEM, identify=False)
        else:
            for uri in answers:
                hypervisor_add(host=host, new=NewHypervisor(uri=uri), by=SYSTEM)
        LocalEndpoint.objects.bulk_create([LocalEndpoint(uri=uri, host=host) for uri in answers])
    log.info("registered this machine", extra={"host": host.name, "uris": ", ".join(answers)})


def _free_name(machine: HostInfo) -> str:
    """The host's name; a number behind it where somebody else has it."""
    name = (socket.gethostname() or machine.hostname or "localhost")[:90]
    taken = {row.lower() for row in Host.objects.filter(name__istartswith=name).values_list("name", flat=True)}
    return next(
        one for one in (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))) if one.lower() not in taken
    )


class LocalHost:
    """Looks for this machine's hypervisors while the with-block lasts, if `VMM_LOCAL_HOST` says so. Entering it returns at once."""

    def __init__(self, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._retry_seconds = retry_seconds
        self._thread = LongThread("vmm-local-host", self._run, fatal=False)

    def __enter__(self) -> Self:
        if settings.ENV.local_host == "auto":
            _set_looking(time.monotonic())
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.stop(0.5)
        _set_looking(None)

    def _run(self, stop: threading.Event) -> None:
        missing: Sequence[str] | None = None
        while not stop.is_set():
            try:
                missing = register_local(uris=missing)
            except (VmmError, DatabaseProblem):
                log.exception("this machine could not be registered, trying again")
                connections.close_all()
            _set_looking(None)
            if not missing and missing is not None:
                return  # all there, or not wanted
            stop.wait(self._retry_seconds)


def _set_looking(since: float | None) -> None:
    global _looking_since  # noqa: PLW0603 - one look a process is the fact that this variable states
    _looking_since = since
