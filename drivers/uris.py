"""The allow-list of hypervisor URIs: what a user may ask us to connect to, taken apart and checked before anything is made of it.

libvirt's URIs can name commands to run, files to read and descriptors to reuse (`+ext`, `command=`, `pkipath=`, …), and its
ssh transport puts the host on a command line. So nothing is passed through: a URI is matched as a whole, each part against
its own narrow rule, and written anew from its parts. What no rule names is refused. No percent-encoding is ever decoded.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from core.errors import BadInput
from drivers import registry

if TYPE_CHECKING:
    from collections.abc import Iterable

LENGTH_MAX = 1024
_HOST_MAX = 253
_SOCKET_MAX = 107  # sun_path holds 108 with its end
_SEGMENTS_MAX = 8

_CHARACTERS = re.compile(r"[A-Za-z0-9+.:/@\[\]?=_,%-]*")
_SHAPE = re.compile(
    r"(?P<scheme>[a-z]+)(?:\+(?P<transport>[a-z0-9]+))?://"
    r"(?:(?P<user>[^@/?]*)@)?(?P<host>\[[0-9A-Fa-f:.]*\]|[^:/?@\[\]]*)(?::(?P<port>[^/?@\[\]]*))?"
    r"(?P<path>/[^?@\[\]]*)?(?:\?(?P<query>.*))?"
)
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_USER_RULE = "A user name starts with a letter or _ and has letters, digits, _, - and . (at most 32)."
_SCHEME = re.compile(r"[a-z]{1,20}")
_PATH = re.compile(r"/?(?:[A-Za-z0-9._+=,:-]|%20)+(?:/(?:[A-Za-z0-9._+=,:-]|%20)+)*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_FILE = re.compile(r"(?:/[A-Za-z0-9._@+=,:-]+)+")
_INVENTORY = re.compile(r"(?:/[A-Za-z0-9_](?:[A-Za-z0-9._-]|%20)*)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedUri:
    """A URI that passed.

    Attributes:
        driver: The contract's word, which is not always the scheme (`vmwarews` → `vmware`).
        transport: `""` (local, or the driver's own HTTPS), `unix`, `tls`, `ssh` or `tcp`.
        host: Lower case, an IPv6 address without brackets; "" where there is none.
        path: As in `text`, "" where there is none. For `docker+unix` it is the socket's.
        socket: The unix socket that the URI names, "" where it names none.
        encrypted: False where what crosses the network can be read and changed on its way.
        local: Nothing crosses a network.
        text: The URI, normalised: equal texts mean the same endpoint.
    """

    driver: str
    scheme: str
    transport: str
    user: str
    host: str
    port: int | None
    path: str
    socket: str
    encrypted: bool
    local: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UriForm:
    """What URIs of one scheme look like. A driver that somebody else installed brings its own (`Driver.uri_forms`).

    Attributes:
        driver: The kind that such a URI belongs to.
        transports: Of `""`, `unix`, `tls`, `ssh`, `tcp`.
        paths: The paths that may stand there; None: see `path_rule`.
        bare: What a URI without transport means: `local`, or `remote` (HTTPS to the named host).
        port: The usual one, where a URI without transport is remote.
        example: One that is right, for the refusal.
    """

    driver: str
    transports: tuple[str, ...]
    paths: tuple[str, ...] = ()
    path_rule: re.Pattern[str] | None = None
    bare: str = "local"
    port: int = 443
    example: str


_REMOTE = ("", "unix", "tls", "ssh", "tcp")
_ENGINE = ("unix", "tcp", "ssh")
_CLEAR = ("tcp",)
_TLS_OVER_TCP = ("docker", "podman")
"""Their API over TCP is spoken with TLS or not at all: without it anybody who reaches the port owns the machine."""

FORMS: dict[str, UriForm] = {
    "qemu": UriForm(driver="qemu", transports=_REMOTE, paths=("/system", "/session"), example="qemu:///system"),
    "xen": UriForm(driver="xen", transports=_REMOTE, paths=("/", "/system"), example="xen+ssh://root@host/system"),
    "lxc": UriForm(driver="lxc", transports=_REMOTE, paths=("/", "/system"), example="lxc:///"),
    "openvz": UriForm(driver="openvz", transports=_REMOTE, paths=("/", "/system"), example="openvz:///system"),
    "vz": UriForm(driver="vz", transports=_REMOTE, paths=("/", "/system"), example="vz+ssh://root@host/system"),
    "vbox": UriForm(
        driver="vbox", transports=_REMOTE, paths=("/system", "/session"), example="vbox+ssh://host/session"
    ),
    "vmwarews": UriForm(driver="vmware", transports=_REMOTE, paths=("/session",), example="vmwarews:///session"),
    "vmwareplayer": UriForm(
        driver="vmware", transports=_REMOTE, paths=("/session",), example="vmwareplayer:///session"
    ),
    "bhyve": UriForm(driver="bhyve", transports=_REMOTE, paths=("/system",), example="bhyve+ssh://root@host/system"),
    "ch": UriForm(driver="ch", transports=_REMOTE, paths=("/system", "/session"), example="ch:///system"),
    "esx": UriForm(driver="esx", transports=("",), paths=("", "/"), bare="remote", example="esx://host"),
    "vpx": UriForm(
        driver="vpx", transports=("",), path_rule=_INVENTORY, bare="remote", example="vpx://host/datacenter"
    ),
    "hyperv": UriForm(
        driver="hyperv", transports=("",), paths=("", "/"), bare="remote", port=5986, example="hyperv://host"
    ),
    "xapi": UriForm(driver="xapi", transports=("",), paths=("", "/"), bare="remote", example="xapi://host"),
    "test": UriForm(driver="test", transports=("",), path_rule=_FILE, example="test:///default"),
    "docker": UriForm(
        driver="docker", transports=_ENGINE, paths=("", "/"), example="docker+unix:///var/run/docker.sock"
    ),
    "podman": UriForm(
        driver="podman", transports=_ENGINE, paths=("", "/"), example="podman+unix:///run/podman/podman.sock"
    ),
}


def parse_uri(text: str, *, data_dir: Path) -> ParsedUri:
    """Check a URI from outside and take it apart.

    A libvirt URI with a host and no transport is TLS, as in libvirt, and is written so.

    Args:
        text: As the user gave it; anything around it, white space too, is refused.
        data_dir: The only place a `test:///PATH` may lie in, links resolved.

    Raises:
        BadInput: With the pointer `/uri` and a sentence that says what is allowed.
    """
    if not isinstance(text, str) or not text or len(text) > LENGTH_MAX:
        _refuse(f"A hypervisor's URI has 1 to {LENGTH_MAX} characters, for example qemu:///system.")
    if not _CHARACTERS.fullmatch(text):
        _refuse("A hypervisor's URI has only letters, digits and + . : / @ [ ] ? = _ , - in it, and no spaces.")
    match = _SHAPE.fullmatch(text)
    if match is None:
        _refuse(
            "A hypervisor's URI looks like driver+transport://host:port/path, for example qemu+ssh://root@host/system."
        )
    scheme, form = match["scheme"], _form(match["scheme"])
    if form is None:
        _refuse(f"There is no such driver. Allowed are {_listed([*FORMS, *_foreign()])}.")
    host = _host(match["host"])
    transport = match["transport"]
    if transport is None:
        transport = "tls" if host and form.bare == "local" and "tls" in form.transports else ""
    elif not transport:
        _refuse(f"The transport is missing after the plus sign; for example {form.example}.")
    if transport not in form.transports or (match["transport"] is None and "" not in form.transports):
        allowed = [f"{scheme}+{name}" if name else scheme for name in form.transports]
        _refuse(f"{scheme} cannot be reached that way. Allowed are {_listed(allowed)}.")
    engine_socket = transport == "unix" and form.driver in ("docker", "podman")
    local = transport == "unix" or (transport == "" and form.bare == "local")
    _check_where(form, local=local, host=host, port=match["port"])
    user = _user(match["user"], transport, form)
    port = _port(match["port"])
    path = _path(match["path"] or "", form, engine_socket=engine_socket, data_dir=data_dir)
    named = _socket(match["query"], transport, form, allowed=not engine_socket)
    socket = path if engine_socket else named
    shown = f"[{host}]" if ":" in host else host
    where = (f"{user}@" if user else "") + shown + (f":{port}" if port else "")
    query = f"?socket={named}" if named else ""
    return ParsedUri(
        driver=form.driver,
        scheme=scheme,
        transport=transport,
        user=user,
        host=host,
        port=port,
        path=path,
        socket=socket,
        encrypted=_encrypted(scheme, transport),
        local=local,
        text=f"{scheme}{'+' if transport else ''}{transport}://{where}{path}{query}",
    )


def is_encrypted(text: str) -> bool:
    """`ParsedUri.encrypted` of a URI that has passed before."""
    scheme, _, transport = text.partition("://")[0].partition("+")
    return _encrypted(scheme, transport)


def _encrypted(scheme: str, transport: str) -> bool:
    return transport not in _CLEAR or scheme in _TLS_OVER_TCP


# -- schemes of drivers that others installed ------------------------------------------------------------------------------
def _form(scheme: str) -> UriForm | None:
    return FORMS.get(scheme) or _foreign().get(scheme)


@cache
def _foreign() -> dict[str, UriForm]:
    """Scheme -> form of every driver that is installed and not ours. None of them can take a scheme that is."""
    found: dict[str, UriForm] = {}
    for kind in registry.kinds():
        if kind in registry.BUILT_IN or not registry.availability(kind).supported:
            continue
        for scheme, form in registry.get(kind).uri_forms.items():
            if scheme not in FORMS and scheme not in found and _SCHEME.fullmatch(scheme) and form.driver == kind:
                found[scheme] = form
    return found


def usual_port(scheme: str) -> int:
    """The port that a remote URI of this scheme without transport and port means."""
    form = _form(scheme)
    return form.port if form else 443


# -- parts, for forms that ask for them one by one -------------------------------------------------------------------------
def check_host(text: str) -> str:
    """A host as it stands in a URI: lower case, an IPv6 address in brackets. Raises BadInput."""
    if not text or (text.startswith("[") and not text.endswith("]")):
        _refuse("An IPv6 address stands in brackets, for example [2001:db8::1].")
    host = _host(text)
    return f"[{host}]" if ":" in host else host


def check_user(text: str) -> str:
    """An account's name as it stands in a URI. Raises BadInput."""
    if not _USER.fullmatch(text):
        _refuse(_USER_RULE)
    return text


def check_port(text: str) -> str:
    """A port number. Raises BadInput."""
    return str(_port(text))


def check_path(text: str) -> str:
    """What may follow the host of any scheme; which of it may follow which, `parse_uri` knows. Raises BadInput."""
    if not _PATH.fullmatch(text) or not {".", ".."}.isdisjoint(text.split("/")):
        _refuse("A path has names of letters, digits, blanks and . _ + = , : - in it, with slashes between.")
    return text


def check_socket(text: str) -> str:
    """The path of a unix socket. Raises BadInput."""
    if len(text) > _SOCKET_MAX or not _FILE.fullmatch(text) or not {".", ".."}.isdisjoint(text.split("/")):
        _refuse(
            f"A socket is an absolute path of at most {_SOCKET_MAX} letters, digits and . _ @ + = , : -, "
            "for example /run/libvirt/libvirt-sock."
        )
    return text


def socket_is_path(scheme: str) -> bool:
    """Whether a URI of this scheme (with transport) names its socket as path and not as query: the container engines' do."""
    name, _, transport = scheme.partition("+")
    return transport == "unix" and name in ("docker", "podman")


def _check_where(form: UriForm, *, local: bool, host: str, port: str | None) -> None:
    if local and (host or port is not None):
        _refuse(f"This form is for this machine: it takes no host and no port. For example {form.example}.")
    if not local and not host:
        _refuse(f"The host is missing. For example {form.example}.")


def _host(text: str) -> str:
    """A host name or an address, as it is to be written."""
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            _refuse("What stands in brackets must be an IPv6 address, for example [2001:db8::1], without a zone.")
    name = text.lower()
    if not name:
        return ""
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # The C library reads 127.1, 0x7f.1 and 2130706433 as addresses: each would pass checks made for the usual form.
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            _refuse("An IPv4 address has four decimal numbers, for example 192.0.2.7.")
    if len(name) > _HOST_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        _refuse(
            "A host is a name of letters, digits, dots and inner hyphens (at most 253 characters), an IPv4 address, or an "
            "IPv6 address in brackets."
        )
    return name


def _user(text: str | None, transport: str, form: UriForm) -> str:
    if text is None:
        return ""
    if ":" in text:
        _refuse("A URI carries no password: give it in the credentials.")
    if transport != "ssh":
        _refuse(
            f"A user name stands in the URI only with ssh; else give it in the credentials. For example {form.example}."
        )
    if not _USER.fullmatch(text):
        _refuse(_USER_RULE)
    return text


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not _PORT.fullmatch(text) or int(text) > 65535:
        _refuse("A port is a number from 1 to 65535.")
    return int(text)


def _path(text: str, form: UriForm, *, engine_socket: bool, data_dir: Path) -> str:
    if engine_socket:
        return _file(text, form)
    if form.driver == "test":
        return "/default" if text == "/default" else _inside(_file(text, form), data_dir)
    if form.path_rule is not None:
        trimmed = text.rstrip("/")
        if not form.path_rule.fullmatch(trimmed) or trimmed.count("/") > _SEGMENTS_MAX:
            _refuse(f"A path of at most {_SEGMENTS_MAX} names must follow the host. For example {form.example}.")
        return trimmed
    if text not in form.paths:
        allowed = [path or "nothing" for path in form.paths]
        _refuse(f"After the host must come {' or '.join(allowed)}. For example {form.example}.")
    return "" if "" in form.paths else text


def _file(text: str, form: UriForm) -> str:
    """A plain absolute path: no `.` or `..`, no empty part, no character that means something to anybody."""
    if not _FILE.fullmatch(text) or not {".", ".."}.isdisjoint(text.split("/")):
        _refuse(f"An absolute path of letters, digits and . _ @ + = , : - is needed. For example {form.example}.")
    return text


def _inside(text: str, data_dir: Path) -> str:
    """The file, links resolved. libvirt's parser quotes what it cannot read: it may see nothing but definitions of ours."""
    home = data_dir.resolve()
    try:
        path = Path(text).resolve()
        inside = path.is_relative_to(home) and path != home and _FILE.fullmatch(str(path)) is not None
        definition = not path.exists() or (path.is_file() and _starts_as_xml(path))
    except (OSError, RuntimeError):
        inside = definition = False
    if not inside or not definition:
        _refuse("The test driver opens test:///default, or test:///PATH with an XML file inside the data directory.")
    return str(path)


def _starts_as_xml(path: Path) -> bool:
    """Keys, passwords and databases lie in the data directory too: they do not start so."""
    with path.open("rb") as file:
        return file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def _socket(query: str | None, transport: str, form: UriForm, *, allowed: bool) -> str:
    if query is None:
        return ""
    key, _, value = query.partition("=")
    if not allowed or key != "socket" or transport != "unix" or len(value) > _SOCKET_MAX:
        _refuse("After a question mark only socket=/absolute/path may stand, once, and only with +unix of libvirt.")
    return _file(value, form)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _refuse(sentence: str) -> NoReturn:
    raise BadInput(sentence, errors=[{"pointer": "/uri", "detail": sentence}])
