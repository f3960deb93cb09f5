"""The tables of the libvirt drivers: states, errors, events, URIs, the registry, the score card, the typings."""

# ruff: noqa: N802 - libvirt's own names

from __future__ import annotations

import ast
import logging
import stat
import time
from pathlib import Path

import libvirt
import pytest

from drivers import errors, registry
from drivers.errors import AuthFailed, DriverError, Unreachable, Unsupported
from drivers.libvirtd import states, stats
from drivers.libvirtd.errors import TABLE, readable, translate
from drivers.libvirtd.events import USEFUL, EventTap
from drivers.libvirtd.graphics import is_loopback, to_png
from drivers.libvirtd.uri import is_local, prepared, transport_of
from drivers.ssh import known_host_lines
from drivers.types import Credentials, Endpoint, Feature, GuestEventKind, GuestState, Proof

ROOT = Path(__file__).parents[2]


# -- states ----------------------------------------------------------------------------------------------------------
STATE_WORDS = ["NOSTATE", "RUNNING", "BLOCKED", "PAUSED", "SHUTDOWN", "SHUTOFF", "CRASHED", "PMSUSPENDED"]
NOT_REASONS = {  # flags of virDomainShutdownFlags, and a state that libvirt never uses
    "VIR_DOMAIN_SHUTDOWN_DEFAULT", "VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN", "VIR_DOMAIN_SHUTDOWN_GUEST_AGENT",
    "VIR_DOMAIN_SHUTDOWN_INITCTL", "VIR_DOMAIN_SHUTDOWN_SIGNAL", "VIR_DOMAIN_SHUTDOWN_PARAVIRT",
    "VIR_DOMAIN_PMSUSPENDED_DISK_UNKNOWN",
}  # fmt: skip


def test_every_reason_that_libvirt_knows_has_a_word_and_a_sentence():
    for word in STATE_WORDS:
        state = getattr(libvirt, f"VIR_DOMAIN_{word}")
        assert state in states.STATES
        for name in dir(libvirt):
            if name.startswith(f"VIR_DOMAIN_{word}_") and name not in NOT_REASONS and not name.endswith("_LAST"):
                reason, sentence = states.REASONS[state, getattr(libvirt, name)]
                assert reason == "" or reason == name.removeprefix(f"VIR_DOMAIN_{word}_").lower() or word == "BLOCKED"
                assert sentence.endswith(".")
                assert states.reason_sentence(state, getattr(libvirt, name)) == sentence


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (libvirt.VIR_DOMAIN_SHUTDOWN, 1, (GuestState.SHUTTING_DOWN, "user")),
        (
            libvirt.VIR_DOMAIN_PAUSED,
            libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN,
            (GuestState.SHUTTING_DOWN, "shutting_down"),
        ),
        (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED, (GuestState.CRASHED, "panicked")),
        (libvirt.VIR_DOMAIN_BLOCKED, 0, (GuestState.RUNNING, "blocked")),
        (libvirt.VIR_DOMAIN_PAUSED, 99, (GuestState.PAUSED, "")),
        (99, 0, (GuestState.UNKNOWN, "")),
    ],
)
def test_states(state, reason, expected):
    assert states.guest_state(state, reason) == expected


def test_every_lifecycle_detail_has_a_word():
    for word in (
        "DEFINED",
        "UNDEFINED",
        "STARTED",
        "SUSPENDED",
        "RESUMED",
        "STOPPED",
        "SHUTDOWN",
        "PMSUSPENDED",
        "CRASHED",
    ):
        event = getattr(libvirt, f"VIR_DOMAIN_EVENT_{word}")
        details = {
            getattr(libvirt, name)
            for name in dir(libvirt)
            if name.startswith(f"VIR_DOMAIN_EVENT_{word}_") and not name.endswith("_LAST")
        }
        assert set(states.LIFECYCLE[event][1]) == details
    assert states.lifecycle(5, 1) == (GuestEventKind.CHANGED, "stopped/destroyed")
    assert states.lifecycle(0, 0) == (GuestEventKind.DEFINED, "defined/added")
    assert states.lifecycle(1, 0) == (GuestEventKind.UNDEFINED, "undefined/removed")
    assert states.lifecycle(77, 3) == (GuestEventKind.CHANGED, "event-77/3")


