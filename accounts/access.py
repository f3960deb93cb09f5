"""Marks every way in with the verb it needs. What is not marked is refused (`accounts.middleware`), and a test walks all routes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from accounts.policy import PUBLIC, VERBS

F = TypeVar("F", bound=Callable[..., Any])

ATTRIBUTE = "access_verb"


def access(verb: str) -> Callable[[F], F]:
    """Declare what a view or an API operation needs; checked before it runs. `access(PUBLIC)` opens it to everybody.

    On a class-based view it stands on the class (or on its `dispatch`).
    """
    if verb != PUBLIC and verb not in VERBS:
        raise ValueError(verb)

    def mark(function: F) -> F:
        setattr(function, ATTRIBUTE, verb)
        return function

    return mark


def verb_of(function: object) -> str | None:
    """The declared verb, None when nothing was declared (then nobody may).

    Looks through `functools.partial`, `functools.wraps` and `View.as_view()`, the outermost declaration first.
    """
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        verb = getattr(function, ATTRIBUTE, None)
        if verb is not None:
            return str(verb)
        view_class = getattr(function, "view_class", None)
        if view_class is not None:
            return getattr(view_class, ATTRIBUTE, None)
        function = function.func if isinstance(function, functools.partial) else getattr(function, "__wrapped__", None)
    return None
