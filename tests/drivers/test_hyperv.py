"""The Hyper-V driver against a stand-in for its WinRM service, which can be told to lie."""

from __future__ import annotations

import contextlib
import itertools
import struct
import threading
import time
import uuid
from dataclasses import replace

import pytest

from drivers import registry
from drivers.errors import (
    AgentUnresponsive,
    AuthFailed,
    Busy,
    Denied,
    DriverError,
    InvalidDefinition,
    NotFound,
    Timeout,
    TlsFailed,
    Unreachable,
    Unsupported,
    WrongState,
)
from drivers.hyperv import errors, transport, wire
from drivers.hyperv import session as session_module
from drivers.types import (
    Credentials,
    DiskSpec,
    Endpoint,
    Feature,
    GuestRef,
    GuestSpec,
    GuestState,
    NicSpec,
    VolumeSpec,
)
from tests.drivers.conformance import Conformance, Lab, wait_state
from tests.vms.sites import gone, made, managed
from tests.waiting import wait_until
from tests.web.conftest import workers

__all__ = ["workers"]
pytestmark = [pytest.mark.lab]

NUMBERS = itertools.count(1)


def opened(endpoint):
    return registry.get("hyperv").open(endpoint)


@pytest.fixture
def session(hyperv_host):
    made = opened(hyperv_host.endpoint())
    hyperv_host.tell("counts")
    yield made
    made.close()
    hyperv_host.tell("truth")


@pytest.fixture
def make(hyperv_host):
    return lambda **options: hyperv_host.add(f"guest-{next(NUMBERS)}", **options)


@pytest.fixture
def impatient(monkeypatch):
    """Waits of one second where there are many."""
    monkeypatch.setattr(wire, "OPERATION_SECONDS", 1)
    monkeypatch.setattr(wire, "GRACE_SECONDS", 0)


def spec_of(session, **changes) -> GuestSpec:
    """One with a disk, a disc and a card."""
    name = f"vmmtest-{uuid.uuid4().hex[:8]}"
    disk = session.volume_create("default", VolumeSpec(name=f"{name}.vhdx", capacity_bytes=1 << 24, format="vhdx"))
    plain = GuestSpec(
        name=name, uuid=str(uuid.uuid4()), vcpus=2, memory_bytes=64 << 20,
        disks=(
            DiskSpec(pool="default", volume=disk.name, path=disk.path, format="vhdx"),
            DiskSpec(pool="default", volume="install.iso", path="", device="cdrom", readonly=True),
        ),
        interfaces=(NicSpec(network="External", mac="00:15:5d:12:34:56"),),
    )  # fmt: skip
    return replace(plain, **changes)


class TestConformance(Conformance):
    @pytest.fixture
    def lab(self, hyperv_host, session, make):
        def addressed() -> GuestRef:
            ref = make()
            session.start(ref)
            hyperv_host.address(ref, "192.0.2.17")
            return ref

        return Lab(
            driver=registry.get("hyperv"),
            endpoint=hyperv_host.endpoint(),
            session=session,
            make=make,
            make_shell=make,
            make_screen=make,
            booted="",
            killed="",
            spec=lambda: spec_of(session),
            addressed=addressed,
            given_pool="default",
            network="External",
        )

    def test_shutdown_reboot_and_screen(self, lab):
        ref = lab.started()
        lab.session.reboot(ref)
        assert lab.session.guest_state(ref)[0] is GuestState.RUNNING
        assert lab.session.screenshot(ref).startswith(b"\x89PNG")
        lab.session.shutdown(ref)
        wait_state(lab.session, ref, GuestState.SHUTOFF)
        lab.works(Feature.SHUTDOWN, Feature.REBOOT, Feature.SCREENSHOT)


