"""Targets and actions for tests of the engine: it knows no noun, so it is tested without any."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from core.ids import uuid7
from drivers.errors import Unreachable, WrongState
from operations import actions
from operations.actions import Action, Cancelled, Params, Retry

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from operations.actions import Context


@dataclass
class Toy:
    """Something to work on."""

    pk: uuid.UUID = field(default_factory=uuid7)
    name: str = "toy"

    @property
    def ref(self) -> str:
        return f"toy/{self.pk}"


class Bench:
    """What the toy actions did, and levers to hold them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs: dict[str, int] = defaultdict(int)
        self.inside: dict[str, int] = defaultdict(int)
        self.most_inside = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.errors: list[Exception] = []
        self.done: set[str] = set()
        self.made: list[str] = []
        self.undoing: list[Callable[[], None]] = []
        self.undone = 0

    def enter(self, ref: str) -> None:
        with self.lock:
            self.runs[ref] += 1
            self.inside[ref] += 1
            self.most_inside = max(self.most_inside, self.inside[ref])
        self.entered.release()

    def leave(self, ref: str) -> None:
        with self.lock:
            self.inside[ref] -= 1


bench = Bench()


def fresh_bench() -> Bench:
    bench.__init__()  # type: ignore[misc]
    return bench


class TurnParams(Params):
    """Which way, and a secret."""

    way: str = "left"
    secret_word: str = ""
    secret: ClassVar[frozenset[str]] = frozenset({"secret_word"})


class Turn(Action[Toy, TurnParams]):
    """Turns a toy: waits at the gate, fails as told."""

    kind = "toy.turn"
    title = "Turn"
    verb = "vm.operate"
    params = TurnParams
    retry = Retry(times=2, base_seconds=0.0)
    timeout_seconds = 30.0
    slots: ClassVar[int] = 0

    def load(self, target_id: uuid.UUID) -> Toy:
        return Toy(target_id)

    def slot(self, target: Toy) -> tuple[str, int]:
        return ("shelf/1", self.slots) if self.slots else ("", 0)

    def check(self, target: Toy, params: TurnParams, *, idle: bool) -> None:
        if idle and params.way == "never":
            raise WrongState("This toy never turns.")

    def run(self, ctx: Context, target: Toy, params: TurnParams) -> dict[str, Any] | None:
        bench.enter(target.ref)
        try:
            while not bench.gate.wait(0.02):
                if self.cancellable and ctx.cancelled():
                    raise Cancelled("Stopped turning.")
            if bench.errors:
                raise bench.errors.pop(0)
            bench.done.add(target.ref)
            return {"way": params.way, "word": len(params.secret_word)}
        finally:
            bench.leave(target.ref)

    def satisfied(self, ctx: Context, target: Toy, params: TurnParams) -> bool:
        return target.ref in bench.done


class Spin(Turn):
    """A turn that can be called back."""

    kind = "toy.spin"
    title = "Spin"
    cancellable = True


class Break(Turn):
    """Ends every spin."""

    kind = "toy.break"
    title = "Break"
    supersedes = frozenset({"toy.spin"})


class Crush(Turn):
    """Ends what hangs, and waits for nobody."""

    kind = "toy.crush"
    title = "Crush"
    breaks = frozenset({"toy.turn", "toy.slow"})

    def run(self, ctx: Context, target: Toy, params: TurnParams) -> dict[str, Any] | None:
        return {"crushed": True}


class Ring(Turn):
    """Must not happen twice."""

    kind = "toy.ring"
    title = "Ring"

    def run(self, ctx: Context, target: Toy, params: TurnParams) -> dict[str, Any] | None:
        ctx.checkpoint("sent")
        return super().run(ctx, target, params)

    def satisfied(self, ctx: Context, target: Toy, params: TurnParams) -> bool:
        return False

    def resumable(self, ctx: Context) -> bool:
        return not ctx.done("sent")


class Crowd(Turn):
    """Two at a time on the shelf."""

    kind = "toy.crowd"
    title = "Crowd"
    slots = 2


class Slow(Turn):
    """Hangs beyond its deadline."""

    kind = "toy.slow"
    title = "Slow"
    timeout_seconds = 0.3


class Build(Spin):
    """Two blocks on each other, which are taken away again when it fails."""

    kind = "toy.build"
    title = "Build"

    def run(self, ctx: Context, target: Toy, params: TurnParams) -> dict[str, Any] | None:
        bench.made.append("block")
        return super().run(ctx, target, params)

    def satisfied(self, ctx: Context, target: Toy, params: TurnParams) -> bool:
        return False

    def undo(self, ctx: Context, target: Toy, params: TurnParams) -> None:
        bench.undone += 1
        while bench.undoing:
            bench.undoing.pop(0)()
        bench.made.clear()


class BuildOnce(Build):
    """Is not gone on with by another process."""

    kind = "toy.build-once"

    def resumable(self, ctx: Context) -> bool:
        return False


class BuildSlowly(Build):
    """Hangs beyond its deadline, and then goes wrong."""

    kind = "toy.build-slowly"
    timeout_seconds = 0.3
    cancellable = False


for _cls in (Turn, Spin, Break, Crush, Ring, Crowd, Slow, Build, BuildOnce, BuildSlowly):
    actions.action(_cls)

OUT_OF_REACH = Unreachable
