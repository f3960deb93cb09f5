"""Facts in: the only writer of what a template is. Each change is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models import F, Max
from django.utils import timezone

from drivers.errors import AlreadyExists
from events import log as event_log
from vms.cloning.models import Template, TemplateGuest, TemplateVersion, TemplateVolume

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from vms.models import VM


def version_begun(
    template: dict[str, Any], version: dict[str, Any], volumes: Sequence[dict[str, Any]]
) -> TemplateVersion:
    """Rows of a version that is being made, its template's where that is new; those of an attempt before this one as they are.

    From now on its volumes are in use. Raises AlreadyExists for a name, or a volume, that another template has.
    """
    there = TemplateVersion.objects.select_related("template").filter(pk=version["id"]).first()
    if there is not None:
        return there
    try:
        with transaction.atomic():
            row, _made = Template.objects.get_or_create(id=template["id"], defaults=template)
            last = row.versions.aggregate(last=Max("number"))["last"] or 0
            made = TemplateVersion.objects.create(template=row, number=last + 1, **version)
            TemplateVolume.objects.bulk_create(TemplateVolume(version=made, **one) for one in volumes)
    except IntegrityError:
        check_name(template["name"], but=template["id"])
        raise AlreadyExists("One of its disks belongs to a template already.") from None
    return made


def version_ready(version: TemplateVersion, *, actor: str) -> None:
    """It is whole, and the one that is meant from now on."""
    with transaction.atomic():
        if not TemplateVersion.objects.filter(pk=version.pk, ready=False).update(
            ready=True, version=F("version") + 1, updated_at=timezone.now()
        ):
            return
        new = Template.objects.filter(pk=version.template_id, current=None).exists()
        template = _change(version.template_id, current=version.number)
        _tell(template, "template.added" if new else "template.changed", {"current": version.number}, actor=actor)


def version_undone(version_id: uuid.UUID) -> None:
    """What was begun and never became whole goes; its template too, where it has no other."""
    with transaction.atomic():
        version = TemplateVersion.objects.filter(pk=version_id, ready=False).first()
        if version is not None:
            template = version.template_id
            version.delete()
            Template.objects.filter(pk=template, versions=None).delete()


def template_changed(template: Template, *, actor: str, **values: Any) -> None:
    """Write what people say of it, and tell. Raises AlreadyExists."""
    try:
        with transaction.atomic():
            row = _change(template.pk, **values)
            _tell(row, "template.changed", {"changed": sorted(values)}, actor=actor)
    except IntegrityError:
        check_name(str(values.get("name", "")), but=template.pk)
        raise


def template_removed(template: Template) -> None:
    """It is gone, with all its versions. Twice is no harm."""
    with transaction.atomic():
        if Template.objects.filter(pk=template.pk).delete()[0]:
            _tell(template, "template.removed", {})


def guest_made(vm: VM, version_id: uuid.UUID, *, linked: bool) -> None:
    """Remember that a guest was made from a version that is still there."""
    if TemplateVersion.objects.filter(pk=version_id).exists():
        TemplateGuest.objects.update_or_create(vm=vm, defaults={"version_id": version_id, "linked": linked})


def check_name(name: str, *, but: uuid.UUID | None = None) -> None:
    """Raises AlreadyExists for the name of another template."""
    twin = Template.objects.filter(name__iexact=name).first()
    if twin is not None and twin.pk != but:
        raise AlreadyExists(f"A template called {twin.name} is there already.", id=str(twin.pk))


def _change(pk: uuid.UUID, **values: Any) -> Template:
    Template.objects.filter(pk=pk).update(version=F("version") + 1, updated_at=timezone.now(), **values)
    return Template.objects.get(pk=pk)


def _tell(template: Template, type_: str, data: dict[str, Any], *, actor: str = "") -> None:
    event_log.append(
        [
            event_log.NewEvent(
                type=type_,
                object=template.ref,
                object_name=template.name,
                actor=actor,
                data={"version": template.version, **data},
            )
        ]
    )
