"""What callers may ask of guests: permission, validation, submit. REST, pages and the palette all come through here."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Literal

from django.db import transaction
from django.db.models import F
from pydantic import ValidationError

from accounts import audit, policy
from accounts.actor import SYSTEM
from core.errors import BadInput, Missing, Stale, VmmError
from core.fields import check_tags
from core.memory import recall
from core.problems import pointer
from drivers.errors import Timeout
from events import log as event_log
from operations import actions, bulk, engine
from operations.actions import Action, NoParams, Params
from operations.choices import OPEN
from operations.engine import NotCancellable
from operations.models import Operation
from operations.problems import Recorded
from vms.actions import (
    AutostartVM,
    DeleteParams,
    DeleteVM,
    ReadDefinition,
    ReadGuest,
    TakeScreenshot,
)
from vms.alternatives import with_alternatives
from vms.definitions.actions import RenameVM
from vms.models import VM
from vms.readings import GuestReading, reading_key

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Mapping, Sequence

    from accounts.actor import Actor

BULK_MAX = 10_000

ACTIONS = (
    "start",
    "shutdown",
    "reboot",
    "reset",
    "force-off",
    "suspend",
    "resume",
    "managed-save",
    "discard-managed-save",
    "autostart",
    "rename",
)
"""The actions of `POST /vms/{id}/actions/ACTION`, in the order in which pages show them."""
BULK_ACTIONS = tuple(name for name in ACTIONS if name != "rename")
"""Those that can be meant for many at once: no two guests have one name."""


def action_class(name: str) -> type[Action[VM, Any]]:
    """The class behind the name in a URL. Raises Missing."""
    if name not in ACTIONS:
        raise Missing(f"There is no action {name[:50]!r}. Known: {', '.join(ACTIONS)}.")
    return type(actions.get(f"vm.{name}"))


def action_params(cls: type[Action[VM, Any]], raw: Mapping[str, Any] | None) -> Params:
    """Checked parameters. Raises BadInput with a pointer to each wrong one."""
    try:
        return cls.params.model_validate(raw or {}, strict=False)
    except ValidationError as error:
        errors = [{"pointer": pointer(item["loc"]), "detail": item["msg"]} for item in error.errors(include_url=False)]
        raise BadInput(f"{cls.title}: {errors[0]['pointer']}: {errors[0]['detail']}", errors=errors) from None


def vm_action(
    *,
    vm: VM,
    name: str,
    by: Actor,
    params: Mapping[str, Any] | None = None,
    on_conflict: Literal["wait", "fail"] = "wait",
) -> Operation:
    """Queue an action on one guest, or return the equal one already under way.

    Raises:
        Missing: Unknown action. BadInput: wrong parameters. PermissionRefused, Unsupported, Unreachable, WrongState, InProgress.
    """
    cls = action_class(name)
    with with_alternatives(vm, by=by):
        return engine.submit(cls, target=vm, by=by, params=action_params(cls, params), on_conflict=on_conflict)


def vm_delete(*, vm: VM, by: Actor, force: bool = False, on_conflict: Literal["wait", "fail"] = "wait") -> Operation:
    """Queue the removal of a guest's definition. Raises WrongState for a running guest without `force`."""
    with with_alternatives(vm, by=by):
        return engine.submit(DeleteVM, target=vm, by=by, params=DeleteParams(force=force), on_conflict=on_conflict)


def vm_bulk(*, vms: Sequence[VM], name: str, by: Actor, params: Mapping[str, Any] | None = None) -> Operation:
    """One parent operation with a child and a result for each guest."""
    cls = action_class(name)
    return bulk.submit_bulk(cls, targets=vms, by=by, params=action_params(cls, params), title=_count(len(vms)))


