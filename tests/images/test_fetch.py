"""Fetching from a URL: what we do not go to, however it is said; what breaks off goes on; what is too long or another file is not taken."""

from __future__ import annotations

import http.server
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from core.errors import BadInput
from images import fetch
from images.fetch import AddressRefused, Fetch, FetchFailed, check_url
from images.models import Image
from operations.actions import Cancelled
from tests.transfers import files
from tests.transfers.conftest import sha256
from tests.transfers.files import Quiet
from tests.web.test_edge import check_problem
from transfers.staged import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from accounts.models import User
    from storage.models import StoragePool
    from tests.images.conftest import Shelf

CONTENT = bytes(range(256)) * 2000


@dataclass
class Site:
    """A web server that can be told how to misbehave."""

    url: str = ""
    content: bytes = CONTENT
    etag: str = '"one"'
    breaks_after: list[int] = field(default_factory=list)
    ranges: bool = True
    lengths: bool = True
    status: list[int] = field(default_factory=list)
    redirect: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site()
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", (0.01,) * 4)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
            if self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("Location", made.redirect)
                self.end_headers()
                return
            if made.status:
                self.send_error(made.status.pop(0))
                return
            begin = 0
            wanted = self.headers.get("Range", "")
            if made.ranges and wanted and self.headers.get("If-Range") == made.etag:
                begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{len(made.content) - 1}/{len(made.content)}")
            else:
                self.send_response(200)
            body = made.content[begin:]
            if made.etag:
                self.send_header("ETag", made.etag)
            if made.lengths:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: made.breaks_after.pop(0)] if made.breaks_after else body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


def fetched(site: Site, target: Path, path: str = "/disk.qcow2", **more: Any) -> str:
    return Fetch(Quiet(), site.url + path, target, **more).run()


# -- what is asked for ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/a", "file:///etc/passwd", "/etc/passwd", "http:", "http://", "https://:443/",
        "https://user:secret@example.org/a", "https://user@example.org/", "gopher://x/", "http://[::1/", "http://exa mple/",
        "http://a\nb/", "https://example.org/" + "a" * 2000, "https://example.org:0x50/", "data:,x",
    ],
)  # fmt: skip
def test_what_is_no_url_for_us(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_url(url)
    assert caught.value.errors[0]["pointer"] == "/url"
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "100.100.100.200", "0.0.0.0",
        "2852039166", "0xa9fea9fe", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]",
    ],
)  # fmt: skip
def test_clouds_metadata_is_not_gone_to_however_it_is_written(tmp_path: Path, host: str) -> None:
    with pytest.raises(FetchFailed) as caught:
        Fetch(Quiet(), check_url(f"http://{host}/latest/meta-data"), tmp_path / "a").run()
    assert isinstance(caught.value, AddressRefused), caught.value.detail


