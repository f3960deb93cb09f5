"""The page of what each driver has shown is what the stages before have shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivers import registry
from drivers.types import Feature, Proof
from tests import scorecard


@pytest.mark.papers
def test_the_page_says_what_this_run_has_shown():
    directory = os.environ.get("VMM_TEST_SCORES")
    assert directory, "run by scripts/test, after the stages that show something"
    made = scorecard.page(scorecard.read(Path(directory)))
    assert scorecard.PAGE.read_text() == made, "python -m tests.scorecard writes it anew"


@pytest.mark.papers
def test_each_driver_with_a_lab_has_shown_or_refused_everything_it_could():
    scores = scorecard.read(Path(os.environ["VMM_TEST_SCORES"]))
    for kind in registry.BUILT_IN:
        driver = registry.get(kind)
        if driver.proof is Proof.NONE or kind in scorecard.INTERNAL:
            continue
        silent = [feature for feature in Feature if feature not in driver.features and feature not in scores[kind]]
        assert not silent, f"{kind} never refused {silent}"
        assert scorecard.WORKS in scores[kind].values()


def test_what_worked_once_works(tmp_path):
    (tmp_path / "a.json").write_text('{"qemu": {"start": "works", "reset": "refused"}}')
    (tmp_path / "b.json").write_text('{"qemu": {"start": "refused"}, "lxc": {"reset": "refused"}}')
    assert scorecard.read(tmp_path) == {"qemu": {"start": "works", "reset": "refused"}, "lxc": {"reset": "refused"}}
