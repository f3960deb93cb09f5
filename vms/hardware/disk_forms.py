"""The dialogs of disks and drives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.utils.translation import gettext as _

from accounts.policy import may, visible
from core.errors import Missing
from core.units import format_bytes
from drivers.types import DiskHardware
from images.choices import ImageState
from images.models import Image
from storage.models import StoragePool, Volume
from vms.deletion.leftovers import fates
from vms.hardware.desk import CHOICES_MAX, GIB, Field, choice
from vms.hardware.shown import volumes_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from vms.hardware.desk import Desk, Form


def _pools(desk: Desk) -> list[tuple[str, str]]:
    rows = visible(desk.by, StoragePool.objects.filter(host=desk.vm.hypervisor.host_id, gone_at=None)).order_by("name")
    return [
        (
            one.name,
            f"{one.name} ({_('%(size)s free') % {'size': format_bytes(one.available_bytes)}})"
            if one.available_bytes
            else one.name,
        )
        for one in rows[:CHOICES_MAX]
        if one.running
    ]


def _volumes(desk: Desk) -> list[tuple[str, str]]:
    rows = Volume.objects.filter(pool__host=desk.vm.hypervisor.host_id, pool__gone_at=None).select_related("pool")
    found = visible(desk.by, rows).order_by("pool__name", "name")[:CHOICES_MAX]
    return [(str(one.pk), f"{one.pool.name}/{one.name}") for one in found if one.pool.running]


def _images(desk: Desk) -> list[tuple[str, str]]:
    rows = visible(desk.by, Image.objects.filter(state=ImageState.READY)).order_by("kind", "name")
    return [(str(one.pk), one.title or one.name) for one in rows[:CHOICES_MAX]]


def _disk_attach(desk: Desk) -> Form:
    options = desk.options
    volumes, images = _volumes(desk), _images(desk)
    kinds = [("new", _("New volume")), *([("volume", _("Existing volume"))] if volumes else [])]
    kinds += [
        *([("image", _("Image"))] if images else []),
        *([("drive", _("Empty CD drive"))] if options.cdrom_buses else []),
    ]
    return desk.form(
        title=_("Add disk"),
        action=_("Add disk"),
        method="POST",
        path=f"{desk.path}/disks",
        late=desk.late("disk.attach"),
        fields=[
            Field(name="kind", label=_("Made of"), kind="radio", value="new", options=kinds),
            Field(name="size_bytes", label=_("Size in GiB"), kind="gib", value=20 * GIB, when="new", keep=True),
            Field(name="volume", label=_("Volume"), kind="select", options=volumes, when="volume", keep=True),
            Field(name="image", label=_("Image"), kind="select", options=images, when="image", keep=True),
            Field(
                name="pool",
                label=_("Storage pool"),
                kind="select",
                options=[("", _("the one with most room")), *_pools(desk)],
                when="new image",
            ),
            Field(
                name="format",
                label=_("Format"),
                kind="select",
                options=[("", _("the pool's best")), ("qcow2", "qcow2"), ("raw", "raw")],
                when="new",
                more=True,
            ),
            Field(
                name="clone",
                label=_("Of the image"),
                kind="select",
                options=[("linked", _("an overlay")), ("full", _("a copy of its own"))],
                value="linked",
                when="image",
                more=True,
            ),
            Field(
                name="bus",
                label=_("Bus"),
                kind="select",
                options=choice(options.disk_buses, "", _("the hypervisor's best")),
                when="new volume image",
                more=True,
            ),
            Field(
                name="cache",
                label=_("Cache"),
                kind="select",
                options=choice(options.disk_caches, "", _("the hypervisor's choice")),
                when="new volume image",
                more=True,
            ),
            Field(name="serial", label=_("Serial number"), when="new volume image", more=True),
            Field(
                name="shareable",
                label=_("Others may write to it at the same time"),
                kind="check",
                value=False,
                hint=_("Only for file systems that are made for that: any other is destroyed."),
                when="volume",
                more=True,
            ),
        ],
    )


def _disk(desk: Desk) -> DiskHardware:
    found = desk.device
    if not isinstance(found, DiskHardware):
        raise Missing(_("The guest does not have this device any more."))
    return found


def _disk_update(desk: Desk) -> Form:
    disk = _disk(desk)
    later, held = desk.late(""), desk.late("disk.limits")
    buses = desk.options.cdrom_buses if disk.device == "cdrom" else desk.options.disk_buses
    form = desk.form(
        title=_("Change %(name)s") % {"name": disk.target},
        action=_("Save"),
        method="PATCH",
        path=f"{desk.path}/disks/{disk.target}",
        fields=[
            Field(
                name="bus", label=_("Bus"), kind="select", value=disk.bus, options=choice(buses, disk.bus), late=later
            ),
            Field(
                name="cache",
                label=_("Cache"),
                kind="select",
                value=disk.cache,
                options=choice(desk.options.disk_caches, disk.cache, _("the hypervisor's choice")),
                late=later,
            ),
        ],
    )
    if disk.device != "disk":
        return form
    form.fields += [
        Field(name="readonly", label=_("Read-only"), kind="check", value=disk.readonly, late=later),
        Field(
            name="discard",
            label=_("Discard"),
            kind="select",
            value=disk.discard,
            options=[("", _("the hypervisor's choice")), ("unmap", _("gives room back")), ("ignore", _("ignored"))],
            late=later,
            more=True,
        ),
        Field(
            name="io",
            label=_("I/O"),
            kind="select",
            value=disk.io,
            options=choice(("native", "threads", "io_uring"), "", _("the hypervisor's choice")),
            late=later,
            more=True,
        ),
        Field(name="serial", label=_("Serial number"), value=disk.serial, late=later, more=True),
    ]
    for name, label in (
        ("total_bytes_per_second", _("At most, MiB/s in all")),
        ("read_bytes_per_second", _("At most, MiB/s read")),
        ("write_bytes_per_second", _("At most, MiB/s written")),
        ("total_requests_per_second", _("At most, requests/s in all")),
        ("read_requests_per_second", _("At most, reads/s")),
        ("write_requests_per_second", _("At most, writes/s")),
    ):
        kind = "mib" if "bytes" in name else "number"
        value = getattr(disk.limits, name)
        form.fields.append(Field(name=f"limits.{name}", label=label, kind=kind, value=value, late=held, more=True))
    return form


def _medium(desk: Desk) -> Form:
    disk = _disk(desk)
    volumes, images = _volumes(desk), _images(desk)
    media = [one for one in volumes if one[1].lower().endswith(".iso")]
    kinds = [("none", _("Empty"))]
    kinds += [*([("volume", _("Volume"))] if media else []), *([("image", _("Image"))] if images else [])]
    return desk.form(
        title=_("Medium in %(name)s") % {"name": disk.target},
        action=_("Save"),
        method="PATCH",
        path=f"{desk.path}/disks/{disk.target}",
        root="medium",
        late=desk.late("disk.media"),
        text=_("Now in it: %(medium)s") % {"medium": disk.path.rpartition("/")[2] or _("nothing")},
        fields=[
            Field(name="kind", label=_("Put in"), kind="radio", value=kinds[-1][0], options=kinds),
            Field(name="volume", label=_("Volume"), kind="select", options=media, when="volume", keep=True),
            Field(name="image", label=_("Image"), kind="select", options=images, when="image", keep=True),
        ],
    )


def _disk_resize(desk: Desk) -> Form:
    disk = _disk(desk)
    volume = volumes_at(desk.vm, [disk.path]).get(disk.path)
    has = volume.capacity_bytes if volume else 0
    text = _("It has %(size)s now. It is never made smaller; the file system in it is the guest's own to grow.")
    form = desk.form(
        title=_("Make %(name)s larger") % {"name": disk.target},
        action=_("Make larger"),
        method="POST",
        path=f"{desk.path}/disks/{disk.target}/resize",
        text=text % {"size": format_bytes(has)},
        fields=[Field(name="size_bytes", label=_("Size in GiB"), kind="gib", value=max(has * 2, GIB), keep=True)],
    )
    why = desk.late("disk.resize")
    if why:
        form.text = f"{form.text} {why}"
    return form


def _disk_detach(desk: Desk) -> Form:
    disk = _disk(desk)
    fate = next((one for one in fates(desk.vm) if one.disk.target == disk.target), None)
    kept = fate.kept if fate else _("It has no volume of its own.")
    deletable = fate is not None and not kept and not fate.stands_on and may(desk.by, "volume.manage")
    volume = fate.volume if fate else None
    form = desk.form(
        title=_("Remove %(name)s?") % {"name": disk.target},
        action=_("Remove disk"),
        method="DELETE",
        path=f"{desk.path}/disks/{disk.target}",
        text=_("The guest loses it; what is on it stays in its volume.")
        if disk.path
        else _("The guest loses the drive."),
        late=desk.late("disk.detach"),
        danger=True,
    )
    if deletable and volume is not None:
        form.typed = volume.name
        form.fields.append(
            Field(
                name="storage",
                label=_("Delete the volume %(name)s too, with all that is on it") % {"name": volume.name},
                kind="danger",
                value="delete",
                hint=_("It cannot be brought back. While the guest runs with it, it stays."),
            )
        )
    elif disk.path and disk.device == "disk":
        form.text = f"{form.text} {kept}"
    return form


DISK_FORMS: Final[dict[str, Callable[[Desk], Form]]] = {
    "disk-attach": _disk_attach,
    "disk-update": _disk_update,
    "medium": _medium,
    "disk-resize": _disk_resize,
    "disk-detach": _disk_detach,
}
