"""Pages of guests as the server makes them: how many queries, who sees what, hostile input, guests that are gone."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import log
from metrics import store
from metrics.rates import Values
from operations.models import Operation
from tests.factories import ALL_SUPPORTED, HostFactory, HypervisorFactory, VMFactory
from tests.web.fleet import fill
from vms.models import VM, Revision, Snapshot, VMDisk, VMNic

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

pytestmark = pytest.mark.django_db

# Session and user, the log's end; count, page, hypervisors with hosts; latest samples, sparklines; hypervisors out of reach;
# four counts of the navigation. On pages of one that runs: whether changes of its hardware wait for its next start.
LIST_QUERIES = 13
ROWS_QUERIES = 6
DETAIL_QUERIES = 13
PALETTE_QUERIES = 12
SNAPSHOT_QUERIES = 12
NAMES = re.compile(r'<tr role="row"\s+id="vm-[0-9a-f-]+".*?data-name="([^"]*)"', re.DOTALL)


@pytest.fixture
def browser(admin: Any, client_for: Callable[..., Client]) -> Client:
    return client_for(admin)


def names(answer: Any) -> list[str]:
    return NAMES.findall(answer.content.decode())


def measure(vms: list[VM]) -> None:
    now = timezone.now()
    store.append(
        [
            store.NewSample(subject=vm.pk, at=now, values=Values(cpu_ratio=0.5, memory_bytes=vm.memory_bytes // 2))
            for vm in vms
            if vm.state == "running"
        ]
    )


# -- the list ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [10, 1000])
def test_list_when_the_fleet_grows_then_as_many_queries(browser, count, django_assert_max_num_queries):
    measure(fill(count))
    with django_assert_max_num_queries(LIST_QUERIES):
        answer = browser.get("/vms")
    assert len(names(answer)) == min(count, 100)
    assert b"50 %" in answer.content
    with django_assert_max_num_queries(LIST_QUERIES + 1):
        browser.get("/vms?q=state:running tag:prod cpu:>20&ordering=-cpu&group=host")


@pytest.mark.parametrize(
    "query", ["", "ordering=-memory_bytes", "group=host", "group=host&ordering=-cpu", "q=state:running"]
)
def test_list_when_paged_then_every_guest_once(browser, query):
    fill(250)
    seen: list[str] = []
    address: str | None = f"/vms?{query}"
    while address:
        answer = browser.get(address, headers={"HX-Request": "true"})
        seen += names(answer)
        more = re.search(r'href="(\?[^"]*cursor=[^"]*)"\s+data-more', answer.content.decode())
        address = f"/vms{more[1].replace('&amp;', '&')}" if more else None
    expected = VM.objects.filter(state="running").count() if "q=" in query else 250
    assert len(seen) == len(set(seen)) == expected


def test_list_when_grouped_then_one_heading_a_host_with_all_its_guests(browser):
    hosts = [HypervisorFactory(host=HostFactory(name=name)) for name in ("beta", "Alpha")]
    for number in range(3):
        VMFactory(hypervisor=hosts[number % 2], name=f"guest-{number}")
    text = browser.get("/vms?group=host&ordering=-name").content.decode()
    headings = re.findall(r'class="grp".*?class="name"[^>]*>([^<]+)<.*?<span class="t3">([^<]+)<', text, re.DOTALL)
    assert headings == [("Alpha", "1 guest"), ("beta", "2 guests")]
    assert NAMES.findall(text) == ["guest-1", "guest-2", "guest-0"]


def test_list_when_scripts_ask_then_the_part_alone(browser):
    VMFactory(name="web-01")
    part = browser.get("/vms", headers={"HX-Request": "true"})
    assert names(part) == ["web-01"]
    assert b"<html" not in part.content
    assert b'id="list"' in part.content


@pytest.mark.parametrize(
    ("q", "says"),
    [
        ("stat:running", "Did you mean state?"),
        ("xyzzy:1", "There is no key"),
        ("nothing-like-it", "No guest matches"),
    ],
)
def test_list_when_the_filter_finds_nothing_then_says_what_to_do(browser, q, says):
    VMFactory(name="web-01", state="running")
    assert says in browser.get(f"/vms?{urlencode({'q': q})}").content.decode()


def test_list_when_there_is_nothing_at_all_then_says_how_to_begin(browser):
    assert b"/hosts/new" in browser.get("/vms").content
    HypervisorFactory()
    assert b"No guests yet" in browser.get("/vms").content


@pytest.mark.parametrize(
    "q",
    [
        "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "state:\"'", "é" * 500, "a:b:c::::", "-", "%00",
        "{{ 7*7 }}", "x" * 5000, "\0",
    ],
)  # fmt: skip
def test_list_when_the_query_is_hostile_then_shown_as_text(browser, q):
    VMFactory()
    answer = browser.get(f"/vms?q={quote(q)}")
    assert answer.status_code in (200, 422)
    text = answer.content.decode()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert ">49<" not in text


@pytest.mark.parametrize("query", ["cursor=nonsense", "ordering=password", "ordering=-", "cursor=%00", "group=owner"])
def test_list_when_the_address_is_hostile_then_refused_in_words(browser, query):
    VMFactory()
    answer = browser.get(f"/vms?{query}")
    assert answer.status_code in (200, 422)
    assert (b'role="alert"' in answer.content) == (answer.status_code == 422)


def test_list_when_a_name_is_hostile_then_shown_as_text(browser):
    VMFactory(name='<b onclick="x">', title="<i>", tags=["a"])
    text = browser.get("/vms").content.decode()
    assert '<b onclick="x">' not in text
    assert "&lt;b onclick=&quot;x&quot;&gt;" in text


def test_list_when_a_host_is_out_of_reach_then_its_guests_stay_and_nothing_can_be_done(browser):
    away = HypervisorFactory(host=HostFactory(name="kvm-far"), state="offline")
    VMFactory(hypervisor=away, name="far-01", state="running")
    text = browser.get("/vms").content.decode()
    assert "kvm-far" in text
    assert "is out of reach. Its guest shows its last known state." in re.sub(r"\s+", " ", text)
    row = re.search(r'<tr role="row"\s+id="vm-.*?</tr>', text, re.DOTALL)
    assert row is not None
    assert "running stale" in row[0]
    assert 'data-can=""' in row[0]
    assert "kvm-far is out of reach; nothing can be changed there now." in row[0]


def test_rows_when_asked_for_then_those_that_are_there(browser, django_assert_max_num_queries):
    vms = fill(60)
    gone = VMFactory(gone_at=timezone.now())
    ids = [str(vm.pk) for vm in vms[:3]] + [str(gone.pk), str(uuid.uuid4()), "nonsense", "'; --"]
    with django_assert_max_num_queries(ROWS_QUERIES):
        answer = browser.get(f"/vms/rows?ids={','.join(ids)}", headers={"HX-Request": "true"})
    assert sorted(names(answer)) == ["vm-00000", "vm-00001", "vm-00002"]
    assert len(names(browser.get(f"/vms/rows?ids={','.join(str(vm.pk) for vm in vms)}"))) == 50


def test_filter_keys_when_asked_for_then_values_with_counts(browser):
    VMFactory(tags=["prod"])
    VMFactory(tags=["prod", "web"])
    keys = {one["key"]: one["values"] for one in json.loads(browser.get("/vms/filter-keys.json").content)["keys"]}
    assert {"value": "prod", "count": 2} in keys["tag"]
    assert keys["state"] == [{"value": "shutoff", "count": 2}]


# -- one guest -------------------------------------------------------------------------------------------------------------
def test_detail_when_opened_then_all_that_is_known_in_few_queries(browser, django_assert_max_num_queries):
    vm = VMFactory(
        name="web-01", title="Front door", state="running", consoles=["serial", "vnc"], boot={"firmware": "uefi"}
    )
    VMDisk.objects.create(
        vm=vm, target="vda", bus="virtio", source="/srv/web.qcow2", format="qcow2", size_bytes=4 * 1024**3
    )
    VMNic.objects.create(vm=vm, mac="52:54:00:8a:1c:03", network="prod", link="down")
    with django_assert_max_num_queries(DETAIL_QUERIES):
        text = browser.get(f"/vms/{vm.pk}").content.decode()
    for fact in ("web-01", "Front door", "/srv/web.qcow2", "4 GiB", "52:54:00:8a:1c:03", "link down", "uefi", vm.uuid):
        assert fact in text, fact
    assert 'data-console="vnc"' in text


@pytest.mark.parametrize(
    ("state", "primary"),
    [
        ("running", "console"),
        ("shutoff", "start"),
        ("paused", "resume"),
        ("pmsuspended", "resume"),
        ("crashed", "start"),
    ],
)
def test_detail_when_in_a_state_then_one_thing_is_first(browser, state, primary):
    vm = VMFactory(state=state, consoles=["serial"])
    text = browser.get(f"/vms/{vm.pk}/parts/head").content.decode()
    first = re.findall(r'<button class="btn primary[^>]*data-(?:action="([\w-]+)"|(console))', text)
    assert ["".join(found) for found in first] == [primary]


def test_detail_when_the_hypervisor_cannot_then_rare_actions_are_left_out_and_others_say_why(browser):
    weak = {
        **ALL_SUPPORTED,
        "suspend": {"supported": False, "reason": "LXC cannot freeze."},
        "reboot": {"supported": False, "reason": "No reboot here."},
    }
    vm = VMFactory(state="running", hypervisor=HypervisorFactory(capabilities=weak), consoles=[])
    text = browser.get(f"/vms/{vm.pk}").content.decode()
    assert 'data-action="suspend"' not in text
    assert "No reboot here." in text
    assert "has no console in its definition" in text


@pytest.mark.parametrize("reason", ["ioerror", "watchdog"])
def test_detail_when_it_stands_still_by_itself_then_says_why_and_is_found_by_attention(browser, reason):
    vm = VMFactory(name="stuck", state="paused", state_reason=reason)
    VMFactory(name="asleep", state="paused", state_reason="user")
    assert 'class="note paused"' in browser.get(f"/vms/{vm.pk}").content.decode()
    assert names(browser.get("/vms?q=is:attention")) == ["stuck"]
    assert json.loads(browser.get("/nav.json").content)["attention"] == 1
    overview = browser.get("/overview/attention").content.decode()
    assert "stuck" in overview
    assert "asleep" not in overview


def test_detail_when_operations_ran_then_shown_newest_first(browser):
    vm = VMFactory()
    for kind in ("vm.start", "vm.shutdown"):
        Operation.objects.create(kind=kind, target=vm.ref, target_name=vm.name, state="succeeded", requested_by="ada",
                                 deadline_at=timezone.now(), position=1)  # fmt: skip
    text = browser.get(f"/vms/{vm.pk}/parts/operations").content.decode()
    assert text.index("Shut down") < text.index("Start")


def test_gone_when_opened_then_says_when_and_shows_its_history(browser):
    vm = VMFactory(name="was-here", gone_at=timezone.now())
    log.append([log.NewEvent(type="vm.undefined", object=vm.ref, object_name=vm.name)])
    page = browser.get(f"/vms/{vm.pk}").content.decode()
    assert "is no longer defined on" in page
    assert "is gone" in page
    assert "data-action" not in page
    assert names(browser.get("/vms")) == []
    assert browser.get(f"/vms/{vm.pk}/peek").status_code == 404
    assert browser.get(f"/vms/{vm.pk}/xml").status_code == 302
    assert browser.get(f"/vms/{vm.pk}/events").status_code == 302
    for part in ("head", "facts", "devices", "operations"):
        answer = browser.get(f"/vms/{vm.pk}/parts/{part}")
        assert answer.status_code == 200
        assert b"data-action" not in answer.content


def test_gone_when_the_same_uuid_lives_elsewhere_then_leads_there(browser):
    vm = VMFactory(gone_at=timezone.now())
    other = VMFactory(uuid=vm.uuid)
    assert f'href="/vms/{other.pk}"' in browser.get(f"/vms/{vm.pk}").content.decode()


def test_parts_when_unknown_then_missing(browser):
    assert browser.get(f"/vms/{VMFactory().pk}/parts/secrets").status_code == 404


# -- who -------------------------------------------------------------------------------------------------------------------
def test_viewer_when_looking_then_every_action_says_that_it_is_not_his(viewer, client_for):
    vm = VMFactory(name="web-01", state="running", consoles=["serial"])
    client = client_for(viewer)
    row = client.get("/vms").content.decode()
    assert 'data-can=""' in row
    page = client.get(f"/vms/{vm.pk}").content.decode()
    for button in re.findall(r"<button[^>]*data-(?:action|console|delete)=[^>]*>", page):
        assert 'aria-disabled="true"' in button, button
    assert "data-edit-open" not in page


def test_definition_when_not_an_administrator_then_a_reason_and_no_request(operator, admin, client_for):
    vm = VMFactory()
    page = client_for(operator).get(f"/vms/{vm.pk}/xml").content.decode()
    assert "Only administrators read definitions" in page
    assert "data-xml" not in page
    assert client_for(operator).get(f"/vms/{vm.pk}/parts/revisions").status_code == 404
    assert f'data-xml="/vms/{vm.pk}/xml"' in client_for(admin).get(f"/vms/{vm.pk}/xml").content.decode()


def test_definition_when_it_can_be_changed_then_an_editor_and_all_that_it_was(admin, client_for):
    vm = VMFactory()
    for number, source, actor in ((1, "first_sight", ""), (2, "ours", "ada"), (3, "outside", "")):
        Revision.objects.create(vm=vm, number=number, xml="<a/>", digest="x", source=source, actor=actor, comment="<b>")
    page = client_for(admin).get(f"/vms/{vm.pk}/xml").content.decode()
    assert "data-xml-check" in page
    assert "readonly" not in page
    assert re.findall(r'data-revision="(\d)"', page) == ["3", "2", "1"]
    assert re.findall(r'data-revision-restore="(\d)"', page) == ["2", "1"], "the newest is what there is"
    assert "&lt;b&gt;" in page
    part = client_for(admin).get(f"/vms/{vm.pk}/parts/revisions").content.decode()
    assert part.count("data-revision=") == 3


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"persistent": False}, "is transient"),
        ({"hypervisor__capabilities": {"define": {"supported": False, "reason": "Not on paper."}}}, "Not on paper."),
        ({"hypervisor__state": "offline"}, "out of reach"),
    ],
)
def test_definition_when_it_cannot_be_changed_then_read_only_with_the_reason(admin, client_for, values, why):
    vm = VMFactory(**values)
    Revision.objects.create(vm=vm, number=1, xml="<a/>", digest="x", source="first_sight")
    Revision.objects.create(vm=vm, number=2, xml="<b/>", digest="y", source="outside")
    page = client_for(admin).get(f"/vms/{vm.pk}/xml").content.decode()
    assert why in page
    assert "readonly" in page
    assert "data-xml-check" not in page
    assert "data-revision-restore" not in page
    assert 'data-revision-show="1"' in page


def test_definition_when_opened_then_the_same_few_queries_for_any_history(admin, client_for):
    vm = VMFactory()
    client = client_for(admin)
    client.get(f"/vms/{vm.pk}/xml")
    counts = []
    for number in (1, 30):
        Revision.objects.bulk_create(
            Revision(vm=vm, number=n, xml="<a/>", digest="x", source="ours") for n in range(number, number * 2)
        )
        with CaptureQueriesContext(connection) as captured:
            client.get(f"/vms/{vm.pk}/xml")
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_rename_when_the_guest_is_off_then_offered(admin, viewer, client_for):
    off, on = VMFactory(), VMFactory(state="running")
    offered = re.compile(r'<button[^>]*data-action="rename"[^>]*>')
    assert "aria-disabled" not in offered.search(client_for(admin).get(f"/vms/{off.pk}").content.decode())[0]
    assert "can be renamed" in offered.search(client_for(admin).get(f"/vms/{on.pk}").content.decode())[0]
    assert offered.search(client_for(viewer).get(f"/vms/{off.pk}").content.decode()) is None


# -- the palette -----------------------------------------------------------------------------------------------------------
def test_palette_when_the_fleet_is_small_then_whole_in_few_queries(browser, django_assert_max_num_queries):
    vm = VMFactory(name="web-01", consoles=["serial"])
    VMNic.objects.create(vm=vm, mac="52:54:00:aa:bb:cc")
    fill(50)
    with django_assert_max_num_queries(PALETTE_QUERIES):
        answer = json.loads(browser.get("/palette.json").content)
    assert answer["complete"] is True
    item = next(one for one in answer["items"] if one["name"] == "web-01")
    assert item["url"] == f"/vms/{vm.pk}"
    assert vm.uuid in item["also"]
    assert "52:54:00:aa:bb:cc" in item["also"]
    assert item["actions"]["start"] == {"allowed": True, "reason": ""}
    assert item["actions"]["shutdown"] == {"allowed": False, "reason": "web-01 is already shut off."}
    assert {one["kind"] for one in answer["items"]} == {"vm", "host"}


@pytest.mark.parametrize("q", ["web-01", "start web-01", "shut down web-01", "conso web-01", "52:54:00:aa:bb"])
def test_palette_when_the_fleet_is_large_then_finds(browser, q, django_assert_max_num_queries):
    vm = VMFactory(name="web-01")
    VMNic.objects.create(vm=vm, mac="52:54:00:aa:bb:cc")
    fill(400)
    with django_assert_max_num_queries(PALETTE_QUERIES):
        answer = json.loads(browser.get(f"/palette.json?{urlencode({'q': q})}").content)
    assert answer["complete"] is False
    assert [one["name"] for one in answer["items"] if one["kind"] == "vm"] == ["web-01"]


@pytest.mark.parametrize("q", ["\0", "x" * 5000, "state:", "%", "start", '"'])
def test_palette_when_the_query_is_hostile_then_answers(browser, q):
    fill(310)
    assert browser.get(f"/palette.json?{urlencode({'q': q})}").status_code == 200


# -- compression, errors ---------------------------------------------------------------------------------------------------
def test_pages_when_the_browser_can_then_gzipped_and_secrets_never(browser, api):
    fill(20)
    page = browser.get("/vms", headers={"Accept-Encoding": "gzip"})
    assert page["Content-Encoding"] == "gzip"
    token = api.post("/tokens", {"name": "x" * 300, "scope": "read"}, Accept_Encoding="gzip")
    assert token.status_code in (201, 422)
    assert "Content-Encoding" not in token


def test_unknown_address_when_asked_for_then_answered_in_the_callers_form(browser):
    page = browser.get("/nowhere")
    assert (page.status_code, page["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert b"Nothing is at this address" in page.content
    program = browser.get("/nowhere", headers={"Accept": "application/json"})
    assert program["Content-Type"] == "application/problem+json"


def test_our_own_fault_when_it_happens_then_a_page_without_a_traceback(browser, monkeypatch):
    def broken(*_args: object, **_options: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("vms.selectors.vm_page", broken)
    browser.raise_request_exception = False
    page = browser.get("/vms")
    assert page.status_code == 500
    assert b"Something broke here" in page.content
    assert b"a secret" not in page.content
    program = browser.get("/vms", headers={"HX-Request": "true"})
    assert program.json()["code"] == "internal_error"
    assert "a secret" not in program.content.decode()


# -- snapshots -------------------------------------------------------------------------------------------------------------
def test_snapshots_when_there_are_some_then_a_tree_with_where_the_guest_is(browser, django_assert_max_num_queries):
    vm = VMFactory(name="web-01", state="running", snapshots_read_at=timezone.now())
    for name, parent, values in (
        ("clean", "", {}),
        ("<b>odd", "clean", {"memory": True, "state": "running", "description": "<i>"}),
        ("here", "clean", {"current": True, "size_bytes": 3 << 20, "created_at": timezone.now()}),
        ("over", "here", {"kind": "external", "no_revert": "It is an overlay.", "no_delete": "It stays."}),
    ):
        Snapshot.objects.create(vm=vm, name=name, parent=parent, **values)
    with django_assert_max_num_queries(SNAPSHOT_QUERIES):
        text = browser.get(f"/vms/{vm.pk}/snapshots").content.decode()
    assert re.findall(r'data-snapshot="([^"]+)"', text) == ["clean", "&lt;b&gt;odd", "here", "over"]
    assert text.count("You are here") == 1
    assert "3 MiB" in text
    assert "<b>odd" not in text
    assert "<i>" not in text
    assert 'data-why="It is an overlay."' in text
    assert "The guest goes on from that moment, with the memory of then: it runs." in text
    assert "The 3 snapshots that were taken after this one stay." in text
    assert len(re.findall(r"<ul\b", text)) == text.count("</ul>")
    capabilities = text[text.index('href="/capabilities"') :]
    assert 'class="n"' not in capabilities[: capabilities.index("</a>")], (
        "what a page counts is none of the navigation's"
    )


def test_snapshots_when_many_then_the_same_queries(browser, django_assert_max_num_queries):
    vm = VMFactory(snapshots_read_at=timezone.now())
    Snapshot.objects.bulk_create(Snapshot(vm=vm, name=f"s{n}", parent=f"s{n - 1}" if n else "") for n in range(300))
    with django_assert_max_num_queries(SNAPSHOT_QUERIES):
        assert browser.get(f"/vms/{vm.pk}/snapshots").content.count(b"data-snapshot=") == 300


@pytest.mark.parametrize(
    ("lacks", "state", "values", "said"),
    [
        (["snapshots.disk"], "shutoff", {}, "No snapshots.disk here."),
        ([], "shutoff", {}, "Reading …"),
        ([], "shutoff", {"snapshots_read_at": timezone.now()}, "No snapshots yet"),
        ([], "crashed", {"snapshots_read_at": timezone.now()}, "A snapshot is taken of a guest that runs"),
        (["snapshots.live"], "running", {}, "No snapshots.live here."),
        (["snapshots.memory"], "running", {}, "No snapshots.memory here."),
        ([], "running", {}, "boots from its disks as after a power cut"),
        ([], "shutoff", {}, "there is no memory to keep"),
    ],
)
def test_snapshots_when_none_or_not_possible_then_says_why(browser, lacks, state, values, said):
    weak = {**ALL_SUPPORTED, **{name: {"supported": False, "reason": f"No {name} here."} for name in lacks}}
    vm = VMFactory(hypervisor=HypervisorFactory(capabilities=weak), state=state, **values)
    assert said in re.sub(r"\s+", " ", browser.get(f"/vms/{vm.pk}/snapshots").content.decode())


def test_snapshots_parts_when_asked_for_then_they_alone_and_of_a_gone_guest_a_word(browser):
    vm = VMFactory(snapshots_read_at=timezone.now())
    assert b"<html" not in browser.get(f"/vms/{vm.pk}/snapshots/tree").content
    assert b"take-memory" in browser.get(f"/vms/{vm.pk}/snapshots/take").content
    assert browser.get(f"/vms/{vm.pk}/snapshots/secrets").status_code == 404
    VM.objects.filter(pk=vm.pk).update(gone_at=timezone.now())
    assert b"This guest is gone." in browser.get(f"/vms/{vm.pk}/snapshots/tree").content
    assert browser.get(f"/vms/{vm.pk}/snapshots").status_code == 302


def test_snapshots_when_a_viewer_looks_then_nothing_can_be_done_and_it_says_why(viewer, client_for):
    vm = VMFactory(snapshots_read_at=timezone.now())
    Snapshot.objects.create(vm=vm, name="s")
    page = client_for(viewer).get(f"/vms/{vm.pk}/snapshots").content.decode()
    buttons = re.findall(r"<button[^>]*data-snapshot-(?:take|revert|delete)\b[^>]*>", page)
    assert len(buttons) == 3
    assert all('aria-disabled="true"' in button for button in buttons)
