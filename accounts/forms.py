"""Forms of sign-in and settings: shape only, what is allowed is asked in `accounts.services`."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, UsernameField
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.choices import Scope
from accounts.services import PASSWORD_MAX
from core.ids import uuid7

if TYPE_CHECKING:
    from accounts.actor import Actor

THEMES = ("", "light", "dark")
DENSITIES = ("", "compact", "roomy")


class SignInForm(AuthenticationForm):
    """Django's, with bounds on name and password.

    Hashing megabytes is work for an attacker to give us, and a name of more than 255 characters is an error of PostgreSQL in
    django-axes: Django's own form names the bound of the name and does not check it (5.2).
    """

    username = UsernameField(max_length=150)
    password = forms.CharField(strip=False, max_length=PASSWORD_MAX, widget=forms.PasswordInput)


class TokenForm(forms.Form):
    """A new token."""

    EXPIRIES = (("30", _("30 days")), ("90", _("90 days")), ("365", _("1 year")), ("", _("Never")))

    id = forms.UUIDField(
        widget=forms.HiddenInput, help_text="made with the form, so that sending it twice makes one token"
    )
    name = forms.CharField(max_length=100, label=_("Name"))
    scope = forms.ChoiceField(label=_("Scope"))
    expires_in_days = forms.ChoiceField(choices=EXPIRIES, required=False, label=_("Expires after"))

    def __init__(self, *args: Any, by: Actor, **kwargs: Any) -> None:
        kwargs.setdefault("initial", {"id": uuid7(), "scope": Scope.READ, "expires_in_days": "90"})
        super().__init__(*args, **kwargs)
        scopes = [scope for scope in Scope if by.scope.includes(scope)]
        self.fields["scope"].choices = [(scope.value, scope.label) for scope in scopes]  # type: ignore[attr-defined]

    @property
    def expires_at(self) -> dt.datetime | None:
        """The moment that the choice means from now."""
        days = self.cleaned_data["expires_in_days"]
        return timezone.now() + dt.timedelta(days=int(days)) if days else None


class PasswordForm(forms.Form):
    """A new password for oneself."""

    old_password = forms.CharField(strip=False, max_length=PASSWORD_MAX)
    new_password = forms.CharField(strip=False, max_length=PASSWORD_MAX)
    new_password_again = forms.CharField(strip=False, max_length=PASSWORD_MAX)

    def clean(self) -> dict[str, Any]:
        """Both new ones are the same."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if "new_password" in data and data.get("new_password_again") not in (None, data["new_password"]):
            self.add_error("new_password_again", _("The two new passwords differ."))
        return data


class DisplayForm(forms.Form):
    """Looks, kept in this browser's cookies."""

    theme = forms.ChoiceField(choices=[(value, value) for value in THEMES], required=False)
    density = forms.ChoiceField(choices=[(value, value) for value in DENSITIES], required=False)
