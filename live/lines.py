"""An event as people read it: one line with a colour, a link and a few words. For the events page and every other feed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l
from django.utils.translation import pgettext_lazy

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from django.utils.functional import _StrPromise

    from events.models import Event

_PAGES = {
    "vm": "/vms/",
    "host": "/hosts/",
    "operation": "/operations/",
    "storage-pool": "/storage/",
    "volume": "/storage/volumes/",
    "network": "/networks/",
    "network-filter": "/networks/filters/",
    "image": "/images/",
    "template": "/templates/",
    "snapshot-schedule": "/snapshot-schedules/",
}
_GONE = (
    "vm.undefined",
    "storage_pool.undefined",
    "volume.deleted",
    "network.undefined",
    "network_filter.undefined",
    "image.removed",
    "template.removed",
    "audit.schedule_deleted",
)
"""After these the object has no page; a guest that is gone is found by its history."""
_STATES: dict[str, _StrPromise] = {
    "running": _l("running"),
    "paused": _l("paused"),
    "shutting_down": _l("shutting down"),
    "shutoff": _l("shut off"),
    "crashed": _l("crashed"),
    "pmsuspended": _l("suspended"),
    "unknown": _l("state unknown"),
}
_OPERATION_STATES: dict[str, _StrPromise] = {
    "queued": pgettext_lazy("operation", "waiting"),
    "running": pgettext_lazy("operation", "running"),
    "succeeded": _l("succeeded"),
    "failed": _l("failed"),
    "cancelled": _l("cancelled"),
    "partial": _l("done, but not for all guests"),
}
_AUDIT: dict[str, _StrPromise] = {
    "sign_in": _l("signed in"),
    "sign_out": _l("signed out"),
    "sign_in_failed": _l("sign-in failed"),
    "user_created": _l("user created"),
    "user_changed": _l("user changed"),
    "password_changed": _l("password changed"),
    "token_created": _l("token created"),
    "token_revoked": _l("token revoked"),
    "schedule_created": _l("snapshot schedule made"),
    "schedule_changed": _l("snapshot schedule changed"),
    "schedule_deleted": _l("snapshot schedule deleted"),
}
_PLAIN: dict[str, tuple[str, _StrPromise]] = {
    "vm.defined": ("info", _l("appeared")),
    "vm.undefined": ("off", _l("is gone")),
    "storage_pool.defined": ("info", _l("appeared")),
    "storage_pool.undefined": ("off", _l("is gone")),
    "volume.created": ("info", _l("was made")),
    "volume.deleted": ("off", _l("was deleted")),
    "network.defined": ("info", _l("appeared")),
    "network.undefined": ("off", _l("is gone")),
    "network_filter.defined": ("info", _l("appeared")),
    "network_filter.undefined": ("off", _l("is gone")),
    "image.added": ("info", _l("was begun")),
    "image.changed": ("off", _l("changed")),
    "image.removed": ("off", _l("was deleted")),
    "template.added": ("info", _l("was made")),
    "template.changed": ("off", _l("changed")),
    "template.removed": ("off", _l("was deleted")),
    "vm.snapshot_created": ("info", _l("snapshot taken: %(name)s")),
    "vm.snapshot_deleted": ("off", _l("snapshot deleted: %(name)s")),
    "vm.snapshot_reverted": ("warn", _l("went back to the snapshot %(name)s")),
    "host.online": ("online", _l("online")),
    "host.offline": ("offline", _l("out of reach")),
}


_CHANGED = (
    "vm.changed",
    "host.changed",
    "storage_pool.changed",
    "volume.changed",
    "network.changed",
    "network_filter.changed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a template shows; `css` is a state's class, `text` the coloured words, `by` the pale ones."""

    seq: int
    at: dt.datetime
    type: str
    css: str
    name: str
    href: str
    text: str
    by: str


def lines_of(events: Iterable[Event]) -> list[Line]:
    """Each event as a line, in their order. No query."""
    return [_line(event) for event in events]


def _line(event: Event) -> Line:
    kind, _slash, identity = event.object.partition("/")
    css, text = _words(event)
    page = _PAGES.get(kind, "") if event.type not in _GONE else ""
    part = "/xml" if event.type == "vm.definition_changed" else ""
    return Line(
        seq=event.seq,
        at=event.at,
        type=event.type,
        css=css,
        name=event.object_name or event.object or _("vmmanager"),
        href=f"{page}{identity}{part}" if page else "",
        text=text,
        by=_by(event),
    )


def _word(field: str) -> str:
    """A field's name for people: `memory_total_bytes` → "memory total", `cpu_count` → "CPU count"."""
    return field.removesuffix("_bytes").replace("_", " ").replace("cpu", "CPU").replace("xml", "XML")


def _words(event: Event) -> tuple[str, str]:
    data: dict[str, Any] = event.data
    if event.type == "vm.state_changed":
        state = str(data.get("to", ""))
        return state or "unknown", str(_STATES.get(state, state))
    if event.type in ("operation.changed", "snapshot_schedule.run"):
        state = str(data.get("state", ""))
        css = {"running": "op-running", "partial": "warn"}.get(state, state)
        return css, str(_OPERATION_STATES.get(state, state))
    if event.type in _CHANGED:
        return "off", _changed(data.get("changed") or {})
    if event.type in _PLAIN or event.type == "vm.definition_changed":
        css, text = _PLAIN.get(event.type) or _redefined(data)
        return css, str(text) % {"name": str(data.get("snapshot", ""))}
    if event.type.startswith("audit."):
        what = event.type.removeprefix("audit.")
        return ("warn" if what.endswith("failed") else "off"), str(_AUDIT.get(what, what.replace("_", " ")))
    return "off", event.type


def _redefined(data: dict[str, Any]) -> tuple[str, str]:
    """By whom, and how many lines came and went."""
    outside = data.get("source") == "outside"
    said = _("definition changed outside") if outside else _("definition changed")
    return ("warn" if outside else "off"), f"{said}, +{data.get('added', 0)} -{data.get('removed', 0)}"


def _changed(what: dict[str, Any]) -> str:
    if "binned_at" in what:
        return _("moved to the bin") if what["binned_at"] else _("taken out of the bin")
    names = ", ".join(dict.fromkeys(map(_word, sorted(what))))
    return _("changed: %(what)s") % {"what": names} if names else _("changed")


def _by(event: Event) -> str:
    """Who or why: a hypervisor's own reason says more than that the watcher saw it."""
    reason, message = (str(event.data.get(key) or "") for key in ("reason", "message"))
    parts = [reason if " " in reason else reason.replace("_", " "), message, str(event.data.get("comment") or "")]
    if event.actor and event.actor not in ("watcher", "system", event.object_name):
        parts.append(_("by %(name)s") % {"name": event.actor})
    return ", ".join(part for part in parts if part)
