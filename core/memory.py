"""The shared cache, which may be away: then reading finds nothing, writing does nothing, and neither raises.

For what is nice to know and can be found out anew. What must not be lost stands in the database.
"""

from __future__ import annotations

import logging
from typing import Any

from django.core.cache import cache
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

_AWAY = (RedisError, OSError)


def recall(key: str) -> Any:
    """What was kept under `key`; None when nothing is, or the cache is away."""
    try:
        return cache.get(key)
    except _AWAY as error:
        log.debug("the cache is away: %s", error)
        return None


def keep(key: str, value: Any, *, seconds: float) -> None:
    """Keep it for so long, if the cache is there."""
    try:
        cache.set(key, value, timeout=seconds)
    except _AWAY as error:
        log.debug("the cache is away: %s", error)
