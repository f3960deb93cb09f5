"""What a row and a page show beside the guest itself: what may be done now, address, load. A fixed number of queries for any page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from core.units import format_bytes
from metrics import store
from metrics.rates import Values
from vms.alternatives import ways
from vms.choices import State
from vms.consoles import console_action
from vms.offers import Offers
from vms.services import vm_actions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from accounts.actor import Actor
    from vms.models import VM

UNSUPPORTED: Final = "unsupported"
HOT_RATIO: Final = 0.85
_NO_LOAD: Final = Values()
ICONS: Final = {
    "start": "play",
    "shutdown": "power",
    "reboot": "reboot",
    "reset": "reboot",
    "force-off": "bolt",
    "suspend": "pause",
    "resume": "play",
    "managed-save": "disk",
    "discard-managed-save": "trash",
    "rename": "tag",
    "clone": "clone",
}
_MAIN = {
    State.RUNNING: "shutdown",
    State.SHUTTING_DOWN: "shutdown",
    State.PAUSED: "resume",
    State.PMSUSPENDED: "resume",
}
"""State → the one power button that a row shows, and the key `s` presses; all others start."""


def labels() -> dict[str, str]:
    """Verbs as in virsh, in the reader's language; the same words as `static/js/actions.js`."""
    return {
        "start": _("Start"),
        "shutdown": _("Shut down"),
        "reboot": _("Reboot"),
        "reset": _("Reset"),
        "force-off": _("Force off"),
        "suspend": _("Suspend"),
        "resume": _("Resume"),
        "managed-save": _("Save to disk"),
        "discard-managed-save": _("Discard saved memory"),
        "rename": _("Rename"),
        "clone": _("Clone"),
    }


def _hints() -> dict[str, str]:
    return {
        "reset": _("The reset button: at once, unsaved work is lost"),
        "force-off": _("Pulls the plug: unsaved work is lost"),
        "suspend": _("Freezes it in memory"),
        "managed-save": _("Its memory goes to disk; the next start goes on from there"),
        "discard-managed-save": _("The next start boots from the beginning"),
    }


def vm_rows(vms: Sequence[VM], *, by: Actor) -> list[dict[str, Any]]:
    """Rows of the list. Two queries: the newest samples, and ten minutes of CPU for the small line."""
    running = [vm.pk for vm in vms if vm.state == State.RUNNING and not vm.stale]
    loads = store.latest(running) if running else {}
    sparks = store.sparklines(running) if running else {}
    rows = _Rows(by)
    return [rows.row(vm, load=loads.get(vm.pk) or _NO_LOAD, spark=sparks.get(vm.pk, ())) for vm in vms]


class _Rows:
    """What the rows of one page share: a page has a hundred, of a few kinds."""

    def __init__(self, by: Actor) -> None:
        self._by = by
        self._verbs = labels()
        self._select, self._more = _("Select %(name)s"), _("More for %(name)s")
        self._console, self._used = _("Console of"), _("%(used)s of %(all)s")
        self._offers = Offers(self._ask)

    def row(self, vm: VM, *, load: Values, spark: Sequence[float | None]) -> dict[str, Any]:
        offers = self._offers.of(vm)
        main, console = offers["main"], offers["console"]
        hypervisor = vm.hypervisor
        in_use = _memory_in_use(vm, load)
        since = vm.started_at if vm.state != State.SHUTOFF else None
        hot = (load.cpu_ratio or 0.0) > HOT_RATIO
        memory = in_use is not None and vm.memory_limited
        return {
            "id": str(vm.pk),
            "vm": vm,
            "host": hypervisor.host.name,
            "driver": hypervisor.driver,
            "alike": (
                vm.state, vm.stale, bool(vm.title), since is None, hot, memory, main["name"], main["allowed"], console["allowed"],
            ),
            "words": {
                "select": self._select % {"name": vm.name},
                "main": f"{main['label']} {vm.name}",
                "console": f"{self._console} {vm.name}",
                "more": self._more % {"name": vm.name},
            },
            "can": main["can"],
            "main": main,
            "console": console,
            "address": first_address(vm),
            "load": load,
            "hot": hot,
            "since": since,
            "memory_in_use": in_use,
            "memory": self._memory(vm, in_use) if memory else None,
            "spark": spark,
        }  # fmt: skip

    def _ask(self, vm: VM) -> dict[str, dict[str, Any]]:
        """The one power button, with what else may be done (`can`), and the console."""
        actions = vm_actions(vm, by=self._by)
        name = main_action(vm)
        main = {
            "name": name,
            "label": self._verbs[name],
            "icon": ICONS[name],
            "can": " ".join(key for key, one in actions.items() if one["allowed"]),
            **actions[name],
            "reason": _reason(vm, name, actions[name], by=self._by, words=self._verbs),
        }
        return {"main": main, "console": console_action(vm, by=self._by)}

    def _memory(self, vm: VM, in_use: int | None) -> dict[str, Any]:
        used, room = in_use or 0, vm.memory_bytes
        label = self._used % {"used": format_bytes(used), "all": format_bytes(room)}
        return {"ratio": used / room if room else None, "label": label}


