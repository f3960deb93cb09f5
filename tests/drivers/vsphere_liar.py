"""A server between the driver and the simulator: everything passes, but one method's answers come out as a test wants them."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import ssl
import threading
from typing import TYPE_CHECKING

from tests.drivers.servers import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.labs.esx import Simulator


class Liar:
    """Set `method` and `lie`: instead of that SOAP method's true answer, `lie(handler, answer)` writes one."""

    def __init__(self, simulator: Simulator, directory: Path) -> None:
        self.method = ""
        self.lie = None
        self.asked: list[str] = []
        self.over = threading.Event()
        authority = Authority()
        pair = authority.sign("127.0.0.1", "127.0.0.1")
        self.ca = authority.pem
        (directory / "liar.pem").write_text(pair.certificate + pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "liar.pem")
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, simulator))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients hang up on liars
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.uri = f"{'esx' if simulator.is_esx else 'vpx'}://127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Liar]:
        thread = threading.Thread(target=lambda: self._server.serve_forever(0.05), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join(5)

    def on(self, method: str, lie) -> None:
        self.method, self.lie = method, lie


def _handler(liar: Liar, simulator: Simulator) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            method = body.partition(b"<soapenv:Body>")[2][1:].partition(b" ")[0].decode()
            liar.asked.append(method)
            self._pass_on(body, method)

        def do_GET(self) -> None:
            self._pass_on(b"", self.path)

        def _pass_on(self, body: bytes, method: str) -> None:
            context = ssl._create_unverified_context()
            upstream = http.client.HTTPSConnection(simulator.host, simulator.port, timeout=30, context=context)
            sent = {
                name: self.headers[name] for name in ("Cookie", "Content-Type", "SOAPAction") if name in self.headers
            }
            upstream.request(self.command, self.path, body, sent)
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            if liar.lie is not None and method == liar.method:
                liar.lie(self, content)
                return
            say(self, content, answer.status, **{"Set-Cookie": answer.headers.get("Set-Cookie") or "none=1"})

        def log_message(self, *_: object) -> None:
            return

    return Handler


def say(handler: http.server.BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    """A whole HTTP answer."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