# -- errors ----------------------------------------------------------------------------------------------------------
def raised(code: int, domain: int, message: str) -> DriverError:
    error = libvirt.libvirtError("unused")
    error.err = (code, domain, message, 2, "", None, None, 0, 0)
    with pytest.raises(DriverError) as caught, translate(guest="web"):
        raise error
    assert caught.value.context["libvirt_message"] == message
    assert caught.value.context["guest"] == "web"
    return caught.value


RPC, QEMU, TEST, STREAMS = libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_QEMU, libvirt.VIR_FROM_TEST, libvirt.VIR_FROM_STREAMS
NETWORK = libvirt.VIR_FROM_NETWORK
XEN, STORAGE = libvirt.VIR_FROM_LIBXL, libvirt.VIR_FROM_STORAGE


@pytest.mark.parametrize(
    ("code", "domain", "message", "expected"),
    [
        (42, QEMU, "Domain not found: no domain with matching uuid", errors.NotFound),
        (55, QEMU, "Requested operation is not valid: domain is already running", errors.WrongState),
        (1, TEST, "internal error: Domain 'x' is already running", errors.WrongState),
        (1, TEST, "internal error: domain 'x' not paused", errors.WrongState),
        (9, QEMU, "operation failed: domain 'x' already exists with uuid y", errors.AlreadyExists),
        (9, QEMU, "operation failed: Active console session exists for this domain", errors.ConsoleBusy),
        (1, XEN, "internal error: Failed to shutdown domain '18' with libxenlight", errors.AgentUnresponsive),
        (1, XEN, "internal error: Failed to save domain '5' with libxenlight", errors.DriverError),
        (1, XEN, "internal error: libxenlight failed to create new domain 'x'", errors.DriverError),
        (38, STREAMS, "cannot write to stream: Input/output error", errors.DriverError),
        (39, STREAMS, "stream had I/O failure", errors.ConsoleBusy),
        (68, QEMU, "Timed out during operation: cannot acquire state change lock (held by monitor=x)", errors.Busy),
        (68, QEMU, "Timed out during operation: vcpu unplug request timed out", errors.Timeout),
        (86, QEMU, "Guest agent is not responding", errors.AgentUnresponsive),
        (78, QEMU, "operation aborted: migration out job: canceled by client", errors.Aborted),
        (81, QEMU, "Unsafe migration", errors.Unsafe),
        (38, QEMU, "cannot write to '/x': No space left on device", errors.NoSpace),
        (3, QEMU, "this function is not supported by the connection driver", errors.Unsupported),
        (84, QEMU, "Operation not supported", errors.Unsupported),
        (8, TEST, "unsupported flags (0x4) in function testDomainUndefineFlags", errors.Unsupported),
        (8, QEMU, "invalid argument: requested vcpus is greater than max", errors.InvalidDefinition),
        (27, QEMU, "XML error: an os <type> must be specified", errors.InvalidDefinition),
        (92, 5, "XML document failed to validate against schema", errors.InvalidDefinition),
        (1, RPC, "internal error: client socket is closed", errors.Unreachable),
        (1, RPC, "internal error: connection closed due to keepalive timeout", errors.Unreachable),
        (
            38,
            RPC,
            "Failed to connect socket to '/run/libvirt/libvirt-sock': No such file or directory",
            errors.Unreachable,
        ),
        (38, RPC, "Failed to connect socket to '/run/libvirt/libvirt-sock': Permission denied", errors.Denied),
        (38, RPC, "Cannot read CA certificate '/x/cacert.pem': No such file or directory", errors.AuthFailed),
        (45, RPC, "authentication failed: Failed to verify peer's certificate", errors.AuthFailed),
        (45, RPC, "authentication failed: authentication failed", errors.AuthFailed),
        (5, 0, "no connection driver available for lxc:///", errors.Unreachable),
        (6, 20, "invalid connection pointer in virConnectIsAlive", errors.Unreachable),
        (49, STORAGE, "Storage pool not found: no storage pool with matching name 'x'", errors.NotFound),
        (50, STORAGE, "Storage volume not found: no storage vol with matching path '/x'", errors.NotFound),
        (43, 12, "Network not found: no network with matching name 'x'", errors.NotFound),
        (90, STORAGE, "storage volume 'v' exists already", errors.AlreadyExists),
        (9, STORAGE, "operation failed: pool 'x' already exists with uuid y", errors.AlreadyExists),
        (9, NETWORK, "operation failed: network 'x' already exists with uuid y", errors.AlreadyExists),
        (1, 0, "internal error: Network is already in use by interface eth0", errors.AlreadyExists),
        (1, NETWORK, "internal error: bridge name 'virbr1' already in use.", errors.AlreadyExists),
        (38, 0, "error creating bridge interface eth0: File exists", errors.AlreadyExists),
        (9, STORAGE, "operation failed: Storage source conflict with pool: 'x'", errors.AlreadyExists),
        (9, TEST, "operation failed: storage vol already exists", errors.AlreadyExists),
        (
            76,
            STORAGE,
            "Storage pool already built: Device '/dev/sdb' already formatted using 'ext4'",
            errors.AlreadyExists,
        ),
        (55, STORAGE, "Requested operation is not valid: storage pool 'x' is not active", errors.WrongState),
        (55, STORAGE, "Requested operation is not valid: volume 'v' is still in use.", errors.Busy),
        (1, STORAGE, "internal error: pool 'x' has asynchronous jobs running.", errors.Busy),
        (
            1,
            0,
            (
                "internal error: Child process (/usr/bin/qemu-img resize /v 1) unexpected exit status 1: qemu-img: "
                "Could not open '/v': Failed to get \"write\" lock\nIs another process using the image [/v]?"
            ),
            errors.Busy,
        ),
        (
            1,
            0,
            (
                "internal error: Child process (/usr/bin/qemu-img create -f qcow2 /v 65536K) unexpected exit status 1: qemu-img: "
                "/v: Could not write qcow2 header: No space left on device"
            ),
            errors.NoSpace,
        ),
        (38, STREAMS, "Unable to write /v: No space left on device", errors.NoSpace),
        (1, TEST, "internal error: Not enough free space in pool for volume 'v'", errors.NoSpace),
        (
            1,
            0,
            (
                "internal error: Child process (/usr/bin/qemu-img create) unexpected exit status 1: qemu-img: /v: The image size is "
                "too large for file format 'qcow2'"
            ),
            errors.InvalidDefinition,
        ),
        (38, STORAGE, "cannot extend file '/v': File too large", errors.InvalidDefinition),
        (82, 0, "numerical overflow: value too large: 9223372036854775808b", errors.InvalidDefinition),
        (38, 0, "cannot open directory '/x': No such file or directory", errors.InvalidDefinition),
        (
            55,
            STORAGE,
            "Requested operation is not valid: Source device does not exist when formatting pool 'x'",
            errors.InvalidDefinition,
        ),
        (1, STORAGE, "internal error: missing backend for pool type 12 (zfs)", errors.Unsupported),
        (
            1,
            0,
            "internal error: Failed to apply firewall rules /usr/sbin/iptables -w: libvirt:  error : cannot execute binary iptables",
            errors.Unsupported,
        ),
        (
            1,
            0,
            "internal error: libvirt:  error : cannot execute binary /sbin/pvs: No such file or directory",
            errors.Unsupported,
        ),
        (
            38,
            RPC,
            "Failed to connect socket to '/run/libvirt/virtstoraged-sock': No such file or directory",
            errors.Unsupported,
        ),
        (1, QEMU, "internal error: process exited while connecting to monitor", errors.DriverError),
        (9, 20, "operation failed: domain moment one already exists", errors.AlreadyExists),
        (72, QEMU, "Domain snapshot not found: no domain snapshot with matching name 'x'", errors.NotFound),
        (
            1,
            QEMU,
            "qemu unexpectedly closed the monitor: Snapshot 'x' does not exist in one or more devices",
            errors.NotFound,
        ),
        (67, QEMU, "unsupported configuration: revert to external snapshot not supported yet", errors.Unsupported),
        (
            84,
            QEMU,
            "disk image 'vda' for internal snapshot 'x' is not the same as disk image currently used by VM",
            errors.Unsupported,
        ),
        (84, QEMU, "internal snapshots of a VM with pflash based firmware are not supported", errors.Unsupported),
        (77, QEMU, "revert requires force: snapshot 'x' lacks domain 'web' rollback info", errors.Unsafe),
    ],
)
def test_errors(code, domain, message, expected):
    assert type(raised(code, domain, message)) is expected


