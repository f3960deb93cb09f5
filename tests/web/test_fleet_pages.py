"""The capability matrix and the advisor's page: what they say, at what price, and what hostile input makes of them."""

from __future__ import annotations

import csv
import html
import io
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.units import GIB
from dashboard.features import GROUPS, LABELS, instead
from drivers.types import INSTEAD, Feature
from tests.factories import ALL_SUPPORTED, HostFactory, HypervisorFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from hosts.models import Hypervisor

pytestmark = pytest.mark.django_db

HOSTILE = "\"><script>alert(1)</script>{{ 7 }}'&"
PAGES = ("/capabilities", "/capabilities/table", "/capabilities.csv", "/advise", "/advise/answer")


@pytest.fixture
def browser(viewer: User, client_for: Callable[..., Client]) -> Client:
    return client_for(viewer)


FIELDS = (
    "host", "driver", "type", "state", "diff", "open", "guest_os", "isolation", "vcpus", "memory_gib", "start_seconds",
    "console", "snapshots", "nested", "migration",
)  # fmt: skip


def lacking(*features: Feature, reason: str = "It has none.") -> dict[str, Any]:
    return {**ALL_SUPPORTED, **{str(one): {"supported": False, "reason": reason} for one in features}}


def make(name: str, driver: str = "qemu", **facts: Any) -> Hypervisor:
    return HypervisorFactory(host=HostFactory(name=name), driver=driver, **facts)


def text_of(answer: Any) -> str:
    """As one line."""
    assert answer.status_code == 200, answer.status_code
    return " ".join(html.unescape(answer.content.decode()).split())


def table(answer: Any) -> list[list[str]]:
    return list(csv.reader(io.StringIO(answer.content.decode())))


# -- words -----------------------------------------------------------------------------------------------------------------
def test_every_feature_has_a_group_words_and_a_line_of_what_does_its_job() -> None:
    grouped = [feature for _label, features in GROUPS for feature in features]
    assert sorted(grouped) == sorted(Feature)
    assert set(INSTEAD) == set(Feature) == set(LABELS)
    for feature, ways in INSTEAD.items():
        assert all(way and feature not in way for way in ways)


def test_instead_when_only_some_is_there_then_only_that() -> None:
    assert instead("reset", lambda _: True) == "Instead: Reboot; or Force off, then Start."
    assert instead("reset", lambda step: step != "reboot") == "Instead: Force off, then Start."
    assert instead("reset", lambda step: step == "start") == ""
    assert instead("of a later version", lambda _: True) == ""


# -- the matrix ------------------------------------------------------------------------------------------------------------
def test_matrix_when_something_lacks_then_its_reason_stands_in_a_button_with_what_helps(browser: Client) -> None:
    make("kvm-01")
    make("ct-01", "lxc", capabilities=lacking(Feature.RESET, reason="Containers have no reset button."))
    page = text_of(browser.get("/capabilities"))
    (button,) = re.findall(r'<button[^>]*aria-label="Reset on ct-01, lxc: no"[^>]*>', page)
    assert 'data-why="Containers have no reset button. Instead: Reboot; or Force off, then Start."' in button
    assert page.count('<span class="vh">yes</span>') == 2 * len(Feature) - 1


def test_matrix_when_never_probed_then_says_so_and_is_no_difference(browser: Client) -> None:
    make("kvm-01")
    make("new", capabilities={}, state="connecting", virtualization_type="")
    page = text_of(browser.get("/capabilities"))
    assert 'aria-label="Start on new, qemu: not probed" data-why="Not probed: it has never been reached."' in page
    assert "Not probed yet, since never reached:" in page
    assert "They can all do the same." in text_of(browser.get("/capabilities?diff=1"))


def test_matrix_when_a_feature_is_newer_than_the_probe_then_not_probed(browser: Client) -> None:
    known = {key: value for key, value in ALL_SUPPORTED.items() if key != "screenshot"}
    make("old", capabilities=known)
    assert "Not probed: it was last asked before this was looked for." in text_of(browser.get("/capabilities"))


def test_matrix_when_only_differences_are_wanted_then_the_rest_is_left_out(browser: Client) -> None:
    make("kvm-01")
    make("ct-01", "lxc", capabilities=lacking(Feature.RESET, Feature.EVENTS))
    page = text_of(browser.get("/capabilities/table?diff=1"))
    assert re.findall(r"<code>([\w.-]+)</code>", page) == ["reset", "events"]
    assert f"{len(Feature) - 2} capabilities on which all agree are left out." in page


def test_matrix_when_there_are_many_then_a_column_a_driver_that_opens(browser: Client) -> None:
    for number in range(15):
        lacks = [Feature.RESET] if number < 5 else []
        make(f"kvm-{number:02d}", capabilities=lacking(*lacks, Feature.XML))
    make("ct-01", "lxc")
    page = text_of(browser.get("/capabilities"))
    assert 'aria-label="Reset on qemu: 10 of 15"' in page
    assert "It has none. (kvm-00, kvm-01, kvm-02 and 2 more)" in page
    assert 'aria-label="Show its definition on qemu: none of 15"' in page
    assert 'href="/capabilities?open=qemu"' in page
    opened = text_of(browser.get("/capabilities?open=qemu"))
    assert 'aria-label="Reset on kvm-04, qemu: no"' in opened
    assert opened.count('<th scope="col"') == 17
    assert opened.count('href="/capabilities?" aria-expanded="true"') == 15, "each leads back to one for all"


