"""Who stands on a template: what would break if it went, and which guests were made from it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from storage.models import Volume
from storage.uses import Use, is_in, key, uses_of
from vms.cloning.models import TemplateGuest, TemplateVolume

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from django.db.models import Q

    from storage.models import StoragePool
    from vms.cloning.models import Template

DEPTH_MAX: Final = 8
"""How many overlays on overlays are followed."""


class TemplateVolumes:
    """Volumes that are disks of templates: nobody else writes or deletes them."""

    def uses(self, volumes: Sequence[Volume]) -> Iterable[tuple[uuid.UUID, Use]]:
        """By pool and name."""
        places = {(volume.pool_id, volume.name): volume.pk for volume in volumes}
        rows = TemplateVolume.objects.filter(
            pool__in={pool for pool, _ in places}, volume__in={name for _, name in places}
        )
        for pool, name, template, title, number in rows.values_list(
            "pool", "volume", "version__template", "version__template__name", "version__number"
        ):
            pk = places.get((pool, name))
            if pk is not None:
                yield pk, Use(type="template", id=str(template), name=title, how=f"version {number}")

    def used(self) -> Q:
        """Some template's disk."""
        rows = TemplateVolume.objects.exclude(pool=None)
        return is_in(("pool", "name"), rows.values_list(key("pool", "volume")))

    def running_in(self, pool: StoragePool) -> Iterable[Use]:
        """Templates do not run."""
        del pool
        return ()


def volumes_of(template: Template) -> dict[uuid.UUID, int]:
    """Rows of volumes that are its disks and were seen → the version's number. Two queries."""
    disks = {
        (pool, name): number
        for pool, name, number in TemplateVolume.objects.filter(version__template=template.pk).values_list(
            "pool", "volume", "version__number"
        )
    }
    rows = Volume.objects.filter(pool__in={pool for pool, _ in disks}, name__in={name for _, name in disks})
    found = {pk: disks.get((pool, name)) for pk, pool, name in rows.values_list("pk", "pool", "name")}
    return {pk: number for pk, number in found.items() if number is not None}


def standing_on(template: Template) -> list[tuple[Use, int]]:
    """All that breaks without it, with the version that it stands on: overlays of its disks, what uses those, and so on upwards.

    A few queries for each storey. What is part of the template itself is none of it.
    """
    own = volumes_of(template)
    level, known = dict(own), set(own)
    found: dict[tuple[str, str], tuple[Use, int]] = {}
    for _ in range(DEPTH_MAX):
        rows = list(Volume.objects.select_related("pool").filter(pk__in=level))
        above: dict[uuid.UUID, int] = {}
        for pk, uses in uses_of(rows).items():
            for use in uses:
                if use.type == "template" and use.id == str(template.pk):
                    continue
                if use.type == "volume":
                    overlay = uuid.UUID(use.id)
                    if overlay in known:
                        continue
                    known.add(overlay)
                    above[overlay] = level[pk]
                found.setdefault((use.type, use.id), (use, level[pk]))
        if not above:
            break
        level = above
    return list(found.values())


def uses_json(template: Template) -> list[dict[str, Any]]:
    """`GET /templates/{id}/uses`: what breaks first, then guests that were made from it and stand on nothing of it."""
    items = [
        {
            "type": use.type,
            "id": use.id,
            "name": use.name,
            "how": use.how,
            "running": use.running,
            "version": number,
            "breaks": True,
        }
        for use, number in standing_on(template)
    ]
    there = {item["id"] for item in items}
    made = TemplateGuest.objects.filter(version__template=template.pk, vm__gone_at=None).select_related("vm", "version")
    items += [
        {
            "type": "vm",
            "id": str(row.vm_id),
            "name": row.vm.name,
            "how": "",
            "running": False,
            "version": row.version.number,
            "breaks": False,
        }
        for row in made.order_by("vm__name", "pk")
        if str(row.vm_id) not in there
    ]
    return items
