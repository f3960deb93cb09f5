"""A whole hypervisor in memory, for tests of everything above it: no thread of its own, no time but its clock, no file.

A *world* is one hypervisor, found by name in this process (`fake:///name`). Several sessions may look at one world, as
several clients look at one libvirtd. `FakeWorld` also plays the other hand: what somebody else does beside us, and
every way a host can fail. Never reachable from a user's URI: `drivers.uris` does not know the scheme.
"""

from __future__ import annotations

from drivers.fake.console import FakeConsole
from drivers.fake.session import FakeDriver, FakeSession
from drivers.fake.world import FakeWorld, drop_world, world

__all__ = ["FakeConsole", "FakeDriver", "FakeSession", "FakeWorld", "drop_world", "world"]
