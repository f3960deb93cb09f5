"""A hypervisor that lies, breaks and hangs under real actions: each operation ends with a reason, nobody else notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from accounts.actor import SYSTEM
from drivers.errors import Busy, DriverError, Unreachable
from drivers.types import GuestState
from hosts.models import Hypervisor
from operations.models import Operation
from tests.operations.conftest import workers
from tests.waiting import wait_until
from tests.watcher.conftest import add_host, make_world, online, pool, service, state_of
from vms import actions
from vms.models import VM
from vms.services import vm_action

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.fake import FakeWorld

__all__ = ["make_world", "pool", "service", "workers"]  # fixtures

pytestmark = [pytest.mark.chaos, pytest.mark.django_db(transaction=True), pytest.mark.timeout(60)]


@pytest.fixture
def bad_and_good(service, make_world, pool, workers, monkeypatch) -> tuple[FakeWorld, FakeWorld]:
    """Two hypervisors, followed, each with a guest that runs: `bad` and `good`."""
    monkeypatch.setattr("operations.context.the_pool", lambda: pool)
    worlds = []
    for name in ("bad", "good"):
        worlds.append(make_world())
        worlds[-1].add(name, state=GuestState.RUNNING)
        add_host(name, worlds[-1].endpoint.uri)
    service.start()
    for row in Hypervisor.objects.all():
        online(row)
    return worlds[0], worlds[1]


def ask(guest: str, name: str, **params: object) -> Operation:
    vm = VM.objects.select_related("hypervisor__host").get(name=guest, gone_at=None)
    return vm_action(vm=vm, name=name, by=SYSTEM, params=params)


def ended(operation: Operation, seconds: float = 20.0) -> Operation:
    return wait_until(
        lambda: next((row for row in Operation.objects.filter(pk=operation.pk) if row.ended), None), seconds, "it ends"
    )


def good_is_well() -> None:
    """What happens to one hypervisor is no business of the other's guests."""
    for name in ("suspend", "resume"):
        assert ended(ask("good", name)).state == "succeeded"
    assert state_of("good") == "running"


NONSENSE: dict[str, Callable[[object], object]] = {
    "none": lambda _: None,
    "text": lambda _: "yes, of course",
    "number": lambda _: 42,
    "pair": lambda _: (None, None),
    "itself": lambda _: object(),
}


@pytest.mark.parametrize("verb", ["guest_state", "guest_or_none"])
def test_answers_that_are_none_then_the_action_fails_and_the_guest_stays_true(bad_and_good, verb):
    bad, _ = bad_and_good
    for what, change in NONSENSE.items():
        if (verb, what) == ("guest_or_none", "none"):
            continue  # no nonsense: that is how it says that a guest is gone
        bad.lie(verb, change, times=2)
        operation = ended(ask("bad", "suspend" if state_of("bad") == "running" else "resume"))
        assert operation.state in ("failed", "succeeded")
        if operation.state == "failed":
            assert (operation.error["code"], operation.holds_lock) == ("hypervisor_error", False)
            assert "makes no sense" in operation.error["detail"]
            assert "object at" not in str(operation.error)
        bad.fair()
        good_is_well()
        online(Hypervisor.objects.get(host__name="bad"))  # the watcher met the nonsense too, and let go of it
        truth = next(info.state for info in bad.infos() if info.name == "bad")
        wait_until(lambda truth=truth: state_of("bad") == truth, 10, "the row tells the truth")


@pytest.mark.parametrize(
    ("error", "code", "attempts"),
    [
        (DriverError("The monitor said something odd."), "hypervisor_error", 1),
        (Busy("Locked by another."), "busy", 4),
        (Unreachable("The connection broke."), "host_unreachable", 4),
    ],
)
def test_errors_that_stay_then_failed_with_the_reason_and_as_many_tries_as_help(
    bad_and_good, monkeypatch, error, code, attempts
):
    monkeypatch.setattr(actions.SuspendVM, "retry", actions.Retry(times=3, base_seconds=0.01))
    bad_and_good[0].fail_next(error, times=50, verb="suspend")
    operation = ended(ask("bad", "suspend"))
    assert (operation.state, operation.error["code"], operation.attempts) == ("failed", code, attempts)
    good_is_well()


def test_call_that_hangs_then_timeout_at_the_deadline_and_the_lock_until_it_returns(bad_and_good, monkeypatch):
    bad, _ = bad_and_good
    monkeypatch.setattr(actions.SuspendVM, "timeout_seconds", 0.5)
    bad.hang("suspend")
    operation = ended(ask("bad", "suspend"))
    assert (operation.error["code"], operation.holds_lock) == ("timeout", True)
    after = ask("bad", "reboot")
    good_is_well()
    assert Operation.objects.get(pk=after.pk).state == "queued", "nothing works beside a call that hangs"
    bad.release("suspend")
    assert ended(after).error["code"] == "wrong_state", "the hung call went on after all: the guest is paused"
    assert not Operation.objects.filter(holds_lock=True).exists()
    wait_until(lambda: state_of("bad") == "paused", 10, "and the row says so")


def test_more_hanging_calls_than_slots_then_the_others_go_on(bad_and_good, monkeypatch):
    bad, _ = bad_and_good
    for number in range(8):
        bad.add(f"bad-{number}", state=GuestState.RUNNING)
    wait_until(lambda: VM.objects.filter(name__startswith="bad-", state="running").count() == 8, 10, "adopted")
    bad.hang("suspend")
    operations = [ask(f"bad-{number}", "suspend") for number in range(8)]
    assert bad.wait_for_calls("suspend", 4)
    good_is_well()
    assert Operation.objects.filter(pk__in=[row.pk for row in operations], state="running").count() == 4
    bad.thaw()
    assert {ended(row).state for row in operations} == {"succeeded"}
