"""The bin: guests that were deleted and can be had back for a while. The row says which they are; what is done there is `actions`.

A guest in the bin is off, keeps its definition on its hypervisor (where that can rename, under `bin_name`, so that its own name is
free), does not start with its host, and is on no list but the bin's. Somebody who starts it there takes it out (`vms.inventory`).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from core.rest import moment
from drivers.errors import WrongState
from events import log as event_log
from hosts.choices import LinkState
from operations.choices import OPEN
from operations.models import Operation
from vms.choices import AWAKE
from vms.deletion.facts import OUT_OF_BIN
from vms.models import VM

if TYPE_CHECKING:
    import uuid

NAME_BYTES: Final = 200
"""What a name may have anywhere: libvirt keeps files named after it (`drivers.libvirtd.session_definition`)."""
TRY_AGAIN: Final = dt.timedelta(hours=1)
AT_ONCE: Final = 100


def bin_hours() -> float:
    """How long the bin keeps; 0: there is none."""
    return float(settings.ENV.bin_hours)


def name_in_bin(vm: VM) -> str:
    """`<name>.bin-<short id>`, the name cut where both would be too long."""
    mark = f".bin-{vm.pk.hex[-8:]}"
    return vm.name.encode()[: NAME_BYTES - len(mark)].decode(errors="ignore") + mark


def intend(vm: VM, *, name: str, autostart: bool) -> None:
    """Write down what is to be made undone later, before anything is changed: from then on `name` is not shown for its own."""
    vm.bin_name, vm.bin_autostart = name, autostart
    VM.objects.filter(pk=vm.pk).update(bin_name=name, bin_autostart=autostart)


def put_in(vm: VM, *, storage: str, operation_id: uuid.UUID) -> VM:
    """It is in the bin from now on. Raises WrongState when somebody started it meanwhile."""
    now = timezone.now()
    with transaction.atomic():
        row = VM.objects.select_for_update().get(pk=vm.pk)
        if row.state in AWAKE:
            raise WrongState(f"{row.name} was started by somebody else meanwhile: it stays.", state=row.state)
        values = {
            "binned_at": now,
            "binned_by": _requester(operation_id),
            "bin_until": now + dt.timedelta(hours=bin_hours()),
            "bin_storage": storage,
        }
        _write(row, values, operation_id)
    return row


def take_out(vm: VM, *, operation_id: uuid.UUID) -> None:
    """It is a guest like others again. Nothing happens to one that came out by itself."""
    with transaction.atomic():
        row = VM.objects.select_for_update().get(pk=vm.pk)
        if row.binned_at is not None:
            _write(row, dict(OUT_OF_BIN), operation_id)
        elif row.bin_name or row.bin_autostart:
            VM.objects.filter(pk=row.pk).update(**OUT_OF_BIN)


def due(now: dt.datetime) -> list[VM]:
    """Guests whose time is up and whose hypervisor is in reach, the oldest first; those that could not go lately are left alone."""
    rows = VM.objects.select_related("hypervisor__host").filter(
        gone_at=None, binned_at__isnull=False, bin_until__lte=now, hypervisor__state=LinkState.ONLINE
    )
    tried = Operation.objects.filter(kind="vm.purge", created_at__gte=now - TRY_AGAIN).values_list("target", flat=True)
    late = set(tried)
    return [vm for vm in rows.order_by("bin_until")[: AT_ONCE + len(late)] if vm.ref not in late][:AT_ONCE]


def left_behind(now: dt.datetime) -> list[VM]:
    """Guests that did not get into the bin, and whose host was gone when that was to be undone; as `due`."""
    rows = VM.objects.select_related("hypervisor__host").filter(
        Q(bin_autostart=True) | ~Q(bin_name=""),
        gone_at=None,
        binned_at=None,
        hypervisor__state=LinkState.ONLINE,
    )
    at_work = Q(state__in=OPEN) | Q(kind="vm.restore", created_at__gte=now - TRY_AGAIN)
    busy = set(Operation.objects.filter(at_work, target__startswith="vm/").values_list("target", flat=True))
    return [vm for vm in rows.order_by("pk")[: AT_ONCE + len(busy)] if vm.ref not in busy][:AT_ONCE]


def _requester(operation_id: uuid.UUID) -> str:
    return Operation.objects.values_list("requested_by", flat=True).get(pk=operation_id)


def _write(row: VM, values: dict[str, Any], operation_id: uuid.UUID) -> None:
    row.version += 1
    VM.objects.filter(pk=row.pk).update(version=row.version, updated_at=timezone.now(), **values)
    for name, value in values.items():
        setattr(row, name, value)
    event_log.append(
        [
            event_log.NewEvent(
                type="vm.changed",
                object=row.ref,
                object_name=row.name,
                actor=_requester(operation_id),
                operation=operation_id,
                data={
                    "version": row.version,
                    "changed": {"binned_at": moment(row.binned_at), "bin_until": moment(row.bin_until)},
                },
            )
        ]
    )
