"""Writes the reference pages that are made from the code: `make docs`. A test compares them with what is committed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vmmanager.environment import BASE_DIR, Environment  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCE = ROOT / "docs" / "reference"


def settings() -> str:
    """Every environment variable, from the one place that reads them."""
    rows = []
    for name, field in Environment.model_fields.items():
        default = field.default
        if isinstance(default, Path):
            default = f"{default.relative_to(BASE_DIR)}/"
        shown = (
            "none" if default in (None, "") else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        )
        rows.append(f"| `VMM_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(
        [
            "# Settings",
            "",
            "Environment variables, read when a process starts. A wrong value ends the start with a sentence that says what is wrong.",
            "",
            "| Variable | Default | Meaning |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


PAGES: dict[str, Callable[[], str]] = {"settings.md": settings}


def main() -> None:
    """Write each page."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make())


if __name__ == "__main__":
    main()
