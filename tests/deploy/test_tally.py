"""Several pytest runs are counted in one closing line."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.labs.local import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FIRST = """
import pytest
def test_good(): pass
def test_bad(): assert 1 == 2
@pytest.mark.skip(reason="not today")
def test_left_out(): pass
@pytest.mark.xfail
def test_known(): assert 0
"""
SECOND = "def test_good(): pass\n"


def test_last_run_counts_and_names_what_happened_in_the_first(tmp_path: Path) -> None:
    (tmp_path / "test_first.py").write_text(FIRST)
    (tmp_path / "test_second.py").write_text(SECOND)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        plugins = ["-p", "tests.tally", "-p", "no:django", "-p", "no:randomly"]
        environment = {**os.environ, "VMM_TEST_TALLY": str(tmp_path / "tally"), "PYTHONPATH": str(ROOT)}
        environment.pop("PYTEST_XDIST_WORKER", None)
        command = [sys.executable, "-m", "pytest", "-ra", *plugins, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    first, second = run("-n", "1", "test_first.py"), run("test_second.py")
    assert (first.returncode, second.returncode) == (1, 0)
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed in" in first.stdout.splitlines()[-1]
    assert "1 failed, 2 passed, 1 skipped, 1 xfailed in" in second.stdout.splitlines()[-1]
    assert "FAILED test_first.py::test_bad" in second.stdout
    assert "not today" in second.stdout
