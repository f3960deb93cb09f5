"""What a session answers, looked at before anybody believes it: a driver may be broken, and a hypervisor may lie.

`Checked` stands where sessions are handed out for actions (`operations.context`), so that nonsense ends an action as the
hypervisor's fault and not as ours. The watcher looks at whole listings itself (`watcher.sweep.check_infos`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from drivers.base import Session
from drivers.errors import DriverError
from drivers.types import AddressInfo, DiskInfo, GraphicsInfo, GuestInfo, GuestKind, GuestState, NicInfo

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXTS: Final = ("uuid", "name", "state_reason", "domain_type", "title", "description", "os", "xml_digest")
_NUMBERS: Final = ("vcpus", "memory_bytes", "max_memory_bytes")
_PARTS: Final = {"disks": DiskInfo, "interfaces": NicInfo, "graphics": GraphicsInfo, "consoles": str}


class Nonsense(DriverError):
    """The hypervisor's answer makes no sense."""


def _is_guest(answer: object) -> bool:
    return (
        isinstance(answer, GuestInfo)
        and bool(answer.uuid)
        and isinstance(answer.state, GuestState)
        and isinstance(answer.kind, GuestKind)
        and all(isinstance(getattr(answer, name), str) for name in _TEXTS)
        and all(isinstance(getattr(answer, name), int) for name in _NUMBERS)
        and all(
            isinstance(getattr(answer, name), tuple | list)
            and all(isinstance(one, kind) for one in getattr(answer, name))
            for name, kind in _PARTS.items()
        )
    )


def _is_state(answer: object) -> bool:
    match answer:
        case (GuestState(), str()):
            return True
    return False


def _is_addresses(answer: object) -> bool:
    return isinstance(answer, Mapping) and all(
        isinstance(source, str) and (isinstance(told, str) or _are_addresses(told)) for source, told in answer.items()
    )


def _are_addresses(told: object) -> bool:
    return isinstance(told, tuple | list) and all(
        isinstance(one, AddressInfo)
        and all(isinstance(text, str) for text in (one.address, one.mac, one.source))
        and isinstance(one.prefix, int | None)
        for one in told
    )


_SENSE: Final[dict[str, Callable[[object], bool]]] = {
    "guest": _is_guest,
    "guest_or_none": lambda answer: answer is None or _is_guest(answer),
    "guest_state": _is_state,
    "define": _is_guest,
    "definition": lambda answer: isinstance(answer, str),
    "design": lambda answer: isinstance(answer, str),
    "create": _is_guest,
    "addresses": _is_addresses,
    "screenshot": lambda answer: isinstance(answer, bytes),
}
"""Verb → whether its answer can be one. The verbs that are not here answer nothing that an action reads."""


class Checked:
    """A session whose answers are what they should be, or `DriverError`."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._session, name)
        makes_sense = _SENSE.get(name)
        if makes_sense is None:
            return found

        def verb(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            if not makes_sense(answer):
                raise Nonsense(f"The hypervisor's answer makes no sense ({name}: {type(answer).__name__}).", verb=name)
            return answer

        return verb

    def __repr__(self) -> str:
        return f"<checked {self._session!r}>"


Session.register(Checked)
