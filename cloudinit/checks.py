"""Whether cloud-init would understand user data: its own JSON schema says so.

The schema is of one version of cloud-init, the guest's may be another. So a value of the wrong kind is an error, and a key that the
schema does not know is a warning: a newer cloud-init may know it, and a misspelt one is worth a look.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Final

import jsonschema
from jsonschema.exceptions import best_match, relevance

from cloudinit.document import Unreadable, read
from cloudinit.findings import FINDINGS_MAX, Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudinit.document import Document

CLOUD_CONFIG: Final = "#cloud-config"
OTHER_FORMS: Final = (
    "#!", "#include", "#cloud-boothook", "#part-handler", "#cloud-config-archive", "## template:", "Content-Type:", "MIME-Version:",
)  # fmt: skip
"""How user data begins that is no cloud-config: it is taken as it is, and not looked into."""
_QUOTED = re.compile(r"'([^']{1,100})'")
_FURTHER_KEYS: Final = frozenset(
    {"merge_how", "merge_type", "output", "datasource", "datasource_list", "system_info", "debug", "launch-index"}
)
"""What cloud-init reads beside what its modules do."""
_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "a text"),
    (list, "a list"),
    (dict, "a mapping"),
    (type(None), "empty"),
)


def check_user_data(text: str) -> Report:
    """Look at user data of any form."""
    first = text.lstrip("\ufeff").split("\n", 1)[0].rstrip()
    if not text.strip():
        return Report(value={})
    if "\0" in text:
        return Report.refused("A NUL character.", text.count("\n", 0, text.index("\0")) + 1)
    if first == CLOUD_CONFIG:
        return _check_cloud_config(text)
    if first.startswith(OTHER_FORMS):
        return Report()
    return Report.refused(f"The first line is {CLOUD_CONFIG}, or #! of a script.", 1)


def _check_cloud_config(text: str) -> Report:
    try:
        document = read(text)
    except Unreadable as error:
        return Report.refused(error.detail, error.line)
    if document.value is None:
        return Report(value={})
    if not isinstance(document.value, dict):
        return Report.refused("A cloud-config is a mapping: key: value.", document.line(()))
    report = Report(value=document.value)
    report.add_repeated(document)
    _add_unknown_keys(report, document)
    found = sorted(_validator().iter_errors(document.value), key=relevance, reverse=True)
    for one in found[: 2 * FINDINGS_MAX]:
        # Where one of several forms would do, what is wrong is what the nearest of them says.
        deepest = best_match([one]) or one
        unknown = deepest.validator == "additionalProperties"
        report.add(document, tuple(deepest.absolute_path), _words(deepest), warning=unknown)
    return report.sorted()


@functools.cache
def _schema() -> Mapping[str, Any]:
    file = FilePath(__file__).parent / "data" / "schema-cloud-config-v1.json"
    found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


@functools.cache
def _validator() -> jsonschema.Draft4Validator:
    return jsonschema.Draft4Validator(_schema())


@functools.cache
def known_keys() -> frozenset[str]:
    """Keys that a cloud-config may have at its top."""
    parts = (part for name, part in _schema()["$defs"].items() if name.startswith(("cc_", "base_", "reporting")))
    return _FURTHER_KEYS.union(*(part.get("properties", ()) for part in parts))


def _add_unknown_keys(report: Report, document: Document) -> None:
    for key in document.value:
        if key not in known_keys():
            near = difflib.get_close_matches(str(key)[:100], known_keys(), n=1)
            meant = f" Is {near[0]} meant?" if near else ""
            report.add(document, (str(key),), f"No key that cloud-init 22.4 knows.{meant}", warning=True)


def _words(error: jsonschema.ValidationError) -> str:
    """The library's sentence without the whole value in it, which may be long."""
    wanted: Any = error.validator_value
    match error.validator:
        case "type":
            kinds = " or ".join(wanted) if isinstance(wanted, list) else str(wanted)
            return f"It must be of type {kinds}, not {_kind(error.instance)}."
        case "enum":
            return f"One of {', '.join(map(str, wanted))}."
        case "additionalProperties":
            return f"Unknown here: {', '.join(_QUOTED.findall(error.message)[:10])}."
        case "minItems" | "minProperties":
            return "It must not be empty."
        case "anyOf" | "oneOf":
            return f"{_kind(error.instance).capitalize()} of no form that is known here."
    return f"{error.message[:200]}{'…' if len(error.message) > 200 else '.'}"


def _kind(value: Any) -> str:
    return next((words for kinds, words in _KINDS if isinstance(value, kinds)), f"a {type(value).__name__}")
