"""What callers may ask of snapshot schedules: permission, validation, the row. REST and pages come through here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from accounts import audit, policy
from core.errors import BadInput, Conflict, Stale
from core.ids import uuid7
from core.search import parse
from drivers.errors import AlreadyExists
from vms.grammar import KEYS, compile_query, unknown_keys
from vms.models import VM
from vms.schedules.models import SnapshotSchedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accounts.actor import Actor

VERB: Final = "vm.snapshot"
COLUMNS: Final = (
    "name", "vm_id", "filter", "memory", "every", "at", "hours", "weekday", "day", "time_zone",
    "keep_last", "keep_daily", "keep_weekly", "keep_monthly", "enabled",
)  # fmt: skip
"""What people say of one."""


def schedule_draft(*, values: Mapping[str, Any], by: Actor, of: SnapshotSchedule | None = None) -> SnapshotSchedule:
    """One as it would be, not saved: a new one, or `of` with these values. Raises BadInput with a pointer to what cannot be.

    Args:
        values: Of `COLUMNS`.
        by: Who would own it.
        of: The present one.
    """
    policy.require(by, VERB)
    draft = SnapshotSchedule(pk=of.pk if of else uuid7(), owner=by.user)
    for name in COLUMNS:
        if name in values or of is not None:
            setattr(draft, name, values[name] if name in values else getattr(of, name))
    draft.name, draft.filter = draft.name.strip(), draft.filter.strip()
    if not draft.name:
        raise _bad("name", "a schedule needs a name")
    if bool(draft.filter) == (draft.vm_id is not None):
        raise _bad("filter", "either a guest (vm) or a filter")
    if draft.vm_id and not policy.visible(by, VM.objects.filter(pk=draft.vm_id, gone_at=None)).exists():
        raise _bad("vm", "there is no such guest")
    if draft.filter:
        _check_filter(draft.filter, by)
    if not any((draft.keep_last, draft.keep_daily, draft.keep_weekly, draft.keep_monthly)):
        raise _bad("keep", "at least one snapshot is kept")
    draft.when.zone  # noqa: B018 - asked for what it raises
    return draft


def _check_filter(text: str, by: Actor) -> None:
    """A key that means nothing would be a free word, and find nobody; one without a value finds everybody."""
    for key, near in unknown_keys(text).items():
        if near:
            raise _bad("filter", f"there is no {key}:; was {near}: meant?")
    if not parse(text, keys=KEYS):
        raise _bad("filter", "it says nothing yet; name:* finds all guests")
    try:
        compile_query(text, by=by)
    except BadInput as error:
        raise _bad("filter", error.detail) from None


def schedule_create(*, values: Mapping[str, Any], by: Actor) -> SnapshotSchedule:
    """One more, owned by the caller. Raises PermissionRefused, BadInput, AlreadyExists."""
    draft = schedule_draft(values=values, by=by)
    draft.next_run_at = draft.next_after(timezone.now())
    _refuse_twin(draft)
    try:
        with transaction.atomic():
            draft.save(force_insert=True)
            audit.record(by, "schedule_created", object=draft.ref, object_name=draft.name)
    except IntegrityError:
        _refuse_twin(draft)
        raise Conflict("Another change came in between; try again.") from None
    return draft


def schedule_update(
    *, schedule: SnapshotSchedule, values: Mapping[str, Any], by: Actor, if_version: int | None = None
) -> SnapshotSchedule:
    """Change it; from then on it runs in the caller's name. The next turn is counted anew where the rule or the switch changed.

    Raises:
        PermissionRefused, BadInput, AlreadyExists. Stale: `if_version` is not the present one.
    """
    draft = schedule_draft(values=values, by=by, of=schedule)
    changed = [name for name in COLUMNS if getattr(draft, name) != getattr(schedule, name)]
    columns: dict[str, Any] = {name: getattr(draft, name) for name in changed}
    if draft.when != schedule.when or draft.enabled != schedule.enabled:
        columns["next_run_at"] = draft.next_after(timezone.now())
    _refuse_twin(draft)
    rows = SnapshotSchedule.objects.filter(pk=schedule.pk)
    if if_version is not None:
        rows = rows.filter(version=if_version)
    try:
        with transaction.atomic():
            if rows.update(version=F("version") + 1, updated_at=timezone.now(), owner=by.user, **columns) != 1:
                raise Stale(f"{schedule.name} changed since you read it. Read it again and repeat your change.")
            audit.record(by, "schedule_changed", object=schedule.ref, object_name=draft.name, changed=changed)
    except IntegrityError:
        _refuse_twin(draft)
        raise Conflict("Another change came in between; try again.") from None
    schedule.refresh_from_db()
    return schedule


def schedule_delete(*, schedule: SnapshotSchedule, by: Actor) -> None:
    """It takes no more. The snapshots that it took stay, and are nobody's to delete by themselves any more. Raises PermissionRefused."""
    policy.require(by, VERB)
    with transaction.atomic():
        SnapshotSchedule.objects.filter(pk=schedule.pk).delete()
        audit.record(by, "schedule_deleted", object=schedule.ref, object_name=schedule.name)


def _refuse_twin(draft: SnapshotSchedule) -> None:
    twin = SnapshotSchedule.objects.filter(name__iexact=draft.name).exclude(pk=draft.pk).first()
    if twin is not None:
        raise AlreadyExists(f"There is a schedule {twin.name} already: give this one another name.", id=str(twin.pk))


def _bad(name: str, detail: str) -> BadInput:
    return BadInput(f"{name}: {detail}.", errors=[{"pointer": f"/{name}", "detail": detail}])
