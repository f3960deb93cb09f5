"""Making guests on the in-memory hypervisor: whole or not at all, the same row whoever sees it first, twenty at once."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import pycdlib
import pytest
import yaml

from accounts.actor import Actor
from core.units import GIB, MIB
from drivers.errors import DriverError, NoSpace, Unreachable
from drivers.fake import FakeSession
from drivers.types import AddressInfo, GuestState
from events.models import Event
from operations import engine, reconcile
from operations.models import Operation, OperationLog
from storage.models import Volume
from tests.waiting import wait_until
from vms import services
from vms.creation.spec import XmlSpec
from vms.inventory import vms_observe
from vms.models import VM

if TYPE_CHECKING:
    from tests.vms.conftest import Farm

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO ada"


def lines(operation: Operation) -> str:
    return "\n".join(OperationLog.objects.filter(operation=operation).values_list("text", flat=True))


def assert_nothing_is_left(farm: Farm) -> None:
    assert farm.names() == set()
    assert farm.volumes() == {"debian.qcow2"}
    assert not VM.objects.filter(gone_at=None).exists()
    assert set(Volume.objects.values_list("name", flat=True)) == {"debian.qcow2"}


def test_name_and_image_then_it_runs_from_an_overlay_on_the_default_network(farm):
    operation = farm.made()
    assert operation.state == "succeeded", operation.error
    vm = VM.objects.get(pk=operation.result["vm"])
    assert f"vm/{vm.pk}" == operation.target == vm.ref
    assert (vm.name, vm.state, vm.uuid) == ("web-01", "running", str(vm.pk))
    (disk,) = vm.disks.all()
    volume = Volume.objects.get(path=disk.source)
    assert volume.name.startswith("web-01-")
    assert (volume.format, volume.backing, volume.capacity_bytes) == ("qcow2", "/pools/default/debian.qcow2", 64 * MIB)
    (nic,) = vm.interfaces.all()
    assert (nic.network, nic.mac[:8]) == ("default", "52:54:00")
    assert operation.result["placement"]["hypervisor"] == str(farm.hypervisor.pk)
    assert operation.result["placement"]["reasons"]


def test_what_is_ours_to_say_stands_in_the_row_and_in_the_definition(farm, operator):
    by = Actor.of_user(operator)
    said = {"title": "The web", "description": "Two\nlines", "tags": ["Prod", "web"], "project": "shop", "start": False}
    operation = farm.made(by, **said)
    vm = VM.objects.select_related("owner").get(pk=operation.result["vm"])
    assert (vm.state, vm.title, vm.description, vm.tags, vm.project, vm.owner) == (
        "shutoff",
        "The web",
        "Two\nlines",
        ["prod", "web"],
        "shop",
        operator,
    )
    (info,) = farm.world.infos()
    assert info.metadata == {"id": str(vm.pk), "tags": "prod,web", "project": "shop", "owner": operator.username}
    assert Event.objects.get(type="vm.defined", object=vm.ref).operation == operation.pk


def test_seen_by_the_watcher_first_then_the_same_row(farm, monkeypatch):
    seen = farm.world.create

    def create(spec):
        info = seen(spec)
        vms_observe(farm.hypervisor, farm.world.infos(), complete=True)
        return info

    monkeypatch.setattr(farm.world, "create", create)
    operation = farm.made(tags=["prod"])
    (vm,) = VM.objects.all()
    assert (str(vm.pk), operation.target, vm.tags) == (operation.result["vm"], vm.ref, ["prod"])


def test_copy_of_a_definition_names_the_same_id_then_it_is_another_guest(farm):
    operation = farm.made(start=False)
    (info,) = farm.world.infos()
    twin = farm.world.definition(info.ref).replace(info.uuid, "00000000-0000-4000-8000-000000000001")
    farm.world.define(twin.replace("<name>web-01", "<name>copy"))
    vms_observe(farm.hypervisor, farm.world.infos(), complete=True)
    assert VM.objects.filter(gone_at=None).count() == 2
    assert VM.objects.get(name="web-01").pk == VM.objects.get(pk=operation.result["vm"]).pk


def test_disks_of_every_kind_then_each_as_asked_for(farm):
    farm.world.storage.add_pool("fast")
    farm.world.storage.add_volume("default", "install.iso", content=b"CD001", format_="iso")
    farm.see()
    disks = [
        {"image": "debian.qcow2", "clone": "full", "size_bytes": 128 * MIB, "bus": "scsi"},
        {"size_bytes": GIB + 1, "pool": "fast", "format": "raw"},
        {"image": "install.iso"},
    ]
    operation = farm.made(disks=disks)
    assert operation.state == "succeeded", operation.error
    found = [(d.target[:2], d.bus, d.device, d.readonly) for d in VM.objects.get().disks.all()]
    assert found == [("sd", "scsi", "disk", False), ("vd", "virtio", "disk", False), ("sd", "sata", "cdrom", True)]
    (empty,) = farm.world.storage.volumes("fast")
    assert (empty.name.endswith("-2.img"), empty.capacity_bytes, empty.format) == (True, GIB + 512, "raw")
    full = next(one for one in farm.world.storage.volumes("default") if one.name.startswith("web-01-"))
    assert (full.capacity_bytes, full.backing, full.format) == (128 * MIB, "", "qcow2")


def test_cloud_init_then_a_seed_that_its_guest_finds_and_no_secret_in_the_row(farm):
    asked = {"user_data": "#cloud-config\npackages: [nginx]\n", "ssh_keys": [KEY], "password_hash": "$6$salt$hashhash"}
    operation = farm.made(cloud_init=asked)
    assert operation.state == "succeeded", operation.error
    name = next(name for name in farm.volumes() if name.endswith("-seed.iso"))
    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(bytes(farm.world.storage.content("default", name))))
    files = {}
    for file in ("meta-data", "user-data"):
        out = io.BytesIO()
        image.get_file_from_iso_fp(out, joliet_path=f"/{file}")
        files[file] = yaml.safe_load(out.getvalue())
    assert files["meta-data"]["local-hostname"] == "web-01"
    assert (files["user-data"]["packages"], files["user-data"]["ssh_authorized_keys"]) == (["nginx"], [KEY])
    assert "nginx" not in str(operation.params) + str(operation.result) + lines(operation)
    assert (operation.secret_params, operation.shown_params["cloud_init"]) == ({"cloud_init": None}, "<hidden>")


def test_kernel_straight_then_its_path_on_the_host(farm):
    for name in ("vmlinuz", "initrd.img"):
        farm.world.storage.add_volume("default", name, content=b"x")
    farm.see()
    operation = farm.made(boot={"kernel": "vmlinuz", "initrd": "initrd.img", "cmdline": "console=ttyS0"}, disks=[])
    assert operation.state == "succeeded", operation.error
    boot = VM.objects.get().boot
    assert (boot["kernel"], boot["initrd"], boot["cmdline"]) == (
        "/pools/default/vmlinuz",
        "/pools/default/initrd.img",
        "console=ttyS0",
    )


def test_waited_for_an_address_then_it_is_in_result_and_row(farm, monkeypatch):
    monkeypatch.setattr("vms.creation.ready.LOOK_SECONDS", 0.05)
    operation = farm.submit(wait_for="address")
    wait_until(lambda: "agent" in Operation.objects.get(pk=operation.pk).message, 10, "it says what is waited for")
    address = AddressInfo(address="192.168.122.7", prefix=24, mac="52:54:00:00:00:07", source="lease")
    farm.world.give_addresses("web-01", lease=[address], agent="The agent is not connected.")
    farm.workers()
    operation = engine.wait_ended(operation, timeout_seconds=10)
    expected = [{"address": "192.168.122.7", "prefix": 24, "mac": "52:54:00:00:00:07", "source": "lease"}]
    assert operation.result["addresses"] == VM.objects.get().addresses == expected
    assert VM.objects.get().address_reasons["agent"] == "The agent is not connected."


# -- what goes wrong ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["volume_create", "volume_upload", "create", "start"])
def test_step_fails_for_good_then_all_is_undone(farm, verb):
    farm.world.fail_next(NoSpace("There is no space left in default."), verb=verb)
    operation = farm.made(cloud_init={"ssh_keys": [KEY]})
    assert (operation.state, operation.error["code"]) == ("failed", "no_space")
    assert_nothing_is_left(farm)


@pytest.mark.parametrize("verb", ["design", "volume", "volume_create", "volume_upload", "create", "start", "guest"])
def test_host_is_away_for_a_moment_then_tried_again_and_made_once(farm, monkeypatch, verb):
    monkeypatch.setattr("operations.actions.Retry.delay_seconds", lambda self, attempt: 0.7)
    farm.world.fail_next(Unreachable("gone in the middle"), verb=verb)
    operation = farm.submit(cloud_init={"ssh_keys": [KEY]})
    wait_until(lambda: Operation.objects.get(pk=operation.pk).ended, 20, "it ends")
    operation.refresh_from_db()
    assert operation.state == "succeeded", operation.error
    assert farm.names() == {"web-01"}
    assert len(farm.volumes()) == 3


def test_pool_is_full_while_the_seed_is_written_then_all_is_undone(farm):
    farm.world.storage.add_pool("small", capacity_bytes=100 * 1024)
    farm.see()
    disks = [{"size_bytes": 10 * MIB, "pool": "small"}]
    operation = farm.made(disks=disks, cloud_init={"user_data": "#cloud-config\n#" + "x" * 100_000})
    assert (operation.state, operation.error["code"]) == ("failed", "no_space")
    assert farm.volumes("small") == set()
    assert_nothing_is_left(farm)


def test_volume_cannot_be_deleted_then_the_log_names_it_and_the_first_error_stays(farm):
    farm.world.fail_next(NoSpace("full"), verb="create")
    farm.world.fail_next(Unreachable("gone"), verb="volume_delete")
    operation = farm.made()
    assert operation.error["code"] == "no_space"
    (left,) = farm.volumes() - {"debian.qcow2"}
    assert f"{left} in default could not be deleted: gone" in lines(operation)


def test_somebody_takes_the_name_meanwhile_then_his_guest_is_left_alone(farm):
    def late(answer):
        farm.world.add("web-01")
        return answer

    farm.world.lie("design", late)
    operation = farm.made()
    assert (operation.state, operation.error["code"]) == ("failed", "already_exists")
    assert farm.names() == {"web-01"}
    assert farm.volumes() == {"debian.qcow2"}


def test_cancelled_in_the_middle_then_undone(farm):
    farm.world.hang("volume_upload")
    operation = farm.submit(cloud_init={"ssh_keys": [KEY]})
    assert farm.world.wait_for_calls("volume_upload", 1)
    engine.cancel(operation, by=services.SYSTEM)
    farm.world.release("volume_upload")
    farm.workers()
    assert Operation.objects.get(pk=operation.pk).state == "cancelled"
    assert_nothing_is_left(farm)


def test_runs_but_is_not_ready_in_time_then_it_stays_and_the_error_says_why(farm, monkeypatch):
    monkeypatch.setattr("vms.creation.ready.LOOK_SECONDS", 0.05)
    operation = farm.made(wait_for="address", wait_timeout_seconds=1)
    assert (operation.state, operation.error["code"]) == ("failed", "not_ready")
    assert "agent: The guest agent does not answer" in operation.error["detail"]
    vm = VM.objects.get()
    assert (vm.state, operation.error["context"]["vm"]) == ("running", str(vm.pk))


def test_stops_while_it_is_waited_for_then_said_at_once(farm, monkeypatch):
    monkeypatch.setattr("vms.creation.ready.LOOK_SECONDS", 0.05)
    operation = farm.submit(wait_for="ssh")
    assert farm.world.wait_for_calls("addresses", 1)
    farm.world.crash("web-01")
    farm.workers()
    operation = engine.wait_ended(operation, timeout_seconds=10)
    assert "crashed" in operation.error["detail"]
    assert VM.objects.get().state == "crashed"


def test_marker_on_the_serial_console_then_ready(farm):
    operation = farm.made(wait_for="web-01", wait_timeout_seconds=10)
    assert operation.state == "succeeded", operation.error


def test_marker_never_comes_then_the_last_line_is_told(farm):
    operation = farm.made(wait_for="no such words", wait_timeout_seconds=1)
    assert operation.error["code"] == "not_ready"
    assert "last came" in operation.error["detail"]


# -- interrupted -------------------------------------------------------------------------------------------------------
STEPS = [
    "design",
    "volume_create",
    "volume",
    "volume_upload",
    "create",
    "set_autostart",
    "guest",
    "start",
    "guest_state",
]


@pytest.mark.parametrize("verb", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_worker_dies_at_a_step_then_the_next_makes_one_guest_and_nothing_twice(farm, monkeypatch, verb, after):
    """kill -9 as the engine sees it: the thread never comes back, and another process takes the row over."""

    class Killed(BaseException):
        pass

    real, died = getattr(FakeSession, verb), []

    def dies(self, *args, **kwargs):
        if died:
            return real(self, *args, **kwargs)
        died.append(verb)
        if after:
            with contextlib.suppress(DriverError):
                real(self, *args, **kwargs)
        raise Killed

    monkeypatch.setattr(f"drivers.fake.session.FakeSession.{verb}", dies)
    monkeypatch.setattr("operations.doorbell.ring", lambda *_, **__: None)
    operation = services.vm_create(spec=farm.spec(cloud_init={"ssh_keys": [KEY]}, autostart=True), by=services.SYSTEM)
    claimed = engine.claim(operation.pk)
    with pytest.raises(Killed):
        engine._attempt(claimed)
    Operation.objects.filter(pk=operation.pk).update(worker="dead:7:7")
    reconcile.take_over_from_the_dead(alone=True)
    engine.execute(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.attempts) == ("succeeded", 2), (operation.error, lines(operation))
    assert farm.names() == {"web-01"}
    assert len(farm.volumes()) == 3
    assert VM.objects.get().autostart


# -- many --------------------------------------------------------------------------------------------------------------
def test_twenty_at_once_then_all_are_made_side_by_side(farm):
    asked = [farm.submit(name=f"web-{n:02d}", cloud_init={"ssh_keys": [KEY]}) for n in range(20)]
    wait_until(lambda: Operation.objects.filter(state="succeeded", kind="vm.create").count() == 20, 60, "all are made")
    farm.workers()
    assert VM.objects.filter(state="running").count() == 20
    assert farm.names() == {f"web-{n:02d}" for n in range(20)}
    assert len(farm.volumes()) == 1 + 2 * 20
    assert len({VM.objects.get(pk=op.target[3:]).interfaces.get().mac for op in asked}) == 20


def test_waiting_for_an_address_then_the_slot_is_another_ones(farm, monkeypatch):
    monkeypatch.setattr("vms.creation.ready.LOOK_SECONDS", 0.05)
    type(farm.hypervisor).objects.filter(pk=farm.hypervisor.pk).update(slots=1)
    waits = [farm.submit(name=f"slow-{n}", wait_for="address", wait_timeout_seconds=30) for n in range(3)]
    wait_until(lambda: VM.objects.filter(state="running").count() == 3, 20, "all three run")
    for n in range(3):
        farm.world.give_addresses(f"slow-{n}", agent=[AddressInfo(address=f"192.0.2.{n + 1}", prefix=24)])
    farm.workers()
    assert {engine.wait_ended(one, timeout_seconds=10).state for one in waits} == {"succeeded"}


# -- from a definition -------------------------------------------------------------------------------------------------
XML = "<?xml version='1.0'?>\n<domain type='fake'><name>raw</name><memory unit='MiB'>64</memory></domain>"


def define(farm: Farm, xml: str, **values: object) -> Operation:
    spec = XmlSpec.model_validate({"xml": xml, "hypervisor": str(farm.hypervisor.pk), **values})
    operation = services.vm_create(spec=spec, by=services.SYSTEM)
    farm.workers()
    return engine.wait_ended(operation, timeout_seconds=20)


def test_definition_as_it_is_then_made_and_started_under_its_operations_id(farm):
    operation = define(farm, XML)
    vm = VM.objects.get()
    assert (operation.state, vm.name, vm.state, vm.ref) == ("succeeded", "raw", "running", operation.target)
    assert operation.secret_params == {"xml": None}


def test_nothing_secret_then_nothing_is_shown_as_hidden(farm):
    assert "cloud_init" not in farm.made().shown_params


def test_definition_of_a_guest_that_is_there_then_refused_and_that_one_is_untouched(farm):
    info = farm.world.add("theirs", vcpus=3)
    operation = define(farm, XML.replace("<name>", f"<uuid>{info.uuid}</uuid><name>").replace("raw", "theirs"))
    assert (operation.state, operation.error["code"]) == ("failed", "already_exists")
    assert farm.world.info(info.ref).vcpus == 3


def test_definition_that_cannot_start_then_it_is_taken_away_again(farm):
    farm.world.fail_next(NoSpace("no memory left"), verb="start")
    assert define(farm, XML).state == "failed"
    assert farm.names() == set()


def test_paused_counts_as_up(farm):
    operation = farm.made()
    farm.world.outside("web-01", "suspend")
    assert farm.world.infos()[0].state is GuestState.PAUSED
    assert operation.state == "succeeded"