# -- what is read ------------------------------------------------------------------------------------------------------------
def test_guest_is_joined_from_its_settings_and_not_from_its_checkpoints(hyperv_host, session, make):
    ref = make(vcpus=2, memory=768, snapshots=2)
    info = session.guest(ref)
    assert (info.vcpus, info.memory_bytes, info.max_memory_bytes) == (2, 768 << 20, 768 << 20)
    assert info.description == "made by the lab"
    assert [(disk.target, disk.device, disk.bus, disk.format) for disk in info.disks] == [
        ("scsi0:0", "disk", "scsi", "vhdx"),
        ("scsi0:1", "cdrom", "scsi", None),
    ]
    assert info.disks[0].source == f"C:\\VMs\\{ref.uuid.upper()}.vhdx"
    assert [(nic.network, nic.link, nic.model) for nic in info.interfaces] == [("External", "up", "synthetic")]
    assert info.interfaces[0].mac.startswith("00:15:5d:")
    assert info.boot == {"firmware": "uefi"}


def test_dynamic_memory_may_grow_to_its_limit(hyperv_host, session, make):
    ref = make(memory=512)
    hyperv_host.tell(
        "settings", guid=ref.uuid.upper(), name="Msvm_MemorySettingData", DynamicMemoryEnabled="true", Limit=2048
    )
    info = session.guest(ref)
    assert (info.memory_bytes, info.max_memory_bytes) == (512 << 20, 2048 << 20)


def test_digest_follows_child_rows_and_nothing_else(hyperv_host, session, make):
    ref = make()
    before = session.guest(ref).xml_digest
    session.start(ref)
    assert session.guest(ref).xml_digest == before
    hyperv_host.tell("settings", guid=ref.uuid.upper(), name="Msvm_EthernetPortAllocationSettingData", EnabledState=3)
    changed = session.guest(ref)
    assert changed.interfaces[0].link == "down"
    assert changed.xml_digest != before


@pytest.mark.parametrize("numbers", [(32768, 32769), (9, 6)])
def test_paused_and_saved_have_two_numbers_each(hyperv_hosts, numbers):
    host = hyperv_hosts()
    host.tell("numbers", paused=numbers[0], saved=numbers[1])
    session = opened(host.endpoint())
    ref = host.add("two-faced")
    session.start(ref)
    session.suspend(ref)
    assert session.guest_state(ref)[0] is GuestState.PAUSED
    session.managed_save(ref)
    assert session.guest(ref).has_managed_save
    session.discard_managed_save(ref)
    assert session.guest_state(ref) == (GuestState.SHUTOFF, "")
    session.close()


def test_a_thousand_guests_cost_as_many_questions_as_one(hyperv_hosts):
    host = hyperv_hosts()
    host.add("few", count=1)
    session = opened(host.endpoint())
    counts = []
    for more in (0, 499):
        if more:
            host.add("many", count=more)
        host.tell("counts")
        since = time.monotonic()
        found = session.guests()
        session.stats()
        print(f"{len(found)} guests in {time.monotonic() - since:.2f} s")
        counts.append(host.tell("counts"))
    assert len(found) == 500
    assert counts[0] == {"Enumerate": 11}
    # What does not fit into one envelope of 500 KiB comes in pages: nothing is asked a guest.
    assert 0 < counts[1].pop("Pull") < 10
    assert counts[1] == counts[0]
    session.close()


def test_statistics_of_all_guests_cost_the_same_for_one_and_for_ten(hyperv_hosts):
    host = hyperv_hosts()
    session = opened(host.endpoint())
    seen = []
    for _ in (1, 2):
        for _ in range(5):
            session.start(host.add(f"busy-{next(NUMBERS)}"))
        host.tell("counts")
        assert all(each.cpu_time_seconds is not None for each in session.stats())
        seen.append(host.tell("counts"))
    assert seen[0] == seen[1] == {"Enumerate": 8}
    session.close()


def test_counters_of_two_guests_of_one_name_go_to_neither(hyperv_host, session):
    for _ in range(2):
        session.start(hyperv_host.add("twin"))
    twins = [info.uuid for info in session.guests() if info.name == "twin"]
    found = [each for each in session.stats() if each.uuid in twins]
    assert [each.cpu_time_seconds for each in found] == [None, None]
    assert all(each.memory_bytes and each.disk_read_bytes is not None for each in found)


