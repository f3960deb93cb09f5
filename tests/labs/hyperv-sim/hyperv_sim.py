#!/usr/bin/env python3
"""A stand-in for the WinRM service of a Hyper-V host: WS-Management over HTTPS, root/virtualization/v2 and root/cimv2.

It is NOT Hyper-V. It answers the messages that our driver sends as Microsoft's documentation says that Hyper-V does: WQL queries
(whole objects, or fragments where columns are named), objects by key, methods, jobs, return values, faults.

  hyperv_sim.py DIR [--port N] [--guests N] [--auth basic|negotiate|both] [--user NAME] [--password WORD]

Makes its certificate in DIR (cert.pem), prints `ready PORT` and serves on 127.0.0.1 until its standard input ends. There it takes
commands, a JSON object a line, and answers each with one: see `Control`. `--auth negotiate` needs pyspnego; nothing else is needed.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import threading
from pathlib import Path

from control import Control
from service import Service
from world import HOST, LOCK, World


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    service: Service
    control: Control
    options: argparse.Namespace
    context = None
    signed_in = False
    last_token = ""

    def log_message(self, *_args) -> None:
        pass

    def do_POST(self) -> None:
        request = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.rstrip("/") != "/wsman":
            self.reply(404, b"")
        elif self.authenticated():
            status, action, body = self.service.answer(request)
            with LOCK:
                self.control.counts[action.rpartition("/")[2]] += 1
                lie = self.control.lie_for(action)
            if lie is None:
                self.reply(status, body)
            else:
                self.lie(lie, status, body)

    def reply(self, status: int, body: bytes, **headers: list[str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/soap+xml;charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        for name, values in headers.items():
            for value in values:
                self.send_header(name.replace("_", "-"), value)
        if self.last_token:
            self.send_header("WWW-Authenticate", self.last_token)
            self.last_token = ""
        self.end_headers()
        self.wfile.write(body)

    def authenticated(self) -> bool:
        if self.signed_in:
            return True
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        offers = {"basic": ['Basic realm="WSMAN"'], "negotiate": ["Negotiate"]}
        offered = offers.get(self.options.auth) or [*offers["negotiate"], *offers["basic"]]
        if kind == "Basic" and self.options.auth != "negotiate":
            with contextlib.suppress(ValueError):
                if base64.b64decode(token).decode() == f"{self.options.user}:{self.options.password}":
                    return True
        if kind == "Negotiate" and token and self.options.auth != "basic":
            return self.negotiate(base64.b64decode(token))
        self.reply(401, b"", WWW_Authenticate=offered)
        return False

    def negotiate(self, token: bytes) -> bool:
        """NTLM signs in the connection: this object is one connection's."""
        import spnego.channel_bindings  # noqa: PLC0415 - the only need for something beyond the standard library

        # As with Windows' CbtHardeningLevel Strict: the token must be made for this server's certificate.
        digest = hashlib.sha256(self.options.certificate).digest()
        bindings = spnego.channel_bindings.GssChannelBindings(application_data=b"tls-server-end-point:" + digest)
        self.context = self.context or spnego.server(protocol="negotiate", channel_bindings=bindings)
        try:
            answer = self.context.step(token)
        except spnego.exceptions.SpnegoError:
            self.context = None
            self.reply(401, b"", WWW_Authenticate=["Negotiate"])
            return False
        if self.context.complete:
            self.signed_in = True
            self.last_token = f"Negotiate {base64.b64encode(answer or b'').decode()}"
            return True
        challenge = self.control.damage(answer or b"")
        self.reply(401, b"", WWW_Authenticate=[f"Negotiate {base64.b64encode(challenge).decode()}"])
        return False

    def lie(self, lie: dict, status: int, body: bytes) -> None:
        kind = lie["kind"]
        if kind == "hang":
            self.control.released.wait(60)
            self.close_connection = True
        elif kind == "hang_up":
            self.close_connection = True
            self.connection.close()
        elif kind == "say":  # text in place of the body
            self.reply(lie.get("status", 200), lie["text"].encode())
        elif kind == "swap":  # text in the body replaced
            self.reply(status, re.sub(lie["old"], lie["new"], body.decode()).encode())
        elif kind == "redirect":
            self.reply(307, b"", Location=[lie["to"]])
        elif kind == "trickle":
            self.trickle(lie.get("seconds", 0.1))
        elif kind == "flood":
            self.flood()

    def trickle(self, pause: float) -> None:
        self.start_endless()
        with contextlib.suppress(OSError):
            while not self.control.released.wait(pause):
                self.wfile.write(b" ")
                self.wfile.flush()

    def flood(self) -> None:
        self.start_endless()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b" " * 2**20)

    def start_endless(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/soap+xml;charset=UTF-8")
        self.send_header("Content-Length", str(2**40))
        self.end_headers()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, context: ssl.SSLContext, handler: type) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.context = context

    def finish_request(self, request, address) -> None:
        request.settimeout(70)
        with contextlib.suppress(OSError):  # a client that does not like the certificate, or went
            self.RequestHandlerClass(self.context.wrap_socket(request, server_side=True), address, self)

    def handle_error(self, request, address) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, address)


def certificate(directory: Path) -> ssl.SSLContext:
    """Self-signed, for 127.0.0.1 and localhost."""
    files = directory / "cert.pem", directory / "key.pem"
    if not files[0].exists():
        directory.mkdir(parents=True, exist_ok=True)
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=HV01"
        names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-out", files[0], "-keyout", files[1]]
        subprocess.run([*command.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--guests", type=int, default=0)
    parser.add_argument("--auth", choices=["basic", "negotiate", "both"], default="basic")
    parser.add_argument("--user", default="Administrator")
    parser.add_argument("--password", default="secret")
    options = parser.parse_args()
    context = certificate(options.directory)
    options.certificate = ssl.PEM_cert_to_DER_cert((options.directory / "cert.pem").read_text())
    if options.auth != "basic":
        users = options.directory / "users"
        users.write_text("".join(f"{domain}:{options.user}:{options.password}\n" for domain in ("", HOST)))
        os.environ["NTLM_USER_FILE"] = str(users)
    service = Service(World())
    control = Control(service)
    for number in range(options.guests):
        service.world.add(f"vm{number + 1}", 1 + number % 2, 512)
    handler = type("ThisHandler", (Handler,), {"service": service, "control": control, "options": options})
    server = Server(options.port, context, handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", server.server_address[1], flush=True)
    for line in sys.stdin:
        with LOCK:
            answer = control.do(json.loads(line))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
