"""What a test tells the stand-in, and the lies that it can be told to tell."""

from __future__ import annotations

import collections
import random
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service import Service


class Control:
    """Commands on standard input, a JSON object a line: {"do": …} and what the command takes. Answers {} or what was asked for."""

    def __init__(self, service: Service) -> None:
        self.service, self.world = service, service.world
        self.lies, self.counts, self.released = [], collections.Counter(), threading.Event()
        self.spoiler = None

    def do(self, command: dict):
        return getattr(self, f"do_{command.pop('do')}")(**command) or {}

    def do_add(self, name: str, count: int = 1, snapshots: int = 0, **options) -> dict:
        """Guests that are off."""
        made = [self.world.add(name if count == 1 else f"{name}-{number}", **options) for number in range(count)]
        for key in made:
            for _ in range(snapshots):
                self.world.snapshot(key)
        return {"guids": made}

    def do_set(self, guid: str, **values) -> None:
        """Properties of a guest's Msvm_ComputerSystem; `_obeys` and `_services` are what it does itself."""
        self.world.guest(guid).update(values)

    def do_settings(self, guid: str, name: str, **values) -> None:
        """Properties of all objects of the class `name` that belong to a guest."""
        for row in self.world.rows[name]:
            if row["InstanceID"].startswith(f"Microsoft:{guid}"):
                row.update(values)

    def do_host(self, name: str, **values) -> None:
        """Properties of the host's Win32_… object."""
        self.world.rows[name][0].update(values)

    def do_rows(self, name: str, rows: list) -> None:
        """More objects of a class, as they are."""
        self.world.rows[name] += rows

    def do_numbers(self, paused: int, saved: int) -> None:
        """Which EnabledState stands for paused and saved."""
        self.world.paused, self.world.saved = paused, saved

    def do_screen(self, width: int, height: int) -> None:
        """How big all guests' screens are."""
        self.world.screen = (width, height)

    def do_without(self, names: list) -> None:
        """Classes that this host does not have."""
        self.world.gone_classes = set(names)

    def do_job(self, **values) -> None:
        """How the next job ends (`never`: not at all)."""
        self.world.next_job = "never" if values.get("never") else values

    def do_return(self, method: str, value: int) -> None:
        """What the next call of a method returns."""
        self.service.returns[method] = value

    def do_lie(self, kind: str, action: str = "", times: int = 1, **how) -> None:
        """What comes in place of the next answers to actions with this in their name. Kinds: see `Handler.lie`."""
        self.lies.append({"kind": kind, "action": action, "times": times, **how})

    def do_truth(self) -> None:
        """No more lies; what hangs is let go."""
        self.lies.clear()
        self.released.set()
        self.released = threading.Event()

    def do_counts(self) -> dict:
        """Messages since the last time, by action."""
        counted, self.counts = dict(self.counts), collections.Counter()
        return counted

    def do_damage(self, seed: int) -> None:
        """Spoil the challenges of NTLM: bytes changed, cut out or put in, differently with each seed; 0: no more."""
        self.spoiler = random.Random(seed) if seed else None

    def damage(self, challenge: bytes) -> bytes:
        if self.spoiler is None:
            return challenge
        place, length = self.spoiler.randrange(len(challenge)), self.spoiler.randrange(12)
        return challenge[:place] + self.spoiler.randbytes(self.spoiler.randrange(12)) + challenge[place + length :]

    def lie_for(self, action: str) -> dict | None:
        for lie in self.lies:
            if lie["action"] in action:
                lie["times"] -= 1
                if lie["times"] <= 0:
                    self.lies.remove(lie)
                return lie
        return None