def test_a_host_without_counters_says_so(hyperv_hosts):
    host = hyperv_hosts()
    names = ["HvStats_HyperVHypervisorVirtualProcessor", "HvStats_HyperVHypervisorLogicalProcessor"]
    host.tell("without", names=[f"Win32_PerfRawData_{name}" for name in names])
    session = opened(host.endpoint())
    session.start(host.add("dark"))
    assert not session.capabilities()[Feature.METRICS_CPU].supported
    assert session.capabilities()[Feature.METRICS_DISK].supported
    assert session.stats()[0].cpu_time_seconds is None
    assert session.host_stats().cpu_busy_seconds is None
    session.close()


# -- verbs -------------------------------------------------------------------------------------------------------------------
def test_an_old_windows_cannot_reboot_a_guest(hyperv_hosts):
    host = hyperv_hosts()
    host.tell("host", name="Win32_OperatingSystem", Version="6.3.9600")
    session = opened(host.endpoint())
    ref = host.add("old")
    session.start(ref)
    with pytest.raises(Unsupported, match="2016"):
        session.reboot(ref)
    session.close()


@pytest.mark.parametrize("verb", ["shutdown", "reboot"])
def test_a_guest_without_integration_services_is_deaf(session, make, verb):
    ref = make(services=False)
    session.start(ref)
    with pytest.raises(AgentUnresponsive):
        getattr(session, verb)(ref)


@pytest.mark.parametrize(
    ("value", "error"), [(32780, AgentUnresponsive), (32781, AgentUnresponsive), (32769, Denied), (32782, None)]
)
def test_what_the_shutdown_service_returns_is_told_apart(hyperv_host, session, make, value, error):
    ref = make()
    session.start(ref)
    hyperv_host.tell("return", method="InitiateShutdown", value=value)
    if error is None:
        session.shutdown(ref)
        return
    with pytest.raises(error):
        session.shutdown(ref)


@pytest.mark.parametrize("value", [*errors.RETURN_VALUES, 4711])
def test_every_return_value_becomes_an_error(hyperv_host, session, make, value):
    ref = make()
    hyperv_host.tell("return", method="RequestStateChange", value=value)
    wanted = errors.RETURN_VALUES.get(value, (DriverError, ""))[0]
    with pytest.raises(DriverError) as raised:
        session.start(ref)
    assert type(raised.value) is wanted


@pytest.mark.parametrize(
    ("job", "error"),
    [
        ({"JobState": 10, "ErrorCode": 32775}, WrongState),
        ({"JobState": 10, "ErrorCode": 32774, "ErrorDescription": "in use"}, Busy),
        ({"JobState": 10, "ErrorCode": 32768, "ErrorDescription": "not enough memory"}, DriverError),
        ({"JobState": 9}, DriverError),
        ({"JobState": "nonsense"}, DriverError),
        ({"JobState": None}, DriverError),
    ],
)
def test_a_failed_job_is_an_error_with_its_words(hyperv_host, session, make, job, error):
    ref = make()
    hyperv_host.tell("job", **job)
    with pytest.raises(error) as raised:
        session.start(ref)
    assert job.get("ErrorDescription", "") in raised.value.detail


def test_a_job_that_never_ends_is_a_timeout(hyperv_host, session, make, monkeypatch):
    monkeypatch.setattr(wire, "JOB_SECONDS", 0.3)
    ref = make()
    hyperv_host.tell("job", never=True)
    with pytest.raises(Timeout):
        session.start(ref)


def test_autostart_if_it_ran_before_is_left_alone(hyperv_host, session, make):
    ref = make()
    assert not session.guest(ref).autostart  # the lab makes them as Hyper-V does: 3
    hyperv_host.tell("counts")
    session.set_autostart(ref, enabled=False)
    assert "ModifySystemSettings" not in hyperv_host.tell("counts")


def test_a_running_guest_is_not_undefined(session, make):
    ref = make()
    session.start(ref)
    with pytest.raises(WrongState):
        session.undefine(ref)
    assert session.guest_or_none(ref) is not None


