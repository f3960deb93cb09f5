"""What can be done with users, passwords and tokens. Every way in (pages, API, commands) comes through here.

Each change and its audit event are one transaction; `live` hears the events `audit.user_changed`, `audit.token_revoked` and
`audit.password_changed` and closes or narrows the sockets concerned.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import secrets
import unicodedata
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from accounts import policy
from accounts.actor import SYSTEM, Actor
from accounts.audit import record
from accounts.choices import Role, Scope
from accounts.models import ApiToken, User
from accounts.throttle import OLD_PASSWORDS
from core.errors import BadInput, Conflict, Missing, PermissionRefused, Stale, TooMany

if TYPE_CHECKING:
    import uuid
    from pathlib import Path

    from django.db.models import QuerySet

log = logging.getLogger(__name__)

FIRST_ADMIN = "admin"
INITIAL_PASSWORD = "initial-password"  # noqa: S105 - the name of a file
PASSWORD_MAX = 1000
TOKENS_MAX = 1000
RESERVED_NAMES = frozenset({"system", "watcher", "anonymous"})
"""Names that stand in the event log for somebody else than a user."""
_EXPIRED_KEPT = dt.timedelta(days=30)


class AlreadyExists(Conflict):
    """There is one of this name already."""

    code = "already_exists"


def _bad(field: str, detail: str) -> BadInput:
    return BadInput(detail, errors=[{"pointer": f"/{field}", "detail": detail}])


# -- the first start -----------------------------------------------------------------------------------------------------
def ensure_first_admin(data_dir: Path, password: str = "") -> Path | None:
    """Make the first administrator, `admin`, if there is no user at all.

    Args:
        data_dir: Where `initial-password` is written (mode 0600) when no password was given.
        password: Of the first administrator (VMM_ADMIN_PASSWORD); taken as it is, whatever its strength.

    Returns:
        The file with the password, to be printed, as long as it is good; None when there is none.
    """
    path = data_dir / INITIAL_PASSWORD
    if User.objects.exists():
        return path if path.exists() else None
    made = "" if password else secrets.token_urlsafe(15)
    user = User(username=FIRST_ADMIN, role=Role.ADMINISTRATOR)
    user.set_password(password or made)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
            record(SYSTEM, "user_created", object=f"user/{user.pk}", object_name=user.username, role=user.role)
            if made:
                _write_secret(path, made + "\n")  # before the commit: no user without a password that somebody can read
    except IntegrityError:
        log.info("the first administrator was made by another process")
    return path if path.exists() else None


def _write_secret(path: Path, text: str) -> None:
    """Write `text` where only we can read it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    part.replace(path)


# -- tokens --------------------------------------------------------------------------------------------------------------
def token_list(by: Actor) -> QuerySet[ApiToken]:
    """The tokens that `by` may see: his own; with scope `admin`, everybody's."""
    rows = policy.visible(by, ApiToken.objects.select_related("user"))
    return rows if by.scope.includes(Scope.ADMIN) else rows.filter(user=by.user)


def token_get(by: Actor, token_id: uuid.UUID) -> ApiToken:
    """One of them. Raises Missing."""
    token = token_list(by).filter(pk=token_id).first()
    if token is None:
        raise Missing
    return token


def token_create(
    by: Actor,
    *,
    name: str,
    scope: str = Scope.READ,
    expires_at: dt.datetime | None = None,
    user: User | None = None,
    token_id: uuid.UUID | None = None,
) -> tuple[ApiToken, str]:
    """Make a token for the caller (or, by the system, for `user`); returns it and its secret, which is kept nowhere.

    Args:
        by: Whose rights it may not exceed: neither in scope nor, when he comes with a token himself, in time.
        name: What it is for, 1 to 100 characters.
        scope: `read`, `write` or `admin`.
        expires_at: None: never, or with the caller's own token.
        user: Only for SYSTEM: whose token it is.
        token_id: Chosen by a form, so that sending it twice makes one token.

    Raises:
        BadInput: Unusable name, scope or time.
        PermissionRefused: Wider or longer than the caller himself.
        AlreadyExists: `token_id` was used.
        Conflict: Too many tokens.
    """
    policy.require(by, "token.manage")
    owner = user if by.user is None else by.user
    if owner is None or (user is not None and user != owner):
        raise PermissionRefused("A token belongs to who makes it.")
    name = _clean_name(name)
    if scope not in Scope.values:
        raise _bad("scope", "One of read, write, admin.")
    if not by.scope.includes(Scope(scope)) or not owner.scope.includes(Scope(scope)):
        raise PermissionRefused(f"The scope {scope} is wider than your own.")
    expires_at = _check_expiry(by, expires_at)
    if ApiToken.objects.filter(user=owner).count() >= TOKENS_MAX:
        raise Conflict(f"There are {TOKENS_MAX} tokens. Revoke those that nobody uses.")
    secret = ApiToken.new_secret()
    token = ApiToken(
        user=owner, name=name, scope=scope, digest=ApiToken.digest_of(secret), hint=secret[:8], expires_at=expires_at
    )
    if token_id is not None:
        token.pk = token_id
    try:
        with transaction.atomic():
            token.save(force_insert=True)
            record(by, "token_created", object=f"token/{token.pk}", object_name=name, user=owner.username, scope=scope)
    except IntegrityError:
        raise AlreadyExists("This token was made already; its secret was shown then.") from None
    return token, secret


