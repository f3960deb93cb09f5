"""Forms of the host dialog: what is typed into a field stays that field, whatever it is."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from drivers import catalog, registry
from drivers.forms import ANYBODY, CHECK, HOST, PIN, PORT, SOCKET, Field, Way, compose
from drivers.types import Credentials
from drivers.uris import parse_uri

DATA = Path("/nonexistent/vmm-data")
PARTS = ("user", "host", "port", "path", "socket")
PATH = Field(name="path", label="Inventory path", required=True)
ACCOUNT = Field(name="user", label="Account there")
SSH = Way(name="ssh", label="SSH", scheme="qemu+ssh", path="/system", fields=(HOST, ACCOUNT, PORT))
UNIX = Way(name="unix", label="Socket", scheme="lxc+unix", path="/system", fields=(SOCKET,), local=True)
ENGINE = Way(
    name="unix", label="Socket", scheme="docker+unix", path="/var/run/docker.sock", fields=(SOCKET,), local=True
)
VCENTER = Way(name="https", label="HTTPS", scheme="vpx", fields=(HOST, PORT, PATH))
WAYS = (SSH, UNIX, ENGINE, VCENTER)

NASTY = [
    *(
        "h\nProxyCommand=x",
        "-oProxyCommand=touch /tmp/x",
        "h?socket=/etc/shadow",
        "root@evil",
        "h#frag",
        "h/../..",
        "a:b@c",
    ),
    *(
        "[::1",
        "::1]",
        "[fe80::1%eth0]",
        "2130706433",
        "0x7f.1",
        "127.1",
        "h:22",
        "\0",
        "\u2028",
        "%0a",
        "h\u0131",
        "${IFS}",
        "h;id",
    ),
    *(
        "x" * 5000,
        "/" * 900,
        "..",
        "/..",
        "/../etc",
        "//evil/system",
        "a//b",
        "?",
        "&command=x",
        "99999",
        "-1",
        "0",
        "1e3",
        " 22 1",
    ),
]


def parsed(way: Way, **values: str):
    return parse_uri(compose(way, values), data_dir=DATA)


def assert_stays_itself(way: Way, values: dict[str, str]) -> None:
    """Refused, or a URI of this very scheme in which every answer is exactly its own part, and nothing else is."""
    errors, uri = [], None
    try:
        uri = parsed(way, **values)
    except BadInput as error:
        errors = error.errors
    if uri is None:
        assert errors
        assert {one["pointer"].removeprefix("/") for one in errors} <= {*PARTS, "uri"}
        return
    asked = {field.name: values.get(field.name, "").strip() for field in way.fields}
    scheme, _, transport = way.scheme.partition("+")
    assert (uri.scheme, uri.transport) == (scheme, transport)
    assert uri.user == asked.get("user", "")
    # An address has one normal form; a name only its letters' case.
    assert uri.host == asked.get("host", "").strip("[]").lower() or ":" in uri.host
    assert str(uri.port or "") == asked.get("port", "")
    assert not asked.get("socket") or uri.socket == asked["socket"]
    if "path" in asked:
        assert uri.path.strip("/") == asked["path"].replace(" ", "%20").strip("/")
    elif uri.path != uri.socket:
        assert uri.path == way.path


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.scheme)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("nasty", NASTY, ids=range(len(NASTY)))
def test_a_hostile_answer_when_composed_then_refused_or_only_itself(way: Way, part: str, nasty: str) -> None:
    good = {"user": "root", "host": "hv", "port": "22", "path": "DC0/hv", "socket": "/run/x"}
    assert_stays_itself(way, good | {part: nasty})


@given(st.sampled_from(WAYS), st.fixed_dictionaries({part: st.text(max_size=40) for part in PARTS}))
def test_any_answers_when_composed_then_refused_or_only_themselves(way: Way, values: dict[str, str]) -> None:
    assert_stays_itself(way, values)


ODD = st.text(alphabet=string.ascii_letters + string.digits + ":/@?#[]%+-._=, \n", max_size=30)


@given(st.sampled_from(WAYS), st.fixed_dictionaries(dict.fromkeys(PARTS, ODD)))
def test_answers_of_a_uris_own_characters_when_composed_then_refused_or_only_themselves(
    way: Way, values: dict[str, str]
) -> None:
    assert_stays_itself(way, values)


@pytest.mark.parametrize(
    ("way", "values", "uri"),
    [
        (SSH, {"host": " HV.Example ", "user": "virt", "port": "2222"}, "qemu+ssh://virt@hv.example:2222/system"),
        (SSH, {"host": "2001:DB8::1"}, "qemu+ssh://[2001:db8::1]/system"),
        (SSH, {"host": "[2001:db8::1]", "port": "22"}, "qemu+ssh://[2001:db8::1]:22/system"),
        (SSH, {"host": "hv", "socket": "/not/asked"}, "qemu+ssh://hv/system"),
        (UNIX, {}, "lxc+unix:///system"),
        (UNIX, {"socket": "/run/x.sock"}, "lxc+unix:///system?socket=/run/x.sock"),
        (ENGINE, {}, "docker+unix:///var/run/docker.sock"),
        (ENGINE, {"socket": "/run/user/1000/docker.sock"}, "docker+unix:///run/user/1000/docker.sock"),
        (VCENTER, {"host": "vc", "path": "My Datacenter/esx 1"}, "vpx://vc/My%20Datacenter/esx%201"),
    ],
)
def test_good_answers_when_composed_then_the_uri_that_was_meant(way: Way, values: dict[str, str], uri: str) -> None:
    assert parsed(way, **values).text == uri


def test_every_bad_answer_when_composed_then_named_at_its_own_field() -> None:
    with pytest.raises(BadInput) as caught:
        compose(SSH, {"host": "", "user": "-x", "port": "http"})
    assert [one["pointer"] for one in caught.value.errors] == ["/host", "/user", "/port"]
    assert caught.value.detail == "Address is missing."


@pytest.mark.parametrize("name", [kind for kind in registry.BUILT_IN if kind != "fake"])
def test_every_way_of_a_driver_when_answered_then_leads_to_that_driver(name: str) -> None:
    kind = catalog.find(name)
    typical = {"host": "hv-01.example.org", "path": "DC0/hv", "socket": "/run/x.sock"}
    for way in kind.ways:
        values = {field.name: typical.get(field.name, "") for field in way.fields if field.required}
        uri = parse_uri(kind.uri(way.name, values), data_dir=DATA)
        assert (uri.driver, uri.local) == (name, way.local)
        assert {field.name for field in way.fields} <= {*PARTS, *Credentials.__slots__}
        for field in way.fields:
            assert set(field.choices) <= {CHECK, PIN, ANYBODY}
            assert bool(field.choices) == (field.name == "verify")
            assert field.secret or field.name not in ("password", "private_key")


def test_ways_of_a_kind_when_listed_then_their_names_differ_and_libvirts_offer_no_pin() -> None:
    for kind in catalog.kinds():
        names = [way.name for way in kind.ways]
        assert len(names) == len(set(names)), kind.kind
    tls = catalog.find("qemu").way("tls")
    assert next(field for field in tls.fields if field.name == "verify").choices == (CHECK, ANYBODY)


def test_the_catalog_when_read_then_every_kind_of_the_registry_but_the_tests_own_is_there() -> None:
    found = {kind.kind: kind for kind in catalog.kinds()}
    assert set(found) == set(registry.BUILT_IN) - {"fake"}
    for kind in found.values():
        assert kind.label
        assert kind.types
        assert kind.available.supported or kind.available.reason.endswith(".")
    assert catalog.find("no-such-kind") is None
