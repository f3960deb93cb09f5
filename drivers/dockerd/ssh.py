"""SSH to an engine: one OpenSSH client a session that forwards the engine's socket; all connections go through it.

No word of a user reaches a shell: the client is started by its arguments, the host stands behind `--`, the command that runs
there is a fixed one, and what is forwarded is one of the fixed paths below. The key lies in a directory of mode 0700 until
the client has signed in. The far end stays only while our pipe to it is open, so it goes when this process does.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from drivers.dockerd.wire import Line, unix_line
from drivers.errors import AuthFailed, Denied, DriverError, Timeout, Unreachable
from drivers.ssh import client_options

if TYPE_CHECKING:
    from drivers.types import Endpoint

SIGN_IN_SECONDS = 9.0
TRY_SECONDS = 5.0
SOCKETS = {"docker": "/var/run/docker.sock", "podman": "/run/podman/podman.sock"}
OWN_SOCKETS = {"docker": "/run/user/{}/docker.sock", "podman": "/run/user/{}/podman/podman.sock"}
"""Of an engine that runs as the account itself (rootless), by its number."""
_COMMAND = "id -u; exec cat"
_ASK = b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n"
_WORDS_MAX = 4096
_REFUSED = ("permission denied", "host key verification failed", "no matching host key", "identification has changed")


class Tunnel:
    """An SSH connection whose far end is the engine's socket (`drivers.dockerd.dial.Dialer`)."""

    local = False

    def __init__(self, endpoint: Endpoint, *, engine: str) -> None:
        parts = urlsplit(endpoint.uri)
        credentials = endpoint.credentials
        self._host = parts.hostname or ""
        self._user = parts.username or (credentials.username if credentials else "")
        self._port = parts.port
        self._lock = threading.Lock()
        self._directory = Path(tempfile.mkdtemp(prefix="vmm-ssh-"))  # mkdtemp makes it 0700
        self._socket = self._directory / "engine"
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._open(client_options(endpoint.uri, credentials, self._directory), engine)
        except BaseException:
            self.close()
            raise
        for secret in ("key", "known_hosts"):
            (self._directory / secret).unlink(missing_ok=True)

    def dial(self) -> Line:
        """One connection through the tunnel."""
        process = self._process
        if process is None or process.poll() is not None:
            raise Unreachable(f"The SSH connection to {self._host} is closed.")
        return unix_line(str(self._socket))

    def close(self) -> None:
        """End the client. Never raises, twice is fine."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    # -- the way there -------------------------------------------------------------------------------------------------
    def _open(self, options: list[str], engine: str) -> None:
        account = self._sign_in(options)
        for path in (SOCKETS[engine], OWN_SOCKETS[engine].format(account)):
            self._forward("forward", path)
            if self._answers():
                return
            self._forward("cancel", path)
            self._socket.unlink(missing_ok=True)
        why = self._words()
        raise (Denied if "prohibited" in why else Unreachable)(
            f"{self._host} lets us in, but no engine answers this account at {SOCKETS[engine]}: it does not run, the account "
            f"may not use its socket, or sshd forwards no sockets (AllowStreamLocalForwarding)."
        )

    def _sign_in(self, options: list[str]) -> int:
        """Start the client; the account's number there, once it is in."""
        fixed = ["-T", "-M", "-S", str(self._directory / "control"), "-o", "ControlPersist=no", "-o", "LogLevel=ERROR"]
        fixed += ["-o", "ForwardAgent=no", "-o", "PermitLocalCommand=no", "-o", "IdentityAgent=none"]
        fixed += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=2", "-o", "BatchMode=yes"]
        where = ["-p", str(self._port)] if self._port else []
        if self._user:
            where += ["-l", self._user]
        with (self._directory / "words").open("wb") as words:
            process = subprocess.Popen(  # noqa: S603 - a list of checked parts, no shell
                ["ssh", *fixed, *options, *where, "--", self._host, _COMMAND],  # noqa: S607 - the system's OpenSSH
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                start_new_session=True,  # a terminal's Ctrl-C is for us, not for it
            )
        self._process = process
        line = _first_line(process, time.monotonic() + SIGN_IN_SECONDS)
        if line is None:
            raise Timeout(f"{self._host} did not let us in within {SIGN_IN_SECONDS:.0f} s.")
        if not line.strip().isdigit() or len(line) > 12:
            process.kill()
            process.wait()
            raise self._refusal()
        return int(line)

    def _forward(self, verb: str, path: str) -> None:
        arguments = [
            "-S",
            str(self._directory / "control"),
            "-O",
            verb,
            "-L",
            f"{self._socket}:{path}",
            "--",
            self._host,
        ]
        try:
            done = subprocess.run(  # noqa: S603 - as above
                ["ssh", *arguments],  # noqa: S607 - as above
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TRY_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Timeout(f"The SSH connection to {self._host} stopped answering.") from error
        if done.returncode != 0 and verb == "forward":
            raise self._refusal()

    def _answers(self) -> bool:
        """Whether an engine is behind the socket: where sshd cannot reach it, it only closes the connection."""
        deadline = time.monotonic() + TRY_SECONDS
        line = unix_line(str(self._socket))
        try:
            line.send_all(_ASK, deadline)
            return line.recv(1, deadline) != b""
        except TimeoutError as error:
            raise Timeout(f"The engine on {self._host} does not answer.") from error
        except OSError:
            return False
        finally:
            line.close()

    def _refusal(self) -> DriverError:
        words = self._words()
        if any(word in words.lower() for word in _REFUSED):
            return AuthFailed(f"SSH to {self._host} was refused: {words}")
        return Unreachable(f"SSH to {self._host} failed: {words or 'it closed the connection.'}")

    def _words(self) -> str:
        """The client's last line on its standard error, which names hosts and never keys."""
        try:
            with (self._directory / "words").open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _WORDS_MAX))
                text = file.read(_WORDS_MAX).decode("utf-8", "replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return "".join(sign if sign.isprintable() else " " for sign in lines[-1])[:300] if lines else ""


def _first_line(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """What the far end says first; `b""` where it ends without a word, None where it says nothing in time."""
    if process.stdout is None:
        return b""
    number, data = process.stdout.fileno(), b""
    while b"\n" not in data and len(data) < _WORDS_MAX:
        poll = select.poll()  # select() refuses descriptors from 1024 on
        poll.register(number, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        piece = os.read(number, 256)
        if not piece:
            break
        data += piece
    return data.partition(b"\n")[0]
