"""What templates need to show facts: icons, state words, units, ages, shares. Pure functions, never a query.

Templates do no arithmetic: each figure on a page comes through one of these. The same words and roundings stand in
`static/js/format.js`, which redraws them when an event comes.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from django import template
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.utils import formats, timezone
from django.utils.html import format_html, json_script
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l
from django.utils.translation.trans_real import DjangoTranslation
from django.views.i18n import JSONCatalog

from core.units import format_bytes
from drivers import osinfo
from drivers.storage import POOL_TYPES
from hosts.choices import LinkState, TechniqueChoice, VirtualizationTypeChoice
from operations.choices import State as OperationState
from storage.choices import PoolState
from storage.words import days_left, full_in, urgency
from vms.choices import State as GuestState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from django.template.context import RequestContext
    from django.utils.functional import _StrPromise

    from storage.forecast import Forecast
    from vms.models import VM

register = template.Library()

NOT_KNOWN = format_bytes(None)


def op_class(state: str) -> str:
    """The class of an operation's state."""
    return "op-running" if state == "running" else state


# A word of the contract → what people read. The class in the style sheet is the contract's word itself, save for operations:
# their `running` is work under way (blue), a guest's is health (green).
STATE_LABELS: dict[str, _StrPromise] = {
    **dict(GuestState.choices),
    **dict(LinkState.choices),
    **{op_class(value): label for value, label in OperationState.choices},
    "not_tried": _l("Not tried"),
    **dict(PoolState.choices),
    "active": _l("Active"),
}
TURNING = frozenset({"shutting_down", "connecting", "op-running", "building"})

DRIVER_LABELS = {
    "qemu": "QEMU",
    "xen": "Xen",
    "lxc": "LXC",
    "esx": "ESXi",
    "vpx": "vCenter",
    "hyperv": "Hyper-V",
    "xapi": "XenServer",
    "openvz": "OpenVZ",
    "vz": "Virtuozzo",
    "vbox": "VirtualBox",
    "vmware": "VMware",
    "bhyve": "bhyve",
    "ch": "Cloud Hypervisor",
    "test": "Test driver",
    "docker": "Docker",
    "podman": "Podman",
}
_MESSAGE_CLASSES = {"error": "crit", "warning": "warn", "success": "ok", "info": "info", "debug": "off"}
_MESSAGE_ICONS = {"error": "warn", "warning": "warn", "success": "check", "info": "info", "debug": "info"}


# -- icons and states -------------------------------------------------------------------------------------------------
@register.simple_tag
def icon(name: str, css: str = "i") -> SafeString:
    """An icon of the sprite, hidden from screen readers: the words stand beside it or in the label."""
    return _icon(name, css)


# A page of guests has five a row, and the sprite's address never changes while a process lives.
@lru_cache(maxsize=1024)
def _icon(name: str, css: str) -> SafeString:
    attribute = format_html(' class="{}"', css) if css else ""
    return format_html('<svg{} aria-hidden="true"><use href="{}#{}"/></svg>', attribute, static("img/icons.svg"), name)


@register.simple_tag
def glyph(state: str, css: str = "") -> SafeString:
    """The shape of a state (design.md §4): colour is never the only sign."""
    classes = " ".join(part for part in ("g", css, "spin" if state in TURNING else "") if part)
    return icon(f"s-{'queued' if state == 'not_tried' else state}", classes)


@register.filter
def state_label(state: str) -> str:
    """`shutting_down` → "Shutting down"; a word this list lacks is shown as it is."""
    return str(STATE_LABELS.get(state, state))


register.filter("op_state", op_class)


@register.filter
def virtualization_label(value: str) -> str:
    """`bare_metal` → "Bare metal"."""
    return str(dict(VirtualizationTypeChoice.choices).get(value, value))


@register.filter
def technique_label(value: str) -> str:
    """`kernel_based` → "kernel based"."""
    return str(dict(TechniqueChoice.choices).get(value, value))


@register.filter
def driver_label(value: str) -> str:
    """`qemu` → "QEMU"."""
    return DRIVER_LABELS.get(value, value)


@register.filter
def os_word(value: str) -> str:
    """What people call a system of libosinfo's: `http://debian.org/debian/12` → "Debian 12"; a dash where nobody knows."""
    known = osinfo.known().get(value)
    if known is not None:
        return known.name
    words = " ".join(value.rstrip("/").split("/")[-2:]) if "://" in value else value
    return words[:1].upper() + words[1:] if words else NOT_KNOWN


@register.filter
def pool_type_label(value: str) -> str:
    """`dir` → "Directory"; a type that we make no pools of is shown as it is."""
    known = POOL_TYPES.get(value)
    return _(known.label) if known else value


