"""XAPI's error codes, the wire's failures and nonsense become our errors: the only place that knows them.

`with translate(...)` stands around every call. An error of XAPI is a code with parameters (`VM_BAD_POWER_STATE`, guest, expected,
found); codes are those of its data model (xapi-project/xen-api, `api_errors.ml`).
"""

from __future__ import annotations

import http.client
import re
import ssl
import xmlrpc.client
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.parsers.expat import ExpatError

from XenAPI import Failure

from drivers import errors, tls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TEXT_MAX = 500
_REFERENCE = re.compile(r"OpaqueRef:[0-9A-Za-z-]+")
_ADDRESS = re.compile(r"[0-9A-Za-z.:-]{1,255}")
_UNREADABLE = (
    ExpatError, xmlrpc.client.Error, ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError,
)  # fmt: skip
"""What the standard library's XML-RPC parser lets out for a damaged answer."""


class Garbled(errors.DriverError):
    """The hypervisor answered something unreadable."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one code becomes. `say` is the sentence for a person; "" puts the code's own words there."""

    error: type[errors.DriverError]
    say: str = ""


_DRIVERS = "The guest does not listen: only XenServer's tools in it can pass this on. Force it off, or reset it."
_BUSY = "The guest is busy with another operation; try again when it has ended."
_MEMORY = "There is not enough free memory on the host."
_SPACE = "There is not enough space on the storage."