# -- hostile names -----------------------------------------------------------------------------------------------------------
HOSTILE = [
    "' OR Name <> '",
    "\\",
    '"; DROP',
    "<a>&amp;]]></a>",
    "%_[a]",
    "näme 名前 \U0001f600",
    "(a)#/b\\c:Hv VP 0",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_guest_may_be_called_anything(hyperv_host, session, name):
    ref, other = hyperv_host.add(name), hyperv_host.add("bystander")
    session.start(ref)
    assert session.guest(ref).name == name
    assert session.guest_state(other)[0] is GuestState.SHUTOFF
    assert next(each for each in session.stats() if each.uuid == ref.uuid).memory_bytes
    session.force_off(ref)
    session.undefine(ref)
    assert session.guest_or_none(other) is not None


@pytest.mark.parametrize("uuid", ["' OR Name LIKE '%", "%", "", "HV01", "x" * 5000, "{%s}" % ("0" * 32), "urn:uuid:1"])
def test_what_is_no_guid_is_never_sent(hyperv_host, session, uuid):
    ref = GuestRef(uuid=uuid, name="trick")
    for verb in (session.start, session.force_off, session.undefine, session.guest, session.screenshot):
        with pytest.raises(NotFound):
            verb(ref)
    assert session.guest_or_none(ref) is None
    assert hyperv_host.tell("counts") == {}


# -- who is on the other side ------------------------------------------------------------------------------------------------
def test_the_right_pin_is_believed_without_an_authority(hyperv_host):
    pin = ":".join(hyperv_host.fingerprint[place : place + 2] for place in range(0, 64, 2)).upper()
    session = opened(hyperv_host.endpoint(verify=pin, ca_certificate=""))
    assert session.alive()
    session.close()


@pytest.mark.parametrize("changes", [{"verify": "0" * 64}, {"ca_certificate": ""}])
def test_a_strange_certificate_ends_the_handshake(hyperv_host, changes):
    hyperv_host.tell("counts")
    with pytest.raises(TlsFailed):
        opened(hyperv_host.endpoint(**changes))
    assert hyperv_host.tell("counts") == {}


def test_no_verification_is_possible_where_it_is_asked_for(hyperv_host):
    opened(hyperv_host.endpoint(verify=False, ca_certificate="")).close()


def test_environment_says_nothing_about_proxies_and_trust(hyperv_host, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    opened(hyperv_host.endpoint()).close()


@pytest.mark.parametrize("auth", ["basic", "negotiate"])
def test_a_wrong_password_is_refused_and_not_shown(hyperv_hosts, auth):
    host = hyperv_hosts("--auth", auth)
    with pytest.raises(AuthFailed) as raised:
        opened(host.endpoint(password="hunter2"))
    assert "hunter2" not in repr(raised.value) + raised.value.detail


@pytest.mark.parametrize(("auth", "username"), [("negotiate", "Administrator"), ("both", "HV01\\Administrator")])
def test_ntlm_signs_in_where_it_is_offered(hyperv_hosts, auth, username):
    host = hyperv_hosts("--auth", auth)
    session = opened(host.endpoint(username=username))
    ref = host.add("ntlm")
    session.start(ref)
    assert session.guest_state(ref)[0] is GuestState.RUNNING
    session.close()


def test_a_spoilt_challenge_is_a_driver_error(hyperv_hosts):
    host = hyperv_hosts("--auth", "negotiate")
    for seed in range(1, 16):
        host.tell("damage", seed=seed)
        with contextlib.suppress(DriverError):  # what is not looked at may be spoilt
            opened(host.endpoint()).close()
    host.tell("damage", seed=0)
    opened(host.endpoint()).close()


def test_the_port_without_tls_is_refused_with_the_reason():
    credentials = Credentials(username="virt", password="secret")
    with pytest.raises(TlsFailed, match="5986"):
        opened(Endpoint(driver="hyperv", uri="hyperv://127.0.0.1:5985", credentials=credentials))


def test_no_account_is_no_way_in(hyperv_host):
    with pytest.raises(AuthFailed):
        opened(hyperv_host.endpoint(username="", password=""))


# -- answers that are none ---------------------------------------------------------------------------------------------------
BOMB = (
    '<!DOCTYPE a [<!ENTITY a "'
    + "x" * 1000
    + '">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 20}">' for n in range(8))
    + "]><a>&i;</a>"
)
SOAP = '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/>{}</s:Envelope>'
TEXTS = {
    "nothing": "",
    "no XML": "<html>login</html",
    "other XML": "<html>login</html>",
    "no message": SOAP.format("<s:Body/>"),
    "bomb": BOMB,
    "odd encoding": '<?xml version="1.0" encoding="utf-7"?><a/>',
    "fault without words": SOAP.format("<s:Body><s:Fault/></s:Body>"),
}


@pytest.mark.parametrize("status", [200, 500, 503, 403, 404, 302])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_senseless_answer_is_a_driver_error(hyperv_host, session, text, status):
    hyperv_host.tell("lie", kind="say", text=text, status=status, action="Enumerate")
    with pytest.raises(DriverError):
        session.guests()


SWAPS = {
    "number": (">512<", ">half a gigabyte<"),
    "negative number": (">512<", ">-5<"),
    "huge number": (">512<", f">{'9' * 5000}<"),
    "odd state": ("EnabledState>3<", "EnabledState>three<"),
    "another message": ("RelatesTo>uuid:", "RelatesTo>uuid:0"),
    "no body": ("Body", "Corps"),
    "no end": ("EndOfSequence", "Continued"),
    "unreadable": ("<", "&lt;"),
}


@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS)
def test_wrong_types_and_missing_parts_are_driver_errors(hyperv_host, session, make, swap):
    make()
    hyperv_host.tell("lie", kind="swap", old=swap[0], new=swap[1], action="Enumerate", times=20)
    with pytest.raises(DriverError):
        session.guests()
    hyperv_host.tell("truth")
    assert session.guests()


