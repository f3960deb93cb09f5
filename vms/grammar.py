"""The search language of guests: which keys there are and what they mean in the database. One language for pages, `q` and bulk filters.

`core.search` knows the form. Nothing here reads the database, and no input makes more than a bounded condition.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import uuid
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, TextField, UUIDField, Value
from django.db.models.functions import Cast, Replace, Substr
from django.db.models.lookups import Contains, IContains
from django.utils import timezone

from core import search
from core.units import GIB, KIB, MIB
from hosts.choices import LinkState
from hosts.models import Hypervisor
from metrics.models import Latest
from networks.models import GivenAddress
from operations.choices import OPEN
from operations.models import Operation
from vms.choices import State
from vms.models import VMNic

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.actor import Actor
    from core.search import Comparison, Term

_UNITS = {"": GIB, "g": GIB, "gb": GIB, "gib": GIB, "m": MIB, "mb": MIB, "mib": MIB, "k": KIB, "kib": KIB}
_UNITS |= dict.fromkeys(("t", "tb", "tib"), 1024 * GIB)
_LOOKUPS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_MAC_PART = re.compile(r"[0-9a-f]{2}(?:[:-][0-9a-f]{0,2})*|[0-9a-f:-]{3,17}")
_ADDRESS_PART = re.compile(r"[0-9.]{1,15}|[0-9a-f:]{1,39}")
_ID_PART = re.compile(r"[0-9a-f-]{4,64}")
_NEVER = Q(pk__in=[])
_BIGGEST = 2**63 - 1


def needs_a_look() -> Q:
    """Guests that stand still against everybody's wish: crashed, or paused by a failed disk, a watchdog or a panic.

    The meaning of `is:attention`, and what the navigation counts.
    """
    return Q(state=State.CRASHED) | Q(state=State.PAUSED, state_reason__in=("ioerror", "watchdog", "crashed"))


def fresh_since() -> dt.datetime:
    """Samples from before this say nothing about now."""
    return timezone.now() - dt.timedelta(seconds=max(30.0, 3 * settings.ENV.sample_seconds))


def compile_query(text: str, *, by: Actor) -> Q:
    """The condition that `text` means for `by` (`owner:me`). An empty text is an empty condition. Runs no query.

    Raises:
        BadInput: Too long, too many terms, or a NUL.
    """
    condition = Q()
    for term in search.parse(text, keys=_KEYS):
        one = _any(term, by)
        condition &= ~one if term.negative else one
    return condition


def unknown_keys(text: str) -> dict[str, str | None]:
    """Keys in `text` that mean nothing here, each with what was probably meant."""
    return search.unknown_keys(text, keys=_KEYS)


def _any(term: Term, by: Actor) -> Q:
    if not term.key:
        return _free_word(term.values[0])
    meaning = _KEYS[term.key]
    condition = meaning(term.values[0], by)
    for value in term.values[1:]:
        condition |= meaning(value, by)
    return condition


# -- keys --------------------------------------------------------------------------------------------------------------
def _exactly(field: str) -> Callable[[str, Actor], Q]:
    return lambda value, _by: Q(**{field: value.lower()})


def _named(field: str) -> Callable[[str, Actor], Q]:
    """A name, in any case; a star at its begin or end stands for anything."""

    def meaning(value: str, _by: Actor) -> Q:
        bare = value.strip("*")
        if value.startswith("*") and value.endswith("*"):
            return Q(**{f"{field}__icontains": bare})
        if value.startswith("*"):
            return Q(**{f"{field}__iendswith": bare})
        if value.endswith("*"):
            return Q(**{f"{field}__istartswith": bare})
        return Q(**{f"{field}__iexact": value})

    return meaning


def _host(value: str, by: Actor) -> Q:
    known = uuid_of(value)
    return Q(hypervisor__host=known) if known else _named("hypervisor__host__name")(value, by)


def _hypervisor(value: str, by: Actor) -> Q:
    known = uuid_of(value)
    return Q(hypervisor=known) if known else _named("hypervisor__uri")(value, by)


def _tag(value: str, _by: Actor) -> Q:
    tag = value.lower()
    if tag.endswith("*") and tag.strip("*"):
        return Q(tags__contains=f"|{tag.strip('*')}")
    return Q(tags__contains=f"|{tag}|")


def _owner(value: str, by: Actor) -> Q:
    if value.lower() == "me" and by.user is not None:
        return Q(owner=by.user.pk)
    if value.lower() == "none":
        return Q(owner=None)
    return _named("owner__username")(value, by)


def _name(value: str, _by: Actor) -> Q:
    return Q(name__icontains=value.strip("*"))


def _is(value: str, _by: Actor) -> Q:
    meaning = _IS.get(value.lower())
    return meaning() if meaning else _NEVER


def _busy() -> Any:
    """Ids of guests with something queued or running. Text without dashes casts to a UUID on both databases."""
    hexadecimal = Replace(Substr("lock_key", 4), Value("-"), Value(""))
    rows = Operation.objects.filter(state__in=OPEN, lock_key__startswith="vm/")
    return rows.annotate(guest=Cast(hexadecimal, UUIDField())).values("guest")


_IS: dict[str, Callable[[], Q]] = {
    "running": lambda: Q(state=State.RUNNING),
    "stale": lambda: ~Q(hypervisor__state=LinkState.ONLINE),
    "attention": needs_a_look,
    "busy": lambda: Q(pk__in=_busy()),
    "autostart": lambda: Q(autostart=True) | Q(autostart_order__isnull=False),
    "transient": lambda: Q(persistent=False),
}

IS = tuple(_IS)
"""Values of `is:`."""


def _cpu(value: str, _by: Actor) -> Q:
    """Percent of all its CPUs, measured just now; a guest that is off has no load."""
    wanted = search.comparison(value)
    if wanted is None or wanted.unit not in ("", "%"):
        return _NEVER
    samples = Latest.objects.filter(subject=OuterRef("pk"), at__gte=fresh_since())
    samples = samples.filter(**_compared("cpu_ratio", wanted, factor=0.01, slack=0.005))
    return Q(Exists(samples), state=State.RUNNING)


def _memory(value: str, _by: Actor) -> Q:
    """GiB, or with a unit."""
    wanted = search.comparison(value)
    if wanted is None or wanted.unit not in _UNITS:
        return _NEVER
    return Q(**_compared("memory_bytes", wanted, factor=_UNITS[wanted.unit], slack=0, whole=True))


def _compared(field: str, wanted: Comparison, *, factor: float, slack: float, whole: bool = False) -> dict[str, Any]:
    number: float = wanted.number * factor
    if whole:
        number = min(round(number), _BIGGEST)
    if wanted.operator in _LOOKUPS:
        return {f"{field}__{_LOOKUPS[wanted.operator]}": number}
    return {f"{field}__gte": number - slack, f"{field}__lte": number + slack} if slack else {field: number}


def _by_address(value: str, _by: Actor) -> Q:
    """An address of the guest's, or one that a network has given it or keeps for it: whole, or how it begins (`10.0.3.`)."""
    text = value.lower().rstrip("*")
    try:
        text, end = str(ipaddress.ip_address(text)), '"' if text == value.lower() else ""
    except ValueError:
        end = ""
    if not _ADDRESS_PART.fullmatch(text):
        return _NEVER
    own = Q(Contains(Cast("addresses", TextField()), f'"{text}{end}'))
    return own | Q(pk__in=_given(Q(address=text) if end else Q(address__startswith=text)))


