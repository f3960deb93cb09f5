"""The index of driver pages names every driver, and leads to pages that are there."""

from __future__ import annotations

import re

import pytest

from drivers import catalog, registry
from tests.labs.local import ROOT

DOCS = ROOT / "docs" / "drivers"
INDEX = (DOCS / "README.md").read_text(encoding="utf-8")
PROOFS = {
    "real": "itself",
    "partly": "libvirt's driver",
    "simulator": "a simulator that others maintain",
    "stand_in": "a stand-in of our own",
    "none": "nothing",
}


@pytest.mark.parametrize("name", [kind for kind in registry.BUILT_IN if kind != "fake"])
def test_a_driver_when_looked_up_in_the_index_then_named_with_what_it_was_proven_on(name: str) -> None:
    (row,) = [line for line in INDEX.splitlines() if f"(`{name}`)" in line]
    kind = catalog.find(name)
    assert not kind.available.supported or PROOFS[kind.proof] in row


def test_the_index_when_followed_then_every_drivers_page_is_there() -> None:
    linked = set(re.findall(r"\]\((\w+\.md)\)", INDEX))
    assert linked
    for page in linked:
        assert (DOCS / page).exists(), page
