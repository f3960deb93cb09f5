"""What is generated is what is committed."""

from __future__ import annotations

import importlib.util

import pytest

from tests.labs.local import ROOT

spec = importlib.util.spec_from_file_location("docs", ROOT / "scripts" / "docs.py")
docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docs)


@pytest.mark.parametrize("name", sorted(docs.PAGES))
def test_reference_page_is_current(name: str) -> None:
    assert (docs.REFERENCE / name).read_text() == docs.PAGES[name](), "run `make docs`"
