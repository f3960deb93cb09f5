"""Set a user's password from a shell. Asked for, or read from a pipe; never an argument, which other users could see."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from accounts.actor import SYSTEM
from accounts.models import User
from accounts.services import password_set
from core.errors import VmmError

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Set a user's password: asked for on a terminal, else read from the first line of standard input."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="whose password")

    def handle(self, *, name: str, **_options: Any) -> None:
        user = User.objects.filter(username=name).first()
        if user is None:
            raise CommandError(f"There is no user {name!r}.")
        try:
            password_set(SYSTEM, user, self._ask())
        except VmmError as error:
            raise CommandError(error.detail) from None
        self.stderr.write(
            f"The password of {user.username} is changed; all its sessions have ended.", self.style.SUCCESS
        )

    def _ask(self) -> str:
        if not sys.stdin.isatty():
            line = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
            if not line:
                raise CommandError("Standard input holds no password.")
            return line
        first = getpass.getpass("New password: ")
        if first != getpass.getpass("Again: "):
            raise CommandError("The two differ. Nothing was changed.")
        return first
