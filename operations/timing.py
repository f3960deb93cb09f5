"""How long things may take in the engine."""

from __future__ import annotations

import datetime as dt

QUEUE_TIMEOUT = dt.timedelta(hours=1)
"""How long an operation may wait for its turn before it fails."""
BULK_QUEUE_TIMEOUT = dt.timedelta(hours=24)
"""The same for one of thousands."""
DATABASE_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between tries to write an operation's end while the database is away: a restart takes a few seconds."""
RING_MAX = 200
"""How many waiting operations one round of ringing tells about; the next round tells the next."""
