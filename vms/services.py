"""What callers may ask of guests: permission, validation, submit. REST, pages and the palette all come through here."""

from __future__ import annotations

import contextlib
import functools
import logging
import uuid
from typing import TYPE_CHECKING, Any, Final, Literal

from django.db import transaction
from django.db.models import F
from pydantic import ValidationError

import cloudinit
from accounts import audit, policy
from accounts.actor import SYSTEM
from core.errors import BadInput, Missing, Stale, VmmError
from core.fields import check_tags
from core.ids import uuid7
from core.memory import recall
from core.problems import pointer
from drivers.errors import Timeout, WrongState
from events import log as event_log
from hosts.wishes import hypervisor_of
from operations import actions, bulk, engine
from operations.actions import Action, NoParams, Params
from operations.choices import OPEN
from operations.engine import NotCancellable
from operations.models import Operation
from operations.problems import Recorded
from vms.actions import (
    AutostartVM,
    ReadDefinition,
    ReadGuest,
    TakeScreenshot,
)
from vms.alternatives import with_alternatives
from vms.choices import BinStorage
from vms.cloning.actions import CloneVM
from vms.cloning.expand import expanded
from vms.cloning.services import clone_asked, vm_clone
from vms.creation.actions import (
    CreateFromXml,
    CreateParams,
    CreateVM,
    DesignVM,
    Draft,
    DraftParams,
    FromXmlParams,
    NewGuest,
)
from vms.creation.placing import place_for_xml, plan_vm
from vms.creation.spec import XmlSpec
from vms.definitions.actions import RenameVM
from vms.definitions.head import head
from vms.deletion import binned
from vms.deletion.actions import DeleteParams, DeleteVM, PurgeParams, PurgeVM, RestoreParams, RestoreVM, check_name
from vms.describe import KEPT, describe
from vms.models import PRESENT, VM
from vms.readings import GuestReading, reading_key

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

    from accounts.actor import Actor
    from vms.creation.plan import Plan
    from vms.creation.spec import CloudInitIn, VMSpec

log = logging.getLogger(__name__)

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
    "clone",
    "restore",
)
"""The actions of `POST /vms/{id}/actions/ACTION`, in the order in which pages show them."""
BULK_ACTIONS = (*(name for name in ACTIONS if name != "clone"), "delete")
"""Those of `POST /vms/bulk`: clones of many guests at once would need a name each."""


def action_class(name: str, known: Sequence[str] = ACTIONS) -> type[Action[VM, Any]]:
    """The class behind the name in a URL. Raises Missing."""
    if name not in known:
        raise Missing(f"There is no action {name[:50]!r}. Known: {', '.join(known)}.")
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
    if cls is CloneVM:
        asked = clone_asked(params)
        check_cloud_init(asked.cloud_init)
        with with_alternatives(vm, by=by):
            return vm_clone(vm=vm, asked=asked, by=by, on_conflict=on_conflict)
    checked = action_params(cls, params)
    if cls is RestoreVM and policy.may(by, RestoreVM.verb, vm):
        check_name(vm, checked)
    with with_alternatives(vm, by=by):
        return engine.submit(cls, target=vm, by=by, params=checked, on_conflict=on_conflict)


def vm_delete(
    *,
    vm: VM,
    by: Actor,
    force: bool = False,
    storage: Literal["keep", "delete"] | None = None,
    to_bin: bool = True,
    on_conflict: Literal["wait", "fail"] = "wait",
) -> Operation:
    """Queue the removal of a guest: into the bin, or for good; out of the bin it only goes for good.

    Args:
        vm: Which.
        by: The caller.
        force: Force a running guest off first.
        storage: What its disks do: `keep` unless told; of a guest in the bin as was told when it went there.
        to_bin: False: at once and for good.
        on_conflict: As of `vm_action`.

    Raises:
        WrongState: It runs, and no `force`; it is protected; it is in the bin already.
    """
    with with_alternatives(vm, by=by):
        if vm.binned_at is not None and not to_bin:
            purge = PurgeParams(storage=storage or BinStorage(vm.bin_storage).value)
            return engine.submit(PurgeVM, target=vm, by=by, params=purge, on_conflict=on_conflict)
        params = DeleteParams(force=force, storage=storage or "keep", bin=to_bin)
        return engine.submit(DeleteVM, target=vm, by=by, params=params, on_conflict=on_conflict)


