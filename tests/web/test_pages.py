"""Overview, hosts, operations, events and problems as the server makes them: queries, who may what, hostile input, POST alone changes."""

from __future__ import annotations

import html
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.actor import Actor
from core.errors import VmmError
from dashboard.problems import pages
from events import log
from events.models import Event
from hosts.models import Host, Hypervisor
from metrics.models import Latest
from operations.models import Operation
from tests.factories import HostFactory, HypervisorFactory, UserFactory, VMFactory
from tests.web.fleet import fill
from vms.models import VM

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User

pytestmark = pytest.mark.django_db

HOSTILE = "\"><script>alert(1)</script>{{ 7 }}{% csrf_token %}'&"
QUERIES = {
    # Each: session, user, the log's end; pages besides: four counts of the navigation.
    "/": 24,
    "/overview/fleet": 6,
    "/overview/attention": 10,
    "/overview/capacity": 6,
    "/hosts": 9,
    "/hosts/table": 5,
    "/operations": 12,
    "/operations?state=all": 12,
    "/operations/tray": 4,
    "/events": 9,
    "/problems": 7,
    "/nav.json": 7,
}


@pytest.fixture
def browser(admin: User, client_for: Callable[..., Client]) -> Client:
    return client_for(admin)


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return html.unescape(answer.content.decode())


def busy(vms: list[VM]) -> None:
    """Operations of every state, events, and load, on all of them."""
    now = timezone.now()
    states = ("queued", "running", "succeeded", "failed")
    Operation.objects.bulk_create(
        Operation(
            kind="vm.start",
            target=vm.ref,
            target_name=vm.name,
            state=states[number % 4],
            lock_key=vm.ref,
            requested_by="ada",
            finished_at=now if number % 4 > 1 else None,
        )
        for number, vm in enumerate(vms)
    )
    log.append([log.NewEvent(type="vm.changed", object=vm.ref, object_name=vm.name, data={}) for vm in vms])
    Latest.objects.bulk_create(
        Latest(subject=host.pk, at=now, cpu_ratio=0.5, memory_bytes=60 << 30) for host in Host.objects.all()
    )


# -- queries -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", QUERIES)
def test_a_page_costs_the_same_whatever_the_fleet(
    browser: Client, path: str, django_assert_num_queries: Callable[..., Any]
) -> None:
    busy(fill(10, hosts=1))
    browser.get(path)
    with django_assert_num_queries(QUERIES[path]):
        assert browser.get(path).status_code == 200
    Operation.objects.all().delete()
    Latest.objects.all().delete()
    VM.objects.all().delete()
    busy(fill(1000, hosts=200))
    with django_assert_num_queries(QUERIES[path]):
        assert browser.get(path).status_code == 200