@register.filter
def forecast_words(told: Forecast | None) -> str:
    """As in: full in about 12 days at the pace of the last 7; nothing where nobody can tell."""
    return "" if told is None else full_in(told)


@register.filter
def forecast_days(told: Forecast | None) -> str:
    """The same for a cell: "12 days", "1 day", "less than a day"; a dash where nobody can tell."""
    if told is None:
        return NOT_KNOWN
    days = round(days_left(told))
    return ngettext("%(n)s day", "%(n)s days", days) % {"n": days} if days else _("less than a day")


@register.filter
def forecast_class(told: Forecast | None) -> str:
    """The state that it is: red within two days, amber within those of `VMM_POOL_WARN_DAYS`, else none."""
    return "" if told is None else urgency(told)


KIND_LABELS = {
    "host": _l("Host"),
    "hypervisor": _l("Hypervisor"),
    "vm": _l("Guest"),
    "network": _l("Network"),
    "bridge": _l("Bridge"),
    "storage-pool": _l("Storage pool"),
}


@register.filter
def kind_label(value: str) -> str:
    """`storage-pool` → "Storage pool"."""
    return str(KIND_LABELS.get(value, value))


NETWORK_MODES = {
    "nat": _l("NAT"),
    "route": _l("Routed"),
    "open": _l("Routed, no firewall"),
    "isolated": _l("Isolated"),
    "bridge": _l("Bridge"),
    "openvswitch": _l("Open vSwitch"),
    "macvtap": _l("Interface of the host"),
    "hostdev": _l("Devices of the host"),
}


@register.filter
def network_mode_label(value: str) -> str:
    """`route` → "Routed"."""
    return str(NETWORK_MODES.get(value, value))


INTERFACE_KINDS = {
    "ethernet": _l("Ethernet"),
    "bridge": _l("Bridge"),
    "bond": _l("Bond"),
    "vlan": _l("VLAN"),
    "virtual": _l("Virtual"),
    "loopback": _l("Loopback"),
}


@register.filter
def interface_kind_label(value: str) -> str:
    """`vlan` → "VLAN"."""
    return str(INTERFACE_KINDS.get(value, value))


@register.filter
def message_class(level_tag: str) -> str:
    """State class of a Django message."""
    return _MESSAGE_CLASSES.get(level_tag, "info")


@register.filter
def message_icon(level_tag: str) -> str:
    """Icon of a Django message."""
    return _MESSAGE_ICONS.get(level_tag, "info")


# -- numbers ----------------------------------------------------------------------------------------------------------
@register.filter
def size(value: float | None) -> str:
    """Bytes in binary units, one decimal at most: `8589934592` → `8 GiB`; a dash where unknown."""
    return NOT_KNOWN if value is None else format_bytes(value)


@register.filter
def rate(value: float | None) -> str:
    """Bytes a second: `1536` → `1.5 KiB/s`."""
    return NOT_KNOWN if value is None else f"{format_bytes(value)}/s"


@register.filter
def percent(ratio: float | None) -> str:
    """`0.634` → `63 %`; a dash where unknown."""
    return NOT_KNOWN if ratio is None else f"{round(ratio * 100)} %"


@register.filter
def share(ratio: float | None) -> str:
    """A ratio as the width attribute of an SVG rectangle, kept in 0 to 100: `0.634` → `63.4%`."""
    return f"{min(1.0, max(0.0, ratio or 0.0)) * 100:.1f}%"


@register.filter
def of(part: float | None, whole: float | None) -> float | None:
    """`part|of:whole` as a ratio; None where either is unknown or the whole is nothing."""
    if part is None or not whole:
        return None
    return part / whole


@register.filter
def level(ratio: float | None) -> str:
    """Class of a meter: neutral, amber from 80 %, red from 90 %."""
    if ratio is None or ratio < 0.8:
        return ""
    return "hot" if ratio < 0.9 else "full"


@register.filter
def less(value: int | None, other: int | None) -> int:
    """`value - other`, for "n to go" and "n not running"; unknowns count as nothing."""
    return (value or 0) - (other or 0)


@register.filter
def times(ratio: float | None) -> str:
    """Over-commit as people say it: `1.4142` → `1.41` and a multiplication sign."""
    return NOT_KNOWN if ratio is None else f"{ratio:.2f}\u00d7"


