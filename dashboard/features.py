"""Capabilities in people's words: what each is called, in which group it stands, and what does its job where it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l

from drivers.types import INSTEAD, Feature

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.utils.functional import _StrPromise

GROUPS: Final[tuple[tuple[_StrPromise, dict[Feature, _StrPromise]], ...]] = (
    (
        _l("Power"),
        {
            Feature.START: _l("Start"),
            Feature.SHUTDOWN: _l("Shut down"),
            Feature.REBOOT: _l("Reboot"),
            Feature.RESET: _l("Reset"),
            Feature.FORCE_OFF: _l("Force off"),
            Feature.SUSPEND: _l("Suspend"),
            Feature.RESUME: _l("Resume"),
            Feature.MANAGED_SAVE: _l("Save to disk"),
            Feature.DISCARD_MANAGED_SAVE: _l("Discard saved memory"),
            Feature.AUTOSTART: _l("Start with the host"),
        },
    ),
    (
        _l("Life"),
        {
            Feature.DEFINE: _l("Make a guest"),
            Feature.RENAME: _l("Rename a guest"),
            Feature.CLONE: _l("Clone a guest"),
            Feature.UNDEFINE: _l("Delete a guest"),
            Feature.XML: _l("Show its definition"),
        },
    ),
    (
        _l("Consoles"),
        {
            Feature.CONSOLE_SERIAL: _l("Serial console"),
            Feature.CONSOLE_SHELL: _l("Shell"),
            Feature.CONSOLE_VNC: _l("Screen by VNC"),
            Feature.CONSOLE_SPICE: _l("Screen by SPICE"),
            Feature.SCREENSHOT: _l("Screenshot"),
        },
    ),
    (
        _l("Metrics"),
        {
            Feature.METRICS_CPU: _l("CPU"),
            Feature.METRICS_MEMORY: _l("Memory"),
            Feature.METRICS_DISK: _l("Disks"),
            Feature.METRICS_NETWORK: _l("Network interfaces"),
        },
    ),
    (_l("Events"), {Feature.EVENTS: _l("Tells of changes by itself")}),
    (
        _l("Storage, networks, snapshots"),
        {
            Feature.CREATE: _l("New guests"),
            Feature.ADDRESSES: _l("Addresses of guests"),
            Feature.STORAGE_POOLS: _l("Storage pools"),
            Feature.STORAGE_MANAGE: _l("Make and remove storage pools"),
            Feature.STORAGE_CONTENT: _l("What is in volumes"),
            Feature.NETWORKS: _l("Networks"),
            Feature.NETWORKS_MANAGE: _l("Make and remove networks"),
            Feature.SNAPSHOTS_DISK: _l("Snapshots of disks"),
            Feature.SNAPSHOTS_MEMORY: _l("Snapshots with memory"),
            Feature.SNAPSHOTS_LIVE: _l("Snapshots of disks while it runs"),
        },
    ),
    (
        _l("Hardware"),
        {
            Feature.HARDWARE: _l("Change hardware"),
            Feature.HOTPLUG_CPU: _l("Processors while it runs"),
            Feature.HOTPLUG_MEMORY: _l("Memory while it runs"),
            Feature.HOTPLUG_DISK: _l("Disks while it runs"),
            Feature.HOTPLUG_INTERFACE: _l("Network interfaces while it runs"),
            Feature.HOST_DEVICES: _l("Devices of the host"),
        },
    ),
    (_l("Migration"), {Feature.MIGRATION_LIVE: _l("Move while it runs")}),
)
"""Every feature stands in one group: a new one without its words fails a test."""

LABELS: Final = {feature: label for _group, features in GROUPS for feature, label in features.items()}


def instead(feature: str, supports: Callable[[str], bool]) -> str:
    """A sentence (`Instead: Reboot; or Force off, then Start.`) of what `supports` says is there; empty where nothing does its job."""
    ways = (
        [way for way in INSTEAD[Feature(feature)] if all(supports(step) for step in way)] if feature in INSTEAD else []
    )
    if not ways:
        return ""
    then, or_ = _(", then "), _("; or ")
    return _("Instead: %(ways)s.") % {"ways": or_.join(then.join(str(LABELS[step]) for step in way) for way in ways)}
