"""The template tags: units, ages, shares, state words, links. Each is a pure function; templates are rendered where it matters."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from django.conf import settings
from django.template import Context, Template
from django.test import RequestFactory
from django.utils import timezone, translation

from dashboard.templatetags import ui
from hosts.choices import LinkState
from operations.choices import State as OperationState
from vms.choices import State as GuestState

DASH = "\N{EN DASH}"
NOW = datetime(2026, 11, 21, 9, 41, 8, tzinfo=UTC)


def render(source: str, **context: object) -> str:
    return Template("{% load ui %}" + source).render(Context(context))


def sprite() -> str:
    return (settings.BASE_DIR / "static/img/icons.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, DASH), (0, "0 B"), (1536, "1.5 KiB"), (8 * 1024**3, "8 GiB"), (512 * 1024**2, "512 MiB")],
)
def test_size_when_bytes_then_binary_units(value: int | None, words: str) -> None:
    assert ui.size(value) == words


def test_rate_when_bytes_a_second_then_unit_a_second() -> None:
    assert ui.rate(1536) == "1.5 KiB/s"
    assert ui.rate(None) == DASH


@pytest.mark.parametrize(("ratio", "words"), [(0.634, "63 %"), (1.0, "100 %"), (0.0, "0 %"), (None, DASH)])
def test_percent_when_ratio_then_rounded(ratio: float | None, words: str) -> None:
    assert ui.percent(ratio) == words


@pytest.mark.parametrize(("ratio", "width"), [(0.634, "63.4%"), (1.7, "100.0%"), (-1.0, "0.0%"), (None, "0.0%")])
def test_share_when_out_of_range_then_kept_inside(ratio: float | None, width: str) -> None:
    assert ui.share(ratio) == width


def test_of_when_unknown_or_nothing_then_none() -> None:
    assert ui.of(1, 4) == 0.25
    assert ui.of(None, 4) is None
    assert ui.of(1, 0) is None
    assert ui.of(1, None) is None


@pytest.mark.parametrize(("ratio", "css"), [(0.79, ""), (0.8, "hot"), (0.9, "full"), (None, "")])
def test_level_when_ratio_rises_then_amber_then_red(ratio: float | None, css: str) -> None:
    assert ui.level(ratio) == css


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.41, "0.4 s"),
        (3, "3 s"),
        (42.7, "42 s"),
        (60, "1 min"),
        (93, "1 min 33 s"),
        (3600 + 26 * 60 + 59, "1 h 26 min"),
        (86400, "1 d"),
        (41 * 86400 + 3600, "41 d 1 h"),
        (None, DASH),
    ],
)
def test_duration_when_span_then_two_largest_units(seconds: float | None, words: str) -> None:
    assert ui.duration(seconds) == words


def test_between_when_not_ended_then_until_now() -> None:
    start = timezone.now() - timedelta(seconds=90)
    assert ui.between(None, None) is None
    assert ui.between(start, start + timedelta(seconds=4)) == 4
    assert 90 <= (ui.between(start, None) or 0) < 100


@pytest.mark.parametrize(
    ("age", "style", "words"),
    [
        (timedelta(milliseconds=200), "ago", "now"),
        (timedelta(seconds=12), "ago", "12 s ago"),
        (timedelta(minutes=14, seconds=59), "ago", "14 min ago"),
        (timedelta(hours=3), "ago", "3 h ago"),
        (timedelta(days=2), "ago", "19 Nov 09:41"),
        (timedelta(days=400), "ago", "17 Oct 2025"),
        (timedelta(days=41), "age", "41 d"),
        (timedelta(minutes=1), "clock", "09:40:08"),
        (timedelta(days=1), "clock", "20 Nov 09:41"),
    ],
)
def test_ago_when_older_then_coarser(age: timedelta, style: str, words: str) -> None:
    with patch("django.utils.timezone.now", return_value=NOW):
        element = ui.ago(NOW - age, style)
    assert re.sub("<[^>]+>", "", element) == words


def test_ago_when_rendered_then_exact_time_is_in_title_and_attribute() -> None:
    with patch("django.utils.timezone.now", return_value=NOW):
        element = render("{% ago at %}", at=NOW - timedelta(minutes=14))
    assert 'datetime="2026-11-21T09:27:08.000Z"' in element
    assert 'title="21 Nov 2026, 09:27:08"' in element


def test_ago_when_unknown_then_dash() -> None:
    assert render("{% ago at %}", at=None) == DASH


def test_state_label_when_state_of_the_contract_then_a_word() -> None:
    for choices in (GuestState, LinkState):
        for value, label in choices.choices:
            assert ui.state_label(value) == str(label)
    for value, label in OperationState.choices:
        assert ui.state_label(ui.op_class(value)) == str(label)
    assert ui.state_label("made_up") == "made_up"


def test_glyph_when_any_state_then_sprite_has_its_shape() -> None:
    shapes = sprite()
    for state in ui.STATE_LABELS:
        name = re.search(r"#([\w-]+)", ui.glyph(state))
        assert name is not None
        assert f'id="{name.group(1)}"' in shapes, state
    assert "spin" in ui.glyph("op-running")
    assert "spin" not in ui.glyph("running")


def test_icon_when_named_then_hidden_from_screen_readers() -> None:
    element = render('{% icon "play" "i t3" %}')
    assert 'class="i t3" aria-hidden="true"' in element
    assert "icons.svg#play" in element


def test_spark_points_when_values_then_fixed_scale() -> None:
    assert ui.spark_points([0.0, 0.5, 1.0]) == "0.0,19.0 36.0,10.0 72.0,1.0"
    assert ui.spark_points([2.0, None]) == "0.0,1.0 72.0,19.0"
    assert ui.spark_points([]) == "0.0,19.0 72.0,19.0"


def test_overcommit_when_promised_more_than_there_is_then_part_beyond() -> None:
    parts = ui.overcommit(label="vCPU", used=2, promised=6, capacity=4)
    assert parts["ratio"] == 1.5
    assert (parts["inside"], parts["cap"]) == ("41.67%", "41.67%")
    assert parts["beyond"] == "20.83%"
    assert parts["used"] == "20.83%"


def test_overcommit_when_not_known_then_says_so() -> None:
    element = render('{% overcommit label="vCPU" used=None promised=None capacity=None %}')
    assert "vCPU: not known" in " ".join(element.split())
    assert 'class="x"' not in element


def test_overcommit_when_far_beyond_then_ends_at_the_edge() -> None:
    assert ui.overcommit(label="m", used=None, promised=100, capacity=1)["beyond"] == "58.33%"


@pytest.mark.parametrize(
    ("path", "href", "current"),
    [
        ("/vms", "/vms", True),
        ("/vms/0198", "/vms", True),
        ("/vmsx", "/vms", False),
        ("/hosts", "/", False),
        ("/", "/", True),
        ("/vms?q=is:stale", "/vms?q=is:stale", True),
        ("/vms", "/vms?q=is:stale", False),
    ],
)
def test_nav_current_when_page_is_in_section_then_marked(path: str, href: str, current: bool) -> None:
    context = Context({"request": RequestFactory().get(path)})
    element = Template("{% load ui %}{% nav_current href %}").render(Context({**context.flatten(), "href": href}))
    assert (element == 'aria-current="page"') is current


def test_query_when_changed_then_other_keys_stay() -> None:
    request = RequestFactory().get("/vms", {"q": "state:running", "cursor": "abc"})
    element = render('{% query ordering="-cpu" cursor=None as url %}{{ url|safe }}', request=request)
    assert element == "?q=state%3Arunning&ordering=-cpu"
    assert render("{% query q=None cursor=None %}", request=request) == "/vms"


def test_curl_when_body_has_quotes_then_the_shell_gets_it_whole() -> None:
    request = RequestFactory().get("/")
    line = render("{% curl 'POST' '/vms' body as line %}{{ line|safe }}", request=request, body={"name": "it's"})
    assert "-X POST" in line
    assert "http://testserver/api/v1/vms" in line
    assert """-d '{"name": "it'\\''s"}'""" in line


