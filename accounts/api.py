"""REST: tokens, users, oneself. Errors are raised as `core.errors`; the API maps them. Runs in a request thread."""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from ninja import Body, Query, Router
from pydantic import Field, PlainSerializer, StringConstraints

from accounts import services
from accounts.access import access
from accounts.actor import actor_of
from accounts.choices import Role
from accounts.models import ApiToken, User
from accounts.policy import VERBS
from core import rest, search
from core.paging import paginate

router = Router(tags=["accounts"])

_TOKENS = {"name": "name", "created_at": "created_at"}
_USERS = {"name": "username", "role": "role", "created_at": "date_joined"}


def _z(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(_z, return_type=str, when_used="unless-none")]
ScopeName = Literal["read", "write", "admin"]
RoleName = Literal["viewer", "operator", "administrator"]
Password = Annotated[str, StringConstraints(max_length=services.PASSWORD_MAX)]


def _matching(field: str, text: str) -> Q:
    """The condition that `q` means on a list that is searched by name alone."""
    condition = Q()
    for term in search.parse(text, keys=()):
        one = Q(**{f"{field}__icontains": term.values[0]})
        condition &= ~one if term.negative else one
    return condition


# -- tokens --------------------------------------------------------------------------------------------------------------
class TokenOut(rest.Output):
    """A token, without what it is."""

    id: uuid.UUID
    name: str
    scope: ScopeName
    hint: str = Field(description="Its first characters.")
    user: str
    expires_at: Moment | None
    last_used_at: Moment | None
    created_at: Moment


class TokenMade(TokenOut):
    """A new token. `token` is here once, and nowhere else."""

    token: str


class TokenIn(rest.Input):
    """A new token: no wider, and no longer good, than what asks for it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    scope: ScopeName = "read"
    expires_at: Annotated[datetime, Field(strict=False, examples=["2030-01-01T00:00:00Z"])] | None = None


class TokenPage(rest.Output):
    """A page of tokens."""

    items: list[TokenOut]
    total: int
    next: str | None


class TokenListing(rest.Listing):
    """Filters of tokens."""

    user: Annotated[str, Field(max_length=2000, description="Names of users, several by commas.")] = ""


def token_json(token: ApiToken) -> dict[str, Any]:
    """Field by field: what is not named here cannot get out. Needs `user` selected."""
    return {
        "id": str(token.pk),
        "name": token.name,
        "scope": token.scope,
        "hint": token.hint,
        "user": token.user.username,
        "expires_at": rest.moment(token.expires_at),
        "last_used_at": rest.moment(token.last_used_at),
        "created_at": rest.moment(token.created_at),
    }


@router.get("/tokens", response=TokenPage, operation_id="list_tokens", summary="List tokens")
@access("token.manage")
def tokens(request: HttpRequest, listing: Query[TokenListing]) -> HttpResponse:
    """Your own tokens; with scope `admin`, everybody's."""
    rows = services.token_list(actor_of(request)).filter(_matching("name", listing.q))
    if listing.user:
        rows = rows.filter(user__username__in=listing.user.replace("\0", "").split(","))
    page = paginate(
        rows, orderings=_TOKENS, ordering=listing.ordering or "name", cursor=listing.cursor, limit=listing.limit
    )
    return rest.page_answer(page, token_json)


@router.post("/tokens", response={201: TokenMade}, operation_id="create_token", summary="Make a token")
@access("token.manage")
def token_make(request: HttpRequest, payload: Body[TokenIn]) -> HttpResponse:
    """The answer holds `token`, this once."""
    token, secret = services.token_create(
        actor_of(request), name=payload.name, scope=payload.scope, expires_at=payload.expires_at
    )
    headers = {"Location": f"/api/v1/tokens/{token.pk}", "Cache-Control": "no-store"}
    return rest.single(request, token_json(token) | {"token": secret}, version=token.version, status=201, **headers)


@router.get("/tokens/{token_id}", response=TokenOut, operation_id="get_token", summary="One token")
@access("token.manage")
def token(request: HttpRequest, token_id: uuid.UUID) -> HttpResponse:
    """Without its secret, which is kept nowhere."""
    found = services.token_get(actor_of(request), token_id)
    return rest.single(request, token_json(found), version=found.version)


@router.delete("/tokens/{token_id}", response={204: None}, operation_id="revoke_token", summary="Revoke a token")
@access("token.manage")
def token_revoke(request: HttpRequest, token_id: uuid.UUID) -> HttpResponse:
    """It opens nothing any more from now on; sockets opened with it are closed."""
    by = actor_of(request)
    version = rest.if_match(request, services.token_get(by, token_id).version)
    services.token_revoke(by, token_id, version=version)
    return rest.nothing()


# -- users ---------------------------------------------------------------------------------------------------------------
class UserOut(rest.Output):
    """A person or a robot account."""

    id: uuid.UUID
    name: str
    role: RoleName
    active: bool
    last_login_at: Moment | None
    created_at: Moment


