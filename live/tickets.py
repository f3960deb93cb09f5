"""One-use tickets for sockets: made for a signed-in caller, shown once, good for 30 seconds and one connection."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from accounts.models import ApiToken
from core.errors import NotAuthenticated
from live.models import Ticket

if TYPE_CHECKING:
    from accounts.actor import Actor

LIFETIME = dt.timedelta(seconds=30)
KEPT = dt.timedelta(minutes=10)
"""How long an expired row stays, for whoever wonders why a socket was refused."""


def issue(by: Actor, purpose: str, object: str = "", params: dict[str, Any] | None = None) -> tuple[str, Ticket]:  # noqa: A002 - the contract's word
    """A fresh ticket for `by`: the secret, which is kept nowhere, and its row.

    Args:
        by: Whose rights the socket will have; a token's ticket dies with the token.
        purpose: `events` or `console`; it opens nothing else.
        object: `vm/<id>` for consoles.
        params: For the socket's side: `type`, `take_over`.

    Raises:
        NotAuthenticated: `by` is the system itself, which opens no sockets.
    """
    if by.user is None:
        raise NotAuthenticated("A ticket belongs to a user.")
    now = timezone.now()
    trim(now)
    secret = secrets.token_urlsafe(32)  # letters, digits, - and _: fit for a subprotocol's name
    ticket = Ticket.objects.create(
        digest=ApiToken.digest_of(secret),
        user=by.user,
        token=by.token,
        purpose=purpose,
        object=object,
        params=params or {},
        expires_at=now + LIFETIME,
    )
    return secret, ticket


def redeem(secret: str, purpose: str) -> Ticket | None:
    """Use a ticket up; None for a used, expired, foreign or unknown one, which look the same from outside.

    One conditional UPDATE decides, so that of two sockets with the same ticket only one wins.
    """
    now = timezone.now()
    digest = ApiToken.digest_of(secret)
    if not Ticket.objects.filter(digest=digest, purpose=purpose, used_at=None, expires_at__gt=now).update(used_at=now):
        return None
    return Ticket.objects.select_related("user", "token", "token__user").get(digest=digest)


def trim(now: dt.datetime) -> None:
    """Delete tickets that expired a while ago; `issue` does it too, so that they cannot pile up."""
    Ticket.objects.filter(expires_at__lt=now - KEPT).delete()
