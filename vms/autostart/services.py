"""When a host came up: whether its guests are started, which is decided once. And the order itself, as callers change it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.db import transaction

from accounts import policy
from accounts.actor import SYSTEM
from core.errors import BadInput
from hosts.inventory import FRESH_SECONDS
from hosts.models import Host
from operations import bulk, engine
from vms.alternatives import with_alternatives
from vms.autostart.actions import CameUpParams, OrderAutostart, OrderParams, StartInOrder, in_order
from vms.facts import ORDER_MAX, UNORDERED
from vms.services import vm_action

if TYPE_CHECKING:
    import datetime as dt
    import uuid
    from collections.abc import Mapping, Sequence

    from accounts.actor import Actor
    from operations.models import Operation
    from vms.models import VM

log = logging.getLogger(__name__)


def host_came_up(host_id: uuid.UUID, *, now: dt.datetime) -> Operation | None:
    """See to the guests of a host that came up, once; the operation that starts them, or None where there is nothing to start.

    Only `hosts.inventory` says that a machine came up: not our own start, not a daemon's, not a link's. What nobody saw to for half an
    hour, and what comes up in maintenance, is left as it is.
    """
    with transaction.atomic():
        host = Host.objects.select_for_update().filter(pk=host_id, came_up_at__isnull=False).first()
        if host is None or host.came_up_at is None:
            return None
        came_up_at = host.came_up_at
        Host.objects.filter(pk=host.pk).update(came_up_at=None)
        late = (now - came_up_at).total_seconds() > FRESH_SECONDS
        if late or host.maintenance or not in_order(host).exists():
            log.info(
                "a host came up, and nothing is started",
                extra={"host": str(host.pk), "late": late, "maintenance": host.maintenance},
            )
            return None
        return engine.submit(StartInOrder, target=host, by=SYSTEM, params=CameUpParams(came_up_at=came_up_at))


def vm_autostart(*, vm: VM, by: Actor, wanted: Mapping[str, Any]) -> Operation | None:
    """Queue whether a guest starts with its host, and in which place; None where it is so already.

    Args:
        vm: Which.
        by: Who asks.
        wanted: Of `autostart` and the three `autostart_…`, as `PATCH /vms/{id}` takes them; what is left out stays.

    Raises:
        BadInput: A place for what is not to start. PermissionRefused, Unsupported, Unreachable, WrongState.
    """
    place = {name: wanted[name] for name in UNORDERED if name in wanted}
    if wanted.get("autostart") is False:
        if place.get("autostart_order") is not None:
            raise BadInput(
                "autostart_order: it is not to start with its host.",
                errors=[{"pointer": "/autostart_order", "detail": "it is not to start with its host"}],
            )
        return vm_action(vm=vm, name="autostart", by=by, params={"enabled": False}) if vm.starts_with_host else None
    order, delay, wait = (place[name] if name in place else getattr(vm, name) for name in UNORDERED)
    if (order, delay or 0, bool(wait)) != tuple(getattr(vm, name) for name in UNORDERED) and (
        order is not None or vm.autostart_order is not None
    ):
        params = OrderParams(order=order, delay_seconds=delay or 0, wait=bool(wait))
        with with_alternatives(vm, by=by):
            return engine.submit(OrderAutostart, target=vm, by=by, params=params)
    if order is None and place.get("autostart_delay_seconds"):
        raise BadInput(
            "autostart_delay_seconds: goes with autostart_order.",
            errors=[{"pointer": "/autostart_delay_seconds", "detail": "goes with autostart_order"}],
        )
    if wanted.get("autostart") and not vm.starts_with_host:
        return vm_action(vm=vm, name="autostart", by=by, params={"enabled": True})
    return None


def host_order(*, host: Host, vms: Sequence[uuid.UUID], by: Actor) -> Operation:
    """Give the guests of a host that have a place these places: one parent operation, with a child for each that moves.

    Raises:
        PermissionRefused. BadInput: not exactly those that have a place.
    """
    policy.require(by, OrderAutostart.verb, host)
    known = {vm.pk: vm for vm in in_order(host)}
    if sorted(vms) != sorted(known):
        detail = "each guest of the host that has a place, once"
        raise BadInput(f"vms: {detail}.", errors=[{"pointer": "/vms", "detail": detail}])
    step = max(1, min(10, ORDER_MAX // max(1, len(vms))))
    wishes = [
        bulk.Wish(
            target=known[pk],
            params=OrderParams(
                order=min(ORDER_MAX, number * step),
                delay_seconds=known[pk].autostart_delay_seconds,
                wait=known[pk].autostart_wait,
            ),
        )
        for number, pk in enumerate(vms, start=1)
        if known[pk].autostart_order != number * step
    ]
    return bulk.submit_each(OrderAutostart, wishes=wishes, by=by, title=host.name, shown={}, target=host.ref)
