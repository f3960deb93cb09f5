from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Users, tokens, policy."""

    name = "accounts"
