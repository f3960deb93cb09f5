"""Counts of failed tries in fixed windows, in the cache: one number a caller, gone by itself.

Fails open: where the cache cannot be reached nothing is counted, since a Redis that is down must not keep people out. What
protects passwords even then is django-axes, whose counts are database rows.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass

from django.core.cache import cache
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """At most `limit` hits of one caller in `window_seconds`.

    Windows are fixed on the clock, so around an edge twice the limit can pass: good enough to stop guessing.
    """

    name: str
    limit: int
    window_seconds: int

    def _key(self, who: str) -> str:
        return f"throttle:{self.name}:{int(time.time() // self.window_seconds)}:{who}"

    def wait_seconds(self, who: str) -> int:
        """0 while `who` may go on, else the seconds until the next window."""
        try:
            count = cache.get(self._key(who), 0)
        except (RedisError, OSError):
            log.warning("throttle cannot read the cache", exc_info=True)
            return 0
        if count < self.limit:
            return 0
        return max(1, math.ceil(self.window_seconds - time.time() % self.window_seconds))

    def hit(self, who: str) -> int:
        """Count one more; returns how many there are in this window."""
        key = self._key(who)
        try:
            if cache.add(key, 1, timeout=self.window_seconds + 1):
                return 1
            return int(cache.incr(key))
        except ValueError:
            return 1  # the entry went between the two calls
        except (RedisError, OSError):
            log.warning("throttle cannot write the cache", exc_info=True)
            return 0


BAD_TOKENS = Throttle(name="token", limit=30, window_seconds=300)
"""Unknown, expired or malformed bearer tokens, by network."""

SIGN_INS = Throttle(name="sign-in", limit=60, window_seconds=900)
"""Failed sign-ins under whatever names, by network: django-axes counts each name for itself, so one password tried on many
names would pass it."""

OLD_PASSWORDS = Throttle(name="old-password", limit=8, window_seconds=900)
"""Wrong old passwords when changing it, by user: an open browser must not be a place to guess."""

AUDITED_FAILURES = Throttle(name="audit", limit=10, window_seconds=60)
"""Failures that are written to the event log, by network: an attacker must not fill it."""
