"""The OpenAPI document: what django-ninja generates, and what it does not know: every error, the headers, the entrance's path.

Also the guard of it: what a change of the document would break for those who rely on it.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from operations.idempotency import SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ninja import NinjaAPI
    from ninja.operation import Operation

PREFIX = "/api/v1"
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
_ALWAYS = (401, 403, 422, 429, 500, 503)
_CHANGES = ("post", "put", "patch", "delete")
_ETAG = {"description": "Of this state of the object.", "schema": {"type": "string"}}


def _header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {
        "in": "header",
        "name": name,
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
    }


_IF_MATCH = _header("If-Match", "An ETag: 412 when the object is no longer that.")
_IF_NONE_MATCH = _header("If-None-Match", "An ETag: 304 when the object is still that.")
_IDEMPOTENCY = _header(
    "Idempotency-Key", "Kept 24 hours: the same request is done once and answered the same.", maxLength=255
)
_PREFER = _header("Prefer", "`wait=N`: answer when the operation has ended, at most N (60) seconds later.")


def finished(schema: dict[str, Any], api: NinjaAPI) -> dict[str, Any]:
    """The generated document, completed in place."""
    functions = {operation_id: operation.view_func for operation_id, operation in _operations(api)}
    paths: dict[str, Any] = {path.rstrip("/"): methods for path, methods in schema["paths"].items()}
    schema["paths"] = paths
    for path, methods in paths.items():
        for method, details in methods.items():
            _complete(path, method, details, getattr(functions[details["operationId"]], "problem_statuses", ()))
    _tell_of_secrets(schema)
    schema["servers"] = []
    # Through JSON once: django-ninja's status codes are numbers, and a document has texts for keys.
    plain: dict[str, Any] = json.loads(json.dumps(schema))
    del plain["servers"]
    schema.clear()
    schema.update(plain)
    return schema


def _tell_of_secrets(schema: dict[str, Any]) -> None:
    """What is shown once is absent when the same Idempotency-Key gets the answer again."""
    for shape in schema["components"]["schemas"].values():
        secrets = (
            SECRETS.intersection(shape.get("required", [])) if "expires_at" in shape.get("properties", {}) else set()
        )
        for name in secrets:
            shape["properties"][name]["description"] = "Shown once: absent where an Idempotency-Key is answered again."
        if secrets:
            shape["required"] = [name for name in shape["required"] if name not in secrets]


def _operations(api: NinjaAPI) -> Iterator[tuple[str, Operation]]:
    for router in api._get_bound_routers():  # noqa: SLF001 - the document is made from the same
        for view in router.path_operations.values():
            for operation in view.operations:
                yield operation.operation_id or api.get_openapi_operation_id(operation), operation


def _complete(path: str, method: str, details: dict[str, Any], more: tuple[int, ...]) -> None:
    responses = details["responses"]
    for status in _statuses(path, method, details) | set(more):
        title = HTTPStatus(status).phrase
        responses.setdefault(status, {"description": title, "content": _PROBLEM})
    parameters = details.setdefault("parameters", [])
    refs = json.dumps(responses)
    if method == "get" and "{" in path and 200 in responses:
        parameters.append(_IF_NONE_MATCH)
        responses[304] = {"description": "Not Modified"}
        responses[200].setdefault("headers", {})["ETag"] = _ETAG
    if method in ("patch", "put", "delete"):
        parameters.append(_IF_MATCH)
    if method == "post":
        parameters.append(_IDEMPOTENCY)
    if method in _CHANGES and "schemas/OperationOut" in refs:
        parameters.append(_PREFER)
        for status in (200, 202):
            if status in responses:
                responses[status].setdefault("headers", {})["Location"] = {
                    "description": "Of the operation.",
                    "schema": {"type": "string"},
                }


def _statuses(path: str, method: str, details: dict[str, Any]) -> set[int]:
    statuses = set(_ALWAYS)
    if "{" in path:
        statuses.add(404)
    if method in _CHANGES:
        statuses |= {400, 409, 413}
        if "requestBody" in details:
            statuses.add(415)
    if method in ("patch", "put", "delete"):
        statuses.add(412)
    return statuses


# -- the guard -------------------------------------------------------------------------------------------------------------
def breaking_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What somebody who relies on `before` would miss in `now`, a sentence each; an empty list when nothing."""
    return list(_broken(before, now))


