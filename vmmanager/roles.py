"""The four roles (web, worker, watcher, beat), each startable alone or all in one process. The same code either way."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import resource
import signal
import socket
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING

import uvicorn
from celery.beat import Service
from celery.worker import WorkController
from django.conf import settings
from django.db import DatabaseError

from core.threads import LongThread, database_released
from drivers.pool import the_pool
from operations import reconcile
from operations.lease import keeper
from vmmanager.celery import app as celery_app
from vmmanager.environment import Unusable
from vmmanager.server import Server
from watcher.service import WatcherService

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

DESCRIPTORS = 65_536

STOP_SECONDS = 4.0
"""How long an orderly stop waits for operations that are nearly done; the others go on at the next start."""


class Worker:
    """Carries out operations: Celery's consumer on one thread, actions on a pool of threads (libvirt frees the GIL)."""

    def __init__(self) -> None:
        self._controller = WorkController(
            app=celery_app,
            pool="threads",
            concurrency=settings.ENV.worker_threads,
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
            hostname=f"worker@{threading.get_native_id()}",
            loglevel="WARNING",
        )
        self._thread = LongThread("vmm-worker", self._consume)

    def _consume(self, stop: threading.Event) -> None:
        self._controller.start()
        if not stop.is_set():
            raise RuntimeError("Celery's consumer ended by itself")

    def start(self) -> None:
        """Take over what dead processes of this machine left, then listen."""
        with database_released():  # this thread waits for a signal from here on, the database may restart meanwhile
            self._take_over()
            self._thread.start()
            reconcile.reconcile()

    @staticmethod
    def _take_over() -> None:
        taken = reconcile.take_over_from_the_dead(alone=settings.EMBEDDED)
        if taken:
            log.info("took over interrupted operations", extra={"count": taken})

    def stop(self) -> None:
        """Take nothing new, and wait a little for what runs. What is left fails from now on, and is not written."""
        self._thread.stopping.set()
        stopper = threading.Thread(target=self._controller.stop, daemon=True)
        stopper.start()
        deadline = time.monotonic() + STOP_SECONDS
        while keeper.held() and time.monotonic() < deadline:
            time.sleep(0.05)
        keeper.leave()

    @staticmethod
    def hand_back() -> None:
        """The very last: from here on another process may work on what was left, so nothing of ours may any more."""
        try:
            reconcile.hand_back()
        except DatabaseError:
            log.warning("what still runs could not be handed back, its leases will run out", exc_info=True)


class Beat:
    """Rings the periodic tasks. Its schedule is in code and each task may run late or twice, so it keeps no state."""

    def __init__(self) -> None:
        self._service = Service(app=celery_app, max_interval=5, scheduler_cls="celery.beat:Scheduler")
        self._thread = LongThread("vmm-beat", self._tick)

    def _tick(self, stop: threading.Event) -> None:
        scheduler = self._service.get_scheduler()
        while not stop.wait(min(scheduler.tick(), 5.0)):
            pass

    def start(self) -> None:
        """On a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """At once."""
        self._thread.stop(1.0)


class _Server(Server):
    """Uvicorn without its habit of raising the signal again after its own orderly shutdown: there is more to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the serving; the second one ends it hard."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def listen() -> socket.socket:
    """The socket of `VMM_BIND`, bound before anything else is begun. Raises Unusable."""
    env = settings.ENV
    family = socket.AF_INET6 if ":" in env.bind_host else socket.AF_INET
    try:
        listener = socket.create_server((env.bind_host, env.bind_port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Unusable(f"{env.bind} is in use: end the program there, or set VMM_BIND to another port.") from None
        raise Unusable(f"{env.bind} (VMM_BIND) cannot be used: {error.strerror}") from None
    # Accepted connections inherit it. asyncio sets it only on sockets that it made itself; without it an answer's body
    # waits 40 ms for the acknowledgement of its head (measured).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve_web(listener: socket.socket) -> None:
    """Answer HTTP and WebSockets until SIGINT or SIGTERM; open sockets get 1012."""
    env = settings.ENV
    config = uvicorn.Config(
        "vmmanager.asgi:application",
        ssl_certfile=str(env.tls_cert) if env.tls_cert else None,
        ssl_keyfile=str(env.tls_key) if env.tls_key else None,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=2,
        ws_max_size=1024 * 1024,
        # What is compressed grows a thousandfold before anybody has signed in: ten sockets with 260 kB each took 740 MB (measured).
        ws_per_message_deflate=False,
        ws="websockets-sansio",
    )
    settle()
    asyncio.run(_Server(config).serve(sockets=[listener]))


def settle() -> None:
    """What was loaded until now stays for good: take it out of the garbage collector's rounds.

    A full round over the modules of Django, Celery and ours stops all threads for 50 ms, and a sweep of some hundred guests
    brought about several: writing down 1,000 guests took 350 ms of CPU, now 240 (measured).
    """
    import_module(settings.ROOT_URLCONF)  # else loaded by the first request
    gc.collect()
    gc.freeze()


def wait_for_signal() -> None:
    """Block the main thread until SIGINT or SIGTERM."""
    settle()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def raise_descriptor_limit() -> None:
    """Take the descriptors that we may have: 1024, where most systems begin, are too few for 200 hypervisors of 5 and more.

    None of ours uses `select`, for whose sake the soft limit is that low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def running(*, worker: bool = False, watcher: bool = False, beat: bool = False) -> Iterator[None]:
    """These roles, started in order and stopped in the other."""
    raise_descriptor_limit()
    with contextlib.ExitStack() as stack:
        if worker:
            stack.callback(Worker.hand_back)
        stack.callback(the_pool().close)
        if watcher:
            service = WatcherService()
            service.start()
            stack.callback(service.stop)
        if worker:
            carrier = Worker()
            carrier.start()
            stack.callback(carrier.stop)
        if beat:
            clock = Beat()
            clock.start()
            stack.callback(clock.stop)
        yield
