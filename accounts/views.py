"""Sign-in, sign-out and their failures, and the settings page. Runs in a request thread; what is done is done in services."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

from axes.helpers import get_cool_off
from axes.models import AccessAttempt
from django.contrib import messages
from django.contrib.auth import login, logout, update_session_auth_hash
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import services
from accounts.access import access
from accounts.actor import SYSTEM, Actor, actor_of
from accounts.addresses import axes_address, client_address, client_network
from accounts.answers import is_htmx, own_path, problem_response, wants_page
from accounts.audit import record
from accounts.forms import DisplayForm, PasswordForm, SignInForm, TokenForm
from accounts.models import User
from accounts.policy import PUBLIC
from accounts.throttle import AUDITED_FAILURES, SIGN_INS
from core.errors import BadInput, PermissionRefused, TooMany, VmmError
from core.paging import paginate

if TYPE_CHECKING:
    import uuid

    from django.forms import Form
    from django.http import HttpRequest

_COOKIE_AGE = 31_536_000


# -- sign-in -------------------------------------------------------------------------------------------------------------
@access(PUBLIC)
@never_cache
@sensitive_post_parameters("password")
@csrf_protect
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """The sign-in page. Who is signed in already goes straight on."""
    if request.method != "POST":
        target = own_path(request.GET.get("next", ""))
        if request.user.is_authenticated:
            return HttpResponseRedirect(target or "/")
        return render(request, "accounts/login.html", {"form": SignInForm(request), "next": target})
    network = client_network(request)
    wait = SIGN_INS.wait_seconds(network)
    if wait:
        return _locked_page(request, wait)
    form = SignInForm(request, data=request.POST)
    if not form.is_valid():
        # django-axes' middleware puts `locked_out` in the place of this answer when it was one try too many.
        SIGN_INS.hit(network)
        _record_failure(request, "sign_in_locked" if getattr(request, "axes_locked_out", False) else "sign_in_failed")
        return render(request, "accounts/login.html", {"form": form, "next": own_path(request.POST.get("next", ""))})
    user = form.get_user()
    login(request, user)
    request.actor = actor = Actor.of_user(user, request_id=getattr(request, "request_id", ""))  # type: ignore[attr-defined]
    record(actor, "sign_in", object=f"user/{user.pk}", object_name=user.get_username(), address=client_address(request))
    return HttpResponseRedirect(own_path(request.POST.get("next", "")) or "/")


def _record_failure(request: HttpRequest, what: str) -> None:
    """Note the failure, a few a minute. A name that no user has is not written down: often it is a password."""
    if AUDITED_FAILURES.hit(client_network(request)) > AUDITED_FAILURES.limit:
        return
    name = request.POST.get("username", "")[:150].replace("\0", "")
    user = User.objects.filter(username=name).first()
    record(
        SYSTEM,
        what,
        object=f"user/{user.pk if user else 'unknown'}",
        object_name=user.username if user else "",
        address=client_address(request),
        request_id=getattr(request, "request_id", ""),
    )


def locked_out(
    request: HttpRequest, _response: HttpResponse, credentials: dict[str, Any] | None = None
) -> HttpResponse:
    """django-axes' answer to one try too many for this name from this network."""
    name = (credentials or {}).get("username") or request.POST.get("username", "")[:150]
    tries = AccessAttempt.objects.filter(username=name, ip_address=axes_address(request))
    last = tries.order_by("-attempt_time").values_list("attempt_time", flat=True).first() or timezone.now()
    cool_off = get_cool_off(request)
    left = (last + cool_off - timezone.now()).total_seconds()
    return _locked_page(request, max(1, math.ceil(left)))


def _locked_page(request: HttpRequest, wait_seconds: int) -> HttpResponse:
    error = TooMany("Too many failed sign-ins from here.", retry_after_seconds=wait_seconds)
    if not wants_page(request):
        return problem_response(request, error)
    context = {"form": SignInForm(request), "next": own_path(request.POST.get("next", "")), "locked_out": wait_seconds}
    response = render(request, "accounts/login.html", context, status=429)
    response["Retry-After"] = str(wait_seconds)
    return response


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form that was not ours, or too old: what to do, not what went wrong inside."""
    del reason
    if not wants_page(request):
        return problem_response(
            request, PermissionRefused("The CSRF token is missing or too old: load the page again.")
        )
    return render(request, "errors/csrf.html", status=403)


@access(PUBLIC)
@never_cache
@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End this session. Public, so that pressing it twice, or after the session has ended, does no harm."""
    actor: Actor | None = request.actor  # type: ignore[attr-defined]
    if actor is not None and actor.user is not None:
        key = request.session.session_key or ""
        session = hashlib.sha256(key.encode()).hexdigest()
        record(actor, "sign_out", object=f"user/{actor.user.pk}", object_name=actor.name, session=session)
    logout(request)
    if is_htmx(request):
        response = HttpResponse(status=204)
        response["HX-Redirect"] = "/login"
        return response
    return HttpResponseRedirect("/login")


