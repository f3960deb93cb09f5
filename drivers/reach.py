"""Is there anybody, and is it who it says? Names, sockets, TLS and SSH by the standard library, each with a deadline.

The host doctor's hands: it knows no hypervisor. Everything raises `Trouble` with what was seen and what mends it.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import ipaddress
import queue
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509

from drivers.advice import SSH_COMPARE
from drivers.tls import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drivers.types import Credentials

_R = TypeVar("_R")

_EXPIRED, _NOT_YET, _SELF_SIGNED, _SELF_SIGNED_IN_CHAIN = 10, 9, 18, 19
"""OpenSSL's verify codes."""

_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"})
"""Where clouds answer questions about the machine, keys among them, outside the link-local range: AWS, Alibaba, Azure, Oracle."""

_SSH_BANNER_BYTES = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the host showed and one could believe, once it was compared.

    Attributes:
        credential: The name of `drivers.types.Credentials` that it would be: `verify` or `host_key`.
        value: What would stand there.
        compare: The command that shows the same on the host itself.
    """

    credential: str
    value: str
    compare: str


class Trouble(Exception):
    """A step failed.

    Args:
        evidence: What was seen, in a sentence. Never a secret.
        code: A stable word.
        hint: What mends it, with the command to paste.
        trust: What could be believed instead.
    """

    def __init__(self, evidence: str, *, code: str, hint: str | None = None, trust: Trust | None = None) -> None:
        super().__init__(evidence)
        self.evidence = evidence
        self.code = code
        self.hint = hint
        self.trust = trust


@dataclass(frozen=True, slots=True)
class Budget:
    """Time that is running out. `until` is `time.monotonic()`."""

    until: float

    def left(self, most: float = 5.0) -> float:
        """Seconds for the next thing, at most `most`. Raises Trouble when all is used up."""
        seconds = min(most, self.until - time.monotonic())
        if seconds <= 0:
            raise Trouble(
                "The time for this probe is over.", code="timeout", hint="Try again when the host is less busy."
            )
        return seconds


def bounded(call: Callable[[], _R], seconds: float) -> _R:
    """Run `call` on a thread that may be lost. Raises TimeoutError, or what `call` raises."""
    answers: queue.SimpleQueue[tuple[_R | None, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(), None))
        except Exception as error:  # noqa: BLE001 - it is raised again by the caller
            answers.put((None, error))

    threading.Thread(target=work, name="probe", daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # None only where `call` gives it


# -- names ---------------------------------------------------------------------------------------------------------


def forbidden(address: str) -> str | None:
    """Why we do not go there; None where we do. Sees through IPv4 addresses written as IPv6."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in ipaddress.IPv6Network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    if ip.is_link_local:
        return f"{address} is a link-local address: cloud metadata services answer there, hosts to manage do not."
    if str(ip) in _METADATA:
        return f"{address} is the address of a cloud's metadata service."
    if ip.is_unspecified or ip.is_multicast or str(ip) == "255.255.255.255":
        return f"{address} is not the address of one machine."
    return None


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine by its very form; a name is not looked up."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    inner = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (inner or ip).is_loopback


def resolve(host: str, port: int, budget: Budget) -> list[str]:
    """The host's addresses. Raises Trouble when there is none, or when one is forbidden."""
    try:
        found = bounded(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), budget.left())
    except TimeoutError:
        hint = f"See whether the name server answers: getent hosts {host}"
        raise Trouble(f"Looking up {host} took too long.", code="timeout", hint=hint) from None
    except (OSError, UnicodeError):
        hint = f"Check the spelling; try: getent hosts {host}. Or add the name to DNS or to /etc/hosts, or use the address."
        raise Trouble(f"No address is known for {host}.", code="name_not_found", hint=hint) from None
    addresses = list(dict.fromkeys(str(row[4][0]) for row in found))
    for address in addresses:
        why = forbidden(address)
        if why:
            raise Trouble(why, code="address_refused", hint="Use the address of the host in its own network.")
    return addresses


