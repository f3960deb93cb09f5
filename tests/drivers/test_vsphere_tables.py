"""What the vSphere driver decides without a server: errors, identities, counters, and the score card."""

from __future__ import annotations

import datetime as dt
import http.client
import ssl
import uuid
from pathlib import Path

import pytest
from pyVmomi import vim, vmodl

from drivers import errors, registry
from drivers.types import Feature, GuestState
from drivers.vsphere import collector, guests, stats
from drivers.vsphere.collector import Found
from drivers.vsphere.errors import Garbled, driver_error, translate
from drivers.vsphere.snapshots import tree_of

ROOT = Path(__file__).parents[2]
INSTANCE = "50112233-4455-6677-8899-aabbccddeeff"


def found(number: int, **values) -> Found:
    machine = vim.VirtualMachine(f"vm-{number}")
    return Found(machine, {name.replace("__", "."): value for name, value in values.items()})


# -- snapshots ---------------------------------------------------------------------------------------------------------
def node(number: int, name: str, *children, **values):
    return vim.vm.SnapshotTree(
        snapshot=vim.vm.Snapshot(f"snapshot-{number}"),
        vm=vim.VirtualMachine("vm-1"),
        name=name,
        description="d",
        id=number,
        createTime=dt.datetime(2026, 5, 1, tzinfo=dt.UTC),
        state=values.get("state", "poweredOff"),
        quiesced=False,
        childSnapshotList=list(children),
    )


def told(*roots, current: str = ""):
    value = vim.vm.SnapshotInfo(rootSnapshotList=list(roots))
    if current:
        value.currentSnapshot = vim.vm.Snapshot(current)
    return {info.name: info for info, _ in tree_of(value)}


def test_a_tree_of_snapshots_is_read_and_two_of_one_name_are_told_apart():
    twin = node(3, "twin", state="suspended")
    found = told(node(1, "a", node(2, "twin", state="poweredOn"), twin), current="snapshot-3")
    assert {name: info.parent for name, info in found.items()} == {
        "a": "", "twin [snapshot-2]": "a", "twin [snapshot-3]": "a"
    }  # fmt: skip
    assert (found["twin [snapshot-2]"].memory, found["twin [snapshot-2]"].state) == (True, GuestState.RUNNING)
    assert (found["twin [snapshot-3]"].current, found["twin [snapshot-3]"].state) == (True, GuestState.PAUSED)
    assert (found["a"].memory, found["a"].created_at) == (False, 1_777_593_600.0)


@pytest.mark.parametrize("value", [None, 7, "tree", []])
def test_no_tree_is_no_snapshot(value):
    assert tree_of(value) == []


def test_a_tree_without_an_end_or_with_nonsense_in_it_is_garbled():
    deep = node(0, "0")
    for number in range(1, 600):
        deep = node(number, str(number), deep)
    with pytest.raises(Garbled):
        told(deep)


# -- errors ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (vim.fault.InvalidLogin(), errors.AuthFailed),
        (vim.fault.PasswordExpired(), errors.AuthFailed),
        (vim.fault.NotAuthenticated(), errors.AuthFailed),
        (vim.fault.NoPermission(), errors.Denied),
        (vim.fault.RestrictedVersion(), errors.Denied),
        (vim.fault.ToolsUnavailable(), errors.AgentUnresponsive),
        (vim.fault.TaskInProgress(), errors.Busy),
        (vim.fault.QuestionPending(), errors.WrongState),
        (vim.fault.InvalidPowerState(), errors.WrongState),
        (vim.fault.InvalidState(), errors.WrongState),
        (vim.fault.InvalidHostState(), errors.Unreachable),
        (vmodl.fault.ManagedObjectNotFound(), errors.NotFound),
        (vim.fault.DuplicateName(), errors.AlreadyExists),
        (vim.fault.FileAlreadyExists(), errors.AlreadyExists),
        (vim.fault.InsufficientMemoryResourcesFault(), errors.NoSpace),
        (vim.fault.NoDiskSpace(), errors.NoSpace),
        (vmodl.fault.HostNotConnected(), errors.Unreachable),
        (vmodl.fault.NotSupported(), errors.Unsupported),
        (vmodl.fault.MethodNotFound(), errors.Unsupported),
        (vmodl.fault.RequestCanceled(), errors.Aborted),
        (vim.fault.Timedout(), errors.Timeout),
        (vmodl.fault.SystemError(), errors.DriverError),
    ],
)
def test_each_fault_becomes_our_error(fault, error):
    made = driver_error(fault, guest="web")
    assert type(made) is error
    assert made.detail.endswith(".")
    assert made.context["guest"] == "web"


