"""WinRM's faults, Hyper-V's return values and the libraries' errors become ours: the only place that knows them."""

from __future__ import annotations

import re
import ssl
import struct
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
import urllib3.exceptions
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from spnego.exceptions import SpnegoError

from drivers import errors, tls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STARTED = 4096
"""A method's return value: a job has been started."""
INVALID_STATE = 32775

RETURN_VALUES: Mapping[int, tuple[type[errors.DriverError], str]] = {
    # Msvm_VirtualSystemManagementService and Msvm_ComputerSystem share this list in Microsoft's documentation.
    1: (errors.Unsupported, "Hyper-V does not support this here."),
    32768: (errors.DriverError, "Hyper-V says that it failed, and not why."),
    32769: (errors.Denied, "Hyper-V does not allow this account to do that."),
    32770: (errors.Unsupported, "Hyper-V does not support this here."),
    32771: (errors.DriverError, "Hyper-V does not know how it went."),
    32772: (errors.Timeout, "Hyper-V did not finish in time."),
    32773: (errors.DriverError, "Hyper-V calls a parameter invalid."),
    32774: (errors.Busy, "The guest is in use by another job."),
    INVALID_STATE: (errors.WrongState, "The guest is not in a state that allows this."),
    32776: (errors.DriverError, "Hyper-V calls a parameter's type wrong."),
    32777: (errors.DriverError, "Hyper-V says that the system is not available."),
    32778: (errors.DriverError, "The host has not enough memory."),
}
DEAF = frozenset({32768, 32770, 32771, 32772, 32777, 32779, 32780})
"""What Msvm_ShutdownComponent returns when nobody in the guest listens; 32779 file not found, 32780 not ready."""
LOCKED = 32781
SHUTTING_DOWN_ALREADY = 32782

FAULTS: Mapping[int, tuple[type[errors.DriverError], str]] = {
    5: (errors.Denied, "WinRM or Hyper-V does not allow this account to do that."),
    0x80070005: (errors.Denied, "WinRM or Hyper-V does not allow this account to do that."),
    0x80041003: (errors.Denied, "WMI does not allow this account to do that."),
    0x80041002: (errors.NotFound, "Hyper-V does not know this object."),
    0x80338000: (errors.NotFound, "Hyper-V does not know this object."),
    0x8033805B: (errors.NotFound, "Hyper-V does not know this object."),
    0x8004100E: (errors.Unsupported, "The host has no Hyper-V: its management interface is not there."),
    0x80041010: (errors.Unsupported, "The host's Hyper-V does not have this class."),
    0x803380FA: (errors.Unsupported, "The host's Hyper-V does not have this class."),
    0x80338029: (errors.Timeout, "The host did not finish in time."),
    0x800706BA: (errors.Unreachable, "A service on the host that WinRM needs does not answer."),
    0x800706BE: (errors.Unreachable, "A service on the host that WinRM needs went away."),
}
"""By fault code. The 0x8033… are WinRM's, the 0x8004… WMI's, the 0x8007… Windows' own."""
_HRESULT = re.compile(r"0x8[0-9A-Fa-f]{7}\b")
_WORDS = 300
"""So much of what the host says is passed on."""


class TooMuch(OSError):
    """An answer is bigger than anything that a host has to say."""


@contextmanager
def translate(host: str) -> Iterator[None]:
    """Around every call into the libraries: nothing but DriverError gets out.

    The last clause is wide because the libraries take an answer apart without looking whether it is one.
    """
    try:
        yield
    except AuthenticationError as error:
        raise errors.AuthFailed(f"{host} refused user name or password.", host=host) from error
    except WSManFaultError as error:
        raise fault(error.code, error.reason, error.provider_fault) from error
    except WinRMTransportError as error:
        raise _status(error.code, host) from error
    except SpnegoError as error:
        raise errors.AuthFailed(f"Signing in at {host} failed: {_short(str(error))}", host=host) from error
    except ET.ParseError as error:
        raise malformed(f"no XML ({error})") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise _network(error, host) from error
    except (WinRMError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error) as error:
        raise malformed(_short(str(error))) from error


def malformed(what: str) -> errors.DriverError:
    """The host's answer is not what WS-Management says it has to be."""
    return errors.DriverError(f"The host's answer cannot be understood: {what}.")


def returned(value: int, what: str) -> errors.DriverError:
    """The error for a method's return value that is neither success nor a started job."""
    kind, sentence = RETURN_VALUES.get(value, (errors.DriverError, f"Hyper-V returned {value}."))
    return kind(sentence, action=what, returned=value)


def deaf(value: int) -> errors.DriverError:
    """The error for a return value of Msvm_ShutdownComponent's methods."""
    if value in DEAF:
        return errors.AgentUnresponsive("The integration services in the guest do not take the request.")
    if value == LOCKED:
        return errors.AgentUnresponsive("Somebody is signed in and the guest is locked: it shuts down only if forced.")
    return returned(value, "shutdown")


def job_failed(state: int, code: int | None, text: str) -> errors.DriverError:
    """The error for a job that did not complete."""
    if state in (8, 9):  # terminated, killed
        return errors.Aborted("Hyper-V's job was cancelled.")
    kind, sentence = RETURN_VALUES.get(code or 0, (errors.DriverError, "Hyper-V's job failed."))
    match = _HRESULT.search(text)
    if match and kind is errors.DriverError and match[0].lower() in ("0x80070070", "0x80070027"):
        kind = errors.NoSpace  # ERROR_DISK_FULL, ERROR_HANDLE_DISK_FULL
    return kind(_short(text) or sentence, returned=code or 0)


def fault(code: object, reason: str | None, provider: str | None) -> errors.DriverError:
    """The error for a WS-Management fault: by its code, or by a Windows error number in its text."""
    said = f"{reason or ''} {provider or ''}".strip()
    numbers = [int(match, 16) for match in _HRESULT.findall(said)]
    if isinstance(code, int):
        numbers.append(code)
    for number in numbers:
        found = FAULTS.get(number)
        if found is not None:
            return found[0](found[1], said=_short(said))
    return errors.DriverError(f"The host refused: {_short(said) or code or 'it does not say why'}")


def _status(code: int, host: str) -> errors.DriverError:
    if code == 403:
        return errors.Denied(f"{host} does not let this account use WinRM.", host=host)
    if code == 404:
        return errors.Unreachable(f"{host} answers, but has no WS-Management there.", host=host)
    if code == 503:
        return errors.Busy(f"WinRM on {host} is too busy or stopped (HTTP 503).", host=host)
    return errors.DriverError(f"{host} answered with HTTP {code} and no reason.", host=host)


def _network(error: BaseException, host: str) -> errors.DriverError:
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, TooMuch):
            return malformed("it is too big")
        if isinstance(link, ssl.SSLError):
            return tls.translate(link, host=host)
    waited = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)
    if any(isinstance(link, waited) for link in chain):
        return errors.Timeout(f"{host} did not answer in time.", host=host)
    if isinstance(error, requests.TooManyRedirects | requests.exceptions.InvalidSchema):
        return errors.Unreachable(f"{host} sends us elsewhere, which WinRM never does.", host=host)
    return errors.Unreachable(f"{host} cannot be reached, or it hung up.", host=host)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of: requests wraps urllib3's, which wraps the socket's, as argument or as reason."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        link = todo.pop()
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        todo += [*link.args, getattr(link, "reason", None), link.__cause__, link.__context__]


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _WORDS else f"{words[:_WORDS]}…"