# -- connections -----------------------------------------------------------------------------------------------------


def connect(addresses: Sequence[str], port: int, budget: Budget) -> tuple[socket.socket, str]:
    """The first address that takes a connection. Raises the last address's OSError (TimeoutError too)."""
    last: OSError = OSError(errno.EHOSTUNREACH, "no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout=budget.left()), address
        except OSError as error:
            last = error
    raise last


def connect_unix(path: str, budget: Budget) -> socket.socket:
    """Connect to a unix socket. Raises OSError."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.settimeout(budget.left())
        stream.connect(path)
    except BaseException:
        stream.close()
        raise
    return stream


# -- TLS -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsPlan:
    """What to expect of a TLS server.

    Attributes:
        ca_file: Where a CA's certificate lies when the credentials have none; None: the system's own CAs.
        certificate_files: A client's certificate and key when the credentials have none.
        greets: The server sends a byte once it has accepted our certificate (libvirtd does).
        compare: What shows its certificate's SHA-256 on the host; "" where our client cannot believe one certificate alone.
        plain: What to say where something answers without TLS.
        again: One more connection to the same place, to look at a certificate that was refused. Raises OSError.
    """

    host: str
    ca_file: Path | None = None
    certificate_files: tuple[Path, Path] | None = None
    greets: bool = False
    compare: str = ""
    plain: str = "Check the port and the transport."
    again: Callable[[], socket.socket]


def tls(stream: socket.socket, plan: TlsPlan, credentials: Credentials | None, budget: Budget) -> str:
    """Shake hands and check certificates both ways; the evidence. Raises Trouble."""
    verify: bool | str = credentials.verify if credentials else True
    context = _context(plan, credentials, check=verify is True)
    stream.settimeout(budget.left())
    shaken = False
    try:
        with context.wrap_socket(stream, server_hostname=plan.host) as wrapped:
            shaken = True
            seen = _seen(wrapped)
            if isinstance(verify, str):
                _check_fingerprint(seen, verify, plan)
            elif verify:
                _check_names(seen, plan)
            note = ", not checked because the credentials say so" if verify is False else ""
            version = wrapped.version()
            _check_welcome(wrapped, plan, credentials, budget)
            return f"{version}; {seen}{note}."
    except ssl.SSLCertVerificationError as error:
        raise _distrust(error, plan, _peek(plan, budget)) from None
    except TimeoutError:
        hint = "See what listens there; a frozen or overloaded host does the same."
        raise Trouble(
            "The port takes connections but does not answer the TLS handshake.", code="timeout", hint=hint
        ) from None
    except (ssl.SSLError, ConnectionError, EOFError) as error:
        if not shaken and isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
            # libvirtd judges our certificate once hands are shaken: this is a forwarded port with nothing behind it, say.
            evidence = "The port takes connections, but closes them before the TLS handshake is done."
            hint = "This does not say that certificates are wrong. See whether libvirtd runs there, and what stands in between."
            raise Trouble(evidence, code="tls_failed", hint=hint) from None
        raise _broken_off(error, plan, credentials) from None


def _context(plan: TlsPlan, credentials: Credentials | None, *, check: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # we compare names ourselves: libvirt takes the CN of a certificate without SAN
    context.verify_mode = ssl.CERT_REQUIRED if check else ssl.CERT_NONE
    if check:
        _load_ca(context, plan, credentials)
    try:
        if credentials and credentials.certificate:
            with _private_files(credentials.certificate, credentials.private_key) as (certificate, key):
                context.load_cert_chain(certificate, key, password=_no_password)
        elif plan.certificate_files and all(file.is_file() for file in plan.certificate_files):
            context.load_cert_chain(*plan.certificate_files, password=_no_password)
    except (OSError, ValueError):  # an SSLError is an OSError
        evidence = "Our own certificate and key cannot be read, or do not belong together."
        hint = "Give both in the credentials, in PEM, the key without a passphrase."
        raise Trouble(evidence, code="tls_failed", hint=hint) from None
    return context


def _load_ca(context: ssl.SSLContext, plan: TlsPlan, credentials: Credentials | None) -> None:
    try:
        if credentials and credentials.ca_certificate:
            context.load_verify_locations(cadata=credentials.ca_certificate)
        elif plan.ca_file is not None:
            context.load_verify_locations(cafile=plan.ca_file)
        else:
            context.load_default_certs()
    except (OSError, ValueError):
        if credentials and credentials.ca_certificate:
            evidence, hint = "The CA certificate of the credentials cannot be read.", "It must be in PEM."
        else:
            evidence = f"There is no CA certificate in the credentials, and none can be read at {plan.ca_file}."
            hint = (
                f"Copy it from the host: scp root@{plan.host}:/etc/pki/CA/cacert.pem . and give it in the credentials."
            )
        raise Trouble(evidence, code="tls_failed", hint=hint) from None


def _no_password() -> str:
    return ""  # never ask a terminal


@contextlib.contextmanager
def _private_files(certificate: str, key: str) -> Iterator[tuple[str, str]]:
    """OpenSSL takes certificates only as files: they lie in a directory of mode 0700 for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="vmm-probe-") as name:
        paths = Path(name, "certificate.pem"), Path(name, "key.pem")
        for path, text in zip(paths, (certificate, key), strict=True):
            path.touch(mode=0o600)
            path.write_text(text)
        yield str(paths[0]), str(paths[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A certificate that a server showed. As text: the words of a step's evidence."""

    names: tuple[str, ...]
    issuer: str
    until: str
    sha256: str

    def __str__(self) -> str:
        return (
            f"the certificate is for {', '.join(self.names) or 'no name'}, from {self.issuer}, until {self.until}, "
            f"SHA-256 {self.sha256}"
        )


def _seen(wrapped: ssl.SSLSocket) -> _Seen:
    """The names are those in the subjectAltName, or without one the CN, as GnuTLS (libvirt's library) reads it."""
    der = wrapped.getpeercert(binary_form=True) or b""
    digest = fingerprint(der)
    try:
        certificate = x509.load_der_x509_certificate(der)
        issuer = _common_names(certificate.issuer)
        return _Seen(
            names=_alternatives(certificate) or _common_names(certificate.subject),
            issuer=", ".join(issuer) or "nobody named",
            until=f"{certificate.not_valid_after_utc:%Y-%m-%d}",
            sha256=digest,
        )
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return _Seen(names=(), issuer="nobody readable", until="an unreadable day", sha256=digest)


def _alternatives(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = found.get_values_for_type(x509.IPAddress)
    return (*found.get_values_for_type(x509.DNSName), *(str(one) for one in addresses))


def _common_names(name: x509.Name) -> tuple[str, ...]:
    return tuple(str(one.value) for one in name.get_attributes_for_oid(x509.NameOID.COMMON_NAME))


def _peek(plan: TlsPlan, budget: Budget) -> _Seen | None:
    """The certificate of a server that is not trusted: Python tells nothing of one that it refuses, so we look once more.

    Nothing is sent but a handshake. None where the server does not show it a second time.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with plan.again() as stream:
            stream.settimeout(budget.left())
            with context.wrap_socket(stream, server_hostname=plan.host) as wrapped:
                return _seen(wrapped)
    except OSError:  # an SSLError is one
        return None


def _offer(seen: _Seen | None, plan: TlsPlan) -> Trust | None:
    if seen is None or not plan.compare:
        return None
    return Trust(credential="verify", value=seen.sha256, compare=plan.compare)


def _check_fingerprint(seen: _Seen, expected: str, plan: TlsPlan) -> None:
    if seen.sha256 != expected.lower().removeprefix("sha256:").replace(":", ""):
        hint = (
            "Somebody may be in between, or the host has a new certificate. If the host itself shows the same, give this "
            f"fingerprint in the credentials: {seen.sha256}"
        )
        raise Trouble(
            f"The host shows another certificate than expected: {seen}.",
            code="tls_failed",
            hint=hint,
            trust=_offer(seen, plan),
        )


def _check_names(seen: _Seen, plan: TlsPlan) -> None:
    host = plan.host
    if not any(_fits(name, host) for name in seen.names):
        hint = f"Use one of these names in the URI, or make a certificate for the host whose subjectAltName has {host}."
        raise Trouble(
            f"The certificate is for {', '.join(seen.names) or 'no name'}, not for {host}.",
            code="tls_failed",
            hint=hint,
            trust=_offer(seen, plan),
        )


def _fits(name: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(host)
    except ValueError:
        pass
    name, host = name.lower().rstrip("."), host.lower()
    first, _, rest = host.partition(".")
    return name == host or (bool(first) and "." in rest and name == f"*.{rest}")


def _check_welcome(wrapped: ssl.SSLSocket, plan: TlsPlan, credentials: Credentials | None, budget: Budget) -> None:
    """Wait for the server's verdict on our certificate: in TLS 1.3 it comes after the handshake, as an alert or a byte."""
    wrapped.settimeout(budget.left(5.0 if plan.greets else 0.5))
    try:
        if wrapped.recv(1) == b"" and plan.greets:
            raise _broken_off(EOFError(), plan, credentials)
    except TimeoutError:
        if plan.greets:
            raise


def _distrust(error: ssl.SSLCertVerificationError, plan: TlsPlan, seen: _Seen | None) -> Trouble:
    shown = f" It showed: {seen}." if seen else ""
    trust = _offer(seen, plan)
    if error.verify_code == _EXPIRED:
        renew = (
            f"Renew the host's certificate; on {plan.host}: certtool --generate-certificate … or ask its administrator."
        )
        return Trouble(f"The host's certificate has expired.{shown}", code="tls_failed", hint=renew, trust=trust)
    if error.verify_code == _NOT_YET:
        return Trouble(
            f"The host's certificate is not valid yet.{shown}",
            code="tls_failed",
            hint="Compare the clocks: date --utc, here and there.",
        )
    what = {
        _SELF_SIGNED: "The host's certificate is signed by itself.",
        _SELF_SIGNED_IN_CHAIN: "The host's certificate comes from a CA that is not trusted here.",
    }.get(error.verify_code, f"The host's certificate is not trusted: {error.verify_message}.")
    if plan.compare:
        hint = (
            "Give the certificate of the authority that signed it in the credentials, or believe exactly this one by its "
            "fingerprint, once it was compared."
        )
    else:
        hint = (
            f"Give the certificate of the CA that signed it in the credentials; from a libvirt host: "
            f"scp root@{plan.host}:/etc/pki/CA/cacert.pem ."
        )
    return Trouble(what + shown, code="tls_failed", hint=hint, trust=trust)


def _broken_off(error: Exception, plan: TlsPlan, credentials: Credentials | None) -> Trouble:
    reason = str(getattr(error, "reason", "") or "")
    if reason in ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"):
        return Trouble(
            "Something answers there, but it does not speak TLS.",
            code="tls_failed",
            hint=plan.plain,
        )
    ours = credentials.certificate if credentials else None
    if plan.greets or "CERTIFICATE" in reason or "HANDSHAKE_FAILURE" in reason:
        evidence = (
            "The host ended the connection after it saw our certificate."
            if ours or _has_files(plan)
            else "The host asks for a client certificate, and we have none."
        )
        hint = "Give a certificate and key signed by the host's CA in the credentials; libvirtd's log names the reason."
        return Trouble(evidence, code="tls_failed", hint=hint)
    return Trouble(
        f"The TLS handshake broke off{f' ({reason})' if reason else ''}.",
        code="tls_failed",
        hint="See the host's own log.",
    )


def _has_files(plan: TlsPlan) -> bool:
    return plan.certificate_files is not None and all(file.is_file() for file in plan.certificate_files)


# -- SSH -----------------------------------------------------------------------------------------------------------


def ssh_banner(stream: socket.socket, budget: Budget) -> str:
    """The server's first line (`SSH-2.0-…`). Raises Trouble when it says something else, or nothing."""
    stream.settimeout(budget.left())
    data = b""
    try:
        while b"\n" not in data and len(data) < _SSH_BANNER_BYTES:
            chunk = stream.recv(_SSH_BANNER_BYTES)
            if not chunk:
                break
            data += chunk
    except TimeoutError:
        hint = "See what listens there; a frozen or overloaded host does the same."
        raise Trouble("The port takes connections but says nothing.", code="timeout", hint=hint) from None
    except OSError:
        pass
    banner = data.split(b"\n")[0].strip().decode("ascii", "replace")
    if not banner.startswith("SSH-"):
        raise Trouble(
            "Something answers there, but it does not speak SSH.", code="host_unreachable", hint="Check the port."
        )
    return banner


def ssh_host_key(host: str, port: int, credentials: Credentials | None, budget: Budget) -> str:
    """Compare the host's keys with the one we expect; the evidence. Raises Trouble."""
    offered = _keys(_tool("ssh-keyscan", "-T", "5", "-p", str(port), host, budget=budget))
    if not offered:
        hint = f"Try: ssh-keyscan -p {port} {host}"
        raise Trouble("The host shows no key that our SSH client understands.", code="host_unreachable", hint=hint)
    seen = ", ".join(f"{kind} {_fingerprint(key)}" for kind, key in sorted(offered))
    if credentials is not None and credentials.verify is False:
        return f"{seen}; not checked because the credentials say so"
    given = credentials.host_key if credentials else ""
    pattern = host if port == 22 else f"[{host}]:{port}"
    expected = _keys(given or _tool("ssh-keygen", "-F", pattern, budget=budget))
    if offered & expected:
        return f"{seen}; known"
    if expected:
        hint = (
            "Somebody may be in between, or the host was installed anew. On the host's own screen compare with: "
            "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub, then replace the host key."
        )
        raise Trouble(f"The host shows another key than expected: {seen}.", code="host_key_mismatch", hint=hint)
    kind, key = min(offered, key=lambda pair: pair[0] != "ssh-ed25519")
    hint = (
        "Compare on the host's own screen with: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub. If it is the same, give this "
        f"as host key in the credentials: {kind} {key}"
    )
    trust = Trust(credential="host_key", value=f"{kind} {key}", compare=SSH_COMPARE)
    raise Trouble(f"The host's key is not known here: {seen}.", code="host_key_unknown", hint=hint, trust=trust)


def _tool(name: str, *arguments: str, budget: Budget) -> str:
    path = shutil.which(name)
    if path is None:
        hint = "On this machine: sudo apt install openssh-client"
        raise Trouble("There is no SSH client on this machine.", code="unsupported", hint=hint)
    try:
        # The host's name has passed drivers.uris: no leading dash, no character that means anything to anybody.
        done = subprocess.run(  # noqa: S603
            [path, *arguments],
            capture_output=True,
            text=True,
            timeout=budget.left(8.0),
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise Trouble("The host did not show its key in time.", code="timeout", hint="Try again.") from None
    return done.stdout


def _keys(text: str) -> set[tuple[str, str]]:
    """`(type, base64)` of every key in known_hosts lines or bare `type base64` ones."""
    found = set()
    for line in text.splitlines():
        words = line.split()
        for kind, key in pairwise(words):
            if kind.startswith(("ssh-", "ecdsa-", "sk-")) and not line.startswith("#"):
                found.add((kind, key))
                break
    return found


def _fingerprint(key: str) -> str:
    try:
        digest = hashlib.sha256(base64.b64decode(key, validate=True)).digest()
    except ValueError:
        return "unreadable"
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
