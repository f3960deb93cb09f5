"""What the Hyper-V driver knows without a host: states, faults, quoting, pictures, its score card."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from drivers import registry
from drivers.errors import Denied, DriverError, NotFound, Timeout, Unsupported
from drivers.hyperv import errors
from drivers.hyperv.picture import pixels_of, png
from drivers.hyperv.states import PAUSED, SAVED, STATES, state_of
from drivers.hyperv.wire import guid, quoted, select
from drivers.types import Feature, GuestState

ROOT = Path(__file__).resolve().parents[2]


def test_every_state_of_the_table_is_told_and_others_are_unknown():
    assert state_of(2) == (GuestState.RUNNING, "")
    assert all(STATES[number][0] is GuestState.SHUTOFF for number in SAVED)
    assert all(STATES[number][0] is GuestState.PAUSED for number in PAUSED)
    assert state_of(None)[0] is state_of(0)[0] is state_of(65535)[0] is GuestState.UNKNOWN


def test_texts_are_quoted_for_wql():
    assert quoted("a'b\\c") == "'a\\'b\\\\c'"
    assert select("Name", "X", Name="' OR ''='") == "SELECT Name FROM X WHERE Name = '\\' OR \\'\\'=\\''"
    assert guid("0b3cf0f5-0000-0000-0000-000000000001") == "0B3CF0F5-0000-0000-0000-000000000001"
    assert guid("0b3cf0f5000000000000000000000001") is None


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (5, "Access is denied.", Denied),
        (2150858793, "timed out", Timeout),
        (2150858752, "", NotFound),
        (2150859002, "The WMI service returned an 'access denied' error. 0x80041003", Denied),
        (2150859002, "namespace (0x8004100E)", Unsupported),
        ("wsman:Whatever", "new", DriverError),
        (None, None, DriverError),
    ],
)
def test_faults_become_errors(code, text, error):
    assert type(errors.fault(code, text, None)) is error


def test_a_picture_keeps_its_colours():
    raw = struct.pack("<4H", 0xF800, 0x07E0, 0x001F, 0xFFFF)
    picture = png(raw, 2, 2)
    data = picture[picture.index(b"IDAT") + 4 : picture.index(b"IEND") - 8]
    assert zlib.decompress(data) == b"\0\xff\0\0\0\xff\0" + b"\0\0\0\xff\xff\xff\xff"
    assert pixels_of(["1", "2", "255"]) == b"\x01\x02\xff"


def test_the_score_card_says_what_is_declared():
    lines = (ROOT / "drivers/hyperv/STATUS.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    assert [row[0] for row in rows] == [str(feature) for feature in Feature]
    driver = registry.get("hyperv")
    for name, word in rows:
        assert (word == "done") is (Feature(name) in driver.features), name
        assert word in {"done", "exempt", "todo"}
