"""What can go wrong at a hypervisor, as classes with a stable code.

Every driver translates its library's errors into these at one place (`drivers.libvirtd.errors.translate`); nothing above
`drivers/` ever sees a libvirt number. The first line of each docstring is the sentence a user reads as the title.
"""

from __future__ import annotations

from core.errors import VmmError


class DriverError(VmmError):
    """The hypervisor reported an error."""

    code = "hypervisor_error"
    status = 502
    expected = False


class NotFound(DriverError):
    """The hypervisor does not know this object."""

    code = "not_found"
    status = 404
    expected = True


class AlreadyExists(DriverError):
    """An object of this name or identity exists already."""

    code = "already_exists"
    status = 409
    expected = True


class WrongState(DriverError):
    """The guest is not in a state that allows this."""

    code = "wrong_state"
    status = 409
    expected = True


class Unsupported(DriverError):
    """This hypervisor cannot do that."""

    code = "unsupported"
    status = 422
    expected = True


class InvalidDefinition(DriverError):
    """The hypervisor refused the definition."""

    code = "invalid_definition"
    status = 422
    expected = True


class AuthFailed(DriverError):
    """The hypervisor refused the credentials."""

    code = "auth_failed"
    status = 502
    expected = True


class Denied(DriverError):
    """The hypervisor does not allow this account to do that."""

    code = "host_denied"
    status = 502
    expected = True


class TlsFailed(DriverError):
    """The host's certificate is not the one that is trusted."""

    code = "tls_failed"
    status = 502
    expected = True


class Unreachable(DriverError):
    """The host is out of reach."""

    code = "host_unreachable"
    status = 503
    retryable = True
    expected = True


class Timeout(DriverError):
    """The hypervisor did not answer in time."""

    code = "timeout"
    status = 504
    retryable = True
    expected = True


class Busy(DriverError):
    """The guest is busy with another job."""

    code = "busy"
    status = 409
    retryable = True
    expected = True


class AgentUnresponsive(DriverError):
    """The guest agent does not answer."""

    code = "agent_unresponsive"
    status = 504
    expected = True


class Aborted(DriverError):
    """The job was aborted."""

    code = "aborted"
    status = 409
    expected = True


class Unsafe(DriverError):
    """The hypervisor thinks this is not safe."""

    code = "unsafe"
    status = 409
    expected = True


class NoSpace(DriverError):
    """There is no space left on the host."""

    code = "no_space"
    status = 507
    expected = True


class ConsoleBusy(DriverError):
    """Somebody else holds this console."""

    code = "console_busy"
    status = 409
    expected = True
