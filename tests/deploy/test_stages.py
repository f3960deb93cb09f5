"""The stages of scripts/test read only files in which their markers stand."""

from __future__ import annotations

import re

from tests.labs.local import ROOT

STAGES = re.compile(r"\bmark\.(real|browser|chaos|alone|lab|services|papers)\b")


def test_markers_of_stages_stand_in_test_files_alone() -> None:
    """A test that got one from elsewhere, a base class or a plug-in, would be left out of every stage."""
    others = {path for path in (ROOT / "tests").rglob("*.py") if not path.name.startswith("test_")}
    assert others
    assert [path.name for path in others if STAGES.search(path.read_text(encoding="utf-8"))] == []
    script = (ROOT / "scripts" / "test").read_text(encoding="utf-8")
    assert all(f"marked files {name}" in script for name in ("lab", "alone", "services", "papers", '"$MACHINE"'))
