"""What belongs to a host once, whatever drivers of one libvirtd list it: storage pools, networks. Rows, and the one way they are written.

An observation counts by the time *before* its reading began (`seen_at`), as in `vms.inventory`: a slow listing that comes late
with old news is refused. `observed_at` moves with a change alone: nothing is written for what stands as it stood.

A row goes through one hypervisor, the first that listed it. Another one of the host takes it over when that is out of reach or is
removed. A bulk listing speaks only for the rows that go through its own hypervisor: two drivers of one libvirtd would write all twice.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from django.db import IntegrityError, models, transaction
from django.utils import timezone

from core.errors import Missing
from core.models import BaseModel
from events import log as event_log
from hosts.models import Host, Hypervisor
from operations.actions import uuid_of
from operations.models import Operation

if TYPE_CHECKING:
    import uuid as uuids
    from collections.abc import Iterable, Mapping, Sequence

    from django.db.models.deletion import Collector

    from drivers.types import Feature

CLOCK_SLACK = dt.timedelta(seconds=5)
"""A wall clock that was set back would refuse all news: what lies in the future refuses nothing."""
BIGINT_MAX = 2**63 - 1
_ATTEMPTS = 3


def to_sibling(collector: Collector, field: models.ForeignKey[Any, Any], sub_objs: Iterable[Any], using: str) -> None:
    """`on_delete` of a resource's hypervisor: another one of the host that has the feature takes it over, else it goes too.

    Whether that one really lists it shows at its next sweep.
    """
    rows = list(sub_objs)
    siblings: dict[Any, Hypervisor] = {}
    leaving = {row.hypervisor_id for row in rows}
    others = Hypervisor.objects.using(using).filter(host__in={row.host_id for row in rows}).exclude(pk__in=leaving)
    for other in others.defer("credentials").order_by("pk"):
        if other.support(rows[0].feature)[0]:
            siblings.setdefault(other.host_id, other)
    for host, sibling in siblings.items():
        collector.add_field_update(field, sibling, [row for row in rows if row.host_id == host])
    rest: Any = [row for row in rows if row.host_id not in siblings]
    models.CASCADE(collector, field, rest, using)


class Resource(BaseModel):
    """A thing of one host that its hypervisors list. One that is gone keeps its row as a tombstone (`gone_at`)."""

    feature: ClassVar[Feature]
    """What a hypervisor must have to list it."""
    kind: ClassVar[str]
    """The word of its references: `<kind>/<id>`."""

    host: models.ForeignKey[Any, Host]
    hypervisor: models.ForeignKey[Any, Hypervisor]
    host_id: uuids.UUID
    hypervisor_id: uuids.UUID

    uuid = models.CharField(max_length=64, help_text="the hypervisor's own identifier")
    name = models.CharField(max_length=255)
    autostart = models.BooleanField(default=False)
    persistent = models.BooleanField(default=True)
    observed_at = models.DateTimeField(help_text="before the reading that changed it last")
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name

    @property
    def ref(self) -> str:
        """`<kind>/<id>`, as events, operations and filters name it."""
        return f"{self.kind}/{self.pk}"

    @property
    def stale(self) -> bool:
        """Whether its hypervisor is out of reach, so that the last known state stands. Needs `hypervisor` selected."""
        return not self.hypervisor.online


R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True, kw_only=True)
class Book(Generic[R]):
    """How one kind of resource is written down.

    Attributes:
        model: Its rows.
        word: Of its events: `<word>.defined`, `.changed`, `.undefined`.
        quiet: Facts that move all the time: written, and neither told nor counted as another version of the row.
        create: The kind of the operation that makes one: its target's id becomes the row's, whoever sees it first.
    """

    model: type[R]
    word: str
    quiet: frozenset[str]
    create: str

    def rows(self) -> models.QuerySet[R]:
        """All of them, those that are gone too."""
        return models.QuerySet(self.model)


@dataclass(slots=True)
class Observed(Generic[R]):
    """What an observation found.

    Attributes:
        rows: What was listed and goes through this hypervisor, by identifier, as it now is.
        quiet: Rows of which only quiet facts changed, or those too.
    """

    rows: dict[str, R] = field(default_factory=dict)
    quiet: list[R] = field(default_factory=list)
    gone: list[R] = field(default_factory=list)
    defined: int = 0
    changed: int = 0


def observe(
    book: Book[R],
    hypervisor: Hypervisor,
    facts: Sequence[Mapping[str, Any]],
    *,
    seen_at: dt.datetime | None = None,
    complete: bool = False,
    bulk: bool = True,
) -> Observed[R]:
    """Write down what was listed. One reading, and one short transaction where something differs.

    Args:
        book: Of what kind.
        hypervisor: Where it was seen.
        facts: Column → value for each, `uuid` among them, fit for the columns; of two with one identifier the last counts.
        seen_at: A time before the reading began; now when left out.
        complete: They are all there are.
        bulk: A sweep, which leaves alone what goes through another hypervisor that is online. What was looked at by itself is
            written, whoever it goes through.

    Raises:
        Missing: The hypervisor was removed meanwhile.
    """
    at = seen_at or timezone.now()
    seen = {one["uuid"]: dict(one) for one in facts}
    for attempt in range(1, _ATTEMPTS + 1):
        work = _Work(book, hypervisor, at, bulk=bulk)
        try:
            if not work.differs(seen, complete=complete):
                return work.found
            with transaction.atomic():
                work = _Work(book, hypervisor, at, bulk=bulk)
                work.write(seen, complete=complete)
        except IntegrityError:
            if not Hypervisor.objects.filter(pk=hypervisor.pk).exists():
                raise Missing("This hypervisor is no longer managed.") from None
            if attempt == _ATTEMPTS:
                raise
        else:
            return work.found
    raise AssertionError("unreachable")


def bury(book: Book[R], row: R, *, seen_at: dt.datetime | None = None) -> bool:
    """It is not there any more: its row becomes a tombstone. False when it was one, or something newer is known."""
    at = seen_at or timezone.now()
    with transaction.atomic():
        fresh = book.rows().select_for_update().filter(pk=row.pk, gone_at=None).first()
        if fresh is None or not newer(fresh.observed_at, at):
            return False
        announce([_end(book, fresh, at)])
    row.gone_at, row.version = fresh.gone_at, fresh.version
    return True


def newer(observed_at: dt.datetime | None, at: dt.datetime) -> bool:
    """Whether a reading of `at` holds all that is known of `observed_at`."""
    return observed_at is None or at >= observed_at or observed_at > timezone.now() + CLOCK_SLACK


def text(value: object, limit: int) -> str:
    """Text that a column takes: PostgreSQL refuses NUL and lone surrogates, and a column has its length."""
    return str(value if value is not None else "").replace("\0", "").encode("utf-8", "replace").decode()[:limit]


def number(value: int | None) -> int | None:
    """A size that a column takes; None stays None."""
    return None if value is None else min(max(int(value), 0), BIGINT_MAX)


def actors(refs: Iterable[str]) -> dict[str, tuple[uuids.UUID, str]]:
    """For each of these objects that an operation works on just now: the operation, and who asked for it. One query."""
    held = Operation.objects.filter(holds_lock=True, lock_key__in=set(refs))
    return {key: (pk, by) for key, pk, by in held.values_list("lock_key", "pk", "requested_by")}


News = tuple[Any, str, dict[str, Any]]
"""A row with `ref` and `name`, the type of an event, its data."""


class _Work(Generic[R]):
    """One observation being written."""

    def __init__(self, book: Book[R], hypervisor: Hypervisor, at: dt.datetime, *, bulk: bool) -> None:
        self.book, self.hypervisor, self.at, self.bulk = book, hypervisor, at, bulk
        self.found: Observed[R] = Observed()

    def _rows(self, uuids_seen: Iterable[str], *, complete: bool) -> models.QuerySet[R]:
        rows = self.book.rows().filter(host=self.hypervisor.host_id)
        wanted = models.Q(uuid__in=list(uuids_seen))
        if complete:
            wanted |= models.Q(hypervisor=self.hypervisor.pk, gone_at=None)
        return rows.filter(wanted).select_related("hypervisor").defer("hypervisor__credentials").order_by("uuid")

    def differs(self, seen: Mapping[str, Mapping[str, Any]], *, complete: bool) -> bool:
        """Whether there is anything to write. Fills `found.rows` where there is not."""
        known = {row.uuid: row for row in self._rows(seen, complete=complete)}
        for uuid, row in known.items():
            if uuid not in seen:
                if newer(row.observed_at, self.at):
                    return True
            elif self._answers_for(row) and newer(row.observed_at, self.at) and self._changes(row, seen[uuid]):
                return True
            elif row.hypervisor_id == self.hypervisor.pk and row.gone_at is None:
                self.found.rows[uuid] = row
        return not seen.keys() <= known.keys()

    def write(self, seen: Mapping[str, dict[str, Any]], *, complete: bool) -> None:
        """Within a transaction: update, create, bury, tell."""
        # Without the hypervisors' own rows: locking those would hold up the watcher's account of the link.
        locked = self._rows(seen, complete=complete).select_for_update(of=("self",))
        known = {row.uuid: row for row in locked}
        news: list[News] = []
        for uuid, row in known.items():
            if not newer(row.observed_at, self.at):
                continue
            if uuid not in seen:
                news.append(_end(self.book, row, self.at))
                self.found.gone.append(row)
            elif self._answers_for(row):
                news += self._update(row, seen[uuid])
        fresh = {uuid: facts for uuid, facts in seen.items() if uuid not in known}
        if fresh:
            news += self._create(fresh)
        for uuid, row in known.items():
            if uuid in seen and row.hypervisor_id == self.hypervisor.pk and row.gone_at is None:
                self.found.rows[uuid] = row
        announce(news)

    def _answers_for(self, row: R) -> bool:
        """Whether this hypervisor's word counts for the row."""
        mine = row.hypervisor_id == self.hypervisor.pk
        return mine or not self.bulk or row.gone_at is not None or not row.hypervisor.online

    def _changes(self, row: R, facts: Mapping[str, Any]) -> dict[str, Any]:
        changes = {name: value for name, value in facts.items() if getattr(row, name) != value}
        if row.gone_at is not None:
            changes["gone_at"] = None
        takes_over = row.gone_at is not None or (self.bulk and not row.hypervisor.online)
        if row.hypervisor_id != self.hypervisor.pk and takes_over:
            changes["hypervisor_id"] = self.hypervisor.pk
        return changes

    def _update(self, row: R, facts: Mapping[str, Any]) -> list[News]:
        changes = self._changes(row, facts)
        if not changes:
            return []
        back = row.gone_at is not None
        told = {name: value for name, value in changes.items() if name not in self.book.quiet}
        told.pop("hypervisor_id", None)
        if self.book.quiet & changes.keys():
            self.found.quiet.append(row)
        for name, value in changes.items():
            setattr(row, name, value)
        row.observed_at = self.at
        if told:
            row.version += 1
        values = changes | {"version": row.version, "observed_at": self.at, "updated_at": timezone.now()}
        self.book.rows().filter(pk=row.pk).update(**values)
        self.found.changed += 1
        if back:
            return [_defined(self.book, row)]
        return [(row, f"{self.book.word}.changed", {"version": row.version, "changed": told})] if told else []

    def _create(self, fresh: Mapping[str, Mapping[str, Any]]) -> list[News]:
        promised = self._promised([str(facts["name"]) for facts in fresh.values()])
        rows = []
        for uuid in sorted(fresh):
            facts = fresh[uuid]
            row = self.book.model(
                host_id=self.hypervisor.host_id, hypervisor_id=self.hypervisor.pk, observed_at=self.at, **facts
            )
            row.pk = promised.get(str(facts["name"]), row.pk)
            rows.append(row)
            self.found.rows[uuid] = row
        self.book.rows().bulk_create(rows)
        self.found.defined += len(rows)
        self.found.quiet += rows
        return [_defined(self.book, row) for row in rows]

    def _promised(self, names: Sequence[str]) -> dict[str, uuids.UUID]:
        """Name → the id that an operation under way has promised for it, where no other row has it."""
        hosts = Hypervisor.objects.filter(host=self.hypervisor.host_id).values_list("pk", flat=True)
        making = Operation.objects.filter(
            kind=self.book.create,
            holds_lock=True,
            target_name__in=names,
            params__hypervisor__in=[str(pk) for pk in hosts],
        )
        return promised_ids(self.book.model, making)


