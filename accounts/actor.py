"""Who acts: a user, narrowed by the token used, or the system itself. Passed as `by` to every service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from accounts.choices import Scope

if TYPE_CHECKING:
    from django.http import HttpRequest

    from accounts.models import ApiToken, User


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A caller. `scope` is what this call may do: never wider than the user's role, nor than the token's scope.

    Attributes:
        user: None only for the system itself (first start, reconciliation).
        request_id: Of the HTTP request that carries the call, kept on the operations it starts.
    """

    name: str
    scope: Scope
    user: User | None = None
    token: ApiToken | None = None
    request_id: str = ""

    @classmethod
    def of_user(cls, user: User, *, request_id: str = "") -> Actor:
        """A signed-in browser session."""
        return cls(name=user.get_username(), scope=user.scope, user=user, request_id=request_id)

    @classmethod
    def of_token(cls, token: ApiToken, *, request_id: str = "") -> Actor:
        """A program with a token: the narrower of the token's scope and its user's."""
        own, user = Scope(token.scope), token.user
        scope = own if user.scope.includes(own) else user.scope
        return cls(name=user.get_username(), scope=scope, user=user, token=token, request_id=request_id)


SYSTEM = Actor(name="system", scope=Scope.ADMIN)
"""The application itself: first start, reconciliation, schedules."""


def actor_of(request: HttpRequest) -> Actor:
    """Who sent `request`: set before any view or operation runs that is not public."""
    return cast("Actor", request.actor)  # type: ignore[attr-defined]
