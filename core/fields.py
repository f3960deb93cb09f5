"""Small model fields of our own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.db import models

from core.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    # Django's fields take type arguments in the stubs only.
    _TextField = models.TextField[list[str], list[str]]
else:
    _TextField = models.TextField

TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
TAGS_MAX = 50


def check_tags(values: Iterable[str]) -> list[str]:
    """Tags in order, each once, lower case. Raises BadInput for what is no tag."""
    tags: list[str] = []
    for value in values:
        tag = value.strip().lower()
        if not TAG.fullmatch(tag):
            raise BadInput(
                f"{value[:50]!r} is no tag: letters, digits, dot, dash and underscore, up to 40, beginning with a letter or digit.",
                errors=[{"pointer": "/tags", "detail": f"{value[:50]!r} is no tag"}],
            )
        if tag not in tags:
            tags.append(tag)
    if len(tags) > TAGS_MAX:
        raise BadInput(f"At most {TAGS_MAX} tags.", errors=[{"pointer": "/tags", "detail": f"at most {TAGS_MAX}"}])
    return tags


class TagsField(_TextField):
    """A list of tags, kept as `|prod|web|` so that SQLite and PostgreSQL both filter by `tags__contains="|prod|"`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("blank", True)
        kwargs.setdefault("default", list)
        super().__init__(*args, **kwargs)

    def get_prep_value(self, value: Any) -> str:
        """List → text."""
        if isinstance(value, str):
            return value
        return f"|{'|'.join(value)}|" if value else ""

    def from_db_value(self, value: str | None, _expression: object, _connection: object) -> list[str]:
        """Text → list."""
        return [tag for tag in (value or "").split("|") if tag]

    def to_python(self, value: Any) -> Any:
        """Lists stay lists."""
        return self.from_db_value(value, None, None) if isinstance(value, str) else value