def test_a_name_that_leads_there_is_refused_at_each_look(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the name means is asked once, by us, and gone to: a second answer for the connection itself is never asked for."""
    real, answers = socket.getaddrinfo, ["127.0.0.1", "169.254.169.254"]

    def lookup(host: str, *args: Any, **kwargs: Any) -> Any:
        return real(answers.pop(0) if host == "rebinds.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    url = site.url.replace("127.0.0.1", "rebinds.example") + "/a"
    assert Fetch(Quiet(), url, tmp_path / "a").run() == sha256(CONTENT)
    assert site.asked[0]["host"].startswith("rebinds.example:")
    with pytest.raises(AddressRefused):
        Fetch(Quiet(), url, tmp_path / "b").run()


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/",
        "//[fe80::1]/",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1/",
        "ftp://127.0.0.1/",
    ],
)
def test_a_redirect_is_judged_like_a_url(site: Site, tmp_path: Path, target: str) -> None:
    site.redirect = target
    with pytest.raises(AddressRefused):
        fetched(site, tmp_path / "a", "/to/there")


def test_a_redirect_is_followed_and_not_for_ever(site: Site, tmp_path: Path) -> None:
    site.redirect = "/elsewhere"
    assert fetched(site, tmp_path / "a", "/to/there") == sha256(CONTENT)
    site.redirect = "/to/there"
    with pytest.raises(FetchFailed, match="round and round"):
        fetched(site, tmp_path / "b", "/to/there")


def test_from_https_nobody_leads_to_http() -> None:
    with pytest.raises(AddressRefused, match="from https to http"):
        fetch._next(fetch.httpx.URL("https://example.org/a"), "http://example.org/a")


# -- what comes ----------------------------------------------------------------------------------------------------------------
def test_what_breaks_off_goes_on_where_it_was(site: Site, tmp_path: Path) -> None:
    site.breaks_after = [100_000, 200_000]
    assert fetched(site, tmp_path / "a", sha256=sha256(CONTENT)) == sha256(CONTENT)
    assert [one.get("range") for one in site.asked] == [None, "bytes=100000-", "bytes=300000-"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a"]


def test_the_next_attempt_goes_on_too(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT[:1000])
    (tmp_path / "a.etag").write_text('"one"')
    assert fetched(site, tmp_path / "a") == sha256(CONTENT)
    assert site.asked[0]["range"] == "bytes=1000-"


@pytest.mark.parametrize("change", [{"etag": '"two"'}, {"ranges": False}])
def test_another_file_is_begun_anew(site: Site, tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "a").write_bytes(b"?" * 600_000)
    (tmp_path / "a.etag").write_text('"one"')
    for name, value in change.items():
        setattr(site, name, value)
    assert fetched(site, tmp_path / "a") == sha256(CONTENT)


def test_what_has_no_mark_is_never_gone_on_with(site: Site, tmp_path: Path) -> None:
    site.etag, site.breaks_after = "", [1000]
    assert fetched(site, tmp_path / "a") == sha256(CONTENT)
    assert [one.get("range") for one in site.asked] == [None, None]


def test_a_site_that_is_busy_is_asked_again_and_one_that_says_no_is_not(site: Site, tmp_path: Path) -> None:
    site.status = [503, 429]
    assert fetched(site, tmp_path / "a") == sha256(CONTENT)
    site.status, site.asked[:] = [404], []
    with pytest.raises(FetchFailed, match="404 Not Found"):
        fetched(site, tmp_path / "b")
    assert len(site.asked) == 1


def test_one_that_never_gets_through_says_so(site: Site, tmp_path: Path) -> None:
    site.breaks_after = [0] * 9
    with pytest.raises(FetchFailed, match="5 attempts"):
        fetched(site, tmp_path / "a")


@pytest.mark.parametrize("lengths", [True, False])
def test_what_is_too_long_is_cut_off(site: Site, tmp_path: Path, lengths: bool) -> None:
    site.lengths = lengths
    with pytest.raises(FetchFailed, match="VMM_UPLOAD_MAX_BYTES"):
        fetched(site, tmp_path / "a", most_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_another_digest_is_not_kept(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch):
        fetched(site, tmp_path / "a", sha256=sha256(b"x"))
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_cancelled(site: Site, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        Fetch(Quiet(cancelled=True), site.url, tmp_path / "a").run()


# -- by REST -------------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_an_image_comes_from_a_url(shelf: Shelf, pool: StoragePool, site: Site, tmp_path: Path) -> None:
    site.content = files.disk(tmp_path / "a").read_bytes()
    url = f"{site.url}/debian-12.qcow2"
    operation = shelf.create(name="debian", url=f"{url}?key=secret", sha256=sha256(site.content))
    assert operation.state == "succeeded", operation.error
    assert "secret" not in shelf.api.get(f"/operations/{operation.pk}").content.decode()
    image = Image.objects.get()
    assert (image.source, image.sha256) == (url, sha256(site.content))


@pytest.mark.django_db(transaction=True)
def test_a_url_needs_a_checksum_over_http_and_an_administrator(shelf: Shelf, pool: StoragePool, operator: User) -> None:
    refused = check_problem(
        shelf.api.post("/images", {"name": "a", "url": "http://example.org/a"}), 422, "invalid_input"
    )
    assert refused["errors"][0]["pointer"] == "/sha256"
    body = {"name": "a", "url": "https://example.org/a"}
    check_problem(shelf.api.of(operator).post("/images", body), 403, "permission_denied")
    assert not Image.objects.exists()