def empty_bin(now: dt.datetime) -> int:
    """Queue the end of those whose time in the bin is up, and the way back of those that never got there; how many."""
    wanted: list[tuple[type[Action[VM, Any]], VM, Params]] = [
        (PurgeVM, vm, PurgeParams(storage=BinStorage(vm.bin_storage).value, due=True)) for vm in binned.due(now)
    ]
    wanted += [(RestoreVM, vm, RestoreParams()) for vm in binned.left_behind(now)]
    queued = 0
    for cls, vm, params in wanted:
        try:
            engine.submit(cls, target=vm, by=SYSTEM, params=params, on_conflict="fail")
        except VmmError as error:  # it waits for the next time
            log.info("%s: not now: %s", cls.kind, error.detail, extra={"vm": str(vm.pk)})
        else:
            queued += 1
    return queued


def vm_bulk(*, vms: Sequence[VM], name: str, by: Actor, params: Mapping[str, Any] | None = None) -> Operation:
    """One parent operation with a child and a result for each guest."""
    cls = action_class(name, BULK_ACTIONS)
    return bulk.submit_bulk(cls, targets=vms, by=by, params=action_params(cls, params), title=_count(len(vms)))


def vm_bulk_preview(
    *, vms: Iterable[VM], name: str, by: Actor, params: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """What a bulk call would do to which guest: nothing is queued. Reads one query beside `vms`."""
    cls = action_class(name, BULK_ACTIONS)
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
    refused: dict[str, VmmError | None] = {}
    found: dict[str, dict[str, Any]] = {}
    for name, (action, least) in _asked().items():
        if action.verb not in refused:
            refused[action.verb] = _refusal(by, action.verb, vm)
        found[name] = _allowed(refused[action.verb] or _why_not(action, vm, least))
    return found


def _allowed(error: VmmError | None) -> dict[str, Any]:
    if error is None:
        return {"allowed": True, "reason": ""}
    return {"allowed": False, "reason": error.detail, "code": error.code}


def _why_not(action: Action[Any, Any], vm: VM, least: Params) -> VmmError | None:
    try:
        action.check(vm, least, idle=True)
    except VmmError as why_not:
        return why_not
    return None


def _refusal(by: Actor, verb: str, vm: VM) -> VmmError | None:
    try:
        policy.require(by, verb, vm)
    except VmmError as error:
        return error
    return None


@functools.cache
def _asked() -> dict[str, tuple[Action[Any, Any], Params]]:
    found = {name: actions.get(f"vm.{name}") for name in (*BULK_ACTIONS, "clone", "snapshot")}
    return {name: (action, _least_params(action)) for name, action in found.items()}


_LEAST: Final[dict[str, dict[str, Any]]] = {
    AutostartVM.kind: {"enabled": True},
    RenameVM.kind: {"name": "x"},
    "vm.snapshot": {"name": "a snapshot"},
}


def _least_params(action: Action[Any, Any]) -> Params:
    """Parameters that say nothing special, for asking whether an action is possible at all."""
    least = _LEAST.get(action.kind)
    if least is not None:
        return action.params(**least)
    return action.params() if action.params is not NoParams else NoParams()


# -- making guests -----------------------------------------------------------------------------------------------------
def vm_create(*, spec: VMSpec | XmlSpec, by: Actor) -> Operation:
    """Queue the making of a guest. Its id is the operation's target; `result.vm` says it when it is there.

    Raises:
        PermissionRefused, BadInput (with a pointer to what cannot be), NoPlace, AlreadyExists, Unreachable, Unsupported, WrongState.
    """
    policy.require(by, "vm.create")
    if isinstance(spec, XmlSpec):
        return _define(spec, by)
    spec = expanded(spec, by=by)
    check_cloud_init(spec.cloud_init)
    plan = plan_vm(spec, by=by, vm_id=uuid7())
    params = CreateParams(
        hypervisor=plan.placement.hypervisor,
        start=plan.start,
        wait_for=plan.wait_for,
        wait_timeout_seconds=plan.wait_timeout_seconds,
        plan=plan,
        cloud_init=None if spec.cloud_init is None else spec.cloud_init.model_dump(mode="json", exclude_none=True),
    )
    target = NewGuest(plan.id, plan.name, hypervisor_of(plan.placement.hypervisor))
    return engine.submit(CreateVM, target=target, by=by, params=params)


def _define(spec: XmlSpec, by: Actor) -> Operation:
    policy.require(by, "vm.xml")
    found = head(spec.xml)
    hypervisor = hypervisor_of(uuid.UUID(place_for_xml(spec, by=by).id))
    params = FromXmlParams(
        hypervisor=hypervisor.pk,
        start=spec.start,
        wait_for=spec.wait_for or ("running" if spec.start else ""),
        wait_timeout_seconds=spec.wait_timeout_seconds,
        name=found.name,
        xml=spec.xml,
    )
    return engine.submit(CreateFromXml, target=NewGuest(uuid7(), found.name, hypervisor), by=by, params=params)


def vm_plan(*, spec: VMSpec, by: Actor) -> Plan:
    """What a guest would be, and where. Nothing is made, and no hypervisor asked. Raises as `vm_create`."""
    policy.require(by, "vm.create")
    spec = expanded(spec, by=by)
    check_cloud_init(spec.cloud_init)
    return plan_vm(spec, by=by, vm_id=uuid7())


def vm_draft(*, plan: Plan, by: Actor) -> Operation:
    """The operation in which a worker draws its definition (`drafted`)."""
    return engine.submit(DesignVM, target=Draft(plan.id, plan.name), by=by, params=DraftParams(plan=plan))


def drafted(operation: Operation) -> str:
    """The definition that a worker has drawn. Raises what stood against it, Timeout."""
    return str(_found(operation, operation.target_name))


def cloud_init_reports(user_data: str | None, network_config: str | None) -> dict[str, cloudinit.Report]:
    """What cloud-init's own schema says of each that is there."""
    reports = {}
    if user_data is not None:
        reports["user_data"] = cloudinit.check_user_data(user_data)
    if network_config is not None:
        reports["network_config"] = cloudinit.check_network_config(network_config)
    return reports


def check_cloud_init(asked: CloudInitIn | None, *, where: str = "/cloud_init") -> None:
    """Raises BadInput with a line for each thing that cloud-init would not understand."""
    if asked is None:
        return
    reports = cloud_init_reports(asked.user_data, asked.network_config)
    errors = [
        {
            "pointer": f"{where}/{name}",
            "detail": " ".join(
                filter(None, (f"line {one.line}:" if one.line else "", one.path and f"{one.path}:", one.detail))
            ),
        }
        for name, report in reports.items()
        for one in report.errors
    ]
    if errors:
        raise BadInput(f"{errors[0]['pointer'][1:].replace('/', '.')}: {errors[0]['detail']}", errors=errors)


PATCHABLE = ("title", "description", "tags", "project", "owner", "protected")


def vm_update(*, vm: VM, by: Actor, changes: Mapping[str, Any], if_version: int | None = None) -> VM:
    """Change what is ours to say of a guest (title, description, tags, project, owner, protected); `autostart` is an action.

    Raises:
        Stale: `if_version` is not the present one. BadInput: a tag that is none. WrongState: it is in the bin.
    """
    policy.require(by, "vm.edit", vm)
    if vm.binned_at is not None:
        raise WrongState(f"{vm.name} is in the bin: restore it first.", state=vm.state)
    values = {key: value for key, value in changes.items() if key in PATCHABLE}
    if "tags" in values:
        values["tags"] = check_tags(values["tags"])
    changed = {key: value for key, value in values.items() if getattr(vm, key) != value}
    with transaction.atomic():
        row = VM.objects.filter(PRESENT, pk=vm.pk)
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
        if changed.keys() & KEPT:
            describe(vm, by=by)
    return vm


def vm_get(vm_id: uuid.UUID, *, by: Actor) -> VM:
    """One guest that the caller may see, with host and hypervisor, in the bin or not. Raises Missing."""
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
    return str(read_now(ReadDefinition, vm, by))


def vm_screenshot(*, vm: VM, by: Actor) -> bytes:
    """The guest's screen as PNG, taken by a worker now. Blocks up to 25 s. Raises as `vm_definition`, and WrongState."""
    return bytes(read_now(TakeScreenshot, vm, by))


def read_now(cls: type[ReadGuest], vm: VM, by: Actor) -> Any:
    """What a worker reads of a guest now. Blocks up to 25 s, so never within a transaction."""
    with with_alternatives(vm, by=by):
        operation = engine.submit(cls, target=GuestReading.of(vm), by=by)
    return reading_of(vm, operation)


def reading_of(vm: VM, operation: Operation) -> Any:
    """What a reading found. Blocks up to 25 s. Raises Timeout, and what the reading ended with."""
    return found_by_reading(operation, vm.hypervisor.host.name)


def found_by_reading(operation: Operation, who: str) -> Any:
    """What a look at `who` found. Blocks up to 25 s. Raises Timeout, and what it ended with."""
    return _found(engine.wait_ended(operation, timeout_seconds=READING_WAIT_SECONDS), who)


def _found(operation: Operation, who: str) -> Any:
    """What a reading has read. Raises what stood in its way, Timeout."""
    if not operation.ended:
        with contextlib.suppress(NotCancellable):
            engine.cancel(operation, by=SYSTEM)
        raise Timeout(f"{who} did not answer in time.")
    if operation.error:
        raise Recorded(operation.error)
    found = recall(reading_key(operation.pk))
    if found is None:
        raise Timeout("What was read is no longer kept. Ask again.")
    return found


def _count(number: int) -> str:
    return "1 guest" if number == 1 else f"{number:,} guests"
