"""`Idempotency-Key`: a POST that is sent twice is done once, and answered twice the same.

The key's row and what the request does are one transaction, so that a crash leaves either both or neither: no key is ever
wedged, nothing is done that its key does not know. A second request with the same key meanwhile waits, for the database's
lock or for the answer, and gets the first one's. Answers with faults of ours (5xx) are not kept: there trying again is right.

A call that waits for its operation (`Prefer: wait`) commits first and waits then. Until it has its answer the row says which
operation it is about; if the process dies there, the next request with the key is answered with that operation.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.http import HttpResponse
from django.utils import timezone

from core.errors import BadInput, Conflict, VmmError
from core.rest import JSON, encoded
from events import bell
from operations.answers import WAIT_MAX, Pending, operation_json
from operations.models import IdempotencyKey, Operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

    from accounts.actor import Actor
    from accounts.models import User

log = logging.getLogger(__name__)

KEPT = dt.timedelta(hours=24)
KEY_MAX = 255
ABANDONED = dt.timedelta(seconds=WAIT_MAX + 15)
"""A first request that has no answer after this will never have one: it waits for at most a minute."""
SECRETS = frozenset({"token", "ticket", "protocols", "password", "secret"})
"""Fields of answers that are shown once."""
_HEADERS = ("Location", "Preference-Applied", "Cache-Control")


class KeyReused(VmmError):
    """This Idempotency-Key was used for another request."""

    code = "idempotency_conflict"
    status = 422
    expected = True


class StillRunning(Conflict):
    """The first request with this Idempotency-Key is still under way."""

    code = "operation_in_progress"


def answered(request: HttpRequest, *, by: Actor, run: Callable[[], HttpResponse]) -> HttpResponse:
    """The answer of `run`, or the one that an earlier request with the same key got.

    Args:
        request: A POST with the header.
        by: Whose keys.
        run: Makes the answer; errors are answers, too.

    Raises:
        BadInput: What the header says cannot be a key.
        KeyReused: The key belongs to another request.
        StillRunning: The first request takes longer than any may.
    """
    if by.user is None:
        return run()  # the system itself sends no requests
    user = by.user
    key = _checked(request.headers.get("Idempotency-Key", ""))
    digest = _digest(request)
    deadline = time.monotonic() + ABANDONED.total_seconds() + 5
    while time.monotonic() < deadline:
        row = _find(user, key)
        if row is None:
            response = _first(user, key, digest, run)
            if response is not None:
                return response
            continue  # somebody else was first
        if row.digest != digest:
            raise KeyReused("Use a new key for a new request: this one belongs to another method, path or body.")
        if row.status is None and not _abandoned(row):
            bell.wait_until(lambda pk=row.pk: _settled(pk), timeout_seconds=5.0, recheck_seconds=0.1)  # type: ignore[misc]
            continue
        again = _replay(row, by)
        if again is not None:
            return again
    raise StillRunning


def _checked(key: str) -> str:
    if not 1 <= len(key) <= KEY_MAX or not key.isascii() or not key.isprintable():
        raise BadInput(
            f"Idempotency-Key is 1 to {KEY_MAX} printable ASCII characters.",
            errors=[{"pointer": "/Idempotency-Key", "detail": f"1 to {KEY_MAX} printable characters"}],
        )
    return key


def _digest(request: HttpRequest) -> str:
    parts = (str(request.method), request.get_full_path(), "")
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape") + request.body).hexdigest()


def _find(user: User, key: str) -> IdempotencyKey | None:
    """The row, unless it is older than it is kept."""
    row = IdempotencyKey.objects.filter(user=user, key=key).first()
    if row is not None and row.created_at < timezone.now() - KEPT:
        IdempotencyKey.objects.filter(pk=row.pk).delete()
        return None
    return row


def _settled(pk: int) -> bool:
    return not IdempotencyKey.objects.filter(pk=pk, status=None).exists()


def _abandoned(row: IdempotencyKey) -> bool:
    return row.created_at < timezone.now() - ABANDONED


def _first(user: User, key: str, digest: str, run: Callable[[], HttpResponse]) -> HttpResponse | None:
    """Do it, and keep the answer; None when another request with the key was faster."""
    with transaction.atomic():
        try:
            with transaction.atomic():
                row = IdempotencyKey.objects.create(user=user, key=key, digest=digest)
        except IntegrityError:
            return None
        response = run()
        if response.status_code >= 500:
            transaction.set_rollback(True)
            return response
        if not isinstance(response, Pending) or not response.waits:
            _keep(row.pk, response)
            return response
        about = None if response.repeatable else str(response.operation.pk)
        IdempotencyKey.objects.filter(pk=row.pk).update(body={"operation": about})
    return _waited(row.pk, response)


def _waited(pk: int, pending: Pending) -> HttpResponse:
    try:
        response = pending.waited()
    except Exception:
        IdempotencyKey.objects.filter(pk=pk, status=None).delete()
        raise
    _keep(pk, response)
    return response


def _keep(pk: int, response: HttpResponse) -> None:
    content = bytes(response.content)
    body: Any = json.loads(content) if content else None
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name not in SECRETS}
    headers = {name: response[name] for name in (*_HEADERS, "Content-Type") if name in response}
    IdempotencyKey.objects.filter(pk=pk).update(status=response.status_code, headers=headers, body={"answer": body})


def _replay(row: IdempotencyKey, by: Actor) -> HttpResponse | None:
    """The kept answer; of an abandoned request what can be told; None when it may be made anew."""
    if row.status is None:
        about = (row.body or {}).get("operation")
        operation = Operation.objects.filter(pk=about).first() if about else None
        if operation is None:
            IdempotencyKey.objects.filter(pk=row.pk, status=None).delete()
            return None
        body = encoded(operation_json(operation, by=by))
        response = HttpResponse(body, status=200 if operation.ended else 202, content_type=JSON)
        response["Location"] = f"/api/v1/operations/{operation.pk}"
        _keep(row.pk, response)
    else:
        kept = row.body["answer"]
        response = HttpResponse(b"" if kept is None else encoded(kept), status=row.status)
        for name, value in row.headers.items():
            response[name] = value
    response["Idempotency-Replayed"] = "true"
    return response
