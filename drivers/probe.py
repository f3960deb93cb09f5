"""The host doctor: tries one thing after the other on the way to a hypervisor, and names what is in the way.

Nothing is saved and nothing is changed on the host. Runs on a worker's thread; what may hang in a library runs on a thread
of its own that can be lost, so the deadline always holds.
"""

from __future__ import annotations

import getpass
import logging
import os
import queue
import shutil
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from drivers import advice, reach, registry
from drivers.errors import (
    AuthFailed,
    Denied,
    DriverError,
    InvalidDefinition,
    NotFound,
    Timeout,
    TlsFailed,
    Unreachable,
    Unsupported,
)
from drivers.reach import Budget, Trouble, Trust
from drivers.types import Feature, Technique
from drivers.uris import usual_port

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from drivers.base import Driver, Session
    from drivers.types import Endpoint, HostInfo, Support
    from drivers.uris import ParsedUri

log = logging.getLogger(__name__)

_R = TypeVar("_R")

Step = Literal["name", "reach", "port", "tls", "authentication", "driver", "rights", "capabilities"]
State = Literal["ok", "failed", "not_tried"]
STEPS: tuple[Step, ...] = ("name", "reach", "port", "tls", "authentication", "driver", "rights", "capabilities")

_NOT_USED = "Not used by this transport."
_RUN_LIBVIRT = Path("/run/libvirt")
_CA_FILE = Path("/etc/pki/CA/cacert.pem")
_CLIENT_FILES = (Path("/etc/pki/libvirt/clientcert.pem"), Path("/etc/pki/libvirt/private/clientkey.pem"))

_DAEMONS = {
    "qemu": "virtqemud",
    "lxc": "virtlxcd",
    "xen": "virtxend",
    "vbox": "virtvboxd",
    "vz": "virtvzd",
    "bhyve": "virtbhyved",
    "ch": "virtchd",
}
"""Kinds whose local URI leads to a daemon, and its name where libvirt runs one for each. The others' library does the work."""

