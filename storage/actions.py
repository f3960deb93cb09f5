"""What a worker does to storage: the room in which the engine looks. Pools and volumes have a room each."""

from __future__ import annotations

from storage import pool_actions, volume_actions

__all__ = ["pool_actions", "volume_actions"]
