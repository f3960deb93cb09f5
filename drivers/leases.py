"""What the pool hands out: a lease on a session that the pool keeps for itself.

Nobody but the pool ever holds a session: releasing the last reference to a frozen host's connection blocks for ever
(measured), so a raw one must not wander into variables, tracebacks and garbage collection of other threads. A lease
passes every verb on, at most four at a time (libvirtd serves five calls of a connection, the sixth blocks it for
everybody), tells the pool at once when a verb finds the host gone, and lets nothing out but `DriverError` and what the
caller's own functions raised (`volume_upload` reads by one).
"""

from __future__ import annotations

import copy
import logging
import threading
from typing import TYPE_CHECKING, Any

from drivers.base import Session
from drivers.errors import DriverError, Timeout, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_FREE_OF_CHARGE = frozenset({"alive", "on_close", "unsupported"})
"""Methods that make no call to the host and so take no slot."""
_ON_THEIR_OWN = frozenset(
    {
        "pool_create",
        "pool_start",
        "pool_refresh",
        "volume_create",
        "volume_clone",
        "volume_wipe",
        "volume_upload",
        "volume_download",
    }
)
"""Verbs that may take as long as a disk does, and bring a connection of their own for it: they take no slot from the others."""
_BY_FUNCTION = frozenset({"volume_upload", "volume_download"})
"""Verbs that call a function of the caller's, in his own thread."""


def fresh(error: DriverError) -> DriverError:
    """A copy to raise or to keep: without traceback (its frames hold sessions) and without causes."""
    twin = copy.copy(error)
    twin.__traceback__ = twin.__cause__ = twin.__context__ = None
    return twin


def _heard(value: Any, callers: list[BaseException]) -> Any:
    """A function of the caller's, so that what it raises is known for the caller's own; any other value as it is."""
    if not callable(value):
        return value

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return value(*args, **kwargs)
        except BaseException as error:
            callers.append(error)
            raise

    return call


class Held:
    """One live session, its slots, and what to say once it is gone.

    Args:
        session: From here on this object and the reaper are the only owners.
        calls: How many verbs may be under way at once.
        on_unreachable: Called once a verb raised `Unreachable`, in that caller's thread; must not block.
    """

    def __init__(self, session: Session, *, calls: int, on_unreachable: Callable[[Held, DriverError], None]) -> None:
        self._session: Session | None = session
        self._calls = calls
        self._on_unreachable = on_unreachable
        self._under_way = 0
        self._error: DriverError | None = None
        self._changed = threading.Condition()

    @property
    def error(self) -> DriverError | None:
        """Why it is gone; None while it stands."""
        return self._error

    def session(self) -> Session:
        """The session itself. Raises why it is gone."""
        with self._changed:
            return self._standing()

    def shut(self, error: DriverError) -> None:
        """No further verb: those that wait for a slot fail now, with `error`. Does not block."""
        with self._changed:
            self._error = self._error or fresh(error)
            self._changed.notify_all()

    def take(self) -> Session | None:
        """Give the session away, to the reaper; None when somebody was faster."""
        with self._changed:
            session, self._session = self._session, None
            return session

    def call(self, name: str, timeout_seconds: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one verb in a slot. `Any`: it passes any verb's values through.

        Raises:
            Timeout: No slot became free within `timeout_seconds`.
            DriverError: The verb's own; anything else that a driver raises is logged and becomes one.
            Exception: What a function among the arguments raised, as it is.
        """
        slots = 0 if name in _ON_THEIR_OWN else 1
        with self._changed:
            if slots and not self._changed.wait_for(
                lambda: self._error or self._under_way < self._calls, timeout_seconds
            ):
                raise Timeout(
                    f"{self._calls} calls to this host are under way and none ended within {timeout_seconds:.0f} s."
                )
            session = self._standing()
            self._under_way += slots
        callers: list[BaseException] = []
        try:
            if name in _BY_FUNCTION:
                args = tuple(_heard(one, callers) for one in args)
                kwargs = {key: _heard(one, callers) for key, one in kwargs.items()}
            return getattr(session, name)(*args, **kwargs)
        except Exception as error:
            if error in callers:
                raise
            if isinstance(error, Unreachable):
                self._on_unreachable(self, error)
            if isinstance(error, DriverError):
                raise
            # libvirt-python raises SystemError and UnicodeDecodeError on malformed answers (measured with openvz).
            log.exception("driver raised a foreign error", extra={"verb": name, "driver": session.endpoint.driver})
            raise DriverError(f"The driver failed in {name}: {type(error).__name__}.") from error
        finally:
            with self._changed:
                self._under_way -= slots
                self._changed.notify()

    def _standing(self) -> Session:
        if self._error is not None:
            raise fresh(self._error)
        if self._session is None:
            raise Unreachable("The connection was given up.")
        return self._session


class Lease:
    """A `Session` for the length of a with-block: every verb is passed on to the session that the pool holds."""

    __slots__ = ("_held", "_timeout_seconds")

    def __init__(self, held: Held, *, timeout_seconds: float) -> None:
        self._held = held
        self._timeout_seconds = timeout_seconds

    def __getattr__(self, name: str) -> Any:
        session = self._held.session()
        if name in _FREE_OF_CHARGE or not callable(getattr(type(session), name, None)):
            return getattr(session, name)
        held, timeout_seconds = self._held, self._timeout_seconds

        def verb(*args: Any, **kwargs: Any) -> Any:
            return held.call(name, timeout_seconds, args, kwargs)

        return verb

    def __repr__(self) -> str:
        return "<lease on a session>"

    def close(self) -> None:
        """Does nothing: the connection is the pool's, and others use it."""


Session.register(Lease)
