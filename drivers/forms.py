"""What a host dialog asks for, as data: for each kind of hypervisor the ways to reach it, and the fields that each needs.

Drivers declare their `Way`s; pages draw them; `compose` makes the URI, which `drivers.uris.parse_uri` then checks like any other:
nothing typed into a field can become more of a URI than that field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing that is asked for.

    Attributes:
        name: `host`, `port`, `user`, `path`, `socket` (parts of the URI), or a name of `drivers.types.Credentials`.
        label: For people, in English; pages translate it.
        hint: A line below it.
        secret: Never shown again, and typed without showing where it is one line.
    """

    name: str
    label: str
    hint: str = ""
    placeholder: str = ""
    required: bool = False
    multiline: bool = False
    secret: bool = False


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
VERIFY = Field(
    name="verify",
    label="Certificate check",
    hint="The SHA-256 fingerprint believes exactly that certificate.",
)

CLEAR_TEXT = (
    "Everything, passwords of consoles included, goes over the wire in clear. Only for a network that is yours alone."
)


def compose(way: Way, values: Mapping[str, str]) -> str:
    """The URI that the answers make. Not yet checked: give it to `parse_uri`.

    Raises:
        BadInput: A required part is missing, or a part has a character that would end it.
    """
    parts = {name: values.get(name, "").strip() for name in ("user", "host", "port", "path", "socket")}
    for name, value in parts.items():
        asked = next((field for field in way.fields if field.name == name), None)
        if asked is None:
            parts[name] = ""
        elif asked.required and not value:
            raise BadInput(f"{asked.label} is missing.", errors=[{"pointer": f"/{name}", "detail": "missing"}])
        elif any(mark in value for mark in "?#@" if name != "socket") or any(sign.isspace() for sign in value):
            raise BadInput(f"{asked.label} has a character that cannot stand there.", errors=[_odd(name)])
    host = f"[{parts['host']}]" if ":" in parts["host"] and not parts["host"].startswith("[") else parts["host"]
    place = (f"{parts['user']}@" if parts["user"] else "") + host + (f":{parts['port']}" if parts["port"] else "")
    path = parts["path"] or way.path
    if path and not path.startswith("/"):
        path = f"/{path}"
    if parts["socket"] and way.scheme.split("+")[0] in ("docker", "podman"):
        return f"{way.scheme}://{parts['socket']}"
    return f"{way.scheme}://{place}{path}" + (f"?socket={parts['socket']}" if parts["socket"] else "")


def _odd(name: str) -> dict[str, str]:
    return {"pointer": f"/{name}", "detail": "not allowed there"}