def test_a_broken_handshake_is_no_wrong_password():
    error = raised(
        45, RPC, "authentication failed: TLS handshake failed The TLS connection was non-properly terminated."
    )
    assert type(error) is Unreachable
    assert error.retryable
    assert "does not say that the credentials are wrong" in error.detail


def test_a_tools_command_line_is_no_answer_for_people():
    error = raised(
        1,
        0,
        "internal error: Child process (/usr/bin/qemu-img convert -O qcow2 /p/a /p/b) unexpected exit status 1: qemu-img: no",
    )
    assert error.detail == "Qemu-img: no."


def test_an_unreadable_answer_is_a_driver_error():
    with pytest.raises(DriverError) as caught, translate():
        raise SystemError("<built-in function virDomainDefineXML> returned a result with an exception set")
    assert caught.value.context["binding_error"] == "SystemError"
    with pytest.raises(DriverError), translate():
        b"\xff".decode()


def test_an_error_without_details_is_a_driver_error():
    with pytest.raises(DriverError), translate():
        raise libvirt.libvirtError("virDomainCreate() failed")


def test_every_row_has_its_evidence():
    assert all(row.why and issubclass(row.error, DriverError) for row in TABLE)
    assert readable("Requested operation is not valid: domain is not running") == "Domain is not running."


