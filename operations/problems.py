"""The error of an ended operation, raised again for a caller who waited for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import VmmError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Recorded(VmmError):
    """What a worker ran into, as it was written into the operation.

    Code, status and title are those of the error that was raised there.
    """

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail", "")), **problem.get("context", {}))
        # Of this one error, where all others have them of their class.
        self.code = str(problem.get("code", "internal_error"))  # type: ignore[misc]
        self.status = int(problem.get("status", 500))  # type: ignore[misc]
        self.expected = bool(problem.get("expected", False))  # type: ignore[misc]
        self._title = str(problem.get("title", ""))

    def title(self) -> str:  # type: ignore[override]
        """The original's."""
        return self._title