TABLE: dict[str, Row] = {
    # -- who may ------------------------------------------------------------------------------------------------------
    "SESSION_AUTHENTICATION_FAILED": Row(errors.AuthFailed, "The user name or the password is wrong."),
    "SESSION_AUTHORIZATION_FAILED": Row(errors.AuthFailed, "This account has no role on the hypervisor."),
    "SESSION_INVALID": Row(errors.AuthFailed, "The session has ended, and signing in again did not help."),
    "RBAC_PERMISSION_DENIED": Row(errors.Denied, "The role of this account does not allow that."),
    "PERMISSION_DENIED": Row(errors.Denied, "The role of this account does not allow that."),
    "LICENCE_RESTRICTION": Row(errors.Denied, "The hypervisor's licence does not allow that."),
    "LICENSE_EXPIRED": Row(errors.Denied, "The hypervisor's licence has expired."),
    "FEATURE_RESTRICTED": Row(errors.Denied, "The hypervisor's edition does not allow that."),
    # -- the guest ----------------------------------------------------------------------------------------------------
    "HANDLE_INVALID": Row(errors.NotFound, "The hypervisor does not know this object; it may just have gone."),
    "UUID_INVALID": Row(errors.NotFound, "The hypervisor does not know this object."),
    "OBJECT_NOLONGER_EXISTS": Row(errors.NotFound, "The hypervisor does not know this object any more."),
    "VM_IS_TEMPLATE": Row(errors.NotFound, "This is a template, no guest."),
    "VM_IS_SNAPSHOT": Row(errors.NotFound, "This is a snapshot, no guest."),
    "VM_BAD_POWER_STATE": Row(errors.WrongState),
    "VM_HALTED": Row(errors.WrongState, "The guest shut down meanwhile."),
    "VM_REBOOTED": Row(errors.WrongState, "The guest rebooted meanwhile."),
    "VM_CRASHED": Row(errors.WrongState, "The guest crashed meanwhile."),
    "VM_HAS_NO_SUSPEND_VDI": Row(errors.WrongState, "The guest's saved memory is gone; discard it and start anew."),
    "OPERATION_NOT_ALLOWED": Row(errors.WrongState),
    "OPERATION_BLOCKED": Row(errors.Denied, "This operation is blocked for this guest (its blocked-operations)."),
    "VM_IS_PROTECTED": Row(errors.WrongState, "The guest is protected by high availability."),
    "VM_IS_IMMOBILE": Row(errors.WrongState, "The guest is configured not to be moved or saved."),
    "OTHER_OPERATION_IN_PROGRESS": Row(errors.Busy, _BUSY),
    "TOO_MANY_PENDING_TASKS": Row(errors.Busy, "The hypervisor has too much to do; try again."),
    "TOO_BUSY": Row(errors.Busy, "The hypervisor has too much to do; try again."),
    "VDI_IN_USE": Row(errors.Busy, "A disk of the guest is in use elsewhere."),
    "DOMAIN_EXISTS": Row(errors.Busy, "The guest's old domain has not gone yet; try again."),
    "VM_LACKS_FEATURE": Row(errors.AgentUnresponsive, _DRIVERS),
    "VM_MISSING_PV_DRIVERS": Row(errors.AgentUnresponsive, _DRIVERS),
    "VM_OLD_PV_DRIVERS": Row(errors.AgentUnresponsive, "XenServer's tools in the guest are too old for this."),
    "VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT": Row(errors.AgentUnresponsive, _DRIVERS),
    "VM_FAILED_SUSPEND_ACKNOWLEDGMENT": Row(errors.AgentUnresponsive, "The guest did not agree to be saved."),
    "VM_NON_SUSPENDABLE": Row(errors.Unsupported, "This guest cannot be saved."),
    "VGPU_SUSPENSION_NOT_SUPPORTED": Row(errors.Unsupported, "A guest with this virtual GPU cannot be saved."),
    "VM_HAS_PCI_ATTACHED": Row(errors.Unsupported, "A guest with a PCI device of the host cannot do this."),
    "VM_HVM_REQUIRED": Row(errors.Unsupported, "The host's CPU or firmware lacks hardware virtualization."),
    "VM_UNSAFE_BOOT": Row(errors.Unsafe, "The guest is marked as not safe to start again here."),
    "VM_SHUTDOWN_TIMEOUT": Row(errors.Timeout, "The guest did not shut down in time."),
    "VM_SUSPEND_TIMEOUT": Row(errors.Timeout, "The guest could not be saved in time."),
    "BOOTLOADER_FAILED": Row(errors.DriverError, "The guest's boot loader failed."),
    "DEVICE_ALREADY_EXISTS": Row(errors.AlreadyExists, "The guest has something at this place already."),
    "MAC_INVALID": Row(errors.InvalidDefinition, "XenServer does not take this MAC address."),
    "MEMORY_CONSTRAINT_VIOLATION": Row(
        errors.InvalidDefinition, "XenServer does not take so much, or so little memory."
    ),
    "DUPLICATE_VM": Row(errors.AlreadyExists, "There is such a guest already."),
    # -- room ---------------------------------------------------------------------------------------------------------
    "HOST_NOT_ENOUGH_FREE_MEMORY": Row(errors.NoSpace, _MEMORY),
    "HOST_NOT_ENOUGH_PCPUS": Row(errors.NoSpace, "The host has fewer CPUs than the guest wants."),
    "NO_HOSTS_AVAILABLE": Row(
        errors.NoSpace, "No host of the pool can run this guest now: memory, storage or network lacks."
    ),
    "SR_FULL": Row(errors.NoSpace, _SPACE),
    "SR_SUSPEND_SPACE_INSUFFICIENT": Row(errors.NoSpace, "There is not enough space to save the guest's memory."),
    "VM_NO_SUSPEND_SR": Row(errors.NoSpace, "The pool has no storage for saved memory (its suspend-image SR)."),
    "OUT_OF_SPACE": Row(errors.NoSpace, _SPACE),
    # -- the hypervisor -----------------------------------------------------------------------------------------------
    "HOST_OFFLINE": Row(errors.Unreachable, "The host of this guest is offline."),
    "HOST_NOT_LIVE": Row(errors.Unreachable, "The host of this guest is not alive."),
    "HOST_STILL_BOOTING": Row(errors.Unreachable, "The host is still booting."),
    "HOST_IN_EMERGENCY_MODE": Row(errors.Unreachable, "The host has lost its pool's master (emergency mode)."),
    "HOST_DISABLED": Row(errors.WrongState, "The host is in maintenance mode."),
    "CANNOT_CONTACT_HOST": Row(errors.Unreachable, "The pool's master cannot reach the host of this guest."),
    "TASK_CANCELLED": Row(errors.Aborted, "The operation was cancelled."),
    "NOT_IMPLEMENTED": Row(errors.Unsupported, "This version of the hypervisor cannot do that."),
    "MESSAGE_METHOD_UNKNOWN": Row(errors.Unsupported, "This version of the hypervisor cannot do that."),
    "MESSAGE_REMOVED": Row(errors.Unsupported, "This version of the hypervisor cannot do that any more."),
    "HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN": Row(
        errors.Unsafe, "High availability could then no longer restart all protected guests."
    ),
}


