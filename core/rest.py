"""What every router of the REST API shares: answers, validators (ETag), the query of lists, the shape of problems. Knows no noun.

Answers are made of plain dictionaries by hand-written builders, not by pydantic: a page of 500 guests costs 10 ms so, and what
a builder does not name cannot get out. The schemas beside them say the same for the OpenAPI document, and tests compare.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from django.http import HttpResponse, HttpResponseNotModified
from pydantic import BaseModel, ConfigDict, Field

from core.errors import Stale, VmmError
from core.search import LENGTH_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from django.db.models import Model
    from django.http import HttpRequest

    from core.paging import Page

M = TypeVar("M", bound="Model")
F = TypeVar("F", bound="Callable[..., Any]")

JSON = "application/json"
BODY_MAX = 2 * 1024 * 1024
"""Bytes of a request body, uploads aside."""
OFFSET_STREAM = "application/offset+octet-stream"
_STREAMED_PATH = re.compile(r"/api/v1/uploads/[^/]+")


# -- schemas -----------------------------------------------------------------------------------------------------------
class Input(BaseModel):
    """A request body: what it does not know it refuses, and nothing is coerced (`"1"` is no number)."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Output(BaseModel):
    """The shape of an answer."""

    model_config = ConfigDict(extra="forbid")


class AllowedNow(Output):
    """Whether the caller may do it now, and if not, why."""

    allowed: bool
    reason: str
    code: str | None = None


class Listing(BaseModel):
    """The query of every list."""

    limit: Annotated[int, Field(ge=1, le=500, description="Rows of a page, 50 unless told.")] | None = None
    cursor: Annotated[str, Field(max_length=2000, description="`next` of the page before.")] | None = None
    ordering: Annotated[str, Field(max_length=50, description="A field; `-` before it turns the order round.")] = ""
    q: Annotated[str, Field(max_length=LENGTH_MAX, description="Free words and `key:value` terms.")] = ""

    def asked(self, filters: Iterable[str], *, ordering: str = "name") -> dict[str, Any]:
        """What each room's page takes of it, these of its fields as filters; in this order unless told."""
        return {
            "q": self.q,
            "filters": {name: getattr(self, name) for name in filters},
            "ordering": self.ordering or ordering,
            "cursor": self.cursor,
            "limit": self.limit,
        }


class FieldError(Output):
    """One bad value."""

    pointer: str = Field(examples=["/memory_bytes"])
    detail: str
    line: int | None = Field(None, description="Of a text, counted from 1.")


class Alternative(Output):
    """What does about the same where a capability lacks."""

    kind: Literal["action", "console", "hypervisor"]
    steps: list[str] | None = Field(
        None, description="Actions in their order, or one console.", examples=[["force-off", "start"]]
    )
    hypervisor: str | None = Field(None, description="Another one that could.")
    host: str | None = None
    host_name: str | None = None
    driver: str | None = None


class ProblemBody(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(examples=["/problems/not_found"])
    title: str
    status: int
    detail: str
    code: str = Field(description="A stable word for programs.")
    request_id: str | None = None
    operation: str | None = None
    id: str | None = Field(None, description="Of the object that is there already.")
    capability: str | None = Field(None, description="What the hypervisor cannot do; `reason` says why.")
    feature: str | None = Field(None, description="The same as `capability`.")
    reason: str | None = None
    alternatives: list[Alternative] | None = Field(
        None, description="What else does the job: on this guest now, and a few other hypervisors that could."
    )
    instance: str | None = None
    context: dict[str, Any] | None = None
    errors: list[FieldError] | None = None
    expected: bool | None = None


class InternalError(VmmError):
    """Something went wrong here."""

    def __init__(self) -> None:
        super().__init__("The fault is on our side. The request id finds it in the log.")


def problems(*statuses: int) -> Callable[[F], F]:
    """Name the error answers of an operation beyond those that its kind implies, for the OpenAPI document."""

    def mark(function: F) -> F:
        function.problem_statuses = statuses  # type: ignore[attr-defined]
        return function

    return mark


def takes(*media_types: str) -> Callable[[F], F]:
    """Name what an operation reads the body as, which is not JSON: it reads `request.body` itself."""

    def mark(function: F) -> F:
        function.body_media_types = media_types  # type: ignore[attr-defined]
        return function

    return mark


def streamed(media_type: str) -> Callable[[F], F]:
    """An operation that reads its body itself, as raw bytes of this type. Its address must be one of `takes_stream`."""

    def mark(function: F) -> F:
        function.streamed_media_type = media_type  # type: ignore[attr-defined]
        return function

    return mark


def takes_stream(method: str | None, path: str) -> bool:
    """Whether the body of a request to `path` is handed over as it arrives: what stands before the views must know."""
    return method == "PATCH" and _STREAMED_PATH.fullmatch(path) is not None


# -- answers -----------------------------------------------------------------------------------------------------------
def moment(value: dt.datetime | None) -> str | None:
    """ISO 8601 in UTC with `Z`, to the millisecond."""
    if value is None:
        return None
    if value.tzinfo is not dt.UTC:
        value = value.astimezone(dt.UTC)
    return value.isoformat(timespec="milliseconds")[:-6] + "Z"


def encoded(data: Any) -> bytes:
    """JSON as bytes."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def answer(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """A JSON answer."""
    return HttpResponse(encoded(data), status=status, content_type=JSON, headers=dict(headers or {}))


def nothing() -> HttpResponse:
    """204."""
    response = HttpResponse(status=204)
    del response["Content-Type"]
    return response


def single(
    request: HttpRequest, data: dict[str, Any], *, version: int, status: int = 200, **headers: str
) -> HttpResponse:
    """One object with its `ETag`; 304 when `If-None-Match` names it.

    The tag is the row's version and a digest of the body: a body holds more than its row (counts, what its host's state
    makes of it), and a cached copy must not outlive any of that. `If-Match` looks at the version alone.
    """
    body = encoded(data)
    etag = f'"{version}-{hashlib.blake2b(body, digest_size=8).hexdigest()}"'
    if request.method in ("GET", "HEAD"):
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
        if etag in known or "*" in known:
            return HttpResponseNotModified(headers={"ETag": etag})
    return HttpResponse(body, status=status, content_type=JSON, headers={"ETag": etag, **headers})


def tags_in(request: HttpRequest, header: str) -> frozenset[str] | None:
    """The digests that a header names; None where it is absent, or names any. A weak tag counts as well: proxies make tags weak."""
    text = request.headers.get(header, "")[:2000]
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in text.split(",") if tag.strip()]
    return None if not tags or "*" in tags else frozenset(tags)


def if_match(request: HttpRequest, version: int) -> int | None:
    """The version that must still be the present one when the change is written; None when the caller does not care.

    A weak tag counts as well: proxies that compress make tags weak on their way.

    Raises:
        Stale: `If-Match` names none or another version.
    """
    header = request.headers.get("If-Match")
    if not header:
        return None
    for tag in header[:2000].split(","):
        bare = tag.strip().removeprefix("W/")
        if bare == "*" or bare.strip('"').partition("-")[0] == str(version):
            return version
    raise Stale("It changed since you read it. Read it again and repeat your change.")


def page_answer(page: Page[M], build: Callable[[M], dict[str, Any]]) -> HttpResponse:
    """`{"items": […], "total": n, "next": cursor or null}`."""
    return answer({"items": [build(row) for row in page.items], "total": page.total, "next": page.next})
