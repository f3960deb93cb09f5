"""What the engine refuses and what its client library raises become our errors: the only place that knows them."""

from __future__ import annotations

import json
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests
import urllib3
from docker.errors import DockerException

from drivers import errors
from drivers.tls import translate as tls_error

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGE_MAX = 400


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. The first line that fits wins.

    Attributes:
        status: The HTTP status; None fits any.
        error: What it becomes.
        why: The evidence for this line.
        text: Lower-case words, one of which the message must contain; empty fits any.
        say: The sentence for a person; "" takes the engine's own.
    """

    status: int | None
    error: type[errors.DriverError]
    why: str
    text: tuple[str, ...] = ()
    say: str = ""


TABLE: tuple[Row, ...] = (
    Row(None, errors.NoSpace, "comes as 500 from any layer", ("no space left on device", "disk quota exceeded")),
    Row(
        None,
        errors.NotFound,
        "404; Podman says 500 where the container goes while the call runs",
        ("no such container", "no container with name or id"),
        "The engine does not know this container.",
    ),
    Row(
        None,
        errors.AlreadyExists,
        "measured: 409 of Docker, 500 of Podman 4.3",
        ("is already in use by", "that name is already in use", "already in use, cannot rename"),
    ),
    Row(None, errors.Busy, "409 while another removes it", ("removal of container", "already in progress")),
    Row(None, errors.WrongState, "measured: Podman 4.3 answers 500", ("container state improper",)),
    Row(None, errors.WrongState, "measured: Docker answers 500 to unpause", ("is not paused", "is not running")),
    Row(304, errors.WrongState, "start of a running container", say="The container is running already."),
    Row(
        404,
        errors.Unsupported,
        "measured: a path that the engine does not have",
        ("page not found", "\nnot found"),
        "This engine has no such call.",
    ),
    Row(404, errors.NotFound, "image, exec, …"),
    Row(409, errors.WrongState, "paused, running, restarting, …"),
    Row(400, errors.InvalidDefinition, "a parameter, or what the container is to run"),
    Row(401, errors.AuthFailed, "a proxy before the engine"),
    Row(403, errors.Denied, "an authorization plug-in, or a proxy before the engine"),
    Row(405, errors.Unsupported, "a proxy that filters calls"),
    Row(501, errors.Unsupported, "not built in, or not with this runtime"),
    Row(408, errors.Timeout, "a proxy before the engine"),
    Row(504, errors.Timeout, "a proxy before the engine"),
    Row(502, errors.Unreachable, "a proxy whose engine is gone"),
    Row(503, errors.Unreachable, "a proxy whose engine is gone"),
)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OURS_REFUSED_MARKS = (
    *("ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE", "CERTIFICATE_REQUIRED"),
    *("ALERT_DECRYPT_ERROR", "ALERT_UNSUPPORTED_CERTIFICATE", "ALERT_ACCESS_DENIED"),
)


def refusal(status: int, body: bytes) -> errors.DriverError:
    """What an answer that is no success means."""
    if status in _REDIRECTS or not 300 <= status < 600:
        return unreadable(f"HTTP status {status}")
    message = _message(body)
    lowered = f"\n{message.lower()}"
    for row in TABLE:
        if row.status in (None, status) and (not row.text or any(part in lowered for part in row.text)):
            return row.error(row.say or _sentence(message), engine_status=status, engine_message=message)
    return errors.DriverError(_sentence(message), engine_status=status, engine_message=message)


def unreadable(what: str) -> errors.DriverError:
    """The answer is not one of a container engine."""
    return errors.DriverError(f"What answers there is no container engine, or a broken one: {what}.")


def closed() -> errors.Unreachable:
    """The session's connection is given up or lost."""
    return errors.Unreachable("The connection to the engine is closed.")


@contextmanager
def translate() -> Iterator[None]:
    """Turn what SDK, requests, urllib3, sockets and JSON raise into DriverErrors; those that are some already pass."""
    try:
        yield
    except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError) as error:
        raise errors.Timeout("The container engine did not answer in time.") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise _broken(error) from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        # JSON that is none, or none of the shape that the SDK takes for granted.
        raise unreadable(f"an answer that makes no sense ({type(error).__name__})") from error
    except DockerException as error:
        raise errors.Unsupported(_sentence(str(error))) from error


def _broken(error: BaseException) -> errors.DriverError:
    """A connection that failed: for want of a certificate, or for want of a peer. The cause lies some layers down."""
    seen: list[BaseException] = []
    at: object = error
    while isinstance(at, BaseException) and at not in seen:
        seen.append(at)
        if isinstance(at, ssl.SSLError):
            return of_tls(at)
        inner = [part for part in at.args if isinstance(part, BaseException)]
        at = getattr(at, "reason", None) if isinstance(getattr(at, "reason", None), BaseException) else None
        at = at or next(iter(inner), None) or seen[-1].__cause__ or seen[-1].__context__
    if any(isinstance(one, ValueError | requests.exceptions.InvalidSchema) for one in seen):
        return unreadable("an answer that makes no sense")
    if any(isinstance(one, urllib3.exceptions.DecodeError | requests.exceptions.ContentDecodingError) for one in seen):
        return unreadable("an answer that cannot be unpacked")
    return errors.Unreachable("The connection to the container engine broke.")


def of_tls(error: ssl.SSLError, *, host: str = "") -> errors.DriverError:
    """A handshake that failed, or an alert afterwards: with TLS 1.3 a server refuses our certificate only then."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return tls_error(error, host=host)
    reason = (error.reason or "").upper()
    if any(mark in reason for mark in _OURS_REFUSED_MARKS):
        return errors.AuthFailed(
            "The engine does not accept our certificate; give one that its authority has signed, with its key."
        )
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return errors.TlsFailed(
            "The engine does not speak TLS on that port. Without TLS anybody who reaches it owns the machine: that is not used."
        )
    return tls_error(error, host=host)


def _message(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    message = told.get("message") if isinstance(told, dict) else None
    text = message if isinstance(message, str) else "" if told is not None else text
    return "".join(sign if sign.isprintable() else " " for sign in text)[:MESSAGE_MAX].strip()


def _sentence(message: str) -> str:
    text = " ".join(message.split())
    if not text:
        return "The container engine refused, and did not say why."
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
