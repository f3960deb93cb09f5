"""Figures: one row a figure, printed as it is found, and all of them as a table at the end."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COLUMNS = ("bench", "figure", "vmmanager", "floor", "ratio", "aim", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        ours: The product's value, in `unit`.
        floor: The same without the product (or with a tenth of the work, where `against` says so), from the same run.
        aim: What was asked for, as a sentence; empty for what is only told.
        met: Whether it is so.
        against: What the floor is.
    """

    bench: str
    figure: str
    ours: float
    unit: str = "ms"
    floor: float | None = None
    against: str = ""
    aim: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """One word."""
        return {True: "met", False: "MISSED", None: ""}[self.met]

    @property
    def ratio(self) -> str:
        """Ours by the floor's; nothing where that says nothing (a floor of nought, or below)."""
        return f"{self.ours / self.floor:.2f} x" if self.floor and self.floor > 0 and self.ours > 0 else ""

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of `COLUMNS`."""
        floor = "" if self.floor is None else f"{shown(self.floor, self.unit)} ({self.against})"
        return self.bench, self.figure, shown(self.ours, self.unit), floor, self.ratio, self.aim, self.verdict

    def line(self) -> str:
        """One line for the terminal, while the rest is still being measured."""
        _, figure, ours, floor, ratio, aim, verdict = self.cells()
        parts = [f"{self.bench}: {figure}: {ours}"]
        if floor:
            parts.append(f"floor {floor}")
        if ratio:
            parts.append(ratio)
        if aim:
            parts.append(f"aim {aim}: {verdict}")
        return "; ".join(parts)


def shown(value: float, unit: str) -> str:
    """A value with its unit, to three significant digits or so."""
    digits = 0 if abs(value) >= 100 or unit == "" else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def ms(seconds: float) -> float:
    """Milliseconds."""
    return seconds * 1000


def plain_table(rows: Iterable[Row]) -> str:
    """For the terminal."""
    lines = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def markdown_table(rows: Iterable[Row]) -> str:
    """For a file."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    return "\n".join(lines)


def machine() -> str:
    """What it was measured on, without its name."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "an unknown CPU")
    return f"{os.cpu_count()} cores of {cpu}, Linux {platform.release()}, Python {platform.python_version()}"


def load() -> str:
    """How busy the machine is: others' work is in every figure."""
    return " ".join(f"{value:.1f}" for value in os.getloadavg())