def driver_error(details: object, **context: object) -> errors.DriverError:
    """The one of our errors that XAPI's error description is. Code and words stay in `context`."""
    if not isinstance(details, list) or not details or not all(isinstance(part, str) for part in details):
        message = "The hypervisor reported an error that cannot be read."
        return Garbled(message, **context)
    code, *parameters = details
    if code == "HOST_IS_SLAVE":
        return _slave(parameters, **context)
    words = _words(code, parameters)
    row = TABLE.get(code)
    say = row.say if row else ""
    if code == "VM_BAD_POWER_STATE" and len(parameters) == 3:
        say = f"The guest is {_cut(parameters[2])}; it would have to be {_cut(parameters[1])}."
    return (row.error if row else errors.DriverError)(say or words, xapi_code=_cut(code), xapi_error=words, **context)


def news_were_lost(error: errors.DriverError) -> bool:
    """Whether `event.from` must be begun anew: XAPI forgot what lies between, or the token is from before its restart."""
    return error.context.get("xapi_code") in ("EVENTS_LOST", "EVENT_FROM_TOKEN_PARSE_FAILURE")


def _slave(parameters: Sequence[str], **context: object) -> errors.DriverError:
    """Not followed by ourselves: the address comes from a stranger, and the certificate there is another one."""
    master = parameters[0] if parameters and _ADDRESS.fullmatch(parameters[0]) else ""
    where = f"{master} calls itself that; add that one instead" if master else "add the pool's master instead"
    message = f"This host is a member of a pool and takes orders only from the pool's master: {where}."
    return errors.Unreachable(message, master=master, **context)


def _words(code: str, parameters: Sequence[str]) -> str:
    """The code as a sentence. References mean nothing to a person, and may be a session's."""
    told = [_cut(_REFERENCE.sub("", part)) for part in parameters]
    rest = ", ".join(part for part in told if part)
    text = f"{_cut(code).replace('_', ' ').capitalize()}{f': {rest}' if rest else ''}"
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _cut(text: str) -> str:
    return " ".join(text.split())[:_TEXT_MAX]


@contextmanager
def translate(**context: object) -> Iterator[None]:
    """Turn what XAPI and the wire raise into DriverErrors. `context` (guest, host …) goes along; never a secret."""
    try:
        yield
    except errors.DriverError:
        raise
    except Failure as error:
        raise driver_error(error.details, **context) from error
    except ssl.SSLError as error:
        if isinstance(error, ssl.SSLCertVerificationError):
            raise tls.translate(error, host=str(context.get("host", ""))) from error
        message = f"The TLS connection failed: {error.reason or error}."
        raise errors.Unreachable(message, **context) from error
    except TimeoutError as error:
        message = "The hypervisor did not answer in time."
        raise errors.Timeout(message, **context) from error
    except OSError as error:
        message = f"The connection to the hypervisor failed: {error.strerror or error}."
        raise errors.Unreachable(message, **context) from error
    except http.client.HTTPException as error:
        message = "What answers there does not speak HTTP as XenServer does."
        raise Garbled(message, **context) from error
    except _UNREADABLE as error:
        message = "The hypervisor's answer cannot be read."
        raise Garbled(message, trouble=type(error).__name__, **context) from error
