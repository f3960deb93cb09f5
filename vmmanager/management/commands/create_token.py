"""Make an API token from a shell: the token alone on standard output, so that it can be piped."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.actor import SYSTEM
from accounts.choices import Scope
from accounts.models import User
from accounts.services import token_create
from core.errors import VmmError

if TYPE_CHECKING:
    from argparse import ArgumentParser

_LONGEST = 100 * 365 * 86400


class Command(BaseCommand):
    help = "Make an API token and print it, alone, on standard output. It is shown only now."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", required=True, metavar="NAME", help="whose token")
        parser.add_argument("--name", required=True, metavar="LABEL", help="what it is for")
        parser.add_argument("--scope", default=Scope.READ.value, choices=Scope.values, help="default: read")
        parser.add_argument("--expires-in", type=int, metavar="SECONDS", help="default: never")

    def handle(self, *, user: str, name: str, scope: str, expires_in: int | None, **_options: Any) -> None:
        owner = User.objects.filter(username=user).first()
        if owner is None:
            raise CommandError(f"There is no user {user!r}.")
        if not owner.is_active:
            raise CommandError(f"The user {user!r} is not active, so that a token would open nothing.")
        if expires_in is not None and not 1 <= expires_in <= _LONGEST:
            raise CommandError(f"--expires-in is 1 to {_LONGEST} seconds.")
        expires_at = None if expires_in is None else timezone.now() + dt.timedelta(seconds=expires_in)
        try:
            _token, secret = token_create(SYSTEM, user=owner, name=name, scope=scope, expires_at=expires_at)
        except VmmError as error:
            raise CommandError(error.detail) from None
        self.stdout.write(secret)
