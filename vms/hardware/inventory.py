"""Facts in: the only writer of `VMHardware`. Who began to look later has the last word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from core.errors import Missing
from vms.hardware.values import digest_of, options_json, to_json
from vms.inventory import CLOCK_SLACK, announce
from vms.models import VM, VMHardware

if TYPE_CHECKING:
    import datetime as dt
    from typing import Any

    from drivers.types import GuestHardware, HardwareOptions


def hardware_observe(
    vm: VM, found: GuestHardware, options: HardwareOptions, *, seen_at: dt.datetime, told_bytes: int | None = None
) -> VMHardware:
    """Write down what was read of a guest's hardware, unless something newer is known; the row as it now is.

    A first look is no news; what differs from the last one is an event.

    Args:
        vm: Whose.
        found: What was read.
        options: What its hypervisor takes.
        seen_at: A time before the reading began.
        told_bytes: How much memory it was just told to have.

    Raises:
        Missing: The guest is gone.
    """
    with transaction.atomic():
        row = VM.objects.select_for_update().filter(pk=vm.pk, gone_at=None).first()
        if row is None:
            raise Missing("This guest is gone from its hypervisor.")
        old = VMHardware.objects.filter(vm=row).first()
        if old is not None and seen_at < old.read_at <= timezone.now() + CLOCK_SLACK:
            return old
        if told_bytes is None and found.defined is not None and found.live is not None:
            # Seen for the first time in this run: it was started with what it has.
            same_run = old is not None and old.live is not None and old.started_at == row.started_at
            told_bytes = old.told_bytes if old is not None and same_run else found.defined.memory.memory_bytes
        of_this_run = row.started_at is not None and row.started_at <= seen_at + CLOCK_SLACK
        values: dict[str, Any] = {
            "defined": to_json(found.defined),
            "live": to_json(found.live),
            "options": options_json(options),
            "digest": digest_of(found),
            "told_bytes": told_bytes,
            "started_at": row.started_at if of_this_run else None,
        }
        changed = old is not None and (old.defined, old.live) != (values["defined"], values["live"])
        fresh, _made = VMHardware.objects.update_or_create(vm=row, defaults={**values, "read_at": seen_at})
        if changed:
            VM.objects.filter(pk=row.pk).update(version=F("version") + 1, updated_at=timezone.now())
            row.refresh_from_db(fields=["version"])
            announce([(row, "vm.changed", {"version": row.version, "changed": {"hardware": values["digest"][:32]}})])
    return fresh
