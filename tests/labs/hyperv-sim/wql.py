"""As much of WMI's query language as is asked of the stand-in, and WS-Management's faults."""

from __future__ import annotations

import re
from typing import Any


class Fault(Exception):
    """A WS-Management fault: subcode, WSManFault's code, text."""

    def __init__(self, subcode: str, code: int, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.subcode, self.code, self.text, self.status = subcode, code, text, status


TOKEN = re.compile(r"\s*(?:('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|(<>|!=|=|,|\*)|([A-Za-z_][A-Za-z0-9_]*)|(\d+))")


def parse_wql(text: str) -> tuple[list[str], str, list[tuple[str, str, str]]]:
    """Columns ([] for all), class, and the conditions, all of which must hold."""
    tokens, place = [], 0
    while place < len(text.rstrip()):
        match = TOKEN.match(text, place)
        if match is None:
            raise bad_query(text)
        tokens.append(match)
        place = match.end()
    words = [match[0].strip() for match in tokens]
    try:
        source = [word.lower() for word in words].index("from")
        name, rest = words[source + 1], words[source + 2 :]
        columns = [] if words[1] == "*" else [word for word in words[1:source] if word != ","]
    except (ValueError, IndexError):
        raise bad_query(text) from None
    conditions = []
    if rest and rest[0].lower() != "where":
        raise bad_query(text)
    clauses = rest[1:]
    while clauses:
        if len(clauses) < 3 or (conditions and clauses.pop(0).lower() != "and"):
            raise bad_query(text)
        key, sign, value = clauses[:3]
        if value[0] in "'\"":
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        conditions.append((key, sign.lower(), value))
        clauses = clauses[3:]
    return columns, name, conditions


def holds(row: dict[str, Any], conditions: list[tuple[str, str, str]]) -> bool:
    for key, sign, value in conditions:
        have = "" if row.get(key) is None else str(row[key])
        if sign == "=" and have.lower() != value.lower():
            return False
        if sign in ("<>", "!=") and have.lower() == value.lower():
            return False
        if sign == "like":
            pattern = "".join(".*" if each == "%" else "." if each == "_" else re.escape(each) for each in value)
            if not re.fullmatch(pattern, have, re.IGNORECASE | re.DOTALL):
                return False
    return True


def bad_query(text: str) -> Fault:
    return Fault(
        "wsman:CannotProcessFilter", 2150859065, f"The WS-Management service cannot process the query {text!r}."
    )