_ACCELERATE = (
    "Guests are emulated, and slow: turn virtualization on in the firmware, then on the host: "
    "sudo modprobe kvm_intel || sudo modprobe kvm_amd"
)
_SECRET_MIN = 4
"""Shorter ones are part of ordinary words: hiding them would make nonsense of a sentence, and show what was hidden."""
_ENGINES = ("docker", "podman")
_ENGINE_TLS_PORT = 2376
_COMPARE_FILE = "openssl x509 -noout -fingerprint -sha256 -in THE-CERTIFICATE.pem"
_PORTS = {"tls": 16514, "tcp": 16509, "ssh": 22}
_SERVICES = {"tls": "libvirtd-tls.socket", "tcp": "libvirtd-tcp.socket", "ssh": "ssh"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeStep:
    """What one step found.

    Attributes:
        state: A step that the transport does not have (TLS on a unix socket) is `ok` and its evidence says so.
        evidence: What was seen, a sentence for a person. Never a secret. "" where the step was not tried.
        error_code: A stable word where it failed: an error's own (`auth_failed`, `host_denied`, `host_unreachable`,
            `timeout`, `unsupported`, …), or `name_not_found`, `address_refused`, `tls_failed`, `host_key_unknown`,
            `host_key_mismatch`.
        hint: What mends it, with the command to paste; on a step that is `ok`, what would make it better.
        trust: What the host showed, and one could believe once it was compared.
    """

    step: Step
    state: State
    evidence: str = ""
    error_code: str | None = None
    hint: str | None = None
    trust: Trust | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Found:
    """A step went well, or could not be tried yet."""

    evidence: str
    hint: str | None = None
    state: State = "ok"


def probe(
    endpoint: Endpoint,
    parsed: ParsedUri,
    *,
    deadline_seconds: float = 20.0,
    driver_of: Callable[[str], Driver] = registry.get,
) -> list[ProbeStep]:
    """Try every step of `STEPS` in turn, until one fails. Blocks at most `deadline_seconds` and a little; never raises."""
    doctor = _Doctor(endpoint, parsed, Budget(time.monotonic() + deadline_seconds), driver_of)
    steps: list[ProbeStep] = []
    failed = False
    for name in STEPS:
        step = ProbeStep(step=name, state="not_tried") if failed else doctor.take(name)
        failed = failed or step.state == "failed"
        steps.append(step)
    return steps


class _Doctor:
    """One probe."""

    def __init__(
        self, endpoint: Endpoint, parsed: ParsedUri, budget: Budget, driver_of: Callable[[str], Driver]
    ) -> None:
        self._endpoint = endpoint
        self._uri = parsed
        self._budget = budget
        self._driver_of = driver_of
        self._addresses: list[str] = []
        self._stream: socket.socket | None = None
        self._refused = ""
        self._visit: _Visit | None = None
        self._open_error: DriverError | None = None

    def take(self, name: Step) -> ProbeStep:
        """One step, timed, its words cleared of secrets."""
        started = time.monotonic()
        trust = None
        check: Callable[[], _Found] = getattr(self, f"_{name}")
        try:
            found = check()
            state, code = found.state, None
            evidence, hint = found.evidence, found.hint
        except Trouble as trouble:
            state, code, evidence, hint = "failed", trouble.code, trouble.evidence, trouble.hint
            trust = trouble.trust
        finally:
            if name == "tls":
                self._hang_up()
        return ProbeStep(
            step=name,
            state=state,
            evidence=self._clean(evidence),
            error_code=code,
            hint=self._clean(hint) if hint else None,
            trust=trust,
            seconds=round(time.monotonic() - started, 3),
        )

    # -- name ------------------------------------------------------------------------------------------------------
    def _name(self) -> _Found:
        if not self._uri.local:
            self._addresses = reach.resolve(self._uri.host, self._port_number(), self._budget)
            if self._addresses == [self._uri.host]:
                return _Found(f"{self._uri.host} is an address; there is no name to look up.")
            return _Found(f"{self._uri.host} is {', '.join(self._addresses)}.")
        sockets = self._sockets()
        if not sockets:
            return _Found("This machine itself; there is no name to look up.")
        there = next((path for path in sockets if path.exists()), None)
        if there is None:
            raise Trouble(
                f"There is no socket at {' or '.join(map(str, sockets))}.", code="host_unreachable", hint=self._start()
            )
        if not stat.S_ISSOCK(there.stat().st_mode):
            hint = "Name the hypervisor's socket; on its machine: ss -xl | grep libvirt"
            raise Trouble(f"{there} is not a socket.", code="host_unreachable", hint=hint)
        return _Found(f"The socket {there} is there.")

    def _sockets(self) -> list[Path]:
        """Where the local daemon listens; empty where the library itself does the work or starts the daemon."""
        if self._uri.socket:
            return [Path(self._uri.socket)]
        daemon = _DAEMONS.get(self._uri.driver)
        if daemon is None or self._uri.path == "/session":
            return []
        return [_RUN_LIBVIRT / "libvirt-sock", _RUN_LIBVIRT / f"{daemon}-sock"]

    # -- reach and port --------------------------------------------------------------------------------------------
    def _reach(self) -> _Found:
        if self._uri.local:
            return self._reach_socket()
        host, port = self._uri.host, self._port_number()
        try:
            self._stream, address = reach.connect(self._addresses, port, self._budget)
        except ConnectionRefusedError:
            self._refused = f"Nothing listens on port {port}."
            return _Found(f"{host} answers.")
        except TimeoutError:
            evidence = f"Neither {host} nor anything on the way to it answered on port {port}."
            hint = f"See whether the host is on and whether a firewall drops port {port}: ping -c 3 {host}; nc -vz {host} {port}"
            raise Trouble(evidence, code="timeout", hint=hint) from None
        except OSError as error:
            hint = (
                f"See whether the host is on and how it is routed: ping -c 3 {host}; ip route get {self._addresses[0]}"
            )
            raise Trouble(f"{host} cannot be reached: {_words(error)}.", code="host_unreachable", hint=hint) from None
        return _Found(f"{address} answers.")

    def _reach_socket(self) -> _Found:
        sockets = [path for path in self._sockets() if path.exists()]
        if not sockets:
            return _Found(self._no_daemon())
        try:
            reach.connect_unix(str(sockets[0]), self._budget).close()
        except PermissionError:
            raise Trouble(
                f"This account may not use {sockets[0]}.",
                code="host_denied",
                hint=_join_group(sockets[0], kind=self._uri.driver),
            ) from None
        except ConnectionRefusedError:
            self._refused = f"{sockets[0]} is left over: nothing listens on it."
        except TimeoutError:
            evidence = f"Nobody takes connections on {sockets[0]}: the daemon hangs."
            unit = self._uri.driver if self._uri.driver in ("docker", "podman") else "libvirtd"
            raise Trouble(evidence, code="timeout", hint=f"{_sudo()}systemctl restart {unit}") from None
        except OSError as error:
            raise Trouble(f"{sockets[0]}: {_words(error)}.", code="host_unreachable", hint=self._start()) from None
        return _Found(f"This account may use {sockets[0]}.")

    def _port(self) -> _Found:
        if self._refused:
            raise Trouble(self._refused, code="host_unreachable", hint=self._start())
        if self._uri.local:
            return _Found("Something listens." if self._sockets() else self._no_daemon())
        return _Found(f"Port {self._port_number()} is open.")

    def _no_daemon(self) -> str:
        if self._uri.path == "/session":
            return "libvirt starts this account's own daemon when asked."
        return "No daemon is needed: the library does the work."

    def _port_number(self) -> int:
        uri = self._uri
        if uri.port is not None:
            return uri.port
        if uri.driver in _ENGINES and uri.transport == "tcp":
            return _ENGINE_TLS_PORT
        return _PORTS.get(uri.transport) or usual_port(uri.scheme)

    # -- tls -------------------------------------------------------------------------------------------------------
    def _tls(self) -> _Found:
        uri, credentials = self._uri, self._endpoint.credentials
        if self._stream is not None and uri.transport == "ssh":
            banner = reach.ssh_banner(self._stream, self._budget)
            key = reach.ssh_host_key(uri.host, self._port_number(), credentials, self._budget)
            return _Found(f"{banner}; host key {key}.")
        if self._stream is None or not self._speaks_tls():
            hint = None
            if uri.transport == "tcp" and uri.driver not in _ENGINES:
                hint = "What is sent, passwords too, can be read on its way: prefer +tls or +ssh."
            return _Found(_NOT_USED, hint=hint)
        libvirt = uri.transport == "tls"
        plan = reach.TlsPlan(
            host=uri.host,
            ca_file=_CA_FILE if libvirt else None,
            certificate_files=_CLIENT_FILES if libvirt else None,
            greets=libvirt,
            compare="" if libvirt else advice.COMPARE.get(uri.driver, _COMPARE_FILE),
            plain=advice.PLAIN.get(uri.driver, "Check the port and the transport."),
            again=lambda: reach.connect(self._addresses, self._port_number(), self._budget)[0],
        )
        return _Found(reach.tls(self._stream, plan, credentials, self._budget))

    def _speaks_tls(self) -> bool:
        """Libvirt's TLS, an engine's TCP (both engines' clients here speak nothing else), and whatever names only a host."""
        uri = self._uri
        return uri.transport in ("", "tls") or (uri.transport == "tcp" and uri.driver in _ENGINES)

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.close()

    # -- authentication to capabilities: what the driver says --------------------------------------------------------
    def _authentication(self) -> _Found:
        try:
            driver = self._driver_of(self._endpoint.driver)
        except DriverError as error:
            self._open_error = error
            return _Found("There is no driver that could sign in.", state="not_tried")
        self._visit = _Visit(driver, self._endpoint)
        try:
            self._visit.opened(self._budget)
        except DriverError as error:
            if _step_of(error) == "authentication":
                raise self._trouble(error) from None
            self._open_error = error
        user = self._uri.user or (self._endpoint.credentials.username if self._endpoint.credentials else "")
        return _Found(f"Signed in as {user}." if user else "Signed in.")

    def _driver(self) -> _Found:
        if self._open_error is not None and _step_of(self._open_error) == "driver":
            raise self._trouble(self._open_error)
        if self._open_error is not None:
            return _Found("The host has this hypervisor.")
        info = self._ask(lambda visit: visit.host_info(self._budget))
        kind = info.virtualization_type.value.replace("_", " ")
        emulated = self._uri.driver in _DAEMONS and info.techniques == (Technique.EMULATION,)
        library = f", {info.library_version}" if info.library_version else ""
        return _Found(
            f"{info.hypervisor_version}{library}, on {info.hostname} ({kind}).", _ACCELERATE if emulated else None
        )

    def _rights(self) -> _Found:
        if self._open_error is not None:
            raise self._trouble(self._open_error)
        count, may_define = self._ask(lambda visit: visit.rights(self._budget))
        seen = f"Sees {count} guest{'' if count == 1 else 's'}"
        return _Found(f"{seen} and may change them." if may_define else f"{seen}.")

    def _capabilities(self) -> _Found:
        found = self._ask(lambda visit: visit.capabilities(self._budget))
        able = [str(feature) for feature in Feature if feature in found and found[feature].supported]
        unable = [str(feature) for feature in Feature if feature in found and not found[feature].supported]
        return _Found(f"Can: {', '.join(able) or 'nothing'}. Cannot: {', '.join(unable) or 'nothing is missing'}.")

    def _ask(self, question: Callable[[_Visit], _R]) -> _R:
        if self._visit is None:
            raise Trouble("Nobody has signed in.", code="unsupported")
        try:
            return question(self._visit)
        except DriverError as error:
            raise self._trouble(error) from None

    def _trouble(self, error: DriverError) -> Trouble:
        return Trouble(error.detail, code=error.code, hint=self._hint(error))

    def _hint(self, error: DriverError) -> str | None:
        """The command that mends what a driver reported."""
        where = "" if self._uri.local else f"On {self._uri.host}: "
        kind = self._uri.driver
        if isinstance(error, AuthFailed | Denied):
            return self._let_us_in(where, error)
        if self._visit is None:
            return "Nothing is wrong with the host: this version cannot drive hypervisors of this kind."
        if _step_of(error) == "driver":
            return self._missing(where, error)
        if isinstance(error, TlsFailed) and kind in advice.PLAIN:
            return advice.PLAIN[kind]
        return f"See what the host says: {where}{advice.LOGS.get(kind, f'{_sudo()}journalctl -u libvirtd -n 50')}"

    def _missing(self, where: str, error: DriverError) -> str:
        """What brings the hypervisor, where the host has let us in and has it not, or has another one."""
        kind = self._uri.driver
        then = advice.MISSING.get(kind, "Check the path in the URI.")
        if isinstance(error, NotFound | InvalidDefinition) and kind not in advice.MISSING:
            return "Check the path in the URI."
        if kind in advice.PACKAGES and kind not in _ENGINES:
            install = (
                f"{where}{_sudo()}apt install {advice.PACKAGES[kind]} && {_sudo()}{_restart(local=self._uri.local)}"
            )
            return f"{install}. {then}" if kind in advice.MISSING else install
        return then

    def _let_us_in(self, where: str, error: AuthFailed | Denied) -> str:
        if self._uri.socket.endswith("-ro"):
            return f"This is the socket for those who only look; use {self._uri.socket.removesuffix('-ro')}"
        if self._uri.driver in advice.ACCOUNTS:
            return advice.ACCOUNTS[self._uri.driver]
        if self._uri.local or isinstance(error, Denied):
            path = Path(self._uri.socket) if self._uri.local and self._uri.socket else None
            return where + _join_group(path, self._uri.user, kind=self._uri.driver)
        if self._uri.transport == "ssh":
            user = self._uri.user or "USER"
            return f"Let our key in; on {self._uri.host} add its public half to ~{user}/.ssh/authorized_keys."
        return "Check user name, password and certificates in the credentials."

    def _start(self) -> str:
        """The command that starts what should be listening."""
        uri = self._uri
        if uri.driver in advice.SERVICES and uri.transport != "ssh":
            return self._start_product()
        if not uri.local and uri.transport == "":
            return f"See whether {uri.host} is on and whether its management service runs; try: nc -vz {uri.host} {self._port_number()}"
        if not uri.local:
            return f"On {uri.host}: sudo systemctl enable --now {_SERVICES.get(uri.transport, 'libvirtd')}"
        if uri.socket:
            return "Start the daemon that listens there, or name another socket; see: ss -xl | grep libvirt"
        if shutil.which("libvirtd") is None and shutil.which(_DAEMONS.get(uri.driver, "libvirtd")) is None:
            return f"{_sudo()}apt install libvirt-daemon-system {advice.PACKAGES.get(uri.driver, '')}".rstrip()
        return _sudo() + _restart(local=True, verb="start")

    def _start_product(self) -> str:
        """The same for what is no libvirt."""
        kind = self._uri.driver
        if not self._uri.local:
            return f"See whether {self._uri.host} is the right machine; there: {advice.SERVICES[kind]}"
        if shutil.which(kind) is None:
            return f"{_sudo()}apt install {advice.PACKAGES[kind]}"
        return advice.SERVICES[kind]

    def _clean(self, text: str) -> str:
        """`text` without anything secret: a library may quote what it was given."""
        credentials = self._endpoint.credentials
        if credentials is not None:
            for secret in (credentials.password, credentials.private_key):
                if len(secret) >= _SECRET_MIN:
                    text = text.replace(secret, "<hidden>")
        return text


class _Visit:
    """One session of the probe's own, on a thread that may be lost: it opens, answers every question, and closes."""

    def __init__(self, driver: Driver, endpoint: Endpoint) -> None:
        self._answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        threading.Thread(target=self._run, args=(driver, endpoint), name="probe-visit", daemon=True).start()

    def opened(self, budget: Budget) -> None:
        """Wait until the session stands. Raises DriverError."""
        self._next(budget)

    def host_info(self, budget: Budget) -> HostInfo:
        """The host, and what runs on it. Raises DriverError."""
        return cast("HostInfo", self._next(budget))

    def rights(self, budget: Budget) -> tuple[int, bool]:
        """How many guests are seen, and whether guests may be defined. Raises DriverError."""
        return cast("tuple[int, bool]", self._next(budget))

    def capabilities(self, budget: Budget) -> Mapping[Feature, Support]:
        """What works there. Raises DriverError."""
        return cast("Mapping[Feature, Support]", self._next(budget))

    def _next(self, budget: Budget) -> object:
        try:
            answer = self._answers.get(timeout=budget.left(most=60.0))
        except queue.Empty:
            raise Timeout(
                "The port is open, but the hypervisor did not answer in time: it hangs, or speaks another protocol."
            ) from None
        if isinstance(answer, DriverError):
            raise answer
        return answer

    def _run(self, driver: Driver, endpoint: Endpoint) -> None:
        session: Session | None = None
        try:
            session = driver.open(endpoint)
            self._answers.put(None)
            self._answers.put(session.host_info())
            capabilities = session.capabilities()
            self._answers.put((len(session.guests()), _may_define(session, capabilities)))
            self._answers.put(capabilities)
        except DriverError as error:
            self._answers.put(error.with_traceback(None))
        except Exception as error:
            log.exception("driver raised a foreign error", extra={"driver": endpoint.driver})
            self._answers.put(DriverError(f"The driver failed: {type(error).__name__}."))
        finally:
            if session is not None:
                _close(session)


def _may_define(session: Session, capabilities: Mapping[Feature, Support]) -> bool:
    """Whether this account may change anything. Raises Denied where it may not.

    An empty definition is offered: whoever may define is told that it is none, whoever may not is told so before anybody
    reads it (libvirt checks a connection's right first). Nothing is made either way.
    """
    support = capabilities.get(Feature.DEFINE)
    if support is None or not support.supported:
        return False
    try:
        session.define("<domain/>")
    except Denied as error:
        raise Denied(
            f"This account may look but not change anything (a read-only connection): {error.detail}"
        ) from None
    except (Timeout, Unreachable):
        raise
    except DriverError:
        return True
    return True


def _close(session: Session) -> None:
    try:
        session.close()
    except DriverError:
        log.info("closing a probe's session failed", exc_info=True)


def _step_of(error: DriverError) -> Step:
    """The step that an error of `Driver.open` belongs to: it signs in, finds the driver and checks rights in one call."""
    if isinstance(error, Denied):
        return "rights"
    # libvirt answers "no connection driver available" where the host lacks this hypervisor: it has let us in by then.
    said = str(error.context.get("libvirt_message", ""))
    if isinstance(error, Unsupported | NotFound | InvalidDefinition) or "no connection driver" in said:
        return "driver"
    return "authentication"


def _sudo() -> str:
    return "" if os.geteuid() == 0 else "sudo "


def _restart(*, local: bool, verb: str = "restart") -> str:
    if local and not Path("/run/systemd/system").exists():
        return "libvirtd -d"
    return f"systemctl {verb} libvirtd"


def _join_group(path: Path | None, user: str = "", *, kind: str) -> str:
    """How to let this account in at a local socket (or the host's account at the host's)."""
    group = advice.GROUPS.get(kind, "libvirt")
    if path is not None:
        try:
            owner = path.group()
        except (KeyError, OSError):
            owner = "root"
        if owner == "root" and kind == "podman":
            return advice.ROOTLESS
        group = group if owner == "root" else owner
    return f"sudo usermod -aG {group} {user or _account()}, then sign in anew (or restart this service)."


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else type(error).__name__
