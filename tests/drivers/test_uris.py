"""The allow-list of URIs: what the contract names passes and comes back the same, all else is a 422 with a sentence."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.errors import BadInput
from drivers.uris import FORMS, LENGTH_MAX, parse_uri

NOWHERE = Path("/nonexistent/vmm-data")
CONTRACT_DRIVERS = {
    *("qemu", "xen", "lxc", "esx", "vpx", "hyperv", "xapi", "openvz", "vz", "vbox", "vmware", "bhyve", "ch"),
    *("test", "docker", "podman"),
}
SHELL = set(" \t\r\n\0\"'`\\$&|;<>(){}*!~#^")


def parse(text: str, data_dir: Path = NOWHERE):
    return parse_uri(text, data_dir=data_dir)


def refused(text, data_dir: Path = NOWHERE) -> str:
    with pytest.raises(BadInput) as caught:
        parse(text, data_dir)
    assert caught.value.status == 422
    (error,) = caught.value.errors
    assert error["pointer"] == "/uri"
    assert error["detail"] == caught.value.detail
    return caught.value.detail


# What each becomes: driver, transport, user, host, port, path, socket, encrypted, local.
GOOD = {
    "qemu:///system": ("qemu", "", "", "", None, "/system", "", True, True),
    "qemu:///session": ("qemu", "", "", "", None, "/session", "", True, True),
    "qemu+unix:///system": ("qemu", "unix", "", "", None, "/system", "", True, True),
    "qemu+unix:///system?socket=/tmp/qemu-hosts/hv1/run/libvirt/libvirt-sock": (
        *("qemu", "unix", "", "", None, "/system"),
        *("/tmp/qemu-hosts/hv1/run/libvirt/libvirt-sock", True, True),
    ),
    "qemu+tls://hv2.lab/system": ("qemu", "tls", "", "hv2.lab", None, "/system", "", True, False),
    "qemu+tls://127.77.0.1:16514/system": ("qemu", "tls", "", "127.77.0.1", 16514, "/system", "", True, False),
    "qemu+tcp://hv/system": ("qemu", "tcp", "", "hv", None, "/system", "", False, False),
    "qemu+ssh://root@[2001:db8::1]:2222/system": (
        *("qemu", "ssh", "root", "2001:db8::1", 2222, "/system", "", True, False),
    ),
    "xen+ssh://admin.user@xn--bcher-kva.example/system": (
        *("xen", "ssh", "admin.user", "xn--bcher-kva.example", None, "/system", "", True, False),
    ),
    "xen:///": ("xen", "", "", "", None, "/", "", True, True),
    "lxc:///": ("lxc", "", "", "", None, "/", "", True, True),
    "lxc:///system": ("lxc", "", "", "", None, "/system", "", True, True),
    "lxc+tls://hv1/": ("lxc", "tls", "", "hv1", None, "/", "", True, False),
    "lxc+unix:///?socket=/run/l": ("lxc", "unix", "", "", None, "/", "/run/l", True, True),
    "openvz:///system": ("openvz", "", "", "", None, "/system", "", True, True),
    "vz+ssh://root@node/system": ("vz", "ssh", "root", "node", None, "/system", "", True, False),
    "vbox:///session": ("vbox", "", "", "", None, "/session", "", True, True),
    "vmwarews:///session": ("vmware", "", "", "", None, "/session", "", True, True),
    "vmwareplayer:///session": ("vmware", "", "", "", None, "/session", "", True, True),
    "bhyve:///system": ("bhyve", "", "", "", None, "/system", "", True, True),
    "ch:///session": ("ch", "", "", "", None, "/session", "", True, True),
    "esx://esx1.example.com": ("esx", "", "", "esx1.example.com", None, "", "", True, False),
    "esx://10.0.0.5:8443": ("esx", "", "", "10.0.0.5", 8443, "", "", True, False),
    "vpx://vc/DC0/DC0_C0/DC0_C0_H0": ("vpx", "", "", "vc", None, "/DC0/DC0_C0/DC0_C0_H0", "", True, False),
    "vpx://vc:443/My%20Datacenter": ("vpx", "", "", "vc", 443, "/My%20Datacenter", "", True, False),
    "hyperv://hv:5986": ("hyperv", "", "", "hv", 5986, "", "", True, False),
    "xapi://pool-master": ("xapi", "", "", "pool-master", None, "", "", True, False),
    "test:///default": ("test", "", "", "", None, "/default", "", True, True),
    "docker+unix:///var/run/docker.sock": (
        *("docker", "unix", "", "", None, "/var/run/docker.sock", "/var/run/docker.sock", True, True),
    ),
    "docker+tcp://host:2376": ("docker", "tcp", "", "host", 2376, "", "", True, False),
    "docker+ssh://me@host": ("docker", "ssh", "me", "host", None, "", "", True, False),
    "podman+unix:///run/podman/podman.sock": (
        *("podman", "unix", "", "", None, "/run/podman/podman.sock", "/run/podman/podman.sock", True, True),
    ),
}


@pytest.mark.parametrize("text", GOOD)
def test_allowed(text):
    uri = parse(text)
    got = (uri.driver, uri.transport, uri.user, uri.host, uri.port, uri.path, uri.socket, uri.encrypted, uri.local)
    assert got == GOOD[text]
    assert uri.text == text
    assert uri.scheme == text.split(":")[0].split("+")[0]


def test_every_driver_of_the_contract_has_a_form_and_no_other():
    assert {form.driver for form in FORMS.values()} == CONTRACT_DRIVERS


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_examples_are_right(form):
    assert parse(form.example).text == form.example


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("qemu://Host.Example/system", "qemu+tls://host.example/system"),
        ("qemu+ssh://root@HOST/system", "qemu+ssh://root@host/system"),
        ("qemu+tls://[2001:DB8:0:0::1]/system", "qemu+tls://[2001:db8::1]/system"),
        ("esx://h/", "esx://h"),
        ("vpx://h/DC0/", "vpx://h/DC0"),
        ("docker+tcp://h:2375/", "docker+tcp://h:2375"),
    ],
)
def test_normalised(text, normal):
    assert parse(text).text == normal
    assert parse(normal).text == normal


HOSTILE = [
    *("", " ", "\n", "qemu", "qemu:", "qemu:/system", "qemu//system", "://", "qemu://", "/system", "qemu:///"),
    *("qemu:///system\n", "\nqemu:///system", " qemu:///system", "qemu:///system ", "qemu:///sys\ttem"),
    *(
        "qemu:///system\0",
        "qemu\0:///system",
        "qemu:///system\r\nHost: x",
        "qemu:///system\x7f",
        "qemu:///system\u2028",
    ),
    *("QEMU:///system", "Qemu:///system", "qemu+SSH://h/system", "xenapi://h", "fake:///x", "file:///etc/passwd"),
    *("http://h/", "gopher://h", "lxd:///", "uml:///system", "vmwarefusion:///session", "parallels:///system"),
    # homographs, full width, other digits
    *(
        "qemu+ssh://h\u043est/system",
        "\uff51emu:///system",
        "qemu+tls://ho\u00dft/system",
        "qemu+tls://h:\u0661\u0662/system",
    ),
    *("qemu+tls://\u2488/system", "qemu:///\u2024\u2024/system"),
    # transports that run or reuse things
    *("qemu+ext:///system", "qemu+ext://h/system?command=/bin/sh", "qemu+libssh://h/system", "qemu+libssh2://h/system"),
    *(
        "qemu+://h/system",
        "qemu+tls+ssh://h/system",
        "qemu+fd:///system",
        "test+ssh://h/default",
        "test+unix:///default",
    ),
    *("esx+ssh://h", "docker:///", "docker://h", "docker+tls://h", "docker+http://h", "vpx+tcp://h/DC"),
    # command lines
    *("qemu+ssh://-oProxyCommand=id/system", "qemu+ssh://-oProxyCommand=id@h/system", "qemu+ssh://-h/system"),
    *("qemu+ssh://h-/system", "qemu+ssh://$(id)/system", "qemu+ssh://`id`/system", "qemu+ssh://h;id/system"),
    *("qemu+ssh://h|id/system", "qemu+ssh://h&id/system", "qemu+ssh://h'/system", 'qemu+ssh://h"/system'),
    *("qemu+ssh://h\\x/system", "qemu+ssh://h{a,b}/system", "qemu+ssh://*/system", "qemu+ssh://~root/system"),
    *("qemu+ssh://user name@h/system", "qemu+ssh://-l@h/system", "qemu+ssh://a$b@h/system", "qemu+ssh://@h/system"),
    *("qemu+ssh://a@b@h/system", "qemu+ssh://root%40h@h/system", "qemu+ssh://" + "u" * 33 + "@h/system"),
    # passwords, users where none belongs
    *("qemu+ssh://root:secret@h/system", "esx://root:secret@h", "esx://root@h", "qemu+tls://root@h/system"),
    *("docker+tcp://u@h:1", "qemu+tcp://u@h/system", "qemu://u@/system"),
    # hosts
    *("qemu+tls:///system", "qemu+ssh:///system", "qemu+tcp://:16509/system", "esx:///", "esx://", "vpx:///DC"),
    *("qemu+unix://h/system", "test://h/default", "lxc+unix://:1/"),
    *("qemu+tls://h_x/system", "qemu+tls://h..x/system", "qemu+tls://.h/system", "qemu+tls://h./system"),
    *("qemu+tls://" + "a" * 64 + "/system", "qemu+tls://" + ".".join(["a" * 60] * 5) + "/system"),
    *("qemu+tls://127.1/system", "qemu+tls://2130706433/system", "qemu+tls://0x7f.0.0.1/system"),
    *("qemu+tls://0x7f000001/system", "qemu+tls://1.2.3.4.5/system", "qemu+tls://256.1.1.1/system"),
    *("qemu+tls://0177.0.0.1/system", "qemu+tls://1.2.3.0x4/system", "qemu+tls://example.0x/system"),
    *("qemu+tls://[::1/system", "qemu+tls://::1/system", "qemu+tls://[fe80::1%25eth0]/system", "qemu+tls://[]/system"),
    *("qemu+tls://[1.2.3.4]/system", "qemu+tls://[::g]/system", "qemu+tls://[::1]x/system", "qemu+tls://h%2ex/system"),
    # ports
    *("qemu+tls://h:/system", "qemu+tls://h:0/system", "qemu+tls://h:65536/system", "qemu+tls://h:-1/system"),
    *(
        "qemu+tls://h:0x10/system",
        "qemu+tls://h:01/system",
        "qemu+tls://h:99999999999/system",
        "qemu+tls://h:1:2/system",
    ),
    *("qemu+tls://h:1 /system", "qemu+tls://h:+1/system"),
    # paths
    *("qemu:///", "qemu:///System", "qemu:///system/", "qemu:///system/../x", "qemu:///embed", "qemu:///%73ystem"),
    *("qemu:////system", "lxc://", "lxc:///x", "lxc:////", "xen:///session", "esx://h/x", "hyperv://h/wsman"),
    *(
        "vpx://h",
        "vpx://h/",
        "vpx://h//DC",
        "vpx://h/../DC",
        "vpx://h/DC/..",
        "vpx://h/DC%2e",
        "vpx://h/DC%2F..",
        "vpx://h/%",
    ),
    *("vpx://h" + "/DC" * 9, "docker+tcp://h/v1.41", "docker+unix://", "docker+unix:///", "docker+unix:///a/../b"),
    *("docker+unix:////a", "docker+unix:///a%20b", "docker+unix:///a?socket=/b", "podman+unix:///./a"),
    # queries
    *(
        "qemu:///system?",
        "qemu:///system?socket=/x",
        "qemu+tls://h/system?socket=/x",
        "qemu+tls://h/system?no_verify=1",
    ),
    *("qemu+tls://h/system?pkipath=/etc", "qemu+ssh://h/system?command=/bin/sh", "qemu+ssh://h/system?keyfile=/etc/x"),
    *("qemu+unix:///system?socket=", "qemu+unix:///system?socket=x", "qemu+unix:///system?socket=../x"),
    *("qemu+unix:///system?socket=/x&socket=/y", "qemu+unix:///system?socket=/x;socket=/y"),
    *("qemu+unix:///system?socket=/x&mode=direct", "qemu+unix:///system?SOCKET=/x", "qemu+unix:///system?mode=direct"),
    *("qemu+unix:///system?socket=/a/../b", "qemu+unix:///system?socket=/a//b", "qemu+unix:///system?socket=%2Fx"),
    *(
        "qemu+unix:///system?socket=/x?socket=/y",
        "qemu+unix:///system?socket=/" + "x" * 107,
        "qemu+unix:///system#socket=/x",
    ),
    *("qemu+unix:///system?socket=/x/", "qemu+unix:///system?=/x", "qemu+unix:///system?socket=/x%00"),
    # the test driver's files
    *("test:///", "test://default", "test:///../../etc/passwd", "test:///etc/passwd", "test:////etc/passwd"),
    *(
        "test:///%2e%2e/etc/passwd",
        "test:///default/",
        "test:///proc/self/environ",
        "test:///dev/null",
        "test:///default?x=1",
    ),
    # size
    "q" * (LENGTH_MAX + 1),
    "qemu+tls://" + "a." * 5_000_000 + "/system",
    "vpx://h" + "/" + "D" * LENGTH_MAX,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:60])
def test_refused(text):
    assert refused(text).endswith(".")


@pytest.mark.parametrize("text", [None, b"qemu:///system", 7, ["qemu:///system"]])
def test_what_is_no_text_is_refused(text):
    refused(text)


def test_refusals_name_what_is_allowed():
    assert "qemu, xen, lxc" in refused("gopher://h")
    assert "qemu+ssh" in refused("qemu+ext://h/system")
    assert "/system or /session" in refused("qemu:///x")
    assert "credentials" in refused("qemu+ssh://root:secret@h/system")
    assert "secret" not in refused("qemu+ssh://root:secret@h/system")
    assert "data directory" in refused("test:///etc/passwd")


def test_test_driver_files_lie_inside_the_data_directory(tmp_path):
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    node = data / "deep" / "node.xml"
    node.write_text("\n <node/>")
    assert parse(f"test://{node}", data).path == str(node)
    assert parse(f"test://{data}/later.xml", data).text == f"test://{data}/later.xml"
    refused(f"test://{data}", data)
    refused(f"test://{data}/deep", data)
    refused(f"test://{data}/../data/deep/node.xml", data)
    refused(f"test://{tmp_path}/data-twin/node.xml", data)
    refused(f"test://{node}", tmp_path / "elsewhere")


def test_test_driver_links_are_resolved(tmp_path):
    data, outside = tmp_path / "data", tmp_path / "outside"
    data.mkdir()
    outside.mkdir()
    (outside / "node.xml").write_text("<node/>")
    (data / "node.xml").write_text("<node/>")
    (data / "out.xml").symlink_to(outside / "node.xml")
    (data / "outdir").symlink_to(outside)
    (data / "in.xml").symlink_to(data / "node.xml")
    (data / "loop.xml").symlink_to(data / "loop.xml")
    (tmp_path / "alias").symlink_to(data)
    refused(f"test://{data}/out.xml", data)
    refused(f"test://{data}/outdir/node.xml", data)
    refused(f"test://{data}/loop.xml", data)
    assert parse(f"test://{data}/in.xml", data).path == str(data / "node.xml")
    assert parse(f"test://{tmp_path}/alias/node.xml", tmp_path / "alias").path == str(data / "node.xml")


@pytest.mark.parametrize("secret", [b"gAAAAA-key", b"SQLite format 3\0", b"", b"hunter2\n<node/>"])
def test_test_driver_is_shown_no_key_and_no_database(tmp_path, secret):
    (tmp_path / "secret.key").write_bytes(secret)
    refused(f"test://{tmp_path}/secret.key", tmp_path)


LABEL = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=20)
PIECES = st.sampled_from(
    [
        *FORMS,
        *(
            "+ssh",
            "+tls",
            "+tcp",
            "+unix",
            "+ext",
            "://",
            ":///",
            "/system",
            "/session",
            "/default",
            "/",
            "//",
            "/..",
            "?socket=",
        ),
        *(
            "?",
            "&",
            "=",
            "@",
            ":",
            "root",
            "host",
            "[::1]",
            "127.0.0.1",
            "169.254.169.254",
            ":22",
            "%2e",
            "%20",
            "-o",
            ";id",
            "$(id)",
        ),
        *("\n", "\0", " ", "\u0430", "..", "-", "_", "#", "\\", "'", "`", "~", "{", "!"),
    ]
)
NEARLY = st.lists(PIECES | LABEL, max_size=12).map("".join)


@given(st.text(max_size=60) | NEARLY)
def test_whatever_passes_is_harmless_and_comes_back_the_same(text):
    try:
        uri = parse(text)
    except BadInput:
        return
    assert SHELL.isdisjoint(uri.text)
    assert uri.text.isascii()
    assert uri.text.isprintable()
    assert parse(uri.text) == uri
    assert not uri.host.startswith("-")
    assert not uri.user.startswith("-")
    assert uri.local is (uri.host == "")


@given(
    scheme=st.sampled_from(["qemu", "xen", "lxc", "openvz", "vz"]),
    transport=st.sampled_from(["tls", "ssh", "tcp"]),
    labels=st.lists(LABEL, min_size=1, max_size=5),
    port=st.none() | st.integers(1, 65535),
)
def test_remote_hosts_pass_when_each_label_is_one(scheme, transport, labels, port):
    assume(not labels[-1].isdigit())
    assume(not (labels[-1].startswith("0x") and set(labels[-1][2:]) <= set(string.hexdigits)))
    text = f"{scheme}+{transport}://{'.'.join(labels)}{f':{port}' if port else ''}/system"
    if any(label.startswith("-") or label.endswith("-") for label in labels):
        refused(text)
    else:
        uri = parse(text)
        assert (uri.host, uri.port, uri.text) == (".".join(labels), port, text)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_address_passes(address, port):
    shown = f"[{address}]" if address.version == 6 else str(address)
    uri = parse(f"qemu+tls://{shown}:{port}/system")
    assert (uri.host, uri.port) == (str(address), port)
