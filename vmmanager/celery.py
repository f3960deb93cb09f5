"""The Celery app: JSON only, one id a message, acknowledged late, threads (libvirt connections do not survive a fork)."""

from __future__ import annotations

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vmmanager.settings")

app = Celery("vmmanager", broker=settings.CELERY_BROKER)
app.conf.update(
    # The in-memory transport polls; its default of one second was measured to delay messages by up to 10 s, 5 ms costs nothing.
    broker_transport_options={"polling_interval": 0.005} if settings.EMBEDDED else {"visibility_timeout": 3600},
    broker_connection_retry_on_startup=True,
    accept_content=["json"],
    task_serializer="json",
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    beat_schedule={
        "reconcile operations": {"task": "operations.reconcile", "schedule": 15.0},
        "empty the bin": {"task": "vmmanager.empty_bin", "schedule": 60.0},
        "take snapshots that are due": {"task": "vmmanager.snapshot_schedules", "schedule": 15.0},
        "trim what is too old": {"task": "vmmanager.trim", "schedule": 300.0},
    },
)
app.autodiscover_tasks(["operations", "vmmanager"])