def vm_bulk_preview(
    *, vms: Iterable[VM], name: str, by: Actor, params: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """What a bulk call would do to which guest: nothing is queued. Reads one query beside `vms`."""
    cls = action_class(name)
    checked = action_params(cls, params)
    action = actions.get(cls.kind)
    busy = busy_guests()
    items = []
    for vm in vms:
        item: dict[str, Any] = {"vm": str(vm.pk), "name": vm.name, "allowed": True, "reason": ""}
        try:
            policy.require(by, action.verb, vm)
            action.check(vm, checked, idle=vm.ref not in busy)
        except VmmError as error:
            item.update(allowed=False, code=error.code, reason=error.detail)
        items.append(item)
    return items


def busy_guests() -> set[str]:
    """`vm/<id>` of every guest with something queued or running."""
    return set(Operation.objects.filter(state__in=OPEN).exclude(lock_key="").values_list("lock_key", flat=True))


def vm_actions(vm: VM, *, by: Actor) -> dict[str, dict[str, Any]]:
    """`{"start": {"allowed": false, "reason": "web-01 is already running."}, …}` for this caller, now. No query."""
    found: dict[str, dict[str, Any]] = {}
    refused: dict[str, VmmError | None] = {}
    for name, action, least in _asked():
        if action.verb not in refused:
            refused[action.verb] = _refusal(by, action.verb, vm)
        error = refused[action.verb]
        if error is None:
            try:
                action.check(vm, least, idle=True)
            except VmmError as why_not:
                error = why_not
        if error is None:
            found[name] = {"allowed": True, "reason": ""}
        else:
            found[name] = {"allowed": False, "reason": error.detail, "code": error.code}
    return found


def _refusal(by: Actor, verb: str, vm: VM) -> VmmError | None:
    try:
        policy.require(by, verb, vm)
    except VmmError as error:
        return error
    return None


@functools.cache
def _asked() -> list[tuple[str, Action[Any, Any], Params]]:
    found = [(name, actions.get(f"vm.{name}")) for name in (*ACTIONS, "delete")]
    return [(name, action, _least_params(action)) for name, action in found]


def _least_params(action: Action[Any, Any]) -> Params:
    """Parameters that say nothing special, for asking whether an action is possible at all."""
    if isinstance(action, AutostartVM):
        return action.params(enabled=True)
    if isinstance(action, RenameVM):
        return action.params(name="x")
    return action.params() if action.params is not NoParams else NoParams()


PATCHABLE = ("title", "description", "tags", "project", "owner")


def vm_update(*, vm: VM, by: Actor, changes: Mapping[str, Any], if_version: int | None = None) -> VM:
    """Change what is ours to say of a guest (title, description, tags, project, owner); `autostart` is an action.

    Raises:
        Stale: `if_version` is not the present one. BadInput: a tag that is none.
    """
    policy.require(by, "vm.edit", vm)
    values = {key: value for key, value in changes.items() if key in PATCHABLE}
    if "tags" in values:
        values["tags"] = check_tags(values["tags"])
    changed = {key: value for key, value in values.items() if getattr(vm, key) != value}
    with transaction.atomic():
        row = VM.objects.filter(pk=vm.pk, gone_at=None)
        if if_version is not None:
            row = row.filter(version=if_version)
        if row.update(version=F("version") + 1, **changed) != 1:
            raise Stale(f"{vm.name} changed since you read it. Read it again and repeat your change.")
        vm.refresh_from_db(fields=["version", *changed])
        shown = {key: (value.get_username() if key == "owner" and value else value) for key, value in changed.items()}
        event_log.append(
            [
                event_log.NewEvent(
                    type="vm.changed",
                    object=vm.ref,
                    object_name=vm.name,
                    actor=by.name,
                    data={"version": vm.version, "changed": shown},
                )
            ]
        )
        audit.record(by, "vm_changed", object=vm.ref, object_name=vm.name, changed=sorted(changed))
    return vm


def vm_get(vm_id: uuid.UUID, *, by: Actor) -> VM:
    """One guest that the caller may see, with host and hypervisor. Raises Missing."""
    vm = (
        policy.visible(by, VM.objects.filter(gone_at=None))
        .select_related("hypervisor__host", "owner")
        .defer("hypervisor__credentials")
        .filter(pk=vm_id)
        .first()
    )
    if vm is None:
        raise Missing("There is no such guest, or you may not see it.")
    return vm


READING_WAIT_SECONDS = 25.0


def vm_definition(*, vm: VM, by: Actor) -> str:
    """The definition as XML, read by a worker now. Blocks up to 25 s.

    Raises:
        PermissionRefused, Unsupported, Unreachable, Timeout.
    """
    return str(_read(ReadDefinition, vm, by))


def vm_screenshot(*, vm: VM, by: Actor) -> bytes:
    """The guest's screen as PNG, taken by a worker now. Blocks up to 25 s. Raises as `vm_definition`, and WrongState."""
    return bytes(_read(TakeScreenshot, vm, by))


def _read(cls: type[ReadGuest], vm: VM, by: Actor) -> Any:
    with with_alternatives(vm, by=by):
        operation = engine.submit(cls, target=GuestReading.of(vm), by=by)
    return reading_of(vm, operation)


def reading_of(vm: VM, operation: Operation) -> Any:
    """What a reading found. Blocks up to 25 s. Raises Timeout, and what the reading ended with."""
    operation = engine.wait_ended(operation, timeout_seconds=READING_WAIT_SECONDS)
    if not operation.ended:
        with contextlib.suppress(NotCancellable):
            engine.cancel(operation, by=SYSTEM)
        raise Timeout(f"{vm.hypervisor.host.name} did not answer in time.", host=str(vm.hypervisor.host_id))
    if operation.error:
        raise Recorded(operation.error)
    found = recall(reading_key(operation.pk))
    if found is None:
        raise Timeout("What was read is no longer kept. Ask again.")
    return found


def _count(number: int) -> str:
    return "1 guest" if number == 1 else f"{number:,} guests"
