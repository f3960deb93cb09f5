"""What the host dialog is drawn from: kinds in groups, their ways and fields, in the language of the page. Reads no row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.translation import gettext as _

from drivers import catalog
from drivers.forms import ANYBODY, CHECK, PIN
from drivers.types import VirtualizationType
from drivers.uris import parse_uri
from hosts.catalog import kind_json
from hosts.choices import ProofChoice, VirtualizationTypeChoice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drivers.forms import Way
    from drivers.uris import ParsedUri
    from hosts.models import Hypervisor

EXPERT = "uri"
"""The pseudo kind whose only way is a URI typed by hand."""

_ORDER = (
    VirtualizationType.HYBRID,
    VirtualizationType.BARE_METAL,
    VirtualizationType.OS_LEVEL,
    VirtualizationType.HOSTED,
)


def groups() -> list[dict[str, Any]]:
    """Kinds by who owns the hardware in their usual case: for the cards."""
    found: dict[str, list[dict[str, Any]]] = {}
    for kind in catalog.kinds():
        found.setdefault(str(kind.types[0]) if kind.types else "", []).append(
            {"kind": kind.kind, "label": kind.label, "available": kind.available, "proof": ProofChoice(kind.proof)}
        )
    hints = {
        "hybrid": _("a hypervisor in the host's own kernel"),
        "bare_metal": _("the hypervisor owns the machine"),
        "os_level": _("containers that share the host's kernel"),
        "hosted": _("a program on an ordinary system"),
        "": _("drivers of others that do not say"),
    }
    labels = dict(VirtualizationTypeChoice.choices) | {"": _("Others")}
    return [
        {"name": name or "others", "label": labels[name], "hint": hints[name], "kinds": found[name]}
        for name in (*map(str, _ORDER), "")
        if name in found
    ]


def dialog(only: str = "") -> dict[str, Any]:
    """Kind → its proof and ways, as `GET /drivers` has them, for people; with the way of experts. `only`: one kind."""
    kinds = [found] if only and (found := catalog.find(only)) else catalog.kinds()
    drawn = {kind.kind: _drawn(kind_json(kind)) for kind in kinds}
    return drawn if only else drawn | {EXPERT: _expert()}


def _drawn(kind: dict[str, Any]) -> dict[str, Any]:
    """With every text for people in their language."""
    ways = [
        way
        | {name: _(way[name]) for name in ("label", "warning") if way[name]}
        | {
            "fields": [
                field | {name: _(field[name]) for name in ("label", "hint") if field[name]} for field in way["fields"]
            ]
        }
        for way in kind["ways"]
    ]
    proof = ProofChoice(kind["proof"]).sentence
    return {"label": kind["label"], "proof": proof if ways else "", "ways": ways}


def _expert() -> dict[str, Any]:
    """A URI and every credential there is. The same allow-list checks it."""

    def field(name: str, label: str, **more: Any) -> dict[str, Any]:
        empty = {"hint": "", "placeholder": "", "required": False, "multiline": False, "secret": False, "choices": []}
        return {"name": name, "label": label} | empty | more

    fields = [
        field("uri", _("URI"), placeholder="qemu+tls://kvm-01/system", required=True),
        field("username", _("User name")),
        field("password", _("Password"), secret=True),
        field("private_key", _("Private key"), multiline=True, secret=True),
        field("host_key", _("Host key, as in known_hosts"), multiline=True, placeholder="ssh-ed25519 AAAA…"),
        field("certificate", _("Client certificate"), multiline=True),
        field("ca_certificate", _("Certificate of the authority"), multiline=True),
        field("verify", _("Certificate of the host"), choices=[CHECK, PIN, ANYBODY]),
    ]
    way = {
        "name": EXPERT,
        "label": _("By its URI"),
        "scheme": "",
        "path": "",
        "port": None,
        "local": False,
        "warning": "",
    }
    hint = _("For what no form asks for. Only the schemes and parts that the allow-list knows get through.")
    return {"label": _("Another, by its URI"), "proof": hint, "ways": [way | {"fields": fields}]}


def proof(kind: str) -> str:
    """What the driver of this kind was proven on, in a sentence; "" where it cannot be used here."""
    found = catalog.find(kind)
    return ProofChoice(found.proof).sentence if found and found.available.supported else ""


def present(hypervisor: Hypervisor) -> dict[str, str]:
    """What the form of a saved hypervisor starts with: its way and the parts of its URI. Nothing of its credentials."""
    uri = parse_uri(hypervisor.uri, data_dir=settings.DATA_DIR)
    found = catalog.find(hypervisor.driver)
    way = _way_of(found.ways if found else (), uri)
    parts = {"host": uri.host, "port": str(uri.port or ""), "user": uri.user, "socket": uri.socket}
    return {"way": way.name if way else "", "uri": uri.text, "path": uri.path} | parts


def _way_of(ways: Iterable[Way], uri: ParsedUri) -> Way | None:
    scheme = uri.scheme + (f"+{uri.transport}" if uri.transport else "")
    fitting = [way for way in ways if way.scheme == scheme]
    return next((way for way in fitting if way.path == uri.path), next(iter(fitting), None))