# -- events ----------------------------------------------------------------------------------------------------------
def test_every_useful_event_exists():
    known = {getattr(libvirt, name) for name in dir(libvirt) if name.startswith("VIR_DOMAIN_EVENT_ID_")}
    assert set(USEFUL) <= known
    assert len(set(USEFUL.values())) == len(USEFUL)


class FewEvents:
    """A connection that offers lifecycle events and nothing else."""

    def __init__(self, offered: tuple[int, ...]) -> None:
        self.offered = offered
        self.callbacks: dict[int, object] = {}

    def domainEventRegisterAny(self, _domain, number, callback, opaque):
        if number not in self.offered:
            error = libvirt.libvirtError("x")
            error.err = (3, 20, "this function is not supported by the connection driver", 2, "", None, None, 0, 0)
            raise error
        self.callbacks[number] = (callback, opaque)
        return number

    def domainEventDeregisterAny(self, number):
        del self.callbacks[number]

    def storagePoolEventRegisterAny(self, *_wished):
        error = libvirt.libvirtError("x")
        error.err = (3, 20, "this function is not supported by the connection driver", 2, "", None, None, 0, 0)
        raise error

    networkEventRegisterAny = storagePoolEventRegisterAny  # noqa: N815 - libvirt's own names
    storagePoolEventDeregisterAny = networkEventDeregisterAny = domainEventDeregisterAny  # noqa: N815


class SomeDomain:
    def UUIDString(self):
        return "u"

    def name(self):
        return "n"


def test_the_tap_takes_what_there_is_and_survives_its_sinks(caplog):
    connection = FewEvents((0, 14))
    tap = EventTap(connection)
    heard = []
    tap.add(lambda event: 1 / 0)
    tap.add(heard.append)
    assert set(connection.callbacks) == {0} | ({14} & set(USEFUL))
    callback, opaque = connection.callbacks[0]
    with caplog.at_level(logging.CRITICAL):
        callback(connection, SomeDomain(), 2, 0, opaque)
        callback(connection, SomeDomain(), 5, 1, opaque)
    assert [(event.uuid, event.reason) for event in heard] == [("u", "started/booted"), ("u", "stopped/destroyed")]
    assert heard[0].at <= time.monotonic()
    tap.drop()
    assert connection.callbacks == {}


def test_no_lifecycle_means_no_events():
    tap = EventTap(FewEvents(()))
    with pytest.raises(libvirt.libvirtError):
        tap.add(print)
    with pytest.raises(libvirt.libvirtError):
        tap.probe()