# -- time -------------------------------------------------------------------------------------------------------------
def _words(seconds: float) -> str:
    """The largest whole unit: "12 s", "14 min", "3 h", "41 d"."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return _("%(n)s s") % {"n": int(seconds)}
    if seconds < 3600:
        return _("%(n)s min") % {"n": int(seconds // 60)}
    if seconds < 86400:
        return _("%(n)s h") % {"n": int(seconds // 3600)}
    return _("%(n)s d") % {"n": int(seconds // 86400)}


@register.filter
def duration(seconds: float | None) -> str:
    """A span in the two largest units: `93` → `1 min 33 s`; below ten seconds with one decimal."""
    if seconds is None:
        return NOT_KNOWN
    if seconds < 10:
        return _("%(n)s s") % {"n": f"{seconds:.1f}".removesuffix(".0")}
    if seconds < 60:
        return _words(seconds)
    for big, small in ((86400, 3600), (3600, 60), (60, 1)):
        if seconds >= big:
            rest = int(seconds % big) // small * small
            return _words(seconds) + (f" {_words(rest)}" if rest else "")
    raise AssertionError(seconds)


@register.filter
def between(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds from `start` to `end` (now, where it has not ended); None where it has not begun."""
    return None if start is None else ((end or timezone.now()) - start).total_seconds()


@register.simple_tag
def ago(at: datetime | None, style: str = "ago") -> SafeString:
    """A moment as `<time>`, relative under a day, exact in the title; `static/js/format.js` keeps it right.

    Args:
        at: An aware datetime; None gives a dash.
        style: `ago` ("14 min ago"), `age` ("14 min", how long it is so) or `clock` (time of day; the date too, before today).
    """
    if at is None:
        return mark_safe(NOT_KNOWN)  # noqa: S308 - a constant
    now = timezone.now()
    local = timezone.localtime(at)
    seconds = (now - at).total_seconds()
    if style == "clock":
        same_day = local.date() == timezone.localtime(now).date()
        text = local.strftime("%H:%M:%S") if same_day else formats.date_format(local, "j M H:i")
    elif style == "age":
        text = _words(seconds)
    elif seconds >= 86400:
        text = formats.date_format(local, "j M H:i" if local.year == timezone.localtime(now).year else "j M Y")
    else:
        text = _("now") if seconds < 1 else _("%(span)s ago") % {"span": _words(seconds)}
    iso = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    exact = formats.date_format(local, "j M Y, H:i:s")
    return format_html('<time datetime="{}" title="{}" data-time="{}">{}</time>', iso, exact, style, text)


@register.filter
def age(at: datetime | None) -> SafeString:
    """`ago` as a filter, in the style `age`."""
    return ago(at, "age")


@register.filter
def memory_size(vm: VM) -> str:
    """What a guest may use, short: a size, "no limit", or a dash where nobody knows."""
    if not vm.memory_limited:
        return _("no limit")
    return size(vm.memory_bytes) if vm.memory_bytes else NOT_KNOWN


@register.filter
def memory_words(vm: VM) -> str:
    """The same within a sentence."""
    if not vm.memory_limited:
        return _("no memory limit")
    return size(vm.memory_bytes) if vm.memory_bytes else _("memory not known")


# -- pictures ---------------------------------------------------------------------------------------------------------
SPARK_WIDTH, SPARK_HEIGHT = 72, 20


@register.filter
def spark_points(values: Sequence[float | None]) -> str:
    """Points of a sparkline polyline on the fixed scale 0 to 100 %; unknown values are drawn at the foot.

    The newest value is the last; fewer than two give a flat line.
    """
    ratios = [min(1.0, max(0.0, value or 0.0)) for value in values] or [0.0]
    if len(ratios) == 1:
        ratios *= 2
    step = SPARK_WIDTH / (len(ratios) - 1)
    return " ".join(f"{index * step:.1f},{SPARK_HEIGHT - 1 - ratio * 18:.1f}" for index, ratio in enumerate(ratios))


@register.filter
def last(values: Sequence[float | None]) -> float | None:
    """The newest value of a series."""
    return values[-1] if values else None


# The tick of 1.00x stands here, so that 2.4 times the hardware still fits on the bar.
_CAPACITY_AT = 100 / 2.4


@register.inclusion_tag("ui/_overcommit.html")
def overcommit(*, label: str, used: float | None, promised: float | None, capacity: float | None) -> dict[str, Any]:
    """The bar "in use, promised, beyond the hardware" with its tick at 1.00x. Values in one unit; None is not known."""
    ratio = of(promised, capacity)
    in_use = of(used, capacity)
    inside = min(ratio or 0.0, 1.0) * _CAPACITY_AT
    beyond = min((ratio or 0.0) * _CAPACITY_AT, 100.0) - _CAPACITY_AT
    return {
        "label": label,
        "ratio": ratio,
        "in_use": in_use,
        "cap": f"{_CAPACITY_AT:.2f}%",
        "inside": f"{inside:.2f}%",
        "beyond": f"{beyond:.2f}%" if beyond > 0 else "",
        "used": f"{min(in_use, 1.0) * _CAPACITY_AT:.2f}%" if in_use is not None else "",
    }


