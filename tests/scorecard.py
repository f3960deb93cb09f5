"""What the conformance suite has shown, driver by capability: a plug-in that collects it, and the page made of it.

`tests.drivers.conformance` says `works` where it has seen a capability work and `refused` where it was refused with its
reason. Each pytest process writes what it saw into VMM_TEST_SCORES; the last stage of scripts/test compares the page with it.

    python -m tests.scorecard DIRECTORY [--write]     the page of these scores; --write: into docs/reference/conformance.md
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections import defaultdict
from pathlib import Path

from drivers import registry
from drivers.types import Feature, Proof

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "conformance.md"
WORKS, REFUSED, UNPROVEN = "works", "refused", "not provable here"
INTERNAL = {"fake"}

_seen: dict[str, dict[str, str]] = defaultdict(dict)

PROOFS = {
    Proof.REAL: "the real thing",
    Proof.PARTLY: "libvirt's real driver over stand-in tools",
    Proof.SIMULATOR: "a simulator",
    Proof.STAND_IN: "a stand-in of ours",
    Proof.NONE: "nothing",
}


def works(kind: str, *features: Feature) -> None:
    """These have just been seen to work with a driver of this kind."""
    for feature in features:
        _seen[kind][str(feature)] = WORKS


def refused(kind: str, *features: Feature) -> None:
    """These were refused with the reason that the driver gives."""
    for feature in features:
        _seen[kind].setdefault(str(feature), REFUSED)


def pytest_sessionfinish() -> None:
    """Write down what this process saw."""
    directory = os.environ.get("VMM_TEST_SCORES")
    if directory and _seen:
        Path(directory).mkdir(parents=True, exist_ok=True)
        Path(directory, f"{uuid.uuid4()}.json").write_text(json.dumps(_seen))


def read(directory: Path) -> dict[str, dict[str, str]]:
    """All processes' scores together; what was seen to work once works."""
    together: dict[str, dict[str, str]] = defaultdict(dict)
    for file in sorted(directory.glob("*.json")):
        for kind, answers in json.loads(file.read_text()).items():
            for feature, word in answers.items():
                if together[kind].get(feature) != WORKS:
                    together[kind][feature] = word
    return together


def page(scores: dict[str, dict[str, str]]) -> str:
    """The page: a row a capability, a column a driver."""
    kinds = [kind for kind in registry.BUILT_IN if kind not in INTERNAL]
    drivers = [registry.get(kind) for kind in kinds]
    lines = [
        "# What each driver has shown",
        "",
        "Made from the conformance suite's own runs (`make test` compares): **works** was seen to work, *refused* was refused with",
        "the reason that people are given, *not provable here* is declared or known, with nothing at hand to try it on.",
        "",
        "| driver | shown on |",
        "| --- | --- |",
        *(f"| {driver.label} (`{driver.kind}`) | {PROOFS[driver.proof]} |" for driver in drivers),
        "",
        "| capability | " + " | ".join(f"`{kind}`" for kind in kinds) + " |",
        "| --- |" + " --- |" * len(kinds),
    ]
    for feature in Feature:
        words = [scores.get(kind, {}).get(str(feature), UNPROVEN) for kind in kinds]
        cells = ["**works**" if word == WORKS else word for word in words]
        lines.append(f"| {feature} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    made = page(read(Path(sys.argv[1])))
    if "--write" in sys.argv[2:]:
        PAGE.write_text(made)
    sys.stdout.write(made)