@pytest.mark.parametrize("tag", ["InstanceID", "VirtualQuantity", "HostResource", "Parent", "ElementName", "Address"])
def test_missing_properties_are_no_errors(hyperv_host, session, make, tag):
    make()
    hyperv_host.tell("lie", kind="swap", old=f":{tag}(>| )", new=r":Renamed\1", action="Enumerate", times=20)
    session.guests()


@pytest.mark.parametrize(
    ("old", "new"), [("ReturnValue", "Other"), (">4096<", ">x<"), ("Selector ", "Chooser "), ("InstanceID", "Ident")]
)
def test_a_method_without_a_result_is_a_driver_error(hyperv_host, session, make, old, new):
    ref = make()
    hyperv_host.tell("lie", kind="swap", old=old, new=new, action="RequestStateChange")
    with pytest.raises(DriverError):
        session.start(ref)


@pytest.mark.parametrize(
    ("old", "new"),
    [("ImageData>[^<]*", "ImageData>AAAA"), ("ImageData>[^<]*", "ImageData>!!"), ("ImageData", "Picture")],
)
def test_a_picture_that_is_none_is_a_driver_error(hyperv_host, session, make, old, new):
    ref = make()
    session.start(ref)
    hyperv_host.tell("lie", kind="swap", old=old, new=new, action="GetVirtualSystemThumbnailImage")
    with pytest.raises(DriverError):
        session.screenshot(ref)


@pytest.mark.parametrize(
    ("screen", "picture"), [((64, 48), (64, 48)), ((1920, 1080), (549, 309)), ((0, 0), (476, 357))]
)
def test_a_picture_is_as_big_as_a_message_can_be(hyperv_hosts, screen, picture):
    host = hyperv_hosts()
    session = opened(host.endpoint())
    ref = host.add("screen")
    session.start(ref)
    host.tell("screen", width=screen[0], height=screen[1])
    assert struct.unpack(">II", session.screenshot(ref)[16:24]) == picture
    session.close()


@pytest.mark.parametrize("kind", ["hang", "trickle"])
def test_a_silent_or_trickling_host_is_a_timeout(hyperv_host, session, impatient, kind):
    hyperv_host.tell("lie", kind=kind, action="Enumerate")
    since = time.monotonic()
    with pytest.raises(Timeout):
        opened(hyperv_host.endpoint()).guests()
    assert time.monotonic() - since < 10


