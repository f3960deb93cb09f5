"""What a worker does to storage: the room in which the engine looks. Pools and volumes have a room each."""

from __future__ import annotations

from storage import content, pool_actions, volume_actions

__all__ = ["content", "pool_actions", "volume_actions"]
