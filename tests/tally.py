"""Several pytest runs, one closing line: a plug-in that scripts/test loads.

Each run puts its reports into the file that VMM_TEST_TALLY names and counts those of the earlier runs as its own in the
summary, so that the last line of all is about all of them, and names what failed in any.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

KEPT = ("passed", "failed", "error", "skipped", "xfailed", "xpassed", "rerun")


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """After this run's failures are shown, before its short summary and closing line."""
    if hasattr(config, "workerinput"):  # a process of xdist: its reports reach the one that counts
        return
    own = [
        (outcome, _to_data(report, config)) for outcome in KEPT for report in terminalreporter.stats.get(outcome, [])
    ]
    with Path(os.environ["VMM_TEST_TALLY"]).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two stages may end at once
        file.seek(0)
        earlier = json.loads(file.read() or "[]")
        file.truncate(0)
        file.write(json.dumps(earlier + own, default=str))
    for outcome, data in earlier:
        terminalreporter.stats.setdefault(outcome, []).append(_from_data(data, config))


def _to_data(report: pytest.TestReport, config: pytest.Config) -> dict[str, Any]:
    data: dict[str, Any] = config.hook.pytest_report_to_serializable(config=config, report=report)
    data.pop("node", None)  # xdist's: the process it ran in
    return data


def _from_data(data: dict[str, Any], config: pytest.Config) -> pytest.TestReport:
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=data)
    if isinstance(report.longrepr, list):  # why it was skipped is a tuple, which JSON does not know
        report.longrepr = tuple(report.longrepr)
    return report
