"""What is wrong with a wish, field by field. A request gets `BadInput` with a pointer for each, a driver refuses with its own error."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.errors import BadInput
from drivers.errors import InvalidDefinition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Findings:
    """What is wrong, field by field."""

    def __init__(self) -> None:
        self.errors: list[dict[str, str]] = []

    def add(self, field: str, sentence: str) -> None:
        """One more."""
        self.errors.append({"pointer": f"/{field}", "detail": sentence})

    def checked(self, field: str, value: str, check: Callable[[str], str]) -> str:
        """The value as it is to be written, or as it is where `check` raised ValueError."""
        try:
            return check(value)
        except ValueError as error:
            self.add(field, str(error))
            return value

    def settle(self) -> None:
        """Raises BadInput where there is anything."""
        if self.errors:
            first = self.errors[0]
            raise BadInput(f"{first['pointer'].removeprefix('/')}: {first['detail']}", errors=self.errors)


@contextmanager
def refusing() -> Iterator[None]:
    """What is checked inside is refused with a driver's error: `InvalidDefinition`, the same sentence, the same pointers."""
    try:
        yield
    except BadInput as error:
        raise InvalidDefinition(error.detail, errors=error.errors) from error
