"""The capability matrix: what each hypervisor of the fleet can do, as it was probed and stored. One query, no hypervisor call."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlencode

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.policy import visible
from dashboard.features import GROUPS, instead
from hosts.choices import LinkState, VirtualizationTypeChoice
from hosts.models import Hypervisor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import QueryDict

    from accounts.actor import Actor

COLUMNS_MAX: Final = 12
"""More hypervisors than this are shown as one column a driver."""
OPEN_MAX: Final = 40
"""Columns that an opened driver shows at most; the filters lead to the others."""
NAMES_MAX: Final = 3
Word = Literal["yes", "no", "some", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The query of the page. Values that mean nothing match nothing."""

    host: str = ""
    driver: str = ""
    type: str = ""
    state: str = ""
    diff: bool = False
    open: frozenset[str] = frozenset()

    @classmethod
    def of(cls, query: QueryDict) -> Wanted:
        """From the address."""
        words = {name: query.get(name, "")[:100] for name in ("host", "driver", "type", "state")}
        return cls(**words, diff=query.get("diff") == "1", open=frozenset(query.getlist("open")[:50]))

    def matches(self, row: Hypervisor) -> bool:
        """Whether `row` is wanted."""
        return (
            self.host in ("", str(row.host_id))
            and self.driver in ("", row.driver)
            and self.type in ("", row.virtualization_type)
            and self.state in ("", row.state)
        )

    def query(self, **changes: Any) -> str:
        """As an address, with some of it changed."""
        values: dict[str, Any] = {name: getattr(self, name) for name in ("host", "driver", "type", "state")}
        values |= {"diff": "1" if self.diff else "", "open": sorted(self.open)} | changes
        return urlencode({key: value for key, value in values.items() if value}, doseq=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One hypervisor, or all of one driver."""

    driver: str
    members: tuple[Hypervisor, ...]
    toggle: str | None = None
    """The query that opens or folds its driver; None where there is nothing to open."""
    single: bool = True

    @property
    def one(self) -> Hypervisor:
        """Of a single column."""
        return self.members[0]

    @property
    def name(self) -> str:
        """For cells read aloud."""
        if self.single:
            return f"{self.one.host.name}, {self.driver}"
        return self.driver


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What a column can do of a row."""

    word: Word
    said: str = ""
    text: str = ""
    why: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One capability."""

    feature: str
    label: str
    cells: list[Cell]

    @property
    def same(self) -> bool:
        """Whether all columns say the same: nothing to choose by. What was never probed says nothing."""
        words = {cell.word for cell in self.cells} - {"unknown"}
        return len(words) <= 1 and "some" not in words


@dataclass(slots=True, kw_only=True)
class Matrix:
    """The page's table, and what its filters offer."""

    wanted: Wanted
    columns: list[Column] = field(default_factory=list)
    groups: list[tuple[str, list[Row]]] = field(default_factory=list)
    total: int = 0
    left_out: int = 0
    alike: int = 0
    unprobed: list[Hypervisor] = field(default_factory=list)
    hosts: list[tuple[str, str]] = field(default_factory=list)
    drivers: list[str] = field(default_factory=list)
    types: list[tuple[str, str]] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)


def everything(by: Actor) -> list[Hypervisor]:
    """Every hypervisor that `by` may see. One query."""
    rows = visible(by, Hypervisor.objects.select_related("host").defer("credentials"))
    return sorted(rows, key=lambda row: (row.driver, row.host.name.lower(), row.uri))


def matrix(by: Actor, wanted: Wanted) -> Matrix:
    """One query."""
    known = everything(by)
    rows = [row for row in known if wanted.matches(row)]
    columns = _columns(rows, wanted)
    found = Matrix(wanted=wanted, columns=columns, total=len(rows))
    found.left_out = len(rows) - sum(len(column.members) for column in columns)
    found.unprobed = [row for row in rows if not row.capabilities]
    for label, features in GROUPS:
        group = [
            Row(
                feature=str(feature), label=str(words), cells=[_cell(feature, str(words), column) for column in columns]
            )
            for feature, words in features.items()
        ]
        shown = [row for row in group if not (wanted.diff and row.same)]
        found.alike += len(group) - len(shown)
        if shown:
            found.groups.append((str(label), shown))
    _offer(found, known)
    return found


def _offer(found: Matrix, known: list[Hypervisor]) -> None:
    names = {str(row.host_id): row.host.name for row in known}
    found.hosts = sorted(names.items(), key=lambda one: one[1].lower())
    found.drivers = sorted({row.driver for row in known})
    types, states = {row.virtualization_type for row in known}, {row.state for row in known}
    found.types = [(value, str(label)) for value, label in VirtualizationTypeChoice.choices if value in types]
    found.states = [(value, str(label)) for value, label in LinkState.choices if value in states]