def _given(which: Q) -> Any:
    """Ids of guests with a MAC that a network of their host has given such an address to, or keeps it for."""
    macs = GivenAddress.objects.filter(which, network__host=OuterRef("vm__hypervisor__host"), mac=OuterRef("mac"))
    return VMNic.objects.filter(Exists(macs), mac__in=GivenAddress.objects.filter(which).values("mac")).values("vm")


def _by_mac(value: str, _by: Actor) -> Q:
    """Whole or a part, with colons, dashes or nothing between."""
    text = value.lower().strip("*").replace("-", ":")
    if re.fullmatch(r"[0-9a-f]{12}", text):
        text = ":".join(text[place : place + 2] for place in range(0, 12, 2))
    if not re.fullmatch(r"[0-9a-f:]{1,17}", text):
        return _NEVER
    return Q(pk__in=VMNic.objects.filter(mac__icontains=text).values("vm"))


_KEYS: dict[str, Callable[[str, Actor], Q]] = {
    "state": _exactly("state"),
    "driver": _exactly("hypervisor__driver"),
    "type": _exactly("virtualization_type"),
    "host": _host,
    "hypervisor": _hypervisor,
    "kind": _exactly("kind"),
    "tag": _tag,
    "project": _named("project"),
    "owner": _owner,
    "is": _is,
    "cpu": _cpu,
    "mem": _memory,
    "name": _name,
    "ip": _by_address,
    "address": _by_address,
    "mac": _by_mac,
}

KEYS = tuple(_KEYS)


# -- free words ----------------------------------------------------------------------------------------------------------
def uuid_of(text: str) -> uuid.UUID | None:
    """A UUID in one of its two written forms, None for any other text."""
    try:
        return uuid.UUID(text) if len(text) in (32, 36) else None
    except ValueError:
        return None


def _free_word(word: str) -> Q:
    """Name, title, tags, system, host; address, MAC and identifiers where the word could be a part of one.

    One column says the first four, and hosts are looked at once, not joined to each guest: a search of 10,000 takes half the time.
    """
    condition = Q(words__icontains=word)
    condition |= Q(hypervisor__in=Hypervisor.objects.filter(host__name__icontains=word).values("pk"))
    if word != word.strip("|"):
        condition |= Q(tags__icontains=word.strip("|"))
    low = word.lower()
    if _MAC_PART.fullmatch(low):
        nics = VMNic.objects.filter(vm=OuterRef("pk"), mac__icontains=low.replace("-", ":"))
        condition |= Q(Exists(nics))
    if _ID_PART.fullmatch(low):
        condition |= Q(uuid__icontains=low)
    known = uuid_of(low)
    if known:
        condition |= Q(pk=known)
    if any(letter.isdigit() for letter in word) or ":" in word:
        condition |= Q(IContains(Cast("addresses", TextField()), word))
    if _ADDRESS_PART.fullmatch(low) and ("." in low or ":" in low):
        condition |= Q(pk__in=_given(Q(address__contains=low)))
    return condition
