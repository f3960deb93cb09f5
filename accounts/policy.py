"""The policy door: every view, API call, socket and service asks here, and what is not allowed is refused.

A verb needs a scope. An object that the caller may not see is as good as absent (`visible`, 404); one that he may see
and not change is 403. Roles on single objects and projects will enter here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from accounts.choices import Scope
from core.errors import PermissionRefused

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet

    from accounts.actor import Actor

VERBS: Final[dict[str, Scope]] = {
    "view": Scope.READ,
    "token.manage": Scope.READ,  # one's own tokens, never wider than the caller (accounts.services)
    "account.manage": Scope.READ,  # one's own password
    "vm.operate": Scope.WRITE,
    "vm.edit": Scope.WRITE,
    "vm.console": Scope.WRITE,
    "vm.delete": Scope.WRITE,
    "vm.create": Scope.WRITE,
    "vm.snapshot": Scope.WRITE,
    "volume.manage": Scope.WRITE,
    "image.manage": Scope.WRITE,
    "template.manage": Scope.WRITE,
    "upload.manage": Scope.WRITE,  # one's own
    "operation.cancel": Scope.WRITE,
    "vm.xml": Scope.ADMIN,
    "host.manage": Scope.ADMIN,
    "host.probe": Scope.ADMIN,
    "pool.manage": Scope.ADMIN,
    "network.manage": Scope.ADMIN,
    "image.fetch": Scope.ADMIN,  # from a URL: our server would be the one who asks
    "user.manage": Scope.ADMIN,
    "audit.view": Scope.ADMIN,
}
"""Verb → the scope that it needs. A verb that is not here does not exist: asking for it is a bug, and refused."""

PUBLIC: Final = "public"
"""For the few doors without a sign-in: sign-in itself, health, static files."""

M = TypeVar("M", bound="Model")


def may(actor: Actor, verb: str, obj: Model | None = None) -> bool:
    """Whether `actor` may do `verb` (on `obj`). Unknown verbs: no."""
    del obj  # object-level roles come with projects; every caller already passes what they will need
    needed = VERBS.get(verb)
    if needed is None or (actor.user is not None and not actor.user.is_active):
        return False
    return actor.scope.includes(needed)


def require(actor: Actor, verb: str, obj: Model | None = None) -> None:
    """Raises PermissionRefused unless `actor` may."""
    if not may(actor, verb, obj):
        needed = VERBS.get(verb)
        raise PermissionRefused(f"This needs the scope {needed}." if needed else "", verb=verb)


def visible(actor: Actor, queryset: QuerySet[M]) -> QuerySet[M]:
    """The rows of `queryset` that `actor` may see."""
    return queryset if may(actor, "view") else queryset.none()


def may_see(actor: Actor, object_ref: str) -> bool:
    """Whether `actor` may see events and samples of `vm/<id>` and the like. Asked at subscribe and when roles change."""
    if object_ref.startswith(("user/", "token/")):
        return may(actor, "audit.view")
    return may(actor, "view")
