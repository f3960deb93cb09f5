"""`/api/v1/docs`: the OpenAPI document as a page of our own. No script and nothing from elsewhere, so that our strict policy holds."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.access import access
from vmmanager.api import api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest, HttpResponse


@require_safe
@access("view")
def api_reference(request: HttpRequest) -> HttpResponse:
    """All calls by their tag, then all shapes."""
    return render(request, "api/reference.html", _content())


@cache
def _content() -> dict[str, Any]:
    document = api.get_openapi_schema()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, details in methods.items():
            tag = (details.get("tags") or ["other"])[-1]
            groups.setdefault(tag, []).append(_call(path, method, details))
    shapes = [
        {"name": name, "text": schema.get("description", ""), "fields": list(_fields(schema))}
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    return {
        "version": document["info"]["version"],
        "groups": [{"name": name, "calls": calls} for name, calls in sorted(groups.items())],
        "shapes": shapes,
    }


def _call(path: str, method: str, details: dict[str, Any]) -> dict[str, Any]:
    body = details.get("requestBody", {}).get("content", {}).get("application/json", {})
    return {
        "id": details["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": details["summary"],
        "text": details.get("description", ""),
        "parameters": [
            {
                "name": one["name"],
                "place": one["in"],
                "type": _type(one["schema"]),
                "required": one.get("required", False),
                "text": one.get("description", ""),
            }
            for one in details.get("parameters", [])
        ],
        "body": _type(body["schema"]) if body else "",
        "body_shape": _shape(body.get("schema", {})),
        "answers": [
            {
                "status": status,
                "text": answer.get("description", ""),
                "shape": _shape(_schema(answer)),
                "type": _type(_schema(answer)) if _schema(answer) else "",
            }
            for status, answer in sorted(details["responses"].items())
        ],
    }


def _schema(answer: dict[str, Any]) -> dict[str, Any]:
    for content in answer.get("content", {}).values():
        found: dict[str, Any] = content.get("schema", {})
        return found
    return {}


def _shape(schema: dict[str, Any]) -> str:
    """The name of the shape that it refers to, "" where it refers to none."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for key in ("anyOf", "allOf", "oneOf"):
        for one in schema.get(key, []):
            found = _shape(one)
            if found:
                return found
    return _shape(schema["items"]) if isinstance(schema.get("items"), dict) else ""


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _shape(schema)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[key]))
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    name = str(schema.get("type", "anything"))
    return f"{name} ({schema['format']})" if "format" in schema else name


def _fields(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        yield {
            "name": name,
            "type": _type(field),
            "shape": _shape(field),
            "required": name in required,
            "text": field.get("description", ""),
        }