# -- statistics --------------------------------------------------------------------------------------------------------
def test_bulk_record():
    read = stats.from_bulk("u", {
        "state.state": 1, "cpu.time": 1_500_000_000, "vcpu.current": 2, "balloon.current": 1000, "balloon.rss": 800,
        "balloon.available": 900, "balloon.usable": 300, "balloon.unused": 100, "block.count": 2, "block.0.rd.bytes": 5,
        "block.1.rd.bytes": 7, "block.0.rd.reqs": 1, "net.count": 0,
    }, 1.0)  # fmt: skip
    assert (read.cpu_time_seconds, read.vcpus, read.memory_bytes) == (1.5, 2, 600 * 1024)
    assert (read.disk_read_bytes, read.disk_read_requests, read.disk_write_bytes) == (12, 1, None)
    assert read.network_receive_bytes == 0
    assert stats.from_bulk("u", {"state.state": 1}, 1.0) is None
    assert stats.memory_in_use({"actual": 9, "rss": 4}) == 4096
    assert stats.memory_in_use({"actual": 9}) == 9 * 1024
    assert stats.memory_in_use({}) is None


# -- pictures ----------------------------------------------------------------------------------------------------------
def test_ppm_becomes_png_and_the_rest_is_refused():
    picture = to_png(b"P6\n# made by hand\n2 1\n255\n" + b"\xff\x00\x00\x00\xff\x00", "image/x-portable-pixmap")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(picture[16:20]) == 2
    assert to_png(picture, "image/png") is picture
    for bad in (b"GIF89a", b"P6\n2", b"P6\n2 2\n255\nxx", b""):
        with pytest.raises(Unsupported):
            to_png(bad, "image/gif")


# -- URIs --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("uri", "transport", "local"),
    [
        ("qemu:///system", "", True),
        ("qemu+unix:///system?socket=/run/x", "unix", True),
        ("qemu+tls://host/system", "tls", False),
        ("qemu://host/system", "tls", False),
        ("qemu+ssh://root@host:2222/system", "ssh", False),
        ("qemu+tcp://[::1]:16509/system", "tcp", False),
        ("qemu+tls:///system", "tls", False),
    ],
)
def test_transports(uri, transport, local):
    assert transport_of(uri) == transport
    assert is_local(uri) is local


def test_no_credentials_change_nothing():
    with prepared(Endpoint(driver="qemu", uri="qemu+unix:///system?socket=/run/a%20b")) as target:
        assert target.uri == "qemu+unix:///system?socket=/run/a%20b"
        assert target.auth is None


def test_tls_material_is_private_and_short_lived():
    credentials = Credentials(ca_certificate="CA", certificate="CERT", private_key="KEY")
    with prepared(Endpoint(driver="qemu", uri="qemu+tls://h/system", credentials=credentials)) as target:
        directory = Path(target.uri.partition("pkipath=")[2])
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert (directory / "clientkey.pem").read_text() == "KEY\n"
        assert stat.S_IMODE((directory / "clientkey.pem").stat().st_mode) == 0o600
        assert "KEY" not in target.uri
    assert not directory.exists()
    unverified = Endpoint(driver="qemu", uri="qemu+tls://h/system", credentials=Credentials(verify=False))
    with prepared(unverified) as target:
        assert target.uri == "qemu+tls://h/system?no_verify=1"
    pinned = Endpoint(driver="qemu", uri="qemu+tls://h/system", credentials=Credentials(verify="ab:cd"))
    with pytest.raises(AuthFailed, match="fingerprint"), prepared(pinned):
        pass


def test_ssh_is_told_by_a_script_of_fixed_words():
    credentials = Credentials(username="ro ot", private_key="KEY", host_key="ssh-ed25519 AAAA")
    with prepared(Endpoint(driver="qemu", uri="qemu+ssh://h:2222/system", credentials=credentials)) as target:
        assert target.uri.startswith("qemu+ssh://ro%20ot@h:2222/system?")
        script = Path(target.uri.partition("command=")[2].partition("&")[0])
        said = script.read_text()
        assert "StrictHostKeyChecking=yes" in said
        assert "BatchMode=yes" in said
        assert "KEY" not in said
        assert (script.parent / "known_hosts").read_text() == "[h]:2222 ssh-ed25519 AAAA\n"
    assert known_host_lines("qemu+ssh://h/system", "# c\n\nh ssh-rsa B") == ["h ssh-rsa B\n"]
    password = Endpoint(driver="qemu", uri="qemu+ssh://h/system", credentials=Credentials(username="u", password="p"))
    with pytest.raises(AuthFailed), prepared(password):
        pass