def _memory_in_use(vm: VM, load: Values) -> int | None:
    """What the guest uses of its memory; None where its balloon driver does not tell.

    All of it, or more, is what it was given or what its process holds on the host, which says nothing of how full it is.
    """
    used = load.memory_bytes
    return used if used is not None and (used < vm.memory_bytes or not vm.memory_limited) else None


def _reason(vm: VM, name: str, action: dict[str, Any], *, by: Actor, words: dict[str, str]) -> str:
    """Why not; where the hypervisor can never do it, with what does about the same."""
    reason = str(action["reason"])
    found = ways(vm, name, by=by) if action.get("code") == UNSUPPORTED else []
    if not found:
        return reason
    then, or_ = _(", then "), _("; or ")
    said = or_.join(then.join(words[step] for step in way) for way in found)
    return f"{reason} {_('Instead: %(ways)s.') % {'ways': said}}"


def main_action(vm: VM) -> str:
    """The power button of its state."""
    return _MAIN.get(State(vm.state), "start")


def first_address(vm: VM) -> str:
    """The address that a list shows; "" where none is known, or where it would be an old one's."""
    if vm.state in (State.SHUTOFF, State.CRASHED):
        return ""
    return next((address_text(one) for one in vm.addresses), "")


def address_text(entry: Any) -> str:
    """An address as text, whatever else is known of it."""
    return str(entry.get("address", "")) if isinstance(entry, dict) else str(entry)


def vm_buttons(vm: VM, *, by: Actor) -> dict[str, Any]:
    """All that a page or the peek offers: `main` (always there), `more` (the menu), console, delete, autostart; one is `primary`.

    What the hypervisor can never do is left out of the menu; its host's page says why.
    """
    actions = vm_actions(vm, by=by)
    words, hints = labels(), _hints()

    def button(name: str) -> dict[str, Any]:
        facts = {"name": name, "label": words[name], "icon": ICONS[name], "hint": hints.get(name, "")}
        return {**facts, **actions[name], "reason": _reason(vm, name, actions[name], by=by, words=words)}

    thaw = main_action(vm) == "resume"
    main = [button(name) for name in (("resume",) if thaw else ("start",)) + ("shutdown", "reboot")]
    rare = ["reset", "force-off", *(("start",) if thaw else ("suspend",)), "managed-save"]
    if vm.has_managed_save:
        rare.append("discard-managed-save")
    console = console_action(vm, by=by)
    return {
        "main": main,
        "more": [one for one in map(button, rare) if one.get("code") != UNSUPPORTED],
        "console": console,
        "autostart": actions["autostart"],
        "rename": button("rename"),
        "clone": button("clone"),
        "delete": actions["delete"],
        "restore": actions["restore"],
        "primary": "console" if vm.state == State.RUNNING and console["allowed"] else main[0]["name"],
    }
