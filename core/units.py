"""Bytes and durations between machines and people. Values in code are bytes and seconds; words are made only here."""

from __future__ import annotations

KIB = 1024
MIB = 1024**2
GIB = 1024**3
TIB = 1024**4

_STEPS = ((1024**5, "PiB"), (TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


def format_bytes(value: int | float | None) -> str:
    """`1536` → `1.5 KiB`: binary units, one decimal at most; an em dash where unknown."""
    if value is None:
        return "–"  # noqa: RUF001 - the dash that typography has for "not known"
    for size, name in _STEPS:
        if abs(value) >= size:
            return f"{value / size:.1f}".removesuffix(".0") + f" {name}"
    return f"{value:.0f} B"


def format_duration(seconds: float) -> str:
    """`93` → `1 min`: the largest unit that fits, as ages are shown."""
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {name}"
    return f"{int(seconds)} s"
