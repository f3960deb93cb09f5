"""Who calls: a bearer token, else the browser's session. The only place that looks at either.

A token decides where one is sent: a bad one is refused even beside a good session cookie, else a program would quietly act
as whoever is signed in.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, transaction
from django.db.models import Q
from django.utils import timezone
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from accounts import policy
from accounts.access import verb_of
from accounts.actor import Actor
from accounts.addresses import client_network
from accounts.answers import has_bearer
from accounts.models import TOKEN_PREFIX, ApiToken, User
from accounts.throttle import BAD_TOKENS
from core.errors import NotAuthenticated, PermissionRefused, TooMany

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

log = logging.getLogger(__name__)

_USED_EVERY = dt.timedelta(minutes=1)
_LONGEST_SECRET = 200
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def token_actor(request: HttpRequest) -> Actor:
    """The actor of the bearer token that `request` carries. Blocks for one indexed read.

    A good token always works. Bad ones are counted by network and answered with 429 beyond the limit; that a good one is
    not refused along with them gives nothing away (256 random bits are not found by trying) and keeps one program with
    an old token from shutting out all others behind the same address.

    Raises:
        NotAuthenticated: Unknown, expired or malformed token, or its user is not active.
        TooMany: The same, too often.
    """
    secret = request.headers.get("Authorization", "")[7:].strip()
    token = _token_of(secret)
    if token is None:
        who = client_network(request)
        wait = BAD_TOKENS.wait_seconds(who)
        if wait:
            raise TooMany("Too many bad tokens from this address.", retry_after_seconds=wait)
        BAD_TOKENS.hit(who)
        raise NotAuthenticated("This token is unknown, has expired, or its user is not active.")
    _mark_used(token)
    return Actor.of_token(token, request_id=getattr(request, "request_id", ""))


def _token_of(secret: str) -> ApiToken | None:
    if not secret.startswith(TOKEN_PREFIX) or len(secret) > _LONGEST_SECRET or not secret.isascii():
        return None
    now = timezone.now()
    return (
        ApiToken.objects.select_related("user")
        .filter(Q(expires_at=None) | Q(expires_at__gt=now), digest=ApiToken.digest_of(secret), user__is_active=True)
        .first()
    )


def _mark_used(token: ApiToken) -> None:
    now = timezone.now()
    if token.last_used_at is not None and now - token.last_used_at < _USED_EVERY:
        return
    stale = Q(last_used_at=None) | Q(last_used_at__lte=now - _USED_EVERY)
    try:
        with transaction.atomic():
            ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
    except DatabaseError:
        # A read must not fail because its time could not be noted (a full disk, a locked database).
        log.warning("last use of a token was not noted", exc_info=True)
    token.last_used_at = now


def session_actor(request: HttpRequest) -> Actor | None:
    """The actor of the browser's session, None when nobody is signed in."""
    user = request.user
    if not isinstance(user, User) or not user.is_active:
        return None
    return Actor.of_user(user, request_id=getattr(request, "request_id", ""))


def page_actor(request: HttpRequest) -> Actor | None:
    """Who asks for a page: the token's user if one is sent, else who is signed in. Sets `request.actor` (and `user`).

    CSRF was checked by Django's middleware, which runs before.
    """
    actor: Actor | None
    if has_bearer(request):
        actor = token_actor(request)
        request.user = actor.user  # type: ignore[assignment]  # a token's actor always has a user
    else:
        actor = session_actor(request)
    request.actor = actor  # type: ignore[attr-defined]
    return actor


class ApiAuth(AuthBase):
    """For django-ninja's `auth=`: returns the Actor (truthy) and sets `request.actor`, or raises.

    Raises:
        NotAuthenticated: No session, or a bad token.
        PermissionRefused: A change by a session without its CSRF token.
    """

    openapi_type = "http"
    openapi_scheme = "bearer"
    openapi_description = "A token of ours. In the browser, the session cookie and the header X-CSRFToken do as well."

    def __call__(self, request: HttpRequest) -> Actor:
        """The caller."""
        actor: Actor | None
        if has_bearer(request):
            actor = token_actor(request)
        else:
            actor = session_actor(request)
            if actor is None:
                raise NotAuthenticated("Send a token (Authorization: Bearer …), or sign in.")
            if request.method not in _SAFE and check_csrf(request) is not None:
                raise PermissionRefused(
                    "The CSRF token is missing or too old: load the page again, or send a bearer token."
                )
        request.actor = actor  # type: ignore[attr-defined]
        return actor


def authorize(function: Callable[..., Any], request: HttpRequest) -> None:
    """Ask the policy whether `request.actor` may call the operation `function`.

    Raises:
        NotAuthenticated: It is not public, and nobody is known.
        PermissionRefused: The actor may not, or the operation declares nothing (a bug, and refused).
    """
    verb = verb_of(function)
    if verb == policy.PUBLIC:
        return
    if verb is None:
        log.error("an operation declares no access", extra={"view": getattr(function, "__qualname__", repr(function))})
        raise PermissionRefused("This call declares no access, so that nobody may use it.")
    actor: Actor | None = getattr(request, "actor", None)
    if actor is None:
        raise NotAuthenticated
    policy.require(actor, verb)