def test_a_flood_is_stopped(hyperv_host, session, monkeypatch):
    monkeypatch.setattr(transport, "ANSWER_BYTES", 2**20)
    hyperv_host.tell("lie", kind="flood", action="Enumerate")
    with pytest.raises(DriverError, match="too big"):
        session.guests()


def test_a_host_that_hangs_up_is_unreachable_and_the_next_call_works(hyperv_host, session):
    hyperv_host.tell("lie", kind="hang_up", action="Enumerate")
    with pytest.raises(Unreachable):
        session.guests()
    assert session.guests() is not None


@pytest.mark.parametrize("to", ["https://127.0.0.1:9/wsman", "http://127.0.0.1:9/", "file:///etc/passwd", "//"])
def test_redirects_are_not_followed(hyperv_host, session, to):
    hyperv_host.tell("lie", kind="redirect", to=to, action="Enumerate")
    with pytest.raises(DriverError):
        session.guests()


# -- life --------------------------------------------------------------------------------------------------------------------
def test_a_host_that_goes_is_noticed_once(hyperv_hosts, monkeypatch):
    monkeypatch.setattr(session_module, "PULSE_SECONDS", 0.2)
    host = hyperv_hosts()
    session = opened(host.endpoint())
    heard = []
    session.on_close(heard.append)
    host.down()
    wait_until(lambda: heard, 10, "the loss")
    assert not session.alive()
    session.on_close(heard.append)
    assert len(heard) == 2
    with pytest.raises(Unreachable):
        session.guests()
    session.close()


def test_a_host_that_falls_silent_is_noticed(hyperv_hosts, monkeypatch):
    monkeypatch.setattr(session_module, "PULSE_SECONDS", 0.2)
    monkeypatch.setattr(session_module, "PULSE_ANSWER_SECONDS", 0.5)
    host = hyperv_hosts()
    session = opened(host.endpoint())
    heard = []
    session.on_close(heard.append)
    host.tell("lie", kind="hang", times=100)
    wait_until(lambda: heard, 10, "the silence")
    assert not session.alive()


def test_close_tells_nobody_and_wakes_who_waits_for_a_job(hyperv_host, session, make):
    ref = make()
    heard, ended = [], []
    session.on_close(heard.append)
    hyperv_host.tell("job", never=True)

    def start() -> None:
        try:
            session.start(ref)
        except Unreachable as error:
            ended.append(error)

    worker = threading.Thread(target=start)
    worker.start()
    wait_until(lambda: "Get" in hyperv_host.tell("counts"), 10, "the wait for the job")
    session.close()
    worker.join(5)
    assert len(ended) == 1
    assert heard == []


