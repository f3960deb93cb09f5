"""Pages of snapshot schedules: what they say, what a form would do, and that they cost the same whatever there is."""

from __future__ import annotations

import datetime as dt
import html
import json
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from tests.factories import VMFactory
from vms.models import SnapshotSchedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from vms.models import VM

pytestmark = pytest.mark.django_db
HOSTILE = "\"><script>alert(1)</script>{{ 7 }}'&"


def schedule(by: User, /, **values: Any) -> SnapshotSchedule:
    whole = {
        "name": "nightly",
        "filter": "" if "vm" in values else "tag:prod",
        "every": "day",
        "at": dt.time(2),
        "time_zone": "Europe/Berlin",
        "keep_last": 3,
        "keep_weekly": 4,
        "owner": by,
        **values,
    }
    row = SnapshotSchedule(**whole)
    row.next_run_at = row.next_after(timezone.now())
    row.save()
    return row


def page(client: Client, path: str, **query: str) -> str:
    answer = client.get(path, query)
    assert answer.status_code == 200, answer.content
    return " ".join(html.unescape(answer.content.decode()).split())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "Daily at 02:00"),
        ({"every": "week", "weekday": "sunday"}, "Sundays at 02:00"),
        ({"every": "month", "day": 31}, "Monthly on day 31 at 02:00"),
        ({"every": "hours", "hours": 6, "at": dt.time(13, 15)}, "Every 6 hours, from 01:15 on"),
        ({"keep_daily": 7}, "the last 3, 7 daily, 4 weekly"),
        ({"memory": False}, "disks only"),
        ({"last_state": "partial", "last_message": "2 done, 1 failed", "last_run_at": timezone.now()}, "2 done, 1 failed"),
        ({"owner": None}, "Daily at 02:00"),
    ],
)  # fmt: skip
def test_a_schedule_is_said_in_words(
    admin: User, client_for: Callable[..., Client], values: dict[str, Any], words: str
) -> None:
    row = schedule(admin, **values)
    for path in ("/snapshot-schedules", f"/snapshot-schedules/{row.pk}"):
        assert words in page(client_for(admin), path)


def test_the_form_says_what_would_happen(admin: User, client_for: Callable[..., Client]) -> None:
    VMFactory(name="web", tags=["prod"], state="running")
    VMFactory(name="db", tags=["prod"])
    spec = {
        "name": "n",
        "filter": "tag:prod",
        "memory": True,
        "when": {"every": "day", "at": "02:00"},
        "keep": {"last": 3},
    }
    browser = client_for(admin)

    def told(**change: Any) -> str:
        return page(browser, "/snapshot-schedules/preview", spec=json.dumps({**spec, **change}))

    text = told()
    assert "1 guest:" in text
    assert "db is off: there is no memory to keep" in text
    assert text.count("02:00") == 5
    assert "no guest" in told(filter="tag:nobody")
    assert "was tag: meant?" in told(filter="tga:prod")
    assert "no time zone" in told(when={"every": "day", "time_zone": "Mars"})
    assert "at least one snapshot is kept" in told(keep={"last": 0})
    assert page(browser, "/snapshot-schedules/preview", spec="{") != text
    assert not SnapshotSchedule.objects.exists()


def test_a_guest_says_which_take_it(admin: User, client_for: Callable[..., Client]) -> None:
    vm: VM = VMFactory(name="web", tags=["prod"])
    schedule(admin)
    schedule(admin, name="only web", vm=vm, keep_weekly=0)
    schedule(admin, name="others", filter="tag:ci")
    schedule(admin, name="mine", filter="owner:me")
    text = page(client_for(admin), f"/vms/{vm.pk}/snapshots/schedules")
    assert [name in text for name in ("nightly", "only web", "others", "mine")] == [True, True, False, False]
    assert f"/snapshot-schedules/new?vm={vm.pk}" in text
    new = page(client_for(admin), "/snapshot-schedules/new", vm=str(vm.pk))
    assert f'<input type="hidden" name="vm" value="{vm.pk}"' in new
    vm.owner = admin
    vm.save()
    assert "mine" in page(client_for(admin), f"/vms/{vm.pk}/snapshots/schedules")


def test_pages_cost_the_same_however_many_there_are(
    admin: User, client_for: Callable[..., Client], django_assert_num_queries: Callable[..., Any]
) -> None:
    vm = VMFactory(tags=["prod"])
    browser = client_for(admin)
    for paths, count in ((2, 2), (38, 40)):
        for number in range(paths):
            schedule(admin, name=f"s{count}-{number}", **({"vm": vm} if number % 2 else {}))
        browser.get("/snapshot-schedules/table")
        with django_assert_num_queries(5):  # session, user, the log, the page, its count
            assert browser.get("/snapshot-schedules/table").content.count(b"data-schedule=") == count
        with django_assert_num_queries(6):  # session, user, the log, the guest, the schedules, which find it
            browser.get(f"/vms/{vm.pk}/snapshots/schedules")


def test_what_people_write_is_no_markup(admin: User, viewer: User, client_for: Callable[..., Client]) -> None:
    row = schedule(admin, name=HOSTILE, filter=f"tag:prod {HOSTILE}")
    for path in ("/snapshot-schedules", f"/snapshot-schedules/{row.pk}", "/snapshot-schedules/new"):
        answer = client_for(admin).get(path, {"filter": HOSTILE})
        assert "<script>alert" not in answer.content.decode()
    looking = page(client_for(viewer), f"/snapshot-schedules/{row.pk}")
    assert "data-schedule-form" not in looking
    assert "data-schedule-delete" not in looking
    assert client_for(viewer).get("/snapshot-schedules/new").status_code == 403