def test_pattern_when_name_has_signs_then_only_that_name_matches() -> None:
    source = ui.pattern("web.prod-01/x")
    assert source == r"web\u002eprod\u002d01\u002fx"
    assert re.fullmatch(source, "web.prod-01/x")
    assert not re.fullmatch(source, "webxprod-01/x")


def test_js_words_when_english_then_states_only() -> None:
    with translation.override("en"):
        words = json.loads(re.sub("<[^>]+>", "", ui.js_words()))
    assert words["states"]["shutoff"] == "Shut off"
    assert "catalog" not in words


def test_js_words_when_text_is_hostile_then_it_cannot_end_the_element() -> None:
    with patch.dict(ui.STATE_LABELS, {"running": "</script><script>alert(1)</script>"}):
        assert "</script><script>" not in ui.js_words()


def test_action_when_not_allowed_then_reason_and_still_focusable() -> None:
    element = render(
        '{% include "ui/_action.html" with action="start" label="Start" allowed=0 reason=reason vm="1" name="web" %}',
        reason='"quoted" <b>',
    )
    assert 'aria-disabled="true"' in element
    assert 'data-why="&quot;quoted&quot; &lt;b&gt;"' in element
    assert " disabled" not in element.replace("aria-disabled", "")


def test_meter_when_nearly_full_then_red_and_labelled() -> None:
    element = render('{% include "ui/_meter.html" with ratio=0.95 label="95 percent" %}')
    assert 'width="95.0%"' in element
    assert 'aria-label="95 percent"' in element
    assert "meter full" in " ".join(element.split())
