from __future__ import annotations

from django.apps import AppConfig


class HostsConfig(AppConfig):
    """Hosts and the hypervisors on them."""

    name = "hosts"
