"""The pages behind a problem document's `type`: what each code means, and what to do next. Made from the error classes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from accounts.access import access
from core.errors import Missing, VmmError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest, HttpResponse
    from django.utils.functional import _StrPromise

ADVICE: dict[str, _StrPromise] = {
    "already_exists": _("Use the one that is there (its id stands in the answer), or choose another name."),
    "agent_unresponsive": _("Install or start qemu-guest-agent in the guest, or use an action that does not need it."),
    "auth_failed": _("Check user name, password, key or certificate. The host doctor shows which step fails."),
    "being_written": _("End the other request, ask for `received_bytes`, and go on there."),
    "busy": _("Another job holds the guest. The operation is tried again by itself; else wait for the job to end."),
    "console_busy": _("Ask for control (take_over), or wait until the other one leaves."),
    "digest_mismatch": _("Compare the checksum with its publisher's, and send or fetch the file again."),
    "host_denied": _(
        "The account may read but not change. Put it into the group libvirt there, or choose another account."
    ),
    "host_unreachable": _("Run the host doctor: it names the step that fails and the command that mends it."),
    "idempotency_conflict": _(
        "Use a new Idempotency-Key for a new request; the same key stands for the same request only."
    ),
    "download_gone": _("Ask again: it is read out anew."),
    "fetch_failed": _(
        "Look at the URL with a browser or curl. What broke off goes on when the image is imported again."
    ),
    "image_not_ready": _("Wait for its import, or look at the image: it says why that failed."),
    "image_refused": _("The reason says what the file is and what would make it usable."),
    "in_use": _("`used_by` in `context` names who. Take it away from there, or stop the guest, and ask again."),
    "internal_error": _("The fault is on our side. The request id finds the traceback in the server's log."),
    "interrupted": _(
        "The worker was stopped after it had sent a command that must not be sent twice. Look at the guest, then decide."
    ),
    "invalid_definition": _("The hypervisor's own words say which part of the definition it refused."),
    "invalid_input": _("Each wrong value is named in `errors`, with a pointer to it."),
    "not_authenticated": _("Sign in, or send `Authorization: Bearer` with a token that has not expired."),
    "not_cancellable": _("It has ended, or its command was sent and cannot be called back."),
    "operation_in_progress": _("Wait for the operation that is named, or leave `on_conflict` out to queue behind it."),
    "permission_denied": _("Ask an administrator for a wider role, or use a token with a wider scope."),
    "staging_full": _(
        "Files on their way lie in VMM_DATA_DIR of the server: wait until others are done, or make room there."
    ),
    "range_not_satisfiable": _("Ask from an earlier byte on, or without Range for the whole."),
    "stale": _("Read the object again, repeat your change on it, and send its new ETag."),
    "timeout": _("The host may still finish it. Look at the guest's state, then decide whether to ask again."),
    "tool_missing": _("Install what is named on the server, or use the image of ours, which has it."),
    "too_large": _("Send less than 2 MiB."),
    "too_many_requests": _("Wait as long as `Retry-After` says."),
    "unsupported": _(
        "The reason says why this hypervisor cannot; `alternatives` say what else does the job, and where it can be done."
    ),
    "upload_in_use": _("Wait for the end of the operation that is named, or cancel it."),
    "upload_incomplete": _("Ask the upload for `received_bytes`, and send the rest from there on."),
    "upload_interrupted": _("Ask the upload for `received_bytes`, and go on there."),
    "wrong_offset": _("Go on at `received_bytes`, which stands in the answer."),
    "wrong_state": _("The reason names the state. Bring the guest into another one first."),
}

PROBE: dict[str, _StrPromise] = {
    "name_not_found": _("The host doctor found no address for this name."),
    "address_refused": _("The host doctor does not go to link-local and metadata addresses."),
    "tls_failed": _("The host doctor found a certificate that does not hold."),
    "host_key_unknown": _("The host doctor found a host key that nobody has vouched for."),
    "host_key_mismatch": _("The host doctor found another host key than the expected one."),
}
"""Codes that only steps of a probe carry (drivers.reach); the step's own hint says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemPage:
    """One code as people read it."""

    code: str
    title: str
    status: int
    retryable: bool
    advice: str


def _classes(cls: type[VmmError] = VmmError) -> Iterator[type[VmmError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _classes(child)


def pages() -> dict[str, ProblemPage]:
    """Every code that this program can answer, in their order."""
    found: dict[str, ProblemPage] = {}
    for cls in _classes():
        if not isinstance(inspect.getattr_static(cls, "title"), classmethod):
            continue  # says again what another error said (operations.problems.Recorded)
        found.setdefault(
            cls.code,
            ProblemPage(
                code=cls.code,
                title=cls.title(),
                status=cls.status,
                retryable=cls.retryable,
                advice=str(ADVICE.get(cls.code, "")),
            ),
        )
    for code, title in PROBE.items():
        found.setdefault(code, ProblemPage(code=code, title=str(title), status=200, retryable=False, advice=""))
    return dict(sorted(found.items()))


@require_safe
@access("view")
def problem_list(request: HttpRequest) -> HttpResponse:
    """All of them."""
    return render(request, "dashboard/problems.html", {"problems": pages().values()})


@require_safe
@access("view")
def problem_page(request: HttpRequest, code: str) -> HttpResponse:
    """One of them: the address in `type`."""
    page = pages().get(code)
    if page is None:
        raise Missing("There is no such problem.")
    return render(request, "dashboard/problem.html", {"problem": page})
