"""A file from a URL: fetched by our server, which does not go wherever somebody likes.

The address of a name is looked up, judged and then gone to by us, at each redirect anew: nothing that answers in between can send
us to where clouds tell secrets of their machines.

What breaks off goes on (Range) as long as it is the same file (ETag or Last-Modified), also in the next attempt of the operation.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - a field of a dataclass
from typing import TYPE_CHECKING, Final

import httpx
from django.conf import settings

from core.errors import BadInput, VmmError
from core.units import MIB, format_bytes
from core.version import version
from drivers.reach import bounded, forbidden
from operations.actions import Cancelled
from transfers.places import require_room, room_kept
from transfers.staged import DigestMismatch, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from operations.actions import Context

URL_MAX: Final = 2000
REDIRECTS_MAX: Final = 8
TRIES: Final = 5
PAUSE_SECONDS: Final = (1.0, 3.0, 10.0, 30.0)
LOOKUP_SECONDS: Final = 10.0
TIMEOUTS: Final = httpx.Timeout(connect=10.0, read=30.0, write=10.0, pool=10.0)
PIECE: Final = 1 * MIB
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"


class FetchFailed(VmmError):
    """The file could not be fetched."""

    code = "fetch_failed"
    status = 502
    expected = True


class AddressRefused(FetchFailed):
    """We do not go there."""

    code = "address_refused"
    status = 422


def check_url(text: str) -> str:
    """The URL as it is asked for. Raises BadInput: another scheme, a user or password in it, no host."""
    try:
        url = httpx.URL(text)
        named = bool(url.host) and 0 < (url.port or 1) < 65536
    except (httpx.InvalidURL, ValueError):
        named, url = False, httpx.URL()
    detail = ""
    if len(text) > URL_MAX or not text.isprintable() or " " in text:
        detail = f"at most {URL_MAX} printable characters, and no blank"
    elif url.scheme not in ("http", "https") or not named:
        detail = "http:// or https://, and a host"
    elif url.userinfo:
        detail = "without a user and a password: they would be kept and shown"
    if detail:
        raise BadInput(f"url: {detail}.", errors=[{"pointer": "/url", "detail": detail}])
    return str(url.copy_with(fragment=None))


@dataclass(slots=True)
class Fetch:
    """One file on its way.

    Attributes:
        url: Checked by `check_url`.
        target: Where it is written; what is there already is gone on with, if it is of the same file.
        sha256: What it must have, or "".
    """

    ctx: Context
    url: str
    target: Path
    sha256: str = ""
    most_bytes: int = field(default_factory=lambda: int(settings.ENV.upload_max_bytes))

    @property
    def _mark(self) -> Path:
        """Which file it was that the begun one is part of."""
        return self.target.with_suffix(".etag")

    def run(self) -> str:
        """Fetch it; its SHA-256. Raises FetchFailed, AddressRefused, DigestMismatch, StagingFull, Cancelled."""
        for attempt in range(1, TRIES + 1):
            try:
                with room_kept():
                    self._try()
                break
            except (httpx.TransportError, _BrokeOff) as error:
                if attempt == TRIES or _UNTRUSTED in str(error):
                    raise FetchFailed(
                        f"{_host(self.url)} did not send it ({attempt} attempts): {_words(error)}."
                    ) from None
                self.ctx.log(f"Attempt {attempt}: {_words(error)}. Trying again.")
                self._pause(PAUSE_SECONDS[attempt - 1])
        return self._checked()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.ctx.cancelled():
                raise Cancelled
            time.sleep(min(0.5, seconds))

    def _checked(self) -> str:
        found = digest_of(self.ctx, self.target, message="Checking what was fetched")
        if self.sha256 and found != self.sha256.lower():
            self._forget()
            raise DigestMismatch(
                f"What {_host(self.url)} sent has the SHA-256 {found}, and {self.sha256} was announced."
            )
        self._mark.unlink(missing_ok=True)
        return found

    def _forget(self) -> None:
        self.target.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)

    def _try(self) -> None:
        mark = self._mark.read_text() if self._mark.exists() else ""
        have = self.target.stat().st_size if mark and self.target.exists() else 0
        headers = {"Range": f"bytes={have}-", "If-Range": mark} if have else {}
        with httpx.Client(timeout=TIMEOUTS, trust_env=False) as client, _asked(client, self.url, headers) as answer:
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                self._forget()
                raise _BrokeOff("what was begun is no part of it any more")
            begin = have if answer.status_code == httpx.codes.PARTIAL_CONTENT and _begins_at(answer, have) else 0
            if answer.status_code not in (200, 206) or (answer.status_code == 206 and begin != have):
                raise _refusal(answer)
            self._receive(answer, begin)

    def _receive(self, answer: httpx.Response, begin: int) -> None:
        length = answer.headers.get("Content-Length", "")
        total = begin + int(length) if length.isascii() and length.isdigit() else 0
        if total > self.most_bytes:
            raise self._too_long(total)
        require_room(self.target.parent, total - begin if total else MIB)
        mark = answer.headers.get("ETag", "")
        strong = mark if mark and not mark.startswith("W/") else answer.headers.get("Last-Modified", "")
        if strong:
            self._mark.write_text(strong)
        else:
            self._mark.unlink(missing_ok=True)
        with self.target.open("r+b" if begin else "wb") as file:
            file.seek(begin)
            done = begin
            for piece in answer.iter_raw():
                done += len(piece)
                if done > self.most_bytes:
                    raise self._too_long(done)
                file.write(piece)
                self.ctx.progress(done / total if total else None, f"Fetching, {format_bytes(done)}")
                if self.ctx.cancelled():
                    raise Cancelled
        if total and done != total:
            raise _BrokeOff(f"the connection ended after {format_bytes(done)}")

    def _too_long(self, size: int) -> FetchFailed:
        self._forget()
        return FetchFailed(
            f"The file has {format_bytes(size)} or more, and {format_bytes(self.most_bytes)} is the most here (VMM_UPLOAD_MAX_BYTES)."
        )


class _BrokeOff(Exception):
    """The answer ended early; going on may help."""


def shown(url: str) -> str:
    """For people and logs: without the query, in which sites put keys."""
    return str(httpx.URL(url).copy_with(query=None))


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _host(url: str) -> str:
    return httpx.URL(url).host


def _begins_at(answer: httpx.Response, offset: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {offset}-")


def _refusal(answer: httpx.Response) -> FetchFailed | _BrokeOff:
    host = answer.request.headers.get("Host", "")
    if answer.status_code >= 500 or answer.status_code == 429:
        return _BrokeOff(f"{host} answered {answer.status_code}")
    return FetchFailed(f"{host} answered {answer.status_code} {answer.reason_phrase[:60]}. Look at the URL.")


# -- who is asked ----------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _asked(client: httpx.Client, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """The answer behind all redirects, its body not yet read."""
    place = httpx.URL(url)
    for _ in range(REDIRECTS_MAX):
        answer = _ask(client, place, headers)
        if not answer.is_redirect:
            try:
                yield answer
            finally:
                answer.close()
            return
        target = answer.headers.get("Location", "")
        answer.close()
        place = _next(place, target)
    raise FetchFailed(f"{place.host} leads round and round: more than {REDIRECTS_MAX} redirects.")


def _next(place: httpx.URL, target: str) -> httpx.URL:
    try:
        following = httpx.URL(check_url(str(place.join(target))))
    except (BadInput, httpx.InvalidURL):
        raise AddressRefused(f"{place.host} leads to what is no URL to go to.") from None
    if place.scheme == "https" and following.scheme != "https":
        raise AddressRefused(f"{place.host} leads from https to http, where anybody may change the file.")
    return following


def _ask(client: httpx.Client, place: httpx.URL, headers: dict[str, str]) -> httpx.Response:
    """GET from one of the addresses that the name has now. The name stays in Host and in what TLS is told and compares."""
    failed: httpx.TransportError | None = None
    for address in _addresses(place):
        request = client.build_request(
            "GET",
            place.copy_with(host=address),
            headers={
                "Host": place.netloc.decode("ascii"),
                "User-Agent": f"vmmanager/{version()}",
                "Accept": "*/*",
                # Bytes as they are: Range counts in them.
                "Accept-Encoding": "identity",
                **headers,
            },
            extensions={"sni_hostname": place.raw_host.decode("ascii")},
        )
        try:
            return client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failed = error
    raise failed or FetchFailed(f"{place.host} has no address.")


def _addresses(place: httpx.URL) -> list[str]:
    """Where it is, in the order of the system's choice. Raises AddressRefused when one of them is where we do not go."""
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        found = bounded(
            lambda: socket.getaddrinfo(place.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM), LOOKUP_SECONDS
        )
    except TimeoutError:
        raise FetchFailed(f"Nobody told the address of {place.host} in time.") from None
    except (OSError, UnicodeError):
        raise FetchFailed(f"There is no address for {place.host}.") from None
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    for address in addresses:
        refused = forbidden(address)
        if refused is not None:
            raise AddressRefused(refused)
    return [str(ipaddress.ip_address(address.partition("%")[0])) for address in addresses]