class UserIn(rest.Input):
    """A new user. Without a password only tokens open the account."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=150)]
    role: RoleName = "viewer"
    password: Password | None = None


class UserChange(rest.Input):
    """What of a user can be changed; what is absent stays."""

    role: RoleName | None = None
    active: bool | None = None
    password: Password | None = None


class UserPage(rest.Output):
    """A page of users."""

    items: list[UserOut]
    total: int
    next: str | None


def user_json(user: User) -> dict[str, Any]:
    """Field by field: what is not named here cannot get out."""
    return {
        "id": str(user.pk),
        "name": user.username,
        "role": user.role,
        "active": user.is_active,
        "last_login_at": rest.moment(user.last_login),
        "created_at": rest.moment(user.date_joined),
    }


@router.get("/users", response=UserPage, operation_id="list_users", summary="List users")
@access("user.manage")
def users(request: HttpRequest, listing: Query[rest.Listing]) -> HttpResponse:
    """Everybody who has an account."""
    rows = services.user_list(actor_of(request)).filter(_matching("username", listing.q))
    page = paginate(
        rows, orderings=_USERS, ordering=listing.ordering or "name", cursor=listing.cursor, limit=listing.limit
    )
    return rest.page_answer(page, user_json)


@router.post("/users", response={201: UserOut}, operation_id="create_user", summary="Make a user")
@access("user.manage")
@rest.problems(409)
def user_make(request: HttpRequest, payload: Body[UserIn]) -> HttpResponse:
    """A name is taken whatever its case."""
    made = services.user_create(actor_of(request), username=payload.name, password=payload.password, role=payload.role)
    headers = {"Location": f"/api/v1/users/{made.pk}"}
    return rest.single(request, user_json(made), version=made.version, status=201, **headers)


@router.get("/users/{user_id}", response=UserOut, operation_id="get_user", summary="One user")
@access("user.manage")
def user(request: HttpRequest, user_id: uuid.UUID) -> HttpResponse:
    """One account."""
    found = services.user_get(actor_of(request), user_id)
    return rest.single(request, user_json(found), version=found.version)


@router.patch("/users/{user_id}", response=UserOut, operation_id="change_user", summary="Change a user")
@access("user.manage")
@rest.problems(409)
def user_change(request: HttpRequest, user_id: uuid.UUID, payload: Body[UserChange]) -> HttpResponse:
    """Role, activity, password. Sessions and sockets follow at once. Not one's own role; never the last administrator."""
    by = actor_of(request)
    version = rest.if_match(request, services.user_get(by, user_id).version)
    changed = services.user_update(
        by, user_id, role=payload.role, active=payload.active, password=payload.password, version=version
    )
    return rest.single(request, user_json(changed), version=changed.version)


@router.delete("/users/{user_id}", response={204: None}, operation_id="remove_user", summary="Remove a user")
@access("user.manage")
@rest.problems(409)
def user_remove(request: HttpRequest, user_id: uuid.UUID) -> HttpResponse:
    """With all tokens and sessions. Not oneself; never the last administrator."""
    by = actor_of(request)
    version = rest.if_match(request, services.user_get(by, user_id).version)
    services.user_delete(by, user_id, version=version)
    return rest.nothing()


# -- oneself -------------------------------------------------------------------------------------------------------------
class RoleOut(rest.Output):
    """A role: the widest scope that goes with it, and what that opens."""

    name: RoleName
    scope: ScopeName
    verbs: list[str]


class RolePage(rest.Output):
    """All roles, narrowest first."""

    items: list[RoleOut]
    total: int
    next: str | None


class Me(UserOut):
    """Who you are, and what this call may do."""

    scope: ScopeName
    token: TokenOut | None


def role_json(role: Role) -> dict[str, Any]:
    """A role and what it opens."""
    verbs = sorted(verb for verb, needed in VERBS.items() if role.scope.includes(needed))
    return {"name": role.value, "scope": role.scope.value, "verbs": verbs}


@router.get("/roles", response=RolePage, operation_id="list_roles", summary="List roles")
@access("account.manage")
def roles(request: HttpRequest) -> HttpResponse:
    """What each role may do."""
    del request
    items = [role_json(role) for role in Role]
    return rest.answer({"items": items, "total": len(items), "next": None})


@router.get("/me", response=Me, operation_id="get_me", summary="Who am I")
@access("account.manage")
def me(request: HttpRequest) -> HttpResponse:
    """The caller, and the scope of this very call: the narrower of the role's and the token's."""
    actor = actor_of(request)
    known: User = actor.user  # type: ignore[assignment]  # a request's actor always has a user
    token = token_json(actor.token) if actor.token is not None else None
    return rest.answer(user_json(known) | {"scope": actor.scope.value, "token": token})