# -- links and requests -----------------------------------------------------------------------------------------------
@register.simple_tag(takes_context=True)
def nav_current(context: RequestContext, href: str) -> SafeString:
    """` aria-current="page"` where `href` is the page's own section; a link with a query wants the whole address."""
    request = context.get("request")
    if request is None:
        return mark_safe("")
    path, query = urlsplit(href)[2:4]
    if query:
        here = request.path == path and dict(parse_qsl(query)).items() <= request.GET.dict().items()
    else:
        here = request.path == path or (path != "/" and request.path.startswith(f"{path}/"))
    return mark_safe('aria-current="page"' if here else "")  # noqa: S308 - a constant


@register.simple_tag(takes_context=True)
def query(context: RequestContext, **changes: object) -> str:
    """The address of this view with some keys of its query changed; None or "" takes a key away."""
    request = context["request"]
    values = {key: value for key, value in request.GET.items() if value}
    for key, value in changes.items():
        if value in (None, ""):
            values.pop(key, None)
        else:
            values[key] = str(value)
    return f"?{urlencode(values)}" if values else request.path


@register.simple_tag(takes_context=True)
def curl(context: RequestContext, method: str, path: str, body: object = None) -> str:
    """The same call as a curl line; `$VMM_TOKEN` stands for the token, the address is the one in use."""
    parts = _curl_begin(method)
    if body is not None:
        data = body if isinstance(body, str) else json.dumps(body)
        parts += ['-H "Content-Type: application/json"', "-d " + _shell(data)]
    return " ".join([*parts, f"{_base(context)}/api/v1{path}"])


@register.simple_tag(takes_context=True)
def curl_file(context: RequestContext, method: str, path: str, media_type: str, file: str) -> str:
    """A call that sends a file as it is."""
    parts = [*_curl_begin(method), f'-H "Content-Type: {media_type}"', f"--data-binary @{file}"]
    return " ".join([*parts, f"{_base(context)}/api/v1{path}"])


def _curl_begin(method: str) -> list[str]:
    return ["curl", *(() if method == "GET" else ("-X", method)), '-H "Authorization: Bearer $VMM_TOKEN"']


def _base(context: RequestContext) -> str:
    request = context.get("request")
    return f"{request.scheme}://{request.get_host()}" if request is not None else "$VMM"


def _shell(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@register.filter
def pretty_json(value: object) -> str:
    """A value as indented JSON, for problems and event data."""
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)


@register.filter
def split_tag(tag: str) -> str:
    """A tag as a term of the search language; quoted where it has blanks."""
    return f'tag:"{tag}"' if re.search(r"\s", tag) else f"tag:{tag}"


@register.filter
def chips(tags: Sequence[str]) -> SafeString:
    """The first three tags of a row, each a link to the list of all that carry it."""
    return mark_safe(" ".join(map(_chip, tags[:3])))  # noqa: S308 - escaped below


@lru_cache(maxsize=1024)
def _chip(tag: str) -> str:
    return render_to_string("ui/_chip.html", {"tag": tag}).strip()


@register.filter
def pattern(text: str) -> str:
    """A text as the `pattern` of a field that must be typed exactly so (the `v` flag's characters are escaped too)."""
    return re.sub(r"[^\w ]", lambda found: f"\\u{ord(found.group()):04x}", text)


@register.filter
def join_labels(values: Iterable[str], separator: str = ", ") -> str:
    """Techniques as one phrase: `["kernel_based", "hardware_assisted"]` → "kernel based, hardware assisted"."""
    return separator.join(technique_label(value) for value in values)


# -- words for the browser's own sentences ----------------------------------------------------------------------------
@register.simple_tag
def js_words() -> SafeString:
    """What `static/js/i18n.js` reads, as inert JSON: the words of states, and the translations of the browser's own sentences.

    A `<script type="application/json">` is a data block: it is never run, so the policy's `script-src` lets it be.
    """
    words: dict[str, object] = {"states": {state: str(label) for state, label in STATE_LABELS.items()}}
    language = get_language() or "en"
    if language.partition("-")[0] != "en":
        view = JSONCatalog()
        view.translation = DjangoTranslation(language, domain="djangojs")
        words["catalog"] = view.get_catalog()
    return json_script(words, "words")
