"""What a look at a document found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cloudinit.document import Document, Path

FINDINGS_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `path`: as a JSON pointer into the document; `line` counts from 1, 0 for the whole."""

    path: str
    line: int
    detail: str


@dataclass(slots=True)
class Report:
    """What was found. `value`: the document's content, None where it cannot be read or is no YAML."""

    value: Any = None
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    @classmethod
    def refused(cls, detail: str, line: int) -> Report:
        """Of what cannot be read at all."""
        return cls(errors=[Finding("", line, detail)])

    @property
    def ok(self) -> bool:
        """Whether it can be used."""
        return not self.errors

    def add(self, document: Document, path: Path, detail: str, *, warning: bool = False) -> None:
        """One more, with its line, unless there are many already."""
        to = self.warnings if warning else self.errors
        if len(to) < FINDINGS_MAX:
            to.append(Finding(_pointer(path), document.line(path), detail))

    def add_repeated(self, document: Document) -> None:
        """Keys that stand there twice."""
        for path, line in document.repeated[:FINDINGS_MAX]:
            self.warnings.append(
                Finding(_pointer(path), line, "It stands here for the second time; the last one counts.")
            )

    def sorted(self) -> Report:
        """By line."""
        for found in (self.errors, self.warnings):
            found.sort(key=lambda one: (one.line, one.path))
        return self


def _pointer(path: Path) -> str:
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
