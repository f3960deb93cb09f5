"""One live connection to a container engine: the verbs, and the thread that notices when the engine is gone."""
# ruff: noqa: D102 - what the verbs do stands in `drivers.base`

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from drivers.base import Session
from drivers.dockerd import counters, design, errors
from drivers.dockerd.batch import in_parallel
from drivers.dockerd.console import ShellConsole
from drivers.dockerd.dial import dialer
from drivers.dockerd.document import Document
from drivers.dockerd.document import rows as rows_of
from drivers.dockerd.engine import Engine
from drivers.dockerd.events import EventTap
from drivers.dockerd.guests import (
    ALWAYS,
    Room,
    container_id,
    inspected,
    inspected_state,
    is_id,
    listed,
    stop_signal,
)
from drivers.dockerd.machine import Machine
from drivers.dockerd.networks import network_infos
from drivers.errors import DriverError, InvalidDefinition, NotFound, Timeout, Unreachable, Unsupported, WrongState
from drivers.types import Feature, GuestState, Support

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from drivers.base import Driver
    from drivers.types import (
        AddressInfo,
        Endpoint,
        GuestEvent,
        GuestInfo,
        GuestRef,
        GuestSpec,
        GuestStats,
        HostInfo,
        HostStats,
        NetworkInfo,
    )

_R = TypeVar("_R")

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")

PULSE_SECONDS = 5.0
"""How often the engine is asked whether it is there. With two pings of 5 s a frozen one is noticed after 15 s."""
RESTART_GRACE_SECONDS = 10
READS_AT_ONCE = 6
"""`inspect` and `stats` are one call a container: so many at a time, on connections that are kept."""


