"""What is too old goes, in batches; how far, is remembered."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from events import log, retention
from events.models import Event, Trimmed
from events.selectors import span

pytestmark = pytest.mark.django_db

NOW = timezone.now()


def event(age_days: float, kind: str = "vm.changed") -> int:
    return Event.objects.create(type=kind, at=NOW - dt.timedelta(days=age_days)).seq


def kept() -> list[int]:
    return list(Event.objects.order_by("seq").values_list("seq", flat=True))


def test_events_go_after_30_days_and_audit_lines_after_a_year() -> None:
    event(400, "audit.user_changed")
    audit = event(300, "audit.user_changed")
    last_gone = event(31)
    young = event(29)
    newest = event(0)
    assert retention.trim(NOW) == 2
    assert kept() == [audit, young, newest]
    assert span().kept_after == last_gone


def test_the_newest_stays_however_old_it_is() -> None:
    event(100)
    newest = event(99)
    assert retention.trim(NOW) == 1
    assert log.last_seq() == newest


def test_a_second_trim_does_nothing_and_the_mark_never_falls() -> None:
    old_audit = event(366, "audit.user_changed")
    gone = event(40)
    event(1)
    retention.trim(NOW)
    assert retention.trim(NOW) == 0
    assert span().kept_after == gone > old_audit


def test_many_go_in_batches(monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    for _ in range(25):
        event(60)
    event(0)
    assert retention.trim(NOW) == 25
    assert len(kept()) == 1
    assert Trimmed.objects.count() == 1


def test_the_settings_decide(settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"events_keep_days": 5})
    event(6)
    event(4)
    event(0)
    assert retention.trim(NOW) == 1
