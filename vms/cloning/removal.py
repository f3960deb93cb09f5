"""Deleting a template with the volumes of all its versions. Not while anything stands on one, or is being made on one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from images.copies import remove
from operations.actions import Action, NoParams, Params, action
from operations.choices import OPEN
from operations.models import Operation
from storage.models import StoragePool
from storage.reach import check_usable, pool_of
from storage.uses import Use, refuse
from storage.volume_actions import look_afresh
from vms.cloning.inventory import template_removed
from vms.cloning.making import KIND as MAKING
from vms.cloning.models import Template, TemplateVolume
from vms.cloning.uses import standing_on
from vms.creation.layout import MAKING as CREATING

if TYPE_CHECKING:
    import uuid

    from operations.actions import Context

DELETING: Final = "deleting"
"""The step that is recorded before the first volume is deleted: from then on there is no way back."""


@action
class DeleteTemplate(Action[Template, Params]):
    """Delete it with its disks, for good."""

    kind = "template.delete"
    title = "Delete template"
    verb = "template.manage"
    params = NoParams
    timeout_seconds = 900.0

    def load(self, target_id: uuid.UUID) -> Template:
        """One that is gone is what was wished: a worker may have died after that."""
        return Template.objects.filter(pk=target_id).first() or Template(pk=target_id, name="")

    def check(self, target: Template, params: Params, *, idle: bool) -> None:
        """Who stands on it, as far as is known now; every pool of it can be reached."""
        del params, idle
        refuse_used(target)
        for pool in _pools(target):
            check_usable(pool)

    def run(self, ctx: Context, target: Template, params: Params) -> dict[str, Any] | None:
        """Nothing new is made of it from here on; look afresh; its volumes, the newest version's first; itself."""
        del params
        if not Template.objects.filter(pk=target.pk).update(closing=True):
            ctx.log("It is gone.")
            return None
        pools = _pools(target)
        for pool in pools:
            check_usable(pool)
            with ctx.session(pool.hypervisor.endpoint()) as session:
                look_afresh(ctx, session, pool)
        refuse_used(target)
        ctx.checkpoint(DELETING)
        gone = []
        for disk in _disks(target):
            # Where its pool is gone there is nothing left to be deleted by its name.
            if disk.pool_id is not None and disk.pool_id in {pool.pk for pool in pools}:
                self._delete(ctx, disk)
                gone.append({"pool": disk.pool_name, "name": disk.volume})
        template_removed(target)
        return {"volumes": gone}

    def undo(self, ctx: Context, target: Template, params: Params) -> None:
        """Guests can be made of it again, if nothing of it was deleted."""
        del params
        if ctx.done(DELETING):
            ctx.log("Part of it is deleted: delete it again. No guests are made of it any more.")
        else:
            Template.objects.filter(pk=target.pk).update(closing=False)

    @staticmethod
    def _delete(ctx: Context, disk: TemplateVolume) -> None:
        assert disk.pool_id is not None  # noqa: S101 - its caller looks
        pool = pool_of(disk.pool_id)
        with ctx.session(pool.hypervisor.endpoint()) as session:
            remove(ctx, session, pool, disk.volume)
        ctx.log(f"Deleted {disk.volume} in {disk.pool_name}.")


def refuse_used(template: Template) -> None:
    """Raises InUse naming what would break, and what is being made of it just now."""
    uses = [use for use, _number in standing_on(template)]
    making = Operation.objects.filter(kind=CREATING, state__in=OPEN, params__plan__template=str(template.pk))
    uses += [Use(type="operation", id=str(one.pk), name=one.target_name, how="being made") for one in making]
    versions = Operation.objects.filter(kind=MAKING, state__in=OPEN, params__template=str(template.pk))
    uses += [Use(type="operation", id=str(one.pk), name=one.target_name, how="a new version") for one in versions]
    refuse(template.name, uses, then="Delete what stands on it first, or give that disks of its own.")


def _disks(template: Template) -> list[TemplateVolume]:
    """The newest version's first: it may stand on an older one's."""
    rows = TemplateVolume.objects.filter(version__template=template.pk)
    return list(rows.select_related("version").order_by("-version__number", "-position"))


def _pools(template: Template) -> list[StoragePool]:
    """Those that are there, with hypervisor and host."""
    rows = StoragePool.objects.select_related("hypervisor__host").filter(
        pk__in=TemplateVolume.objects.filter(version__template=template.pk).values("pool"), gone_at=None
    )
    return list(rows)
