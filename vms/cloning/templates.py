"""What callers may ask of templates: permission, validation, submit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from django.db import transaction

from accounts import audit, policy
from core.errors import BadInput, Stale, VmmError
from core.ids import uuid7
from drivers.types import Feature
from hosts.wishes import answered
from operations import engine
from storage.reach import check_usable
from storage.services import pool_find
from storage.uses import InUse
from vms.choices import Kind
from vms.cloning.inventory import check_name, template_changed
from vms.cloning.making import MakeTemplate, MakeTemplateParams, PlannedTemplateDisk
from vms.cloning.models import Template, TemplateVersion, TemplateVolume
from vms.cloning.parameters import check_declared
from vms.cloning.removal import DeleteTemplate, refuse_used
from vms.cloning.sources import disks_of
from vms.creation.plan import PlannedFile
from vms.services import vm_get

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from accounts.actor import Actor
    from operations.models import Operation
    from storage.models import StoragePool
    from vms.cloning.parameters import Parameter
    from vms.cloning.sources import SourceDisk
    from vms.models import VM

NAME_MAX: Final = 100
CHANGEABLE: Final = ("name", "description", "project", "current")


def template_make(
    *,
    vm: uuid.UUID,
    by: Actor,
    name: str = "",
    template: Template | None = None,
    mode: Literal["convert", "copy"] = "copy",
    pool: str | None = None,
    description: str = "",
    project: str | None = None,
    notes: str = "",
    cloud_init: bool | None = None,
    user_data: str = "",
    parameters: Sequence[Parameter] = (),
    on_conflict: Literal["wait", "fail"] = "wait",
) -> Operation:
    """Queue the making of a template, or of another version of `template`, of a guest. `result.template` is its id.

    Raises:
        PermissionRefused, Missing, WrongState, Unsupported, Unreachable: Of the guest. NotCopyable, BadInput, AlreadyExists (the name),
        InUse (a disk is a template's).
    """
    source = vm_get(vm, by=by)
    policy.require(by, MakeTemplate.verb, source)
    if mode == "convert":
        policy.require(by, "vm.delete", source)
        if pool is not None:
            raise _bad(
                "pool", "a guest that is converted keeps its disks where they are; leave it out, or take mode: copy"
            )
    check_declared(parameters, user_data)
    if template is None:
        name = _name(name)
        check_name(name)
    elif template.closing:
        raise InUse(f"{template.name} is being deleted.")
    template_id = uuid7() if template is None else template.pk
    MakeTemplate().check(
        source, MakeTemplateParams(template=template_id, version=template_id, name="", mode=mode), idle=False
    )
    version_id = uuid7()
    params = MakeTemplateParams(
        template=template_id,
        version=version_id,
        name=name if template is None else template.name,
        mode=mode,
        disks=_disks(source, version_id, mode, _pool(source, pool, by)),
        description=description,
        project=source.project if project is None else project,
        owner=by.user.get_username() if by.user is not None else "",
        notes=notes,
        cloud_init=_has_seed(source) or bool(user_data) if cloud_init is None else cloud_init,
        user_data=user_data,
        parameters=[one.model_dump(mode="json", exclude_none=True) for one in parameters],
    )
    return engine.submit(MakeTemplate, target=source, by=by, params=params, on_conflict=on_conflict)


def _pool(vm: VM, text: str | None, by: Actor) -> StoragePool | None:
    if text is None:
        return None
    pool = pool_find(text, by=by, host=str(vm.hypervisor.host_id))
    check_usable(pool)
    return pool


def _has_seed(vm: VM) -> bool:
    return any(disk.how == "seed" for disk in disks_of(vm))


def _disks(vm: VM, version_id: uuid.UUID, mode: str, pool: StoragePool | None) -> list[PlannedTemplateDisk]:
    own = [disk for disk in disks_of(vm) if disk.how == "own"]
    if not own:
        raise _bad("vm", f"{vm.name} has no disk of its own that guests could be made of")
    planned = [_disk(number, disk, version_id, mode, pool) for number, disk in enumerate(own)]
    if mode == "convert":
        taken = TemplateVolume.objects.filter(
            pool__in={disk.file.pool_id for disk in planned}, volume__in={disk.file.volume for disk in planned}
        )
        if taken.exists():
            raise InUse(f"A disk of {vm.name} is a template's already.")
    return planned


def _disk(
    number: int, disk: SourceDisk, version_id: uuid.UUID, mode: str, pool: StoragePool | None
) -> PlannedTemplateDisk:
    volume = disk.volume
    assert volume is not None  # noqa: S101 - `disks_of` says so of a guest's own
    check_usable(volume.pool)
    source = PlannedFile(pool=volume.pool.name, pool_id=volume.pool_id, volume=volume.name)
    form, file = "raw" if volume.format in ("", "iso") else volume.format, source
    if mode == "copy":
        place = pool or volume.pool
        form = form if form in place.formats else next(iter(place.formats), "raw")
        ending = {"raw": "img"}.get(form, form)
        words = f"-{number + 1}" if number else ""
        name = f"vmm-template-{version_id.hex[-12:]}{words}.{ending}"
        file = PlannedFile(pool=place.name, pool_id=place.pk, volume=name)
    return PlannedTemplateDisk(
        target=disk.target,
        bus=disk.bus,
        path=disk.path,
        source=source,
        file=file,
        format=form,
        size_bytes=volume.capacity_bytes,
    )


def template_update(
    *, template: Template, by: Actor, changes: Mapping[str, Any], if_version: int | None = None
) -> None:
    """Change what people say of it, or which version is meant. Raises Stale, BadInput, AlreadyExists."""
    policy.require(by, "template.manage", template)
    values = {key: value for key, value in changes.items() if key in CHANGEABLE}
    if "name" in values:
        values["name"] = _name(values["name"])
        check_name(values["name"], but=template.pk)
    if "current" in values and not any(one.number == values["current"] for one in template.versions.all()):
        raise _bad("current", "it has no such version")
    with transaction.atomic():
        rows = Template.objects.filter(pk=template.pk)
        if if_version is not None:
            rows = rows.filter(version=if_version)
        if not rows.select_for_update().exists():
            raise Stale(f"{template.name} changed since you read it. Read it again and repeat your change.")
        template_changed(template, actor=by.name, **values)
        audit.record(by, "template_changed", object=template.ref, object_name=template.name, changed=sorted(values))


def template_delete(*, template: Template, by: Actor, on_conflict: Literal["wait", "fail"] = "wait") -> Operation:
    """Queue its deletion with all its disks. Raises InUse naming what would break."""
    return engine.submit(DeleteTemplate, target=template, by=by, on_conflict=on_conflict)


def template_may_be_deleted(template: Template, *, by: Actor) -> dict[str, Any]:
    """`{"allowed": false, "reason": "…"}`, for the button."""
    try:
        policy.require(by, "template.manage", template)
        refuse_used(template)
    except VmmError as error:
        return {"allowed": False, "reason": error.detail, "code": error.code}
    return {"allowed": True, "reason": ""}


def template_offer(vm: VM, *, by: Actor) -> dict[str, Any]:
    """For a guest's menu: whether it is offered at all (`may_template`), and why not just now (`template_why`). No query."""
    pools = vm.hypervisor.support(Feature.STORAGE_POOLS)[0] and vm.hypervisor.support(Feature.CREATE)[0]
    if not pools or vm.kind != Kind.MACHINE or not policy.may(by, MakeTemplate.verb, vm):
        return {"may_template": False}
    nothing = MakeTemplateParams(template=vm.pk, version=vm.pk, name="")
    return {"may_template": True, "template_why": answered(lambda: MakeTemplate().check(vm, nothing, idle=True))}


def definition_of(version: TemplateVersion) -> str:
    """Of the guest that it was; one query."""
    return TemplateVersion.objects.values_list("definition", flat=True).get(pk=version.pk)


def _name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > NAME_MAX or not name.isprintable() or "/" in name or "@" in name:
        raise _bad("name", f"1 to {NAME_MAX} printable characters, no slash and no @")
    return name


def _bad(name: str, detail: str) -> BadInput:
    return BadInput(f"{name}: {detail}.", errors=[{"pointer": f"/{name}", "detail": detail}])
