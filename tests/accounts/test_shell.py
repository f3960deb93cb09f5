"""What the shell of every page gets: looks from cookies, counts of the navigation."""

from __future__ import annotations

import pytest
from django.test import RequestFactory
from django.utils import timezone

from accounts.actor import Actor
from dashboard.context import SeqMiddleware, shell
from events import log
from hosts.choices import LinkState
from hosts.models import Host, Hypervisor
from operations.choices import State as OperationState
from operations.models import Operation
from vms.choices import State
from vms.grammar import compile_query
from vms.models import VM

pytestmark = pytest.mark.django_db


@pytest.fixture
def fleet():
    """Two hosts, one out of reach; four guests of which one is gone, one crashed, two stale; two operations at work."""
    near, far = Host.objects.create(name="near"), Host.objects.create(name="far")
    on = Hypervisor.objects.create(host=near, driver="qemu", uri="qemu:///system", state=LinkState.ONLINE)
    off = Hypervisor.objects.create(host=far, driver="qemu", uri="qemu+tls://far/system", state=LinkState.OFFLINE)
    now = timezone.now()
    rows = [
        (on, State.RUNNING, None),
        (on, State.CRASHED, None),
        (off, State.RUNNING, None),
        (off, State.RUNNING, None),
    ]
    for n, (hypervisor, state, gone) in enumerate([*rows, (on, State.CRASHED, now)]):
        VM.objects.create(hypervisor=hypervisor, uuid=str(n), name=f"vm{n}", state=state, gone_at=gone, observed_at=now)
    for state in OperationState.values:
        Operation.objects.create(kind="vm.start", target="vm/x", state=state)


def request(user=None, **cookies):
    made = RequestFactory().get("/vms", headers={"Accept": "text/html"})
    made.COOKIES.update(cookies)
    made.actor = None if user is None else Actor.of_user(user)
    return made


def test_the_navigation_counts_what_is_there(fleet, viewer, django_assert_num_queries):
    asked = request(viewer)
    SeqMiddleware(lambda _: None).process_view(asked)
    with django_assert_num_queries(4):
        nav = shell(asked)["nav"]
        assert (nav.guests, nav.stale, nav.attention, nav.hosts, nav.operations) == (4, 2, 1, 2, 2)


def test_the_count_is_that_of_the_list_it_leads_to(fleet, viewer):
    VM.objects.filter(name="vm0").update(state=State.PAUSED, state_reason="ioerror")
    found = VM.objects.filter(compile_query("is:attention", by=Actor.of_user(viewer)), gone_at=None)
    assert shell(request(viewer))["nav"].attention == found.count() == 2


def test_nothing_is_counted_until_a_template_asks(viewer, django_assert_num_queries):
    with django_assert_num_queries(0):
        shell(request(viewer))


def test_who_is_not_signed_in_learns_no_number(fleet):
    assert shell(request())["nav"] is None


def test_the_page_follows_the_log_from_before_it_read_its_data(viewer):
    asked = request(viewer)
    SeqMiddleware(lambda _: None).process_view(asked)
    before = log.last_seq()
    log.append([log.NewEvent(type="vm.changed")])
    assert shell(asked)["nav"].seq == before < log.last_seq()


@pytest.mark.parametrize("value", ["dark", "light"])
def test_a_theme_on_the_list_is_used(value):
    assert shell(request(theme=value))["theme"] == value


@pytest.mark.parametrize("value", ["", "Dark", "dark ", '"><script>', "x" * 10_000, "\0", "\u2028"])
def test_any_other_is_none(value):
    looks = shell(request(theme=value, density=value))
    assert (looks["theme"], looks["density"]) == ("", "")
