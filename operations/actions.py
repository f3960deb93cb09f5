"""What an action is: a class that knows how one kind of operation is checked, carried out and recognised as done.

Actions live in the rooms of their nouns (`vms.actions`); this room knows no noun. A target is anything with `ref`, `name`,
and is loaded anew for each call by `load`.
"""

from __future__ import annotations

import random
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from core.errors import VmmError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from drivers.base import Session
    from drivers.links import Channel
    from drivers.types import Endpoint


READING = "reading/"
"""Targets that begin so are looked at, not changed: such operations are neither announced nor listed, and kept for minutes.

They exist because only workers may touch a hypervisor, and a request that needs to see something there has to ask one.
"""


class Params(BaseModel):
    """Parameters of an action; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    secret: ClassVar[frozenset[str]] = frozenset()
    """Fields that are kept encrypted, shown as `<hidden>`, and forgotten at the operation's end."""

    def split(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """JSON of what may be shown, and of what may not."""
        values = self.model_dump(mode="json")
        hidden = {key: values.pop(key) for key in self.secret}
        return values, {key: value for key, value in hidden.items() if value is not None}


class NoParams(Params):
    """For actions that take none."""


class Target(Protocol):
    """What an operation works on."""

    @property
    def pk(self) -> Any:
        """Its id."""

    @property
    def name(self) -> Any:
        """For people."""

    @property
    def ref(self) -> str:
        """`vm/<id>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and how patiently to try again after a retryable error (full jitter up to `base_seconds` · 2ⁿ, at most 60 s)."""

    times: int = 3
    base_seconds: float = 1.0

    def delay_seconds(self, attempt: int) -> float:
        """How long to wait after the `attempt`-th failure."""
        return random.uniform(0.1, min(60.0, self.base_seconds * 2.0**attempt))  # noqa: S311 - jitter, not a secret


class Context(Protocol):
    """What a running action may use. Given by the engine."""

    @property
    def operation_id(self) -> uuid.UUID:
        """The operation being carried out."""

    def session(self, endpoint: Endpoint, *, channel: Channel = "control") -> AbstractContextManager[Session]:
        """A session to a hypervisor, from the process's pool. Raises Unreachable at once while the host is down."""

    def log(self, text: str) -> None:
        """Add a line to the operation's log."""

    def progress(self, value: float | None, message: str = "") -> None:
        """Say how far it is (0 to 1, None unknown); written at most twice a second."""

    def free_slot(self) -> None:
        """From here on it only waits: somebody else may have its slot."""

    def cancelled(self) -> bool:
        """Whether somebody asked to cancel it. Long waits ask this often."""

    def done(self, step: str) -> bool:
        """Whether `step` was recorded by an earlier attempt."""

    def noted(self, beginning: str) -> str:
        """What comes after `beginning` in the step that was recorded with it; "" where there is none."""

    def checkpoint(self, step: str) -> None:
        """Record that `step` is done, durably, before going on."""


class Cancelled(VmmError):
    """Cancelled on request."""

    code = "cancelled"
    status = 409
    expected = True


class Interrupted(VmmError):
    """The worker was interrupted in the middle."""

    code = "interrupted"
    status = 503
    expected = True


T = TypeVar("T", bound=Target)
P = TypeVar("P", bound=Params)


class Action(ABC, Generic[T, P]):
    """One kind of operation. Instances hold no state; one is made when the class is registered."""

    kind: ClassVar[str]
    """`vm.start`."""
    title: ClassVar[str]
    """For people: `Start` (translated where shown)."""
    params: ClassVar[type[Params]] = NoParams
    verb: ClassVar[str]
    """What `accounts.policy` is asked (`vm.operate`)."""
    retry: ClassVar[Retry] = Retry()
    timeout_seconds: ClassVar[float] = 120.0
    cancellable: ClassVar[bool] = False
    """Whether it can be cancelled while it runs (queued ones always can)."""
    supersedes: ClassVar[frozenset[str]] = frozenset()
    """Kinds on the same target that this one makes pointless: they are cancelled when it is submitted."""
    breaks: ClassVar[frozenset[str]] = frozenset()
    """Kinds on the same target that it does not wait for once they run, because it ends what they wait for in the hypervisor.

    They are cancelled and lose their lock to it, also those that have ended by their deadline and still hang there.
    """

    @abstractmethod
    def load(self, target_id: uuid.UUID) -> T:
        """The target by id, with all that `check` and `run` read. Raises Missing."""

    def slot(self, target: T) -> tuple[str, int]:
        """Key and number of the counted slots that it takes; `("", 0)` for none."""
        del target
        return "", 0

    def check(self, target: T, params: P, *, idle: bool) -> None:
        """Refuse what cannot work, before anything is queued.

        Args:
            target: What it would work on.
            params: With what.
            idle: Nothing is queued or running on the target, so its present state is the one that counts. When False the
                state is left alone: it is checked when the turn comes.

        Raises:
            VmmError: With the reason that the user reads.
        """

    @abstractmethod
    def run(self, ctx: Context, target: T, params: P) -> dict[str, Any] | None:
        """Carry it out, in a worker thread. Must be safe to call again after a crash unless `resumable` says no."""

    def satisfied(self, ctx: Context, target: T, params: P) -> bool:
        """After an interruption: is what was wished already so? True ends it as succeeded without another `run`."""
        del ctx, target, params
        return False

    @property
    def undoes(self) -> bool:
        """Whether it has an `undo`."""
        return type(self).undo is not Action.undo

    def undo(self, ctx: Context, target: T, params: P) -> None:
        """Take back what its attempts have made: run once, in the operation's own thread, before it ends as failed or cancelled.

        Not when it is only tried again, nor when the process leaves. A next process undoes what an interrupted one may not go on
        with, and an undoing that was itself interrupted: so look first, and take back only what `checkpoint`s say is ours. What
        cannot be taken back is raised (or logged), becomes a line of the operation's log, and never hides the first error.
        """

    def resumable(self, ctx: Context) -> bool:
        """After an interruption that `satisfied` does not settle: may `run` be called again? A reboot must not happen twice."""
        del ctx
        return True


_registry: dict[str, Action[Any, Any]] = {}

A = TypeVar("A", bound=type[Action[Any, Any]])


def action(cls: A) -> A:
    """Register an action class under its kind."""
    if cls.kind in _registry and type(_registry[cls.kind]) is not cls:
        raise ValueError(cls.kind)
    _registry[cls.kind] = cls()
    return cls


def get(kind: str) -> Action[Any, Any]:
    """The action of a kind. Raises KeyError."""
    return _registry[kind]


def kinds() -> tuple[str, ...]:
    """All registered kinds."""
    return tuple(sorted(_registry))


def uuid_of(ref: str) -> uuid.UUID:
    """The id in `vm/<id>`."""
    return uuid.UUID(ref.partition("/")[2])