@pytest.mark.parametrize("count", [1, 8])
def test_one_host_costs_the_same_whatever_it_carries(
    browser: Client, count: int, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    host = HostFactory()
    for hypervisor in [HypervisorFactory(host=host) for _ in range(count)]:
        for number in range(20 * count):
            VMFactory(hypervisor=hypervisor, name=f"g{number}", state="running")
    browser.get(f"/hosts/{host.pk}")
    for path, most in ((f"/hosts/{host.pk}", 10), (f"/hosts/{host.pk}/body", 6), (f"/hosts/{host.pk}/doctor", 10)):
        with django_assert_max_num_queries(most):
            assert browser.get(path).status_code == 200


def test_an_operation_costs_the_same_whatever_its_children(
    browser: Client, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    parent = Operation.objects.create(kind="vm.start.bulk", target="", state="running")
    Operation.objects.bulk_create(
        Operation(kind="vm.start", target=f"vm/{uuid.uuid4()}", parent=parent, position=n, state="queued")
        for n in range(300)
    )
    browser.get("/operations")
    with django_assert_max_num_queries(13):
        assert browser.get(f"/operations/{parent.pk}").status_code == 200


# -- who may -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def host() -> Host:
    host = HostFactory(name="kvm-01")
    VMFactory(hypervisor=HypervisorFactory(host=host), name="web", state="running")
    return host


READS = ("/", "/hosts", "/hosts/{}", "/hosts/{}/body", "/operations", "/operations/tray", "/events", "/problems")
ADMINS = ("/hosts/new", "/hosts/{}/doctor")
CHANGES = ("/hosts/demo", "/hosts/{}/change", "/hosts/{}/refresh", "/hosts/{}/remove")


def test_who_may_look_and_who_may_change(
    host: Host, viewer: User, operator: User, admin: User, client_for: Callable[..., Client]
) -> None:
    for user in (viewer, operator):
        client = client_for(user)
        for path in READS:
            assert client.get(path.format(host.pk)).status_code == 200, path
        for path in ADMINS:
            assert client.get(path.format(host.pk)).status_code == 403, path
        for path in CHANGES:
            assert client.post(path.format(host.pk), {"typed": "kvm-01", "maintenance": "on"}).status_code == 403, path
    for path in (*READS, *ADMINS):
        assert client_for(admin).get(path.format(host.pk)).status_code == 200, path
    assert Host.objects.get().maintenance is False


def test_who_may_not_change_sees_no_button_for_it(host: Host, viewer: User, client_for: Callable[..., Client]) -> None:
    for path in ("/", "/hosts", f"/hosts/{host.pk}"):
        page = text_of(client_for(viewer).get(path))
        assert "/hosts/new" not in page.partition("<main")[2].partition("</main>")[0]
        assert 'method="post"' not in page.partition("<main")[2].partition("</main>")[0]


def test_nobody_sees_anything_without_signing_in(host: Host, client: Client) -> None:
    for path in (*READS, *ADMINS):
        answer = client.get(path.format(host.pk))
        assert answer.status_code == 302, path
        assert answer.url.startswith("/login"), path
    for path in CHANGES:
        assert client.post(path.format(host.pk)).status_code in (302, 403), path


def test_only_post_changes(host: Host, browser: Client) -> None:
    for path in CHANGES:
        assert browser.get(path.format(host.pk), {"typed": "kvm-01", "maintenance": "on"}).status_code == 405, path
    for path in (*READS, *ADMINS):
        assert browser.post(path.format(host.pk)).status_code == 405, path
    host.refresh_from_db()
    assert host.maintenance is False


def test_a_change_needs_the_pages_token(host: Host, admin: User, client_for: Callable[..., Client]) -> None:
    strict = client_for(admin, enforce_csrf_checks=True)
    for path in CHANGES:
        assert strict.post(path.format(host.pk), {"typed": "kvm-01"}).status_code == 403, path
    assert Host.objects.filter(pk=host.pk).exists()


# -- changing a host -----------------------------------------------------------------------------------------------------
def test_name_and_tags_are_changed(host: Host, browser: Client) -> None:
    page = browser.post(f"/hosts/{host.pk}/change", {"name": " kvm-02 ", "tags": "prod, ams prod"}, follow=True)
    assert "kvm-02" in text_of(page)
    host.refresh_from_db()
    assert (host.name, sorted(host.tags)) == ("kvm-02", ["ams", "prod"])


@pytest.mark.parametrize(
    "form",
    [
        {"name": ""},
        {"name": "   "},
        {"name": "a\nb"},
        {"name": "a\0b"},
        {"name": "KVM-99"},
        {"name": "ok", "tags": HOSTILE},
        {"name": "ok", "tags": "x" * 500},
        {"name": "ok", "tags": " ".join(f"t{n}" for n in range(500))},
    ],
)
def test_a_wrong_change_says_why_and_changes_nothing(host: Host, browser: Client, form: dict[str, str]) -> None:
    HostFactory(name="kvm-99")
    page = text_of(browser.post(f"/hosts/{host.pk}/change", form, follow=True))
    assert 'class="note' in page or "data-message" in page or 'role="alert"' in page
    host.refresh_from_db()
    assert (host.name, list(host.tags)) == ("kvm-01", [])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=200), tags=st.text(max_size=200), maintenance=st.sampled_from(["on", "off", "x", ""]))
def test_no_form_breaks_it(host: Host, browser: Client, name: str, tags: str, maintenance: str) -> None:
    form = {"name": name, "tags": tags, "maintenance": maintenance}
    assert browser.post(f"/hosts/{host.pk}/change", form).status_code == 302
    assert browser.get(f"/hosts/{host.pk}").status_code == 200
    host.refresh_from_db()
    assert host.name.strip()
    assert host.name.isprintable()


def test_maintenance_says_who_put_it_there(host: Host, browser: Client) -> None:
    page = text_of(browser.post(f"/hosts/{host.pk}/change", {"maintenance": "on"}, follow=True))
    assert "ada put it there" in page
    assert "End maintenance" in page
    assert "maintenance" in text_of(browser.get("/hosts"))