def _clean_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= 100:
        raise _bad("name", "1 to 100 characters.")
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name):
        raise _bad("name", "No control characters.")
    return name


def _check_expiry(by: Actor, expires_at: dt.datetime | None) -> dt.datetime | None:
    own = by.token.expires_at if by.token is not None else None
    if expires_at is None:
        return own
    if timezone.is_naive(expires_at):
        raise _bad("expires_at", "A time with its zone, for example 2030-01-01T00:00:00Z.")
    if expires_at <= timezone.now():
        raise _bad("expires_at", "A time to come.")
    if own is not None and expires_at > own:
        raise PermissionRefused("A token makes only tokens that expire no later than itself.")
    return expires_at.astimezone(dt.UTC)


def token_revoke(by: Actor, token_id: uuid.UUID, *, version: int | None = None) -> None:
    """Make a token worthless at once. What its sockets follow ends with the event `audit.token_revoked`.

    Raises:
        Missing: There is none that the caller may see.
        PermissionRefused: It is wider than the token that the caller comes with.
        Stale: `version` is not its present one.
    """
    policy.require(by, "token.manage")
    token = token_get(by, token_id)
    if not by.scope.includes(Scope(token.scope)):
        raise PermissionRefused("A token revokes only tokens of no wider scope.")
    if version not in (None, token.version):
        raise Stale
    with transaction.atomic():
        deleted, _ = ApiToken.objects.filter(pk=token.pk).delete()
        if not deleted:
            raise Missing
        _record_revoked(by, token)


def _record_revoked(by: Actor, token: ApiToken, *, reason: str = "revoked") -> None:
    record(
        by,
        "token_revoked",
        object=f"token/{token.pk}",
        object_name=token.name,
        user=token.user.username,
        user_id=str(token.user_id),
        scope=token.scope,
        reason=reason,
    )


def tokens_trim(now: dt.datetime, *, limit: int) -> int:
    """Remove tokens that expired a month ago; returns how many."""
    old = list(ApiToken.objects.select_related("user").filter(expires_at__lt=now - _EXPIRED_KEPT)[:limit])
    if not old:
        return 0
    with transaction.atomic():
        ApiToken.objects.filter(pk__in=[token.pk for token in old]).delete()
        for token in old:
            _record_revoked(SYSTEM, token, reason="expired")
    return len(old)


# -- passwords -----------------------------------------------------------------------------------------------------------
def password_change(by: Actor, *, old: str, new: str) -> User:
    """Set the caller's own password. All his other sessions end (their hash no longer fits); tokens stay.

    Returns:
        The fresh user, for `update_session_auth_hash`.

    Raises:
        BadInput: The old one is wrong, or the new one too weak.
        PermissionRefused: The caller comes with a token: a leaked token must not take the account over.
        TooMany: Wrong too often.
    """
    policy.require(by, "account.manage")
    if by.user is None or by.token is not None:
        raise PermissionRefused("A password is changed in the browser, or by manage.py set_password.")
    who = str(by.user.pk)
    wait = OLD_PASSWORDS.wait_seconds(who)
    if wait:
        raise TooMany("The old password was wrong too often.", retry_after_seconds=wait)
    if len(old) > PASSWORD_MAX or not by.user.check_password(old):
        OLD_PASSWORDS.hit(who)
        raise _bad("old_password", "This is not your password.")
    return password_set(by, by.user, new)


def password_set(by: Actor, user: User, new: str, *, field: str = "new_password") -> User:
    """Set somebody's password, checked for strength; for SYSTEM (the command) and administrators. Ends all sessions.

    Raises:
        BadInput: Too weak.
        Missing: The user has gone.
    """
    if by.user != user:
        policy.require(by, "user.manage")
    check_password_strength(new, user, field=field)
    with transaction.atomic():
        fresh = User.objects.select_for_update().filter(pk=user.pk).first()
        if fresh is None:
            raise Missing
        fresh.set_password(new)
        fresh.save(update_fields=["password"])
        record(by, "password_changed", object=f"user/{fresh.pk}", object_name=fresh.username)
        if fresh.username == FIRST_ADMIN:
            transaction.on_commit(lambda: (settings.DATA_DIR / INITIAL_PASSWORD).unlink(missing_ok=True))
    return fresh


def check_password_strength(password: str, user: User, *, field: str = "new_password") -> None:
    """Raises BadInput with one sentence for each fault."""
    if len(password) > PASSWORD_MAX:
        raise _bad(field, f"At most {PASSWORD_MAX} characters.")
    if "\0" in password or any("\ud800" <= char <= "\udfff" for char in password):
        raise _bad(field, "This character cannot be part of a password.")
    try:
        validate_password(password, user)
    except ValidationError as error:
        faults = [str(message) for message in error.messages]
        raise BadInput(
            " ".join(faults), errors=[{"pointer": f"/{field}", "detail": fault} for fault in faults]
        ) from None


