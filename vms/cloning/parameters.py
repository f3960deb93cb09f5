"""What may be chosen where a guest is made from a template: declared with the version, typed, checked, and put in its place.

A value goes to the field of the guest that its parameter `sets`, and wherever `${name}` stands in the version's cloud-config: there
into the parsed document, a scalar at a time. So no value can end the line that it stands in and begin a key of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import yaml
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from cloudinit.document import Unreadable, read
from core.errors import BadInput
from vms.creation.spec import Line, Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Value = str | int | bool
PARAMETERS_MAX: Final = 40
CHOICES_MAX: Final = 50
TEXT_MAX: Final = 2000
INTEGER_MAX: Final = 2**53
"""What JSON's readers count exactly."""
SETS: Final[dict[str, frozenset[str]]] = {
    "vcpus": frozenset({"integer"}),
    "memory_bytes": frozenset({"bytes", "integer"}),
    "disk_bytes": frozenset({"bytes", "integer"}),
    "network": frozenset({"string"}),
    "tags": frozenset({"string"}),
    "hostname": frozenset({"string"}),
}
"""Field of a guest → the types of a parameter that can set it."""
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLACEHOLDER: Final = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")
HEADER: Final = "#cloud-config"


def _text(value: str) -> str:
    if len(value) > TEXT_MAX or _UNPRINTABLE.search(value):
        raise ValueError(f"at most {TEXT_MAX:,} characters, and no control characters")
    return value


Text = Annotated[str, AfterValidator(_text)]


class Parameter(Part):
    """One thing that may be chosen."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")] = Field(examples=["domain"])
    type: Literal["string", "integer", "boolean", "bytes"] = "string"
    sets: Literal["vcpus", "memory_bytes", "disk_bytes", "network", "tags", "hostname"] | None = Field(
        None, description="The field of the guest that it sets. It also replaces `${name}` in `user_data`."
    )
    required: bool = False
    default: bool | int | Text | None = None
    choices: Annotated[list[int | Text], Field(max_length=CHOICES_MAX)] = []
    minimum: int | None = Field(None, ge=-INTEGER_MAX, le=INTEGER_MAX)
    maximum: int | None = Field(None, ge=-INTEGER_MAX, le=INTEGER_MAX)
    help: Line = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.sets is not None and self.type not in SETS[self.sets]:
            raise ValueError(f"{self.sets} is set by a parameter of the type {' or '.join(sorted(SETS[self.sets]))}")
        if self.required and self.default is not None:
            raise ValueError("what is required has no default")
        numbers = self.type in ("integer", "bytes")
        if not numbers and (self.minimum is not None or self.maximum is not None):
            raise ValueError("minimum and maximum are for numbers")
        if self.type == "boolean" and self.choices:
            raise ValueError("yes and no are all the choices that there are")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("minimum is more than maximum")
        for value in (*self.choices, *([] if self.default is None else [self.default])):
            why = self.why_not(value)
            if why:
                raise ValueError(f"{value!r}: {why}")
        return self

    def why_not(self, value: object) -> str:
        """Why this is no value of it, "" where it is one."""
        why = ""
        if self.type == "boolean":
            why = "" if isinstance(value, bool) else "true or false"
        elif self.type != "string":
            why = self._why_no_number(value)
        elif not isinstance(value, str):
            why = "a text"
        elif len(value) > TEXT_MAX or _UNPRINTABLE.search(value):
            why = f"at most {TEXT_MAX:,} characters, and no control characters"
        if not why and self.choices and value not in self.choices:
            why = f"one of {', '.join(map(str, self.choices))}"
        return why

    def _why_no_number(self, value: object) -> str:
        if not isinstance(value, int) or isinstance(value, bool):
            return "a whole number" + (" of bytes" if self.type == "bytes" else "")
        least = max(0, self.minimum or 0) if self.type == "bytes" else self.minimum
        most = INTEGER_MAX if self.maximum is None else self.maximum
        if value < (-INTEGER_MAX if least is None else least):
            return f"at least {least}"
        return f"at most {most}" if value > most else ""


Parameters = Annotated[list[Parameter], Field(max_length=PARAMETERS_MAX)]


def check_declared(parameters: Sequence[Parameter], user_data: str) -> None:
    """Raises BadInput for two of one name or for one field, and for a document that is no cloud-config."""
    for field in ("name", "sets"):
        seen: set[str] = set()
        for number, one in enumerate(parameters):
            value = getattr(one, field)
            if value is not None and value in seen:
                raise _bad(f"/parameters/{number}/{field}", f"{value} stands there twice")
            seen.add(value or "")
    if user_data:
        parse(user_data)


def chosen(parameters: Sequence[Parameter], given: Mapping[str, Value]) -> dict[str, Value]:
    """A value for each parameter that has one: what was given, else its default. Raises BadInput with a pointer for each wrong one."""
    known = {one.name: one for one in parameters}
    errors = [
        {"pointer": f"/parameters/{name}", "detail": "the template has no such parameter"}
        for name in given
        if name not in known
    ]
    values: dict[str, Value] = {}
    for one in parameters:
        value = given.get(one.name, one.default)
        if value is None:
            if one.required:
                errors.append({"pointer": f"/parameters/{one.name}", "detail": one.help or "must be given"})
            continue
        why = one.why_not(value)
        if why:
            errors.append({"pointer": f"/parameters/{one.name}", "detail": why})
        values[one.name] = value
    if errors:
        first = errors[0]
        raise BadInput(f"{first['pointer'][1:].replace('/', '.')}: {first['detail']}", errors=errors)
    return values


# -- cloud-config ------------------------------------------------------------------------------------------------------
def parse(user_data: str) -> dict[str, Any]:
    """A cloud-config document. Raises BadInput for anything else: only that can be filled in a scalar at a time."""
    if user_data.lstrip("\ufeff").split("\n", 1)[0].rstrip() != HEADER:
        raise _bad("/user_data", f"a {HEADER} document: its first line says so")
    try:
        found = read(user_data).value
    except Unreadable as error:
        where = f"line {error.line}: " if error.line else ""
        raise _bad("/user_data", f"{where}{error.detail.rstrip('.')}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _bad("/user_data", "a mapping of cloud-init's keys")
    return found


def filled(user_data: str, values: Mapping[str, Value]) -> str:
    """The document with each `${name}` of a known name replaced: by the value itself where it stands alone, else within its text."""
    document = parse(user_data)
    return f"{HEADER}\n{_written(_fill(document, values))}"


def _written(document: dict[str, Any]) -> str:
    return str(yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=4096))


class _Plain(yaml.CSafeDumper):
    """Writes out what is used twice: cloud-init's readers are not all fond of aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _fill(node: Any, values: Mapping[str, Value]) -> Any:
    if isinstance(node, dict):
        return {_fill(key, values): _fill(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(one, values) for one in node]
    if not isinstance(node, str):
        return node
    alone = _PLACEHOLDER.fullmatch(node)
    if alone is not None and alone[1] in values:
        return values[alone[1]]
    return _PLACEHOLDER.sub(lambda match: _words(values[match[1]]) if match[1] in values else match[0], node)


def _words(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bad(where: str, detail: str) -> BadInput:
    return BadInput(f"{where.strip('/').replace('/', '.')}: {detail}.", errors=[{"pointer": where, "detail": detail}])
