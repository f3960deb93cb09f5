"""vSphere's faults, the wire's failures and nonsense become our errors: the only place that knows them.

`with translate(...)` stands around every verb. Faults are typed, so the table goes by class; the first line that fits wins.
"""

from __future__ import annotations

import http.client
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyVmomi import vim, vmodl

from drivers import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEXT_MAX = 500


class Garbled(errors.DriverError):
    """The hypervisor answered something unreadable."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        fault: vSphere's class, subclasses included.
        error: What it becomes.
        say: The sentence for a person; "" takes vSphere's own.
    """

    fault: type[Exception]
    error: type[errors.DriverError]
    say: str = ""


TABLE: tuple[Row, ...] = (
    # -- who may ------------------------------------------------------------------------------------------------------
    Row(vim.fault.PasswordExpired, errors.AuthFailed, "The account's password has expired."),
    Row(vim.fault.InvalidLogin, errors.AuthFailed, "The user name or the password is wrong, or the account is locked."),
    Row(vim.fault.NotAuthenticated, errors.AuthFailed, "The session has ended, and signing in again did not help."),
    Row(
        vim.fault.RestrictedVersion,
        errors.Denied,
        "This ESXi's licence makes its interface read-only (the free one does); only a paid licence lets programs act.",
    ),
    Row(vmodl.fault.SecurityError, errors.Denied),  # NoPermission is one
    Row(vmodl.fault.NotEnoughLicenses, errors.Denied),
    Row(vim.fault.RestrictedByAdministrator, errors.Denied),
    # -- the guest ------------------------------------------------------------------------------------------------------
    Row(
        vim.fault.ToolsUnavailable,
        errors.AgentUnresponsive,
        "VMware Tools do not run in this guest, and only they can pass this on; force it off, or reset it.",
    ),
    Row(
        vim.fault.QuestionPending,
        errors.WrongState,
        "The guest waits for an answer to a question; answer it in VMware's own client.",
    ),
    Row(vim.fault.TaskInProgress, errors.Busy, "The guest is busy with another task; try again when it has ended."),
    Row(vim.fault.ResourceInUse, errors.Busy),
    Row(vim.fault.FileLocked, errors.Busy, "Somebody uses this file; a guest that runs with it must be off."),
    Row(vim.fault.ConcurrentAccess, errors.Busy, "Somebody else changed it at the same moment; try again."),
    Row(vim.fault.InvalidPowerState, errors.WrongState, "The guest's power state does not allow this."),
    Row(
        vim.fault.InvalidHostState, errors.Unreachable, "The host of this guest is not ready; it may be in maintenance."
    ),
    Row(vim.fault.InvalidState, errors.WrongState),
    Row(vmodl.fault.ManagedObjectNotFound, errors.NotFound, "The hypervisor does not know this guest."),
    Row(vim.fault.NotFound, errors.NotFound),
    Row(vim.fault.DuplicateName, errors.AlreadyExists),
    Row(vim.fault.AlreadyExists, errors.AlreadyExists),
    Row(vim.fault.FileAlreadyExists, errors.AlreadyExists),
    Row(vim.fault.NoDiskSpace, errors.NoSpace),
    Row(vim.fault.InsufficientResourcesFault, errors.NoSpace),  # of CPU, memory, …: its own text says of what
    Row(vim.fault.InvalidVmConfig, errors.InvalidDefinition),
    Row(vim.fault.FileNotFound, errors.NotFound),
    # -- the hypervisor -----------------------------------------------------------------------------------------------
    Row(vim.fault.Timedout, errors.Timeout),
    Row(vmodl.fault.RequestCanceled, errors.Aborted),
    Row(vmodl.fault.HostNotConnected, errors.Unreachable, "vCenter has lost the host of this guest."),
    Row(vmodl.fault.HostCommunication, errors.Unreachable),
    Row(vmodl.fault.NotSupported, errors.Unsupported, "The hypervisor cannot do this with this guest."),
    Row(vmodl.fault.MethodNotFound, errors.Unsupported, "This version of the hypervisor cannot do that."),
    Row(vmodl.fault.NotImplemented, errors.Unsupported, "This version of the hypervisor cannot do that."),
)


def driver_error(fault: Exception, **context: object) -> errors.DriverError:
    """The one of our errors that a fault of vSphere's is. Its own text stays in `context["vsphere_message"]`."""
    row = next((row for row in TABLE if isinstance(fault, row.fault)), None)
    kind = type(fault).__name__.rpartition(".")[2]
    message = _sentence(getattr(fault, "msg", None)) or _sentence(getattr(fault, "faultMessage", None))
    error = row.error if row else errors.DriverError
    say = (row.say if row else "") or message or f"The hypervisor reported {kind}."
    return error(say, vsphere_fault=kind, vsphere_message=message, **context)


def is_fault(error: BaseException) -> bool:
    """Whether this is a fault that the server sent."""
    return isinstance(error, vmodl.MethodFault)


def _sentence(message: object) -> str:
    if not isinstance(message, str):
        return ""
    text = " ".join(message.split())[:_TEXT_MAX]
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


@contextmanager
def translate(**context: object) -> Iterator[None]:
    """Turn what the server and the wire raise into DriverErrors. `context` (guest, uri …) goes along; never a secret."""
    try:
        yield
    except vmodl.MethodFault as error:
        raise driver_error(error, **context) from error
    except ssl.SSLError as error:
        # After the handshake, whose failures `wire.dial` translates: this is about the way, not about trust.
        message = f"The TLS connection failed: {getattr(error, 'reason', None) or error}."
        raise errors.Unreachable(message, **context) from error
    except TimeoutError as error:
        message = "The hypervisor did not answer in time."
        raise errors.Timeout(message, **context) from error
    except OSError as error:
        message = f"The connection to the hypervisor failed: {error.strerror or error}."
        raise errors.Unreachable(message, **context) from error
    except http.client.HTTPException as error:
        message = "What answers there does not speak HTTP as vSphere does."
        raise Garbled(message, **context) from error