def _columns(rows: list[Hypervisor], wanted: Wanted) -> list[Column]:
    if len(rows) <= COLUMNS_MAX:
        return [Column(driver=row.driver, members=(row,)) for row in rows]
    by_driver: dict[str, list[Hypervisor]] = defaultdict(list)
    for row in rows:
        by_driver[row.driver].append(row)
    columns: list[Column] = []
    for driver, members in by_driver.items():
        if len(members) == 1:
            columns.append(Column(driver=driver, members=tuple(members)))
        elif driver in wanted.open:
            fold = wanted.query(open=sorted(wanted.open - {driver}))
            columns += [Column(driver=driver, members=(row,), toggle=fold) for row in members[:OPEN_MAX]]
        else:
            toggle = wanted.query(open=sorted({*wanted.open, driver}))
            columns.append(Column(driver=driver, members=tuple(members), toggle=toggle, single=False))
    return columns


def word_of(row: Hypervisor, feature: str) -> Word:
    """`unknown`: never probed, or probed by a vmmanager that did not know this feature."""
    entry = row.capabilities.get(feature)
    if entry is None:
        return "unknown"
    return "yes" if entry["supported"] else "no"


def reason_of(row: Hypervisor, feature: str) -> str:
    """Why not; "" for what it can."""
    if feature in row.capabilities:
        return "" if row.capabilities[feature]["supported"] else row.support(feature)[1]
    if row.capabilities:
        return _("Not probed: it was last asked before this was looked for.")
    return _("Not probed: it has never been reached.")


def _cell(feature: str, label: str, column: Column) -> Cell:
    if column.single:
        return _single(feature, label, column)
    words = [word_of(row, feature) for row in column.members]
    able, probed = words.count("yes"), len(words) - words.count("unknown")
    if able == len(words):
        return Cell(word="yes")
    said = {"what": label, "where": column.name, "able": able, "all": len(words)}
    why = _reasons(feature, column.members)
    if not probed:
        return Cell(word="unknown", said=_("%(what)s on %(where)s: not probed") % said, why=why)
    if not able:
        return Cell(word="no", said=_("%(what)s on %(where)s: none of %(all)s") % said, why=why)
    text = _("%(able)s of %(all)s") % said
    return Cell(word="some", text=text, said=_("%(what)s on %(where)s: %(able)s of %(all)s") % said, why=why)


def _single(feature: str, label: str, column: Column) -> Cell:
    row = column.one
    word = word_of(row, feature)
    if word == "yes":
        return Cell(word=word)
    said = _("%(what)s on %(where)s: no") if word == "no" else _("%(what)s on %(where)s: not probed")
    why = reason_of(row, feature)
    if word == "no":
        why = " ".join(part for part in (why, instead(feature, lambda step: row.support(step)[0])) if part)
    return Cell(word=word, said=said % {"what": label, "where": column.name}, why=why, href=f"/hosts/{row.host_id}")


def _reasons(feature: str, members: Sequence[Hypervisor]) -> str:
    """Each reason once, with the hosts that it holds for."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for row in members:
        reason = reason_of(row, feature)
        if reason:
            by_reason[reason].append(row.host.name)
    return " ".join(f"{reason} ({_names(names)})" for reason, names in by_reason.items())


def _names(names: list[str]) -> str:
    more = len(names) - NAMES_MAX
    shown = ", ".join(names[:NAMES_MAX])
    if more <= 0:
        return shown
    return ngettext("%(names)s and %(n)s more", "%(names)s and %(n)s more", more) % {"names": shown, "n": more}


def as_csv(by: Actor, wanted: Wanted) -> str:
    """All wanted hypervisors, a column each and never folded: `yes`, `no: reason`, `not probed`."""
    rows = [row for row in everything(by) if wanted.matches(row)]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["capability", *(_inert(f"{row.host.name} {row.driver}") for row in rows)])
    writer.writerow(["uri", *(_inert(row.uri) for row in rows)])
    writer.writerow(["state", *(row.state for row in rows)])
    writer.writerow(["virtualization_type", *(row.virtualization_type for row in rows)])
    for _label, features in GROUPS:
        for feature in features:
            if wanted.diff and len({word_of(row, feature) for row in rows} - {"unknown"}) <= 1:
                continue
            writer.writerow([str(feature), *(_inert(_plain(row, feature)) for row in rows)])
    return out.getvalue()


def _plain(row: Hypervisor, feature: str) -> str:
    match word_of(row, feature):
        case "yes":
            return "yes"
        case "no":
            return f"no: {reason_of(row, feature)}"
    return "not probed"


def _inert(text: str) -> str:
    """A name that begins like a formula must not become one in a spreadsheet."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
