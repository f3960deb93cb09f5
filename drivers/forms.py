"""What a host dialog asks for, as data: for each kind of hypervisor the ways to reach it, and the fields that each needs.

Drivers declare their `Way`s; pages draw them; `compose` makes the URI, which `drivers.uris.parse_uri` then checks like any other:
nothing typed into a field can become more of a URI than that field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import BadInput
from drivers import uris

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHECK, PIN, ANYBODY = "check", "pin", "anybody"
"""What can be chosen of a certificate: check it, believe exactly one fingerprint, believe anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing that is asked for.

    Attributes:
        name: `host`, `port`, `user`, `path`, `socket` (parts of the URI), or a name of `drivers.types.Credentials`.
        label: For people, in English; pages translate it.
        hint: A line below it.
        secret: Never shown again, and typed without showing where it is one line.
        choices: Of `CHECK`, `PIN`, `ANYBODY`, where one is chosen instead of typed: what this way really can do.
    """

    name: str
    label: str
    hint: str = ""
    placeholder: str = ""
    required: bool = False
    multiline: bool = False
    secret: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to reach a hypervisor.

    Attributes:
        name: Unique within the kind; goes into pages' addresses (`ssh`, `local`, `session`, …).
        scheme: With transport, as it stands in the URI: `qemu+ssh`.
        path: The URI's path where no field asks for it.
        port: What is meant when none is given; None where there is no port.
        local: Only for hypervisors on this machine.
        warning: What one should know before using it.
    """

    name: str
    label: str
    scheme: str
    fields: tuple[Field, ...] = ()
    path: str = ""
    port: int | None = None
    local: bool = False
    warning: str = ""


HOST = Field(name="host", label="Address", placeholder="hv-01.example.org", required=True)
PORT = Field(name="port", label="Port", hint="If not the usual one.")
SOCKET = Field(name="socket", label="Socket", hint="A path on this machine, if not the usual one.")
ACCOUNT = Field(name="user", label="Account there", placeholder="virt")
USERNAME = Field(name="username", label="User name", required=True)
PASSWORD = Field(name="password", label="Password", required=True, secret=True)
SSH_KEY = Field(
    name="private_key",
    label="Private key",
    placeholder="-----BEGIN OPENSSH PRIVATE KEY-----",
    required=True,
    multiline=True,
    secret=True,
)
HOST_KEY = Field(
    name="host_key",
    label="Host key, as in known_hosts",
    placeholder="ssh-ed25519 AAAA…",
    required=True,
    multiline=True,
)
CERTIFICATE = Field(
    name="certificate", label="Client certificate", placeholder="-----BEGIN CERTIFICATE-----", multiline=True
)
CERTIFICATE_KEY = Field(name="private_key", label="Its private key", multiline=True, secret=True)
CA_CERTIFICATE = Field(
    name="ca_certificate",
    label="Certificate of the authority",
    hint="Only where the host's certificate is not from a public authority.",
    multiline=True,
)
VERIFY = Field(name="verify", label="Certificate of the host", choices=(CHECK, PIN, ANYBODY))
VERIFY_BY_AUTHORITY = Field(name="verify", label="Certificate of the host", choices=(CHECK, ANYBODY))
"""For clients that cannot believe one certificate by its fingerprint: libvirt's."""

CLEAR_TEXT = (
    "Everything, passwords of consoles included, goes over the wire in clear. Only for a network that is yours alone."
)


def compose(way: Way, values: Mapping[str, str]) -> str:
    """The URI that the answers make: each part checked by the rule it has in a URI, then put in its place.

    Give it to `parse_uri`, which alone knows the paths of a scheme and makes it normal. Answers that this way does not ask
    for are left out; a blank in a path is written `%20`.

    Raises:
        BadInput: A required part is missing, or would not stay that part. One pointer (`/host`, …) for each.
    """
    parts = dict.fromkeys(_RULES, "")
    errors: list[dict[str, str]] = []
    for field in way.fields:
        if field.name not in _RULES:
            continue
        value = values.get(field.name, "").strip()
        if field.required and not value:
            errors.append({"pointer": f"/{field.name}", "detail": f"{field.label} is missing."})
        elif value:
            try:
                parts[field.name] = _RULES[field.name](value)
            except BadInput as error:
                errors.append({"pointer": f"/{field.name}", "detail": error.detail})
    if errors:
        raise BadInput(errors[0]["detail"], errors=errors)
    user, port, path = parts["user"], parts["port"], parts["path"] or way.path
    place = (f"{user}@" if user else "") + parts["host"] + (f":{port}" if port else "")
    if path and not path.startswith("/"):
        path = f"/{path}"
    if parts["socket"] and uris.socket_is_path(way.scheme):
        return f"{way.scheme}://{parts['socket']}"
    return f"{way.scheme}://{place}{path}" + (f"?socket={parts['socket']}" if parts["socket"] else "")


def _host(value: str) -> str:
    bare = ":" in value and not value.startswith("[")
    return uris.check_host(f"[{value}]" if bare else value)


def _path(value: str) -> str:
    return uris.check_path(value.replace(" ", "%20"))


_RULES: dict[str, Callable[[str], str]] = {
    "user": uris.check_user,
    "host": _host,
    "port": uris.check_port,
    "path": _path,
    "socket": uris.check_socket,
}