class DockerSession(Session):
    """Docker's or Podman's. All of its calls have a deadline, and all of its connections end with it."""

    def __init__(self, driver: Driver, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._driver = driver
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._lost = ""
        self._doubt = threading.Event()
        self._callbacks: list[Callable[[str], None]] = []
        self._tap: EventTap | None = None
        self._known: dict[str, GuestInfo] = {}
        self._engine = Engine(dialer(endpoint))
        try:
            self._engine.greet()
            self._check_kind()
            self._machine = Machine.of(self._engine)
        except BaseException:
            self._engine.close()
            raise
        threading.Thread(target=self._pulse, name="docker-pulse", daemon=True).start()

    # -- facts -----------------------------------------------------------------------------------------------------------
    def host_info(self) -> HostInfo:
        return self._call(lambda: Machine.of(self._engine).info())

    def host_stats(self) -> HostStats:
        """Of this machine as the kernel counts; of another what the engine said when it was opened, without a round trip."""
        self._usable()
        return self._machine.stats()

    def capabilities(self) -> Mapping[Feature, Support]:
        driver = self._driver
        return {
            feature: Support(supported=feature in driver.features, reason=driver.reasons.get(feature, ""))
            for feature in Feature
        }

    def guests(self) -> Sequence[GuestInfo]:
        """The list, and one `inspect` for each: limits, restart policy and exit code are nowhere else."""
        rows = self._call(self._list)
        by_id = {container_id(row): row for row in rows}
        found = in_parallel(self._inspect_or_error, list(by_id), at_once=READS_AT_ONCE)
        infos = []
        for uuid, row in by_id.items():
            answer = found[uuid]
            if isinstance(answer, Timeout):  # an engine can lock one container for good
                answer = listed(row, self._known.get(uuid), self._room)
            if isinstance(answer, NotFound):
                continue  # gone since the list was made
            if isinstance(answer, DriverError):
                raise answer
            infos.append(answer)
        self._known = {info.uuid: info for info in infos}
        return infos

    def guests_by_ref(self, refs: Sequence[GuestRef]) -> Sequence[GuestInfo]:
        found = in_parallel(self._inspect_or_error, [ref.uuid for ref in refs], at_once=READS_AT_ONCE)
        infos = []
        for ref in refs:
            answer = found[ref.uuid]
            if isinstance(answer, NotFound):
                continue
            if isinstance(answer, DriverError):
                raise answer
            infos.append(answer)
        return infos

    def guest(self, ref: GuestRef) -> GuestInfo:
        return inspected(self._inspect(ref.uuid), self._room)

    def guest_or_none(self, ref: GuestRef) -> GuestInfo | None:
        try:
            return self.guest(ref)
        except NotFound:
            return None

    def guest_state(self, ref: GuestRef) -> tuple[GuestState, str]:
        return inspected_state(self._inspect(ref.uuid))

    # -- power -----------------------------------------------------------------------------------------------------------
    def start(self, ref: GuestRef) -> None:
        """Docker answers 304 where it runs, which is a `WrongState` here."""
        self._must_be(ref, GuestState.SHUTOFF, GuestState.CRASHED)
        self._do(lambda client: client.start(ref.uuid))

    def shutdown(self, ref: GuestRef) -> None:
        """The signal that the image asks to be stopped by, and no kill after it: that is what `force_off` is for.

        By this signal Docker knows that its restart policy must not bring the container back. Podman does not (measured); it
        knows by `stop`, which is told to wait a day before it kills.
        """
        found = self._must_be(ref, GuestState.RUNNING, GuestState.SHUTTING_DOWN)
        if self._engine.podman and found.text("State", "Status") == "running":
            self._call(lambda: self._engine.begin_stop(ref.uuid))
        else:
            self._do(lambda client: client.kill(ref.uuid, stop_signal(found)))

    def reboot(self, ref: GuestRef) -> None:
        """Stop (kill, after 10 s) and start; back when it runs again."""
        self._must_be(ref, GuestState.RUNNING)
        self._do(lambda client: client.restart(ref.uuid, timeout=RESTART_GRACE_SECONDS))

    def force_off(self, ref: GuestRef) -> None:
        alive = (GuestState.RUNNING, GuestState.PAUSED, GuestState.SHUTTING_DOWN)
        if (
            self._must_be(ref, *alive).text("State", "Status") == "restarting"
        ):  # there is no process to kill; stopping ends the waiting for the next one
            self._do(lambda client: client.stop(ref.uuid, timeout=0))
        else:
            self._do(lambda client: client.kill(ref.uuid))

    def suspend(self, ref: GuestRef) -> None:
        self._must_be(ref, GuestState.RUNNING)
        self._do(lambda client: client.pause(ref.uuid))

    def resume(self, ref: GuestRef) -> None:
        self._must_be(ref, GuestState.PAUSED)
        self._do(lambda client: client.unpause(ref.uuid))

    def set_autostart(self, ref: GuestRef, *, enabled: bool) -> None:
        """By the restart policy. One that has the wanted effect already stays as it is (`unless-stopped`, `on-failure`)."""
        if Feature.AUTOSTART not in self._driver.features:
            raise self.unsupported(Feature.AUTOSTART)
        policy = self._inspect(ref.uuid).text("HostConfig", "RestartPolicy", "Name")
        if enabled is not (policy in ALWAYS):
            name = "always" if enabled else "no"
            self._do(lambda client: client.update_container(ref.uuid, restart_policy={"Name": name}))

    def undefine(self, ref: GuestRef) -> None:
        """Remove the container. Its volumes stay, the anonymous ones too."""
        self._must_be(ref, GuestState.SHUTOFF, GuestState.CRASHED)
        self._do(lambda client: client.remove_container(ref.uuid, v=False, force=False))

    # -- a guest to be made ----------------------------------------------------------------------------------------------
    def design(self, spec: GuestSpec) -> str:
        """The JSON that the engine would be sent. Asks whether it has the image. Raises NotFound where it has not."""
        made = design.body(spec, self._room)
        self._check_image(spec.image)
        return design.shown(spec.name, made)

    def create(self, spec: GuestSpec) -> GuestInfo:
        """Create the container. Raises NotFound where the engine has not the image: it is not pulled."""
        made = design.body(spec, self._room)
        there = self._made_before(spec)
        if there is None:
            self._check_image(spec.image)
            answer = self._call(
                lambda: self._engine.document(lambda client: client.create_container_from_config(made, spec.name))
            )
            there = container_id(answer)
        return inspected(self._inspect(there), self._room)

    def addresses(self, ref: GuestRef) -> Mapping[str, Sequence[AddressInfo] | str]:
        """One source, `lease`: engines have no agents, and choose the addresses themselves."""
        return {"lease": design.addresses(self._must_be(ref, GuestState.RUNNING, GuestState.PAUSED))}

    # -- networks ------------------------------------------------------------------------------------------------------
    def networks(self) -> Sequence[NetworkInfo]:
        """What a container can be put on, by its name. One call."""
        rows = self._call(lambda: self._engine.documents(lambda client: client.networks(), what="networks"))
        return network_infos(rows, podman=bool(self._engine.podman))

    def _made_before(self, spec: GuestSpec) -> str | None:
        labels = {"label": [f"{design.UUID_LABEL}={spec.uuid.lower()}"]}
        rows = self._call(
            lambda: self._engine.documents(lambda client: client.containers(all=True, filters=labels), what="list")
        )
        return container_id(rows[0]) if rows else None

    def _check_image(self, image: str) -> None:
        try:
            self._do(lambda client: client.inspect_image(image))
        except NotFound as error:
            message = f"image: the engine has no image {image}; pull it there first ({self._driver.kind} pull {image})."
            raise NotFound(message, field="image") from error

    def rename(self, ref: GuestRef, name: str) -> None:
        """Engines rename running containers, too; here it is the same everywhere. Podman says 500 to a name that cannot be."""
        if _NAME.fullmatch(name) is None:
            message = "A container's name has letters, digits and _.- after a first letter or digit, at most 255."
            raise InvalidDefinition(message, guest=ref.name or ref.uuid)
        found = self._must_be(ref, GuestState.SHUTOFF, GuestState.CRASHED)
        if found.text("Name").removeprefix("/") != name:
            self._do(lambda client: client.rename(ref.uuid, name))

    # -- watching --------------------------------------------------------------------------------------------------------
    def stats(self) -> Sequence[GuestStats]:
        """Podman tells all at once; Docker is asked for each, and one that does not answer in 4 s is left out."""
        rows = self._call(lambda: self._engine.documents(lambda client: client.containers(), what="list"))
        running = [container_id(row) for row in rows]
        if self._engine.podman:
            return self._call(lambda: self._podman_stats(frozenset(running))) if running else []
        found = in_parallel(self._one_stats, running, at_once=READS_AT_ONCE)
        return [each for each in found.values() if each is not None]

    def subscribe(self, sink: Callable[[GuestEvent], None]) -> None:
        """One stream serves all sinks of the session. It stands when this returns."""
        with self._lock:
            self._usable()
            if self._tap is None:
                self._tap = EventTap(self._engine, ended=self._break)
            self._tap.add(sink)

    # -- consoles --------------------------------------------------------------------------------------------------------
    def open_console(self, ref: GuestRef, kind: str, *, take_over: bool = False) -> ShellConsole:
        """`serial` and `shell` are both a shell of its own: nobody has to be thrown out."""
        if kind not in ("serial", "shell"):
            raise self.unsupported(Feature(f"console.{kind}"))
        self._must_be(ref, GuestState.RUNNING)
        return self._call(lambda: ShellConsole(self._engine, ref.uuid))

    # -- life ------------------------------------------------------------------------------------------------------------
    def alive(self) -> bool:
        return not self._closed.is_set() and not self._lost

    def on_close(self, callback: Callable[[str], None]) -> None:
        with self._lock:
            self._callbacks.append(callback)
            lost = self._lost
        if lost:
            self._tell_lost()

    def close(self) -> None:
        """Ends every connection, so whoever waits on one wakes."""
        self._closed.set()
        self._doubt.set()
        self._engine.close()

    def _pulse(self) -> None:
        """Thread `docker-pulse`: asks now and then, and at once when a call found the connection broken."""
        while not self._closed.is_set():
            self._doubt.wait(PULSE_SECONDS)
            self._doubt.clear()
            if self._closed.is_set():
                return
            try:
                self._ping()
            except DriverError as error:
                self._break(error.detail)
                return

    def _ping(self) -> None:
        try:
            self._engine.ping()
        except Timeout:
            self._engine.ping()

    def _break(self, reason: str) -> None:
        """The engine is gone: end what is left of the connection, and tell, once."""
        with self._lock:
            if self._lost or self._closed.is_set():
                return
            self._lost = reason or "The engine is gone."
        self._engine.close()
        self._tell_lost()

    def _tell_lost(self) -> None:
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self._lost)

    # -- pieces ----------------------------------------------------------------------------------------------------------
    @property
    def _room(self) -> Room:
        return self._machine.room

    def _usable(self) -> None:
        if not self.alive():
            raise errors.closed()

    def _call(self, call: Callable[[], _R]) -> _R:
        self._usable()
        try:
            return call()
        except Unreachable:
            self._doubt.set()
            raise

    def _do(self, call: Callable[..., object]) -> None:
        self._call(lambda: self._engine.do(call))

    def _check_kind(self) -> None:
        """Both engines answer the same calls, and differ in what they do."""
        found = "podman" if self._engine.podman else "docker"
        if found != self._driver.kind:
            message = f"{found.capitalize()} answers there, not {self._driver.label}: add it as {found}+…://."
            raise Unsupported(message)

    def _list(self) -> list[Document]:
        """All containers. Podman's infrastructure containers only hold a pod's namespaces: they are no guests."""
        rows = self._engine.documents(lambda client: client.containers(all=True), what="list")
        if not self._engine.podman:
            return rows
        own = self._engine.libpod("/containers/json", all="true")
        hidden = {row.text("Id") for row in rows_of(own, what="list") if row.flag("IsInfra")}
        return [row for row in rows if row.text("Id") not in hidden]

    def _inspect(self, uuid: str) -> Document:
        """By identity alone: the engine would take a name, or the beginning of an identity, as well."""
        if not is_id(uuid):
            raise NotFound("The engine does not know this container.")
        found = self._call(
            lambda: self._engine.document(lambda client: client.inspect_container(uuid), what="container")
        )
        if container_id(found) != uuid:
            raise NotFound("The engine does not know this container.")
        return found

    def _inspect_or_error(self, uuid: str) -> GuestInfo | DriverError:
        try:
            return inspected(self._inspect(uuid), self._room)
        except DriverError as error:
            return error

    def _must_be(self, ref: GuestRef, *states: GuestState) -> Document:
        """The container, if it is in one of these states; engines accept some verbs in any (`restart` starts, …)."""
        found = self._inspect(ref.uuid)
        state, reason = inspected_state(found)
        if state not in states:
            raise WrongState(f"The container is {found.text('State', 'Status')}.", state=str(state), reason=reason)
        return found

    def _one_stats(self, uuid: str) -> GuestStats | None:
        try:
            found = self._call(lambda: self._engine.stats(uuid))
        except (NotFound, Timeout, WrongState):
            return None
        return counters.of_docker(found, uuid=uuid, at=time.monotonic(), vcpus=self._vcpus(uuid))

    def _podman_stats(self, running: frozenset[str]) -> list[GuestStats]:
        """Its answer has rows of containers that never ran, too (measured)."""
        answer = Document(self._engine.libpod("/containers/stats", stream="false"), what="stats")
        now = time.monotonic()
        return [
            counters.of_podman(row, at=now, vcpus=self._vcpus(row.text("ContainerID")))
            for row in answer.parts("Stats")
            if row.text("ContainerID") in running
        ]

    def _vcpus(self, uuid: str) -> int:
        known = self._known.get(uuid)
        return known.vcpus if known else max(1, self._room.cpu_count)