def test_a_faults_own_text_is_a_sentence_of_bounded_length():
    made = driver_error(vmodl.fault.SystemError(msg="something  went\nwrong " + "x" * 5000))
    assert made.detail.startswith("Something went wrong x")
    assert len(made.detail) < 600


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (TimeoutError(), errors.Timeout),
        (ConnectionRefusedError(111, "Connection refused"), errors.Unreachable),
        (ssl.SSLError(1, "record layer failure"), errors.Unreachable),
        (http.client.BadStatusLine("x"), Garbled),
    ],
)
def test_the_wires_failures_become_our_errors(raised, error):
    with pytest.raises(error), translate(host="esx-01"):
        raise raised


# -- guests ------------------------------------------------------------------------------------------------------------
def test_the_instance_uuid_names_a_guest_and_the_bios_uuid_where_there_is_none():
    other = "42112233-4455-6677-8899-aabbccddeeff"
    named = guests.identities(
        [found(1, config__instanceUuid=INSTANCE.upper(), config__uuid=other), found(2, config__uuid=other), found(3)]
    )
    assert named == {"vm-1": INSTANCE, "vm-2": other}


def test_copies_with_one_uuid_are_told_apart_and_the_first_keeps_it():
    copies = [found(number, config__instanceUuid=INSTANCE) for number in (10, 9)]
    named = guests.identities(copies)
    assert named == guests.identities(reversed(copies))
    assert named["vm-9"] == INSTANCE
    assert uuid.UUID(named["vm-10"]).version == 5


@pytest.mark.parametrize(
    ("power", "connection", "clean", "state"),
    [
        ("poweredOn", "connected", None, (GuestState.RUNNING, "booted")),
        ("suspended", "connected", None, (GuestState.PAUSED, "suspended_to_disk")),
        ("poweredOff", "connected", True, (GuestState.SHUTOFF, "shutdown")),
        ("poweredOff", "connected", False, (GuestState.SHUTOFF, "destroyed")),
        ("poweredOff", "connected", None, (GuestState.SHUTOFF, "")),
        ("poweredOn", "disconnected", None, (GuestState.UNKNOWN, "disconnected")),
        ("poweredOff", "inaccessible", None, (GuestState.UNKNOWN, "inaccessible")),
        ("sideways", "connected", None, (GuestState.UNKNOWN, "")),
        (7, 8, 9, (GuestState.UNKNOWN, "")),
    ],
)
def test_states(power, connection, clean, state):
    values = {"runtime.powerState": power, "runtime.connectionState": connection, "runtime.cleanPowerOff": clean}
    assert guests.state_of(Found(vim.VirtualMachine("vm-1"), values)) == state


def test_a_machine_of_which_nothing_sensible_is_told_is_still_a_guest():
    odd = found(
        1, name=b"bytes", config__hardware__numCPU=-3, config__hardware__memoryMB="much", config__hardware__device=[7]
    )
    info = guests.guest_info(odd, known_as=INSTANCE, hardware=guests.hardware(odd), autostarts=False)
    assert (info.name, info.vcpus, info.memory_bytes, info.disks) == (INSTANCE, 1, 0, ())


class Pages:
    """A property collector of three pages."""

    generation = 1

    def service(self, _name):
        return self

    def _page(self, number: int, token: str | None):
        query = vmodl.query.PropertyCollector
        machine = vim.VirtualMachine(f"vm-{number}")
        name = vmodl.DynamicProperty(name="name", val=f"guest {number}")
        return query.RetrieveResult(token=token, objects=[query.ObjectContent(obj=machine, propSet=[name])])

    def RetrievePropertiesEx(self, _specs, options):  # noqa: N802 - the API's names
        assert options.maxObjects == collector.PAGE
        return self._page(1, "second")

    def ContinueRetrievePropertiesEx(self, token):  # noqa: N802
        return self._page(2, "third") if token == "second" else self._page(3, None)