def promised_ids(model: type[models.Model], making: models.QuerySet[Operation]) -> dict[str, uuids.UUID]:
    """The name that each of these operations makes → its target's id, where no row of `model` has that yet. Two queries at most."""
    found = {name: uuid_of(target) for name, target in making.values_list("target_name", "target")}
    if found:
        taken = set(models.QuerySet(model).filter(pk__in=found.values()).values_list("pk", flat=True))
        found = {name: pk for name, pk in found.items() if pk not in taken}
    return found


def _defined(book: Book[R], row: R) -> News:
    return row, f"{book.word}.defined", {"version": row.version, "host": str(row.host_id)}


def _end(book: Book[R], row: R, at: dt.datetime) -> News:
    row.gone_at = row.observed_at = at
    row.version += 1
    values = {"gone_at": at, "observed_at": at, "version": row.version, "updated_at": timezone.now()}
    book.rows().filter(pk=row.pk).update(**values)
    return row, f"{book.word}.undefined", {"version": row.version, "host": str(row.host_id)}


def announce(news: Sequence[News]) -> None:
    """Append the events, each naming the operation that works on its object just now, and who asked for it."""
    if not news:
        return
    working = actors(row.ref for row, _, _ in news)
    event_log.append(
        event_log.NewEvent(
            type=type_,
            object=row.ref,
            object_name=row.name,
            actor=working.get(row.ref, (None, ""))[1],
            operation=working.get(row.ref, (None, ""))[0],
            data=data,
        )
        for row, type_, data in news
    )
