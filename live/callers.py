"""Who stands at a socket's door: Origin, one-use ticket or session cookie, and whether that still holds later.

Shared by every socket (`/ws/events`, `/ws/console`) and by the event stream over HTTP. `enter` and `renewed` run in a
database thread, `shake_hands` on the loop; `origin_allowed` and `ticket_of` ask nobody.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user
from django.http.cookie import parse_cookie
from django.http.request import validate_host
from django.utils import timezone

from accounts.actor import Actor
from accounts.models import ApiToken, User
from live import tickets

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Callable, Mapping

    from django.http import HttpRequest

    from live.models import Ticket

BAD_TICKET = 4401
NOT_ALLOWED = 4403
TICKET_PREFIX = "ticket."

_TICKET = re.compile(r"[A-Za-z0-9_-]{20,100}")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Refused(Exception):
    """This socket is not for this caller: closed with `code` and `reason`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who listens, and by what right.

    Attributes:
        session_key: Of the browser's session, "" for programs.
        fingerprint: Changes with the user's password.
        ticket: The ticket that was used, None for a session or a request.
    """

    actor: Actor
    session_key: str = ""
    fingerprint: str = ""
    ticket: Ticket | None = None

    @property
    def expires_at(self) -> dt.datetime | None:
        """When the right ends by itself: at the token's expiry."""
        return self.actor.token.expires_at if self.actor.token else None

    @property
    def refs(self) -> frozenset[str]:
        """Objects whose audit events mean that the right may have changed."""
        refs = {f"user/{self.actor.user.pk}"} if self.actor.user else set()
        return frozenset(refs | ({f"token/{self.actor.token.pk}"} if self.actor.token else set()))


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The header's value; None when it is absent, "" when it came more than once (which nothing honest does)."""
    values = [value for key, value in scope.get("headers", []) if key.lower() == name]
    if not values:
        return None
    return cast("bytes", values[0]).decode("latin-1") if len(values) == 1 else ""


async def shake_hands(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
    *,
    subprotocol: str,
) -> bool:
    """Accept a socket, or refuse it (HTTP 403) where its `Origin` may not open one here."""
    await receive()  # websocket.connect
    if not origin_allowed(scope):
        await send({"type": "websocket.close", "code": NOT_ALLOWED})
        return False
    # The ticket is never echoed: a browser fails the connection unless one of its subprotocols is selected.
    chosen = subprotocol if subprotocol in scope.get("subprotocols", []) else None
    await send({"type": "websocket.accept", "subprotocol": chosen})
    return True


def origin_allowed(scope: Mapping[str, Any]) -> bool:
    """Whether a page of that `Origin` may open a socket here; without an `Origin` (no browser) only a ticket opens it.

    Allowed are VMM_PUBLIC_URL and the very address the socket was opened at, if that is one of ours: the comparison with `Host`
    alone would let a foreign name that resolves to us in (DNS rebinding).
    """
    origin = header(scope, b"origin")
    if origin is None:
        return ticket_of(scope) is not None
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{header(scope, b'host') or ''}")
        their_port = theirs.port or _DEFAULT_PORTS.get(theirs.scheme)
        our_port = ours.port or _DEFAULT_PORTS.get(scope.get("scheme", "ws"))
    except ValueError:
        return False
    wanted = "https" if scope.get("scheme") == "wss" else "http"
    if theirs.scheme != wanted or not theirs.hostname or theirs.path or theirs.query or theirs.username:
        return False
    host = f"[{ours.hostname}]" if ":" in (ours.hostname or "") else ours.hostname or ""
    return (theirs.hostname, their_port) == (ours.hostname, our_port) and validate_host(host, settings.ALLOWED_HOSTS)


def ticket_of(scope: Mapping[str, Any]) -> str | None:
    """The ticket among the offered subprotocols; "" for what cannot be one; None when there is none."""
    offered = [
        name.removeprefix(TICKET_PREFIX) for name in scope.get("subprotocols", []) if name.startswith(TICKET_PREFIX)
    ]
    if not offered:
        return None
    return offered[0] if len(offered) == 1 and _TICKET.fullmatch(offered[0]) else ""


def enter(scope: Mapping[str, Any], purpose: str) -> Caller:
    """The caller of a socket whose Origin was found good: by ticket where one was sent, else by session. Queries.

    Raises:
        Refused: 4401.
    """
    secret = ticket_of(scope)
    if secret is None:
        cookies = parse_cookie(header(scope, b"cookie") or "")
        return _of_session(cookies.get(settings.SESSION_COOKIE_NAME, ""))
    ticket = tickets.redeem(secret, purpose) if secret else None
    if ticket is None:
        raise Refused(BAD_TICKET, "this ticket is unknown, used or too old")
    actor = _actor(ticket.user, ticket.token)
    return Caller(actor=actor, fingerprint=ticket.user.get_session_auth_hash(), ticket=ticket)


def of_request(request: HttpRequest, actor: Actor) -> Caller:
    """The caller of an HTTP request that goes on as a stream."""
    session = "" if actor.token or not hasattr(request, "session") else request.session.session_key or ""
    return Caller(
        actor=actor, session_key=session, fingerprint=actor.user.get_session_auth_hash() if actor.user else ""
    )


def renewed(caller: Caller) -> Caller:
    """The same caller with the rights of now. Queries.

    Raises:
        Refused: 4401, since the session, the token or the user has gone, or the password was changed.
    """
    if caller.session_key:
        return _of_session(caller.session_key)
    if caller.actor.user is None:
        return caller
    user = User.objects.filter(pk=caller.actor.user.pk).first()
    token = caller.actor.token and ApiToken.objects.select_related("user").filter(pk=caller.actor.token.pk).first()
    if user is None or (caller.actor.token and token is None):
        raise Refused(BAD_TICKET, "the account or token of this connection is gone")
    actor = _actor(user, token)
    if token is None and user.get_session_auth_hash() != caller.fingerprint:
        raise Refused(BAD_TICKET, "the password was changed: sign in again")
    return dataclasses.replace(caller, actor=actor)


def _actor(user: User, token: ApiToken | None) -> Actor:
    if not user.is_active:
        raise Refused(BAD_TICKET, "this account is switched off")
    if token is None:
        return Actor.of_user(user)
    if token.expires_at is not None and token.expires_at <= timezone.now():
        raise Refused(BAD_TICKET, "the token of this connection has expired")
    return Actor.of_token(token)


def _of_session(key: str) -> Caller:
    if not key or not key.isascii() or "\0" in key:
        raise Refused(BAD_TICKET, "sign in first")
    store = import_module(settings.SESSION_ENGINE).SessionStore
    # All that Django's own check of a session needs of a request.
    user = get_user(cast("Any", SimpleNamespace(session=store(key))))
    if not isinstance(user, User):
        raise Refused(BAD_TICKET, "sign in first")
    return Caller(actor=_actor(user, None), session_key=key, fingerprint=user.get_session_auth_hash())