def test_a_list_of_several_pages_is_read_to_its_end():
    assert [each.get("name") for each in collector.retrieve(Pages())] == ["guest 1", "guest 2", "guest 3"]


# -- counters ----------------------------------------------------------------------------------------------------------
def tape_of(*samples: tuple[float, float]) -> stats.Tape:
    tape = stats.Tape()
    for end, grown in samples:
        tape.add(end, 20.0, (grown,))
    return tape


def test_a_tape_played_back_has_the_samples_rates():
    tape = tape_of((1020, 10.0), (1040, 20.0), (1060, 10.0))
    assert tape.read(500.0) == (pytest.approx(20.0),)  # 30 s before the newest sample's end
    assert tape.read(510.0) == (pytest.approx(30.0),)
    tape.add(1080, 20.0, (40.0,))
    assert tape.read(520.0) == (pytest.approx(35.0),)
    assert tape.read(540.0) == (pytest.approx(60.0),)


def test_a_tape_never_goes_back_or_past_its_end():
    tape = tape_of((1020, 10.0), (1040, 10.0))
    values = [tape.read(500.0 + step)[0] for step in range(0, 60, 5)]
    assert values == sorted(values)
    assert values[-1] == 20.0


def test_samples_known_already_count_once_and_a_hole_counts_nothing():
    tape = tape_of((1020, 10.0), (1040, 10.0), (1040, 10.0), (1020, 10.0), (1200, 10.0))
    assert [counters for _, (counters,) in tape.points] == [0.0, 10.0, 20.0, 20.0, 30.0]
    assert tape.points[-2][0] == 1180


def test_an_empty_tape_tells_nothing():
    assert stats.Tape().read(1.0) is None


def test_samples_are_summed_over_instances_in_base_units():
    query = vim.PerformanceManager
    names = {1: stats.CPU, 2: stats.DISKS[0], 3: stats.NETWORK[1]}
    end = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def series(key, instance, *values):
        return query.IntSeries(id=query.MetricId(counterId=key, instance=instance), value=list(values))

    answer = query.EntityMetric(
        sampleInfo=[query.SampleInfo(timestamp=end, interval=20)],
        value=[
            series(1, "", 5000),
            series(2, "scsi0:0", 3),
            series(2, "scsi0:1", 4),
            series(3, "", -1),
            series(9, "", 1),
        ],
    )
    [(at, seconds, grown)] = stats.samples_of(answer, names)
    assert (at, seconds) == (end.timestamp(), 20.0)
    assert grown[stats.WANTED.index(stats.CPU)] == 5.0
    assert grown[stats.WANTED.index(stats.DISKS[0])] == 7 * 20 * 1024
    assert grown[stats.WANTED.index(stats.NETWORK[1])] == 0


def test_a_busy_meter_adds_up_what_was_said_last():
    meter = stats.BusyMeter()
    assert [meter.read(2.0, 10.0), meter.read(1.0, 15.0), meter.read(0.0, 16.0)] == [0.0, 5.0, 5.0]


def test_the_load_that_is_said_counts_where_there_are_no_samples():
    recorder = stats.Recorder()
    running = stats.Running(
        object=None, moid="vm-1", uuid=INSTANCE, vcpus=2, memory_bytes=7, cpu_mhz=1000, core_mhz=2000
    )
    readings = [recorder._stats(running, now) for now in (10.0, 12.0, 14.0)]
    assert [each.cpu_time_seconds for each in readings] == [0.0, 1.0, 2.0]
    assert (readings[0].memory_bytes, readings[0].disk_read_bytes) == (7, None)


# -- papers ------------------------------------------------------------------------------------------------------------
def test_the_score_card_says_what_is_declared():
    lines = (ROOT / "drivers/vsphere/STATUS.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    header, rows = table[0], table[2:]
    assert header[1:] == ["esx", "vpx"]
    assert [row[0] for row in rows] == [str(feature) for feature in Feature]
    for column, kind in enumerate(header[1:], start=1):
        driver = registry.get(kind)
        for row in rows:
            assert (row[column] == "done") is (Feature(row[0]) in driver.features), (kind, row[0])
            assert row[column] in {"done", "exempt", "todo"}
