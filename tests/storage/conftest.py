from __future__ import annotations

from tests.web.conftest import Place, place, workers

__all__ = ["Place", "place", "workers"]