@pytest.mark.parametrize("typed", ["", "KVM-01", "kvm-01 ", "kvm", HOSTILE])
def test_a_host_stays_when_its_name_is_typed_wrong(host: Host, browser: Client, typed: str) -> None:
    page = text_of(browser.post(f"/hosts/{host.pk}/remove", {"typed": typed}, follow=True))
    assert "Nothing was removed" in page
    assert Host.objects.filter(pk=host.pk).exists()


def test_a_host_goes_when_its_name_is_typed_and_its_page_is_404(host: Host, browser: Client) -> None:
    page = browser.post(f"/hosts/{host.pk}/remove", {"typed": "kvm-01"}, follow=True)
    assert "is no longer managed" in text_of(page)
    assert not Host.objects.exists()
    assert not VM.objects.exists()
    for path in ("", "/body", "/doctor"):
        assert browser.get(f"/hosts/{host.pk}{path}").status_code == 404
    for path in ("change", "refresh", "remove"):
        assert browser.post(f"/hosts/{host.pk}/{path}", {"typed": "kvm-01"}).status_code == 404
    assert Event.objects.filter(type="audit.host_removed", actor="ada").exists()


def test_looking_again_asks_the_watcher(host: Host, browser: Client) -> None:
    browser.post(f"/hosts/{host.pk}/refresh")
    assert Event.objects.filter(type="audit.host_refresh", object=host.ref).count() == 1


def test_the_demo_host_is_labelled_and_there_once(browser: Client) -> None:
    page = text_of(browser.post("/hosts/demo", follow=True))
    assert "demo: nothing real runs here" in page
    assert re.search(r'class="tag">\s*demo', text_of(browser.get("/hosts")))
    assert "is there already" in text_of(browser.post("/hosts/demo", follow=True))
    assert Host.objects.count() == 1


# -- what pages show -----------------------------------------------------------------------------------------------------
def test_an_empty_product_says_what_to_do(browser: Client, viewer: User, client_for: Callable[..., Client]) -> None:
    for path in ("/", "/hosts"):
        page = text_of(browser.get(path))
        assert "No hypervisor answers on this machine" in page
        assert "Add the demo host" in page
        assert "Add the demo host" not in text_of(client_for(viewer).get(path))
    assert "Nothing runs and nothing waits" in text_of(browser.get("/operations"))


@pytest.mark.parametrize("path", ["/", "/hosts", "/operations?state=all", "/events", "/overview/attention"])
def test_what_others_chose_is_text(browser: Client, path: str) -> None:
    host = HostFactory(name=HOSTILE, state="offline", error={"detail": HOSTILE, "code": "host_unreachable"})
    hypervisor = HypervisorFactory(
        host=host, state="offline", error={"detail": HOSTILE, "code": "host_unreachable"}, hypervisor_version=HOSTILE
    )
    vm = VMFactory(hypervisor=hypervisor, name=HOSTILE, state="crashed", state_reason=HOSTILE)
    operation = Operation.objects.create(
        kind="vm.start",
        target=vm.ref,
        target_name=HOSTILE,
        state="failed",
        message=HOSTILE,
        error={"title": HOSTILE, "detail": HOSTILE, "code": HOSTILE, "status": 500},
        requested_by=HOSTILE,
        finished_at=timezone.now(),
    )
    log.append(
        [log.NewEvent(type="vm.changed", object=vm.ref, object_name=HOSTILE, data={"changed": {HOSTILE: HOSTILE}})]
    )
    for each in (path, f"/hosts/{host.pk}", f"/hosts/{host.pk}/doctor", f"/operations/{operation.pk}"):
        raw = browser.get(each).content.decode()
        assert "<script>alert" not in raw, each
        assert "{{ 7 }}" in html.unescape(raw), each


def test_an_offline_host_is_shown_as_out_of_reach_with_its_doctor(browser: Client) -> None:
    fault = {"detail": "Connection refused.", "code": "host_unreachable"}
    hypervisor = HypervisorFactory(
        host=HostFactory(name="far", state="offline"), state="offline", error=fault, state_since=timezone.now()
    )
    for path in ("/", "/hosts"):
        page = text_of(browser.get(path))
        assert f"/hosts/{hypervisor.host_id}/doctor?hypervisor={hypervisor.pk}" in page
        assert "Connection refused." in page
    assert f'data-hypervisor="{hypervisor.pk}"' in text_of(browser.get(f"/hosts/{hypervisor.host_id}/doctor"))