def test_many_threads_share_a_session(session, make):
    refs = [make() for _ in range(5)]
    failed = []

    def life(ref: GuestRef) -> None:
        try:
            for verb in (session.start, session.suspend, session.resume, session.force_off):
                verb(ref)
                session.guests()
        except DriverError as error:
            failed.append(error)

    threads = [threading.Thread(target=life, args=(ref,)) for ref in refs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


# -- new guests --------------------------------------------------------------------------------------------------------------
@pytest.fixture
def site(hyperv_host, session, transactional_db, workers):
    """The host as a managed one."""
    with managed(hyperv_host.endpoint()) as hypervisor:
        yield hypervisor


def asked(hypervisor, **values):
    return {
        "name": f"vmmtest-{uuid.uuid4().hex[:8]}", "hypervisor": str(hypervisor.pk), "memory_bytes": 1 << 28, "title": "Front",
        "disks": [{"size_bytes": 1 << 30}, {"image": "install.iso"}], "interfaces": [{"network": "External"}], "tags": ["prod"],
        "description": "Two\nlines",
    } | values  # fmt: skip


def files_of(session):
    return {one.name for one in session.volumes("default")}


@pytest.mark.parametrize(("firmware", "place"), [("bios", ["ide0:0", "ide1:0"]), ("uefi", ["scsi0:0", "scsi0:1"])])
def test_a_guest_is_made_over_rest_and_goes_with_its_disk(api, session, site, firmware, place):
    before = files_of(session)
    body = asked(site, boot={"firmware": firmware})
    draft = api.post("/vms?dry_run=true", body).json()
    assert f"ElementName = {body['name']}" in draft["definition"]
    assert draft["spec"]["interfaces"][0]["mac"].startswith("00:15:5d:")
    ended = made(api, body)
    assert ended["state"] == "succeeded", ended
    vm = api.get(f"/vms/{ended['result']['vm']}").json()
    assert (vm["state"], vm["title"], vm["description"], vm["tags"]) == ("running", "Front", "Two\nlines", ["prod"])
    info = session.guest(GuestRef(uuid=vm["uuid"]))
    assert ([disk.target for disk in info.disks], info.boot["firmware"]) == (place, firmware)
    assert info.metadata["id"] == vm["id"]
    [disk] = files_of(session) - before
    assert [one["volume"] for one in gone(api, vm["id"])["volumes"]] == [disk]
    assert files_of(session) == before


def test_what_was_made_for_a_guest_that_could_not_be_made_is_taken_away(api, hyperv_host, session, site):
    before = (files_of(session), {info.uuid for info in session.guests()})
    hyperv_host.tell("return", method="ModifyResourceSettings", value=32773)
    ended = made(api, asked(site))
    assert ended["state"] == "failed"
    assert (files_of(session), {info.uuid for info in session.guests()}) == before


def test_what_an_interrupted_attempt_left_out_is_added(hyperv_host, session):
    spec = spec_of(session)
    hyperv_host.tell("return", method="AddResourceSettings", value=32774)
    with pytest.raises(Busy):
        session.create(spec)
    info = session.create(spec)
    assert ([disk.device for disk in info.disks], len(info.interfaces)) == (["disk", "cdrom"], 1)
    assert [one.uuid for one in session.guests() if one.name == spec.name] == [info.uuid]
    with pytest.raises(Busy, match="disk of a guest"):
        session.volume_delete("default", spec.disks[0].volume)


def test_our_line_in_the_notes_is_nobodys_description(hyperv_host, session):
    info = session.create(spec_of(session, description="Mine", title="Front", metadata={"project": "x"}))
    assert (info.description, info.title, info.metadata) == ("Mine", "Front", {"project": "x"})
    key = info.uuid.upper()
    hyperv_host.tell("settings", guid=key, name="Msvm_VirtualSystemSettingData", Notes=["vmmanager: {broken", "rest"])
    again = session.guest(info.ref)
    assert (again.description, again.title, again.metadata) == ("rest", "", {})


@pytest.mark.parametrize(
    ("field", "changes", "error"),
    [
        ("name", {"name": "x" * 101}, InvalidDefinition),
        ("memory_bytes", {"memory_bytes": (64 << 20) + (1 << 20)}, InvalidDefinition),
        ("accelerator", {"accelerator": "kvm"}, Unsupported),
        ("tpm", {"tpm": True}, Unsupported),
        ("kernel", {"kernel": "/vmlinuz"}, Unsupported),
        ("image", {"image": "alpine"}, Unsupported),
        ("graphics", {"graphics": "none"}, Unsupported),
        ("boot_order", {"boot_order": ("network", "disk")}, Unsupported),
        ("disks[0].bus", {"disks": (DiskSpec(pool="default", volume="a.vhdx", path="", bus="virtio"),)}, Unsupported),
        ("disks[2]", {"disks": (DiskSpec(pool="default", volume="a.iso", path="", device="cdrom"),) * 3}, Unsupported),
        ("interfaces[0].bridge", {"interfaces": (NicSpec(bridge="br0"),)}, Unsupported),
        ("interfaces[0].model", {"interfaces": (NicSpec(network="External", model="e1000"),)}, Unsupported),
        ("interfaces[0].network", {"interfaces": (NicSpec(network="Nowhere"),)}, InvalidDefinition),
    ],
)
def test_what_it_cannot_is_refused_by_the_fields_name(session, field, changes, error):
    plain = GuestSpec(name="refused", uuid=str(uuid.uuid4()), memory_bytes=64 << 20)
    with pytest.raises(error) as refusal:
        session.create(replace(plain, **changes))
    assert refusal.value.detail.startswith(f"{field}: ")