@pytest.mark.parametrize(
    ("query", "shown"),
    [("driver=lxc", "ct-01"), ("type=os_level", "ct-01"), ("state=offline", "far"), ("driver=nonsense", "")],
)
def test_matrix_when_filtered_then_only_those(browser: Client, query: str, shown: str) -> None:
    make("kvm-01")
    make("ct-01", "lxc", virtualization_type="os_level")
    make("far", state="offline")
    page = text_of(browser.get(f"/capabilities/table?{query}"))
    assert re.findall(r'href="/hosts/[0-9a-f-]+">([\w-]+)</a>', page) == ([shown] if shown else [])
    assert ("No hypervisor matches" in page) == (not shown)


def test_csv_when_downloaded_then_every_hypervisor_with_its_reasons_and_no_formula(browser: Client) -> None:
    make("=cmd()", capabilities=lacking(Feature.RESET, reason="None here."))
    make("kvm-02", capabilities={})
    answer = browser.get("/capabilities.csv")
    rows = table(answer)
    assert answer["Content-Disposition"] == 'attachment; filename="capabilities.csv"'
    assert rows[0] == ["capability", "'=cmd() qemu", "kvm-02 qemu"]
    assert {row[0]: row[1:] for row in rows}["reset"] == ["no: None here.", "not probed"]
    assert {row[0] for row in rows[4:]} == set(map(str, Feature))
    assert [row[0] for row in table(browser.get("/capabilities.csv?diff=1"))[4:]] == []


# -- the advisor -----------------------------------------------------------------------------------------------------------
def test_advice_when_asked_by_the_form_then_ranked_refused_and_as_a_call(browser: Client) -> None:
    make("kvm-01")
    make("ct-01", "lxc", virtualization_type="os_level")
    page = text_of(browser.get("/advise?guest_os=windows&memory_gib=1,5&console=any&nested="))
    assert "1 would do" in page
    assert "Its guests share the host's Linux kernel" in page
    assert f'{{"guest_os": "windows", "console": true, "memory_bytes": {int(1.5 * GIB)}}}' in page
    assert 'value="1,5"' in page


@pytest.mark.parametrize(
    "query", ["vcpus=many", "vcpus=0", "memory_gib=-1", "memory_gib=1e400", "guest_os=beos", "start_seconds=nan"]
)
def test_advice_when_a_value_is_none_then_says_which(browser: Client, query: str) -> None:
    make("kvm-01")
    page = text_of(browser.get(f"/advise/answer?{query}"))
    assert 'role="alert"' in page
    assert browser.get(f"/advise?{query}").status_code == 200


def test_advice_when_many_would_do_then_ten_and_the_rest_folded(browser: Client) -> None:
    for number in range(13):
        make(f"kvm-{number:02d}")
    page = text_of(browser.get("/advise"))
    assert "13 would do" in page
    assert (
        page.index('<span class="rank">10</span>') < page.index("3 more") < page.index('<span class="rank">11</span>')
    )


def test_both_when_there_is_no_hypervisor_then_say_what_to_do(browser: Client) -> None:
    for path in ("/capabilities", "/advise"):
        assert "No hypervisor yet" in text_of(browser.get(path))


# -- who may, what it costs, what it withstands ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("/capabilities", 8),
        ("/capabilities/table", 4),
        ("/capabilities.csv", 4),
        ("/advise", 11),
        ("/advise/answer", 7),
    ],
)
def test_a_page_costs_the_same_whatever_the_fleet(
    browser: Client, path: str, queries: int, django_assert_num_queries: Callable[..., Any]
) -> None:
    make("kvm-first")
    browser.get(path)
    with django_assert_num_queries(queries):
        browser.get(path)
    for number in range(200):
        make(f"kvm-{number:03d}", "qemu" if number % 2 else "lxc")
    with django_assert_num_queries(queries):
        assert browser.get(f"{path}?open=qemu&open=lxc").status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_only_read_and_only_by_who_is_signed_in(path: str, browser: Client, client: Client) -> None:
    assert browser.get(path).status_code == 200
    assert browser.post(path).status_code == 405
    assert client.get(path, headers={"Accept": "text/html"}).status_code == 302


@pytest.mark.parametrize("path", PAGES)
def test_what_others_chose_is_text(browser: Client, path: str) -> None:
    make(HOSTILE, capabilities=lacking(Feature.RESET, reason=HOSTILE), state="offline")
    make("kvm-02", capabilities=lacking(Feature.RESET, reason=HOSTILE))
    raw = browser.get(path).content.decode()
    assert "<script>alert" not in raw or path.endswith(".csv")
    assert "{{ 7 }}" in html.unescape(raw) or path == "/advise/answer"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.dictionaries(
        st.sampled_from(FIELDS),
        st.text(max_size=60) | st.sampled_from(["1", "any", "linux", "-1", "1e999", "inf", "nan"]),
    )
)
def test_no_query_breaks_a_page(browser: Client, query: dict[str, str]) -> None:
    make(f"kvm-{uuid4()}")
    for path in PAGES:
        assert browser.get(path, query).status_code == 200, path