def test_credentials_are_on_no_page(browser: Client) -> None:
    hypervisor = HypervisorFactory(credentials={"username": "vmm", "password": "geheim-4711"})
    for path in ("/hosts", f"/hosts/{hypervisor.host_id}", f"/hosts/{hypervisor.host_id}/doctor"):
        assert "geheim-4711" not in text_of(browser.get(path))


@pytest.mark.parametrize("hypervisor", ["", "x", "00000000-0000-7000-8000-000000000000", HOSTILE])
def test_the_doctor_chooses_the_ill_one_when_none_is_named(browser: Client, hypervisor: str) -> None:
    host = HostFactory()
    HypervisorFactory(host=host, driver="lxc")
    ill = HypervisorFactory(host=host, driver="qemu", state="offline")
    page = text_of(browser.get(f"/hosts/{host.pk}/doctor", {"hypervisor": hypervisor}))
    assert f'data-hypervisor="{ill.pk}"' in page


def test_a_host_without_hypervisors_has_a_page(browser: Client) -> None:
    host = HostFactory()
    for path in (f"/hosts/{host.pk}", f"/hosts/{host.pk}/doctor", "/hosts", "/"):
        assert browser.get(path).status_code == 200


@pytest.mark.parametrize(
    "query",
    ["?state=nonsense", "?cursor=nonsense", "?cursor=" + "A" * 5000, "?target=vm/x", "?state=&target=%00", "?ids=x,,y"],
)
def test_a_hostile_query_is_refused_or_shows_nothing(browser: Client, query: str) -> None:
    for path in ("/operations", "/events", "/operations/rows"):
        assert browser.get(path + query).status_code in (200, 400, 422), path


def test_looks_at_hosts_are_no_operations(browser: Client) -> None:
    """They are readings: the doctor tries each minute for as long as it is open."""
    Operation.objects.create(
        kind="host.identify",
        target=f"reading/{uuid.uuid4()}",
        state="failed",
        target_name="far",
        finished_at=timezone.now(),
    )
    Operation.objects.create(kind="host.probe", target=f"reading/{uuid.uuid4()}", state="queued", target_name="far")
    for path in ("/", "/operations", "/operations?state=failed", "/operations?state=all", "/operations/tray"):
        assert "far" not in text_of(browser.get(path)).partition("<main")[2].partition("</main>")[0]
    assert browser.get("/nav.json").json()["operations"] == 0


def test_the_map_draws_squares_up_to_300_and_a_bar_beyond(browser: Client) -> None:
    fill(300, hosts=1)
    assert text_of(browser.get("/overview/fleet")).count("data-px=") == 300
    VMFactory(hypervisor=Hypervisor.objects.get())
    page = text_of(browser.get("/overview/fleet"))
    assert "data-px=" not in page
    widths = [float(one) for one in re.findall(r'<rect class="[a-z]+"[^>]*width="([\d.]+)%"', page)]
    assert abs(sum(widths) - 100) < 0.1


# -- problems ------------------------------------------------------------------------------------------------------------
def test_every_code_that_an_error_has_is_a_page(browser: Client) -> None:
    codes = set(pages())

    def classes(cls: type[VmmError]) -> set[str]:
        return {cls.code} | {code for child in cls.__subclasses__() for code in classes(child)}

    assert classes(VmmError) <= codes
    listed = text_of(browser.get("/problems"))
    for code in codes:
        assert f"/problems/{code}" in listed
        assert code in text_of(browser.get(f"/problems/{code}"))
    assert browser.get("/problems/no-such").status_code == 404


def test_a_viewer_reads_events_without_the_audit(viewer: User, client_for: Callable[..., Client]) -> None:
    other = UserFactory(username="grace")
    log.append([log.NewEvent(type="audit.user_created", object=f"user/{other.pk}", object_name="grace", data={})])
    log.append([log.NewEvent(type="host.online", object=f"host/{uuid.uuid4()}", object_name="kvm-77", data={})])
    page = text_of(client_for(viewer).get("/events"))
    assert "kvm-77" in page
    assert "grace" not in page


def test_who_asked_is_found_under_mine(browser: Client, admin: User) -> None:
    for who, name in ((Actor.of_user(admin).name, "mine-01"), ("someone", "theirs-01")):
        Operation.objects.create(
            kind="vm.start", target=f"vm/{uuid.uuid4()}", target_name=name, state="succeeded", requested_by=who
        )
    page = text_of(browser.get("/operations?state=mine"))
    assert "mine-01" in page
    assert "theirs-01" not in page