# -- users ---------------------------------------------------------------------------------------------------------------
def user_list(by: Actor) -> QuerySet[User]:
    """All users, for administrators."""
    policy.require(by, "user.manage")
    return User.objects.all()


def user_get(by: Actor, user_id: uuid.UUID) -> User:
    """One of them. Raises Missing."""
    user = user_list(by).filter(pk=user_id).first()
    if user is None:
        raise Missing
    return user


def user_create(by: Actor, *, username: str, password: str | None, role: str = Role.VIEWER) -> User:
    """Make a user. Without a password it can only be used by tokens.

    Raises:
        BadInput: Unusable name, role or password.
        AlreadyExists: The name is taken, in whatever case.
    """
    policy.require(by, "user.manage")
    username = User.normalize_username(username.strip())
    if role not in Role.values:
        raise _bad("role", "One of viewer, operator, administrator.")
    if username.lower() in RESERVED_NAMES:
        raise _bad("name", "This name means something else in the event log.")
    user = User(username=username, role=role)
    if password is None:
        user.set_unusable_password()
    else:
        check_password_strength(password, user, field="password")
        user.set_password(password)
    try:
        user.clean_fields(exclude=["password"])
    except ValidationError as error:
        raise _bad("name", " ".join(error.message_dict.get("username", error.messages))) from None
    try:
        with transaction.atomic():
            user.save(force_insert=True)
            record(by, "user_created", object=f"user/{user.pk}", object_name=username, role=role)
    except IntegrityError:
        raise AlreadyExists(f"There is a user {username} already.") from None
    return user


def user_update(
    by: Actor,
    user_id: uuid.UUID,
    *,
    role: str | None = None,
    active: bool | None = None,
    password: str | None = None,
    version: int | None = None,
) -> User:
    """Change a user's role or password, or let him in or not. Takes effect with his next request; sockets hear of it.

    Raises:
        BadInput: Unknown role, weak password.
        Missing: No such user.
        Conflict: It is oneself, or nobody could administer any more.
        Stale: `version` is not his present one.
    """
    policy.require(by, "user.manage")
    if role is not None and role not in Role.values:
        raise _bad("role", "One of viewer, operator, administrator.")
    with transaction.atomic():
        user = _locked(user_id)
        if version not in (None, user.version):
            raise Stale
        if password is not None:
            if by.user is not None and by.user.pk == user.pk:
                raise Conflict("One's own password is changed in the settings, where the old one is asked for.")
            user = password_set(by, user, password, field="password")
        changes: dict[str, object] = {}
        if role is not None and role != user.role:
            changes["role"] = role
        if active is not None and active != user.is_active:
            changes["is_active"] = active
        if not changes:
            return user
        if by.user is not None and by.user.pk == user.pk:
            raise Conflict("Nobody changes his own role or locks himself out; another administrator can.")
        _keep_an_administrator(user, stays=(role or user.role) == Role.ADMINISTRATOR and active is not False)
        User.objects.filter(pk=user.pk).update(**changes, version=F("version") + 1)
        user.refresh_from_db()
        record(
            by,
            "user_changed",
            object=f"user/{user.pk}",
            object_name=user.username,
            role=user.role,
            active=user.is_active,
        )
    return user


def user_delete(by: Actor, user_id: uuid.UUID, *, version: int | None = None) -> None:
    """Remove a user with his tokens and sessions. History keeps the name.

    Raises:
        Missing: No such user.
        Conflict: It is oneself, or the last administrator.
        Stale: `version` is not his present one.
    """
    policy.require(by, "user.manage")
    with transaction.atomic():
        user = _locked(user_id)
        if version not in (None, user.version):
            raise Stale
        if by.user is not None and by.user.pk == user.pk:
            raise Conflict("Nobody removes himself; another administrator can.")
        _keep_an_administrator(user, stays=False)
        record(
            by,
            "user_changed",
            object=f"user/{user.pk}",
            object_name=user.username,
            role=user.role,
            active=False,
            removed=True,
        )
        user.delete()


def _locked(user_id: uuid.UUID) -> User:
    """The user, with all active administrators locked, so that two of them cannot remove each other at once."""
    list(
        User.objects.select_for_update()
        .filter(role=Role.ADMINISTRATOR, is_active=True)
        .order_by("pk")
        .values_list("pk")
    )
    user = User.objects.select_for_update().filter(pk=user_id).first()
    if user is None:
        raise Missing
    return user


def _keep_an_administrator(user: User, *, stays: bool) -> None:
    if stays or user.role != Role.ADMINISTRATOR or not user.is_active:
        return
    if not User.objects.filter(role=Role.ADMINISTRATOR, is_active=True).exclude(pk=user.pk).exists():
        raise Conflict("This is the last administrator: nobody could administer any more.")
