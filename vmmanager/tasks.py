"""Periodic tasks over several rooms."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from accounts import retention as accounts_retention
from core.threads import database_released
from events import retention
from images import inventory as images_inventory
from live import tickets
from metrics import store
from operations import retention as operations_retention
from transfers import retention as transfers_retention
from vms import services as vms_services
from vms.schedules import runs


@shared_task(name="vmmanager.trim")
def trim() -> None:
    """Remove what is older than it is kept, in small batches."""
    now = timezone.now()
    with database_released():
        store.trim(now)
        tickets.trim(now)
        accounts_retention.trim(now)
        retention.trim(now)
        operations_retention.trim(now)
        transfers_retention.trim(now)
        images_inventory.images_lost(now)


@shared_task(name="vmmanager.empty_bin")
def empty_bin() -> None:
    """Ask for the end of guests whose time in the bin is up."""
    with database_released():
        vms_services.empty_bin(timezone.now())


@shared_task(name="vmmanager.snapshot_schedules")
def snapshot_schedules() -> None:
    """Begin the turns that are due, and end those that are over."""
    with database_released():
        runs.tick(timezone.now())