def _broken(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for path, methods in before["paths"].items():
        if path not in now["paths"]:
            yield f"{path} is gone"
            continue
        for method, old in methods.items():
            new = now["paths"][path].get(method)
            where = f"{method.upper()} {path}"
            if new is None:
                yield f"{where} is gone"
                continue
            if old["operationId"] != new["operationId"]:
                yield f"{where}: operationId {old['operationId']} became {new['operationId']}"
            yield from _broken_parameters(where, old, new)
            yield from _broken_body(where, old, new, before, now)
            yield from _broken_responses(where, old, new, before, now)


def _broken_parameters(where: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    known = {(one["in"], one["name"]): one for one in old.get("parameters", [])}
    present = {(one["in"], one["name"]): one for one in new.get("parameters", [])}
    for key in known:
        if key not in present:
            yield f"{where}: parameter {key[1]} is gone"
        else:
            yield from _narrowed(f"{where}: parameter {key[1]}", known[key]["schema"], present[key]["schema"])
    for key, one in present.items():
        if one.get("required") and not known.get(key, {}).get("required"):
            yield f"{where}: parameter {key[1]} is required now"


def _json_schema(part: dict[str, Any] | None) -> dict[str, Any] | None:
    content = (part or {}).get("content", {})
    found: dict[str, Any] | None = content.get("application/json", {}).get("schema")
    return found


def _broken_body(
    where: str, old: dict[str, Any], new: dict[str, Any], before: dict[str, Any], now: dict[str, Any]
) -> Iterator[str]:
    was, is_now = _json_schema(old.get("requestBody")), _json_schema(new.get("requestBody"))
    if is_now is None:
        if was is not None:
            yield f"{where}: takes no body any more"
        return
    if new["requestBody"].get("required") and not old.get("requestBody", {}).get("required"):
        yield f"{where}: the body is required now"
    if was is not None:
        yield from _broken_schema(f"{where} body", was, is_now, before, now, request=True)


def _broken_responses(
    where: str, old: dict[str, Any], new: dict[str, Any], before: dict[str, Any], now: dict[str, Any]
) -> Iterator[str]:
    for status, answer in old["responses"].items():
        if status.startswith("2") and status not in new["responses"]:
            yield f"{where}: is no longer answered with {status}"
            continue
        was, is_now = _json_schema(answer), _json_schema(new["responses"].get(status))
        if was is not None and is_now is not None:
            yield from _broken_schema(f"{where} {status}", was, is_now, before, now, request=False)


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for key in ("anyOf", "allOf", "oneOf"):
        real = [one for one in schema.get(key, []) if one.get("type") != "null"]
        if len(real) == 1:
            return _resolved(real[0], document)
    return schema


def _broken_schema(
    where: str,
    old: dict[str, Any],
    new: dict[str, Any],
    before: dict[str, Any],
    now: dict[str, Any],
    *,
    request: bool,
    seen: frozenset[str] = frozenset(),
) -> Iterator[str]:
    ref = old.get("$ref", "")
    if ref and ref in seen:
        return
    seen |= {ref}
    if request and _nullable(old, before) and not _nullable(new, now):
        yield f"{where}: may not be null any more"
    if not request and _nullable(new, now) and not _nullable(old, before):
        yield f"{where}: may be null now"
    old, new = _resolved(old, before), _resolved(new, now)
    yield from _narrowed(where, old, new) if request else _widened(where, old, new)
    was, is_now = old.get("properties", {}), new.get("properties", {})
    for name in was:
        if name not in is_now:
            yield f"{where}: field {name} is gone"
        else:
            yield from _broken_schema(
                f"{where}.{name}", was[name], is_now[name], before, now, request=request, seen=seen
            )
    if request:
        for name in set(new.get("required", [])) - set(old.get("required", [])):
            yield f"{where}: field {name} is required now"
    else:
        for name in set(old.get("required", [])) - set(new.get("required", [])):
            yield f"{where}: field {name} may be absent now"
    if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
        yield from _broken_schema(f"{where}[]", old["items"], new["items"], before, now, request=request, seen=seen)


def _nullable(schema: dict[str, Any], document: dict[str, Any]) -> bool:
    if "$ref" in schema:
        return _nullable(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    return schema.get("type") == "null" or any(one.get("type") == "null" for one in schema.get("anyOf", []))


_UPPER = ("maxLength", "maxItems", "maximum")
_LOWER = ("minLength", "minItems", "minimum")


def _narrowed(where: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """What was accepted and is refused now."""
    if old.get("type") != new.get("type") and "type" in new and "type" in old:
        yield f"{where}: {old['type']} became {new['type']}"
    for value in old.get("enum", []):
        if "enum" in new and value not in new["enum"]:
            yield f"{where}: {value} is refused now"
    if "enum" in new and "enum" not in old and "const" not in old:
        yield f"{where}: only some values are taken now"
    for key in _UPPER:
        if key in new and new[key] < old.get(key, float("inf")):
            yield f"{where}: {key} fell to {new[key]}"
    for key in _LOWER:
        if key in new and new[key] > old.get(key, 0):
            yield f"{where}: {key} rose to {new[key]}"
    if new.get("pattern") and new["pattern"] != old.get("pattern"):
        yield f"{where}: must match {new['pattern']} now"


def _widened(where: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """What an answer never said and may say now."""
    if old.get("type") != new.get("type") and "type" in old:
        yield f"{where}: {old['type']} became {new.get('type', 'anything')}"
    if old.get("format") != new.get("format") and "format" in old:
        yield f"{where}: format {old['format']} became {new.get('format')}"