# -- settings ------------------------------------------------------------------------------------------------------------
@access("account.manage")
@never_cache
@require_safe
def settings_page(request: HttpRequest) -> HttpResponse:
    """Tokens, password, looks."""
    return _settings(request)


def _settings(request: HttpRequest, *, status: int = 200, part: str = "", **context: Any) -> HttpResponse:
    """The page, or for htmx one part of it: then always 200, since htmx shows nothing else."""
    by = actor_of(request)
    context.setdefault("token_form", TokenForm(by=by))
    context.setdefault("password_form", PasswordForm())
    try:
        cursor = request.GET.get("cursor")
        rows = services.token_list(by).filter(user=by.user)
        context["tokens"] = paginate(rows, orderings={"made": "created_at"}, ordering="-made", cursor=cursor)
    except BadInput:
        return HttpResponseRedirect("/settings")
    context["now"] = timezone.now()
    if part and is_htmx(request):
        return render(request, f"accounts/_{part}.html", context)
    return render(request, "accounts/settings.html", context, status=status)


def _show(form: Form, error: VmmError) -> None:
    """Put a service's refusal where it belongs on the form."""
    if isinstance(error, BadInput):
        for item in error.errors:
            field = item["pointer"].removeprefix("/")
            form.add_error(field if field in form.fields else None, item["detail"])
    else:
        form.add_error(None, error.detail)


@access("token.manage")
@never_cache
@require_POST
def token_make(request: HttpRequest) -> HttpResponse:
    """Make a token and show it, this once. The answer is the page itself: a redirect would have to keep the secret."""
    by = actor_of(request)
    form = TokenForm(request.POST, by=by)
    if form.is_valid():
        data = form.cleaned_data
        try:
            token, secret = services.token_create(
                by, name=data["name"], scope=data["scope"], expires_at=form.expires_at, token_id=data["id"]
            )
        except VmmError as error:
            _show(form, error)
        else:
            return _settings(request, part="tokens", made=token, secret=secret)
    return _settings(request, status=422, part="tokens", token_form=form)


@access("token.manage")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def token_revoke(request: HttpRequest, token_id: uuid.UUID) -> HttpResponse:
    """Ask, then do it."""
    by = actor_of(request)
    token = services.token_get(by, token_id)
    if request.method != "POST":
        return render(request, "accounts/revoke.html", {"token": token})
    services.token_revoke(by, token_id)
    messages.success(request, _("%(name)s opens nothing any more.") % {"name": token.name})
    return HttpResponseRedirect("/settings")


@access("account.manage")
@never_cache
@sensitive_post_parameters()
@require_POST
def password(request: HttpRequest) -> HttpResponse:
    """Change one's own password; this session stays, all others end."""
    form = PasswordForm(request.POST)
    if form.is_valid():
        try:
            user = services.password_change(
                actor_of(request), old=form.cleaned_data["old_password"], new=form.cleaned_data["new_password"]
            )
        except VmmError as error:
            _show(form, error)
        else:
            update_session_auth_hash(request, user)
            messages.success(request, _("The password is changed. Your other sessions have ended."))
            return HttpResponseRedirect("/settings")
    return _settings(request, status=422, password_form=form)


@access("account.manage")
@require_POST
def display(request: HttpRequest) -> HttpResponse:
    """Theme and density, without JavaScript; with it the page sets the same cookies itself."""
    form = DisplayForm(request.POST)
    response = HttpResponseRedirect("/settings")
    if not form.is_valid():
        return response
    for name in ("theme", "density"):
        if name not in request.POST:
            continue
        value = form.cleaned_data[name]
        age = _COOKIE_AGE if value else 0
        response.set_cookie(name, value, max_age=age, secure=request.is_secure(), samesite="Lax")
    return response