def test_sasl_questions_are_answered_from_memory():
    credentials = Credentials(username="u", password="geheim")
    with prepared(Endpoint(driver="qemu", uri="qemu+tcp://h/system", credentials=credentials)) as target:
        kinds, answer, _ = target.auth
        questions = [[libvirt.VIR_CRED_AUTHNAME, "", "", "", None], [libvirt.VIR_CRED_PASSPHRASE, "", "", "", None]]
        assert answer(questions, None) == 0
        assert [question[4] for question in questions] == ["u", "geheim"]
        assert answer([[libvirt.VIR_CRED_REALM, "", "", "", None]], None) == -1
        assert libvirt.VIR_CRED_PASSPHRASE in kinds
        assert "geheim" not in target.uri


def test_loopback():
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("10.0.0.1")
    assert not is_loopback(None)
    assert not is_loopback("display.example")


# -- registry and papers -----------------------------------------------------------------------------------------------
def test_registry():
    assert registry.kinds()[: len(registry.BUILT_IN)] == tuple(registry.BUILT_IN)
    assert registry.kinds()[0] == "qemu", "what most people have stands first"
    for kind in ("qemu", "lxc", "test"):
        assert registry.get(kind).kind == kind
        assert registry.get(kind) is registry.get(kind)
        assert registry.availability(kind).supported
    with pytest.raises(Unsupported):
        registry.get("nonesuch")
    assert "nonesuch" in registry.availability("nonesuch").reason


def test_a_driver_that_cannot_be_loaded_costs_only_itself(monkeypatch):
    broken = {"lost": "nowhere.at.all:Driver", "wrong": "drivers.types:Endpoint", "empty": "drivers.types:Nothing"}
    monkeypatch.setattr(registry, "_paths", lambda: registry.BUILT_IN | broken)
    registry.get.cache_clear()
    for kind, word in (("lost", "nowhere"), ("empty", "driver")):
        answer = registry.availability(kind)
        assert not answer.supported
        assert word in answer.reason
    registry.get.cache_clear()
    assert registry.availability("qemu").supported


def test_the_score_card_says_what_is_declared():
    lines = (ROOT / "drivers/libvirtd/STATUS.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    header, rows = table[0], table[2:]
    assert [row[0] for row in rows] == [str(feature) for feature in Feature]
    for column, kind in enumerate(header[1:], start=1):
        driver = registry.get(kind)
        for row in rows:
            declared = "untried" if driver.proof is Proof.NONE else "done"
            assert (row[column] == declared) is (Feature(row[0]) in driver.features), (kind, row[0])
            assert row[column] in {declared, "exempt", "todo"}


def test_the_typings_name_what_the_real_module_has():
    tree = ast.parse((ROOT / "typings/libvirt.pyi").read_text())
    ours = {"RawError", "Auth"}
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name, body=body):
                real = getattr(libvirt, name)
                for item in body:
                    if isinstance(item, ast.FunctionDef):
                        assert callable(getattr(real, item.name)), f"{name}.{item.name}"
            case ast.FunctionDef(name=name):
                assert callable(getattr(libvirt, name))
            case ast.AnnAssign(target=ast.Name(id=name)) if name not in ours:
                assert isinstance(getattr(libvirt, name), int), name


def test_every_constant_we_use_is_typed_and_no_more():
    typed = {
        node.target.id
        for node in ast.parse((ROOT / "typings/libvirt.pyi").read_text()).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id.startswith("VIR_")
    }
    used = set()
    for path in (ROOT / "drivers/libvirtd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "libvirt":
                used.add(node.attr)
    assert {name for name in used if name.startswith("VIR_")} == typed
