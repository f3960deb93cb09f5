"""Full clones on the in-memory hypervisor: whole or not at all, the source untouched, and nothing that two guests cannot share."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import pycdlib
import pytest
import yaml

from accounts.actor import SYSTEM
from core.errors import BadInput
from core.units import GIB, MIB
from drivers.errors import AlreadyExists, DriverError, NoSpace, Unreachable, WrongState
from drivers.fake import FakeSession
from operations import engine, reconcile
from operations.models import Operation, OperationLog
from storage.models import Volume
from tests.waiting import wait_until
from vms import services
from vms.cloning.plan import NeedsTemplate, names_of
from vms.cloning.sources import NotCopyable
from vms.inventory import vms_observe
from vms.models import VM

if TYPE_CHECKING:
    from tests.vms.conftest import Farm

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO ada"
WRITTEN = b"what the guest wrote" * 100


@pytest.fixture
def source(farm: Farm) -> VM:
    """A guest that is off, with two disks, a seed and something written."""
    disks = [{"image": "debian.qcow2"}, {"size_bytes": GIB, "format": "raw"}]
    operation = farm.made(
        disks=disks, cloud_init={"ssh_keys": [KEY]}, start=False, tags=["web"], project="shop", description="The web"
    )
    vm = VM.objects.get(pk=operation.result["vm"])
    first = vm.disks.first()
    name = Volume.objects.get(path=first.source).name
    farm.world.storage._pools["default"].volumes[name].content[:] = WRITTEN
    return vm


def submit(vm: VM, **params: Any) -> Operation:
    return services.vm_action(vm=services.vm_get(vm.pk, by=SYSTEM), name="clone", by=SYSTEM, params=params)


def cloned(farm: Farm, vm: VM, **params: Any) -> Operation:
    operation = submit(vm, **params)
    farm.workers()
    return engine.wait_ended(operation, timeout_seconds=20)


def lines(operation: Operation) -> str:
    return "\n".join(OperationLog.objects.filter(operation=operation).values_list("text", flat=True))


def test_clone_then_another_guest_with_disks_of_its_own(farm, source):
    operation = cloned(farm, source, name="web-02")
    assert operation.state == "succeeded", operation.error
    vm = VM.objects.get(pk=operation.result["vm"])
    assert (vm.name, vm.state, vm.uuid) == ("web-02", "shutoff", str(vm.pk))
    assert (vm.vcpus, vm.memory_bytes, vm.tags, vm.project, vm.description) == (
        source.vcpus, source.memory_bytes, ["web"], "shop", "The web"
    )  # fmt: skip
    ours, theirs = ({disk.source for disk in one.disks.all()} for one in (vm, source))
    assert len(ours) == 2
    assert not ours & theirs
    assert not {nic.mac for nic in vm.interfaces.all()} & {nic.mac for nic in source.interfaces.all()}
    first = Volume.objects.get(path=vm.disks.first().source)
    assert (first.name[:7], first.backing, first.format) == ("web-02-", "", "qcow2")
    assert bytes(farm.world.storage.content("default", first.name)) == WRITTEN
    (info,) = [one for one in farm.world.infos() if one.name == "web-02"]
    assert info.metadata == {"id": str(vm.pk), "tags": "web", "project": "shop"}


def test_several_in_another_pool_and_started_then_all_run_there(farm, source):
    farm.world.storage.add_pool("fast")
    farm.see()
    operation = cloned(farm, source, name="web-08", count=3, pool="fast", start=True)
    assert operation.state == "succeeded", operation.error
    assert [one["name"] for one in operation.result["vms"]] == ["web-08", "web-09", "web-10"]
    assert VM.objects.filter(state="running").count() == 3
    assert len(farm.volumes("fast")) == 6


def test_another_seed_then_a_new_instance_under_its_own_name(farm, source):
    operation = cloned(farm, source, name="web-02", cloud_init={"ssh_keys": [KEY]})
    assert operation.state == "succeeded", operation.error
    vm = VM.objects.get(pk=operation.result["vm"])
    (drive,) = vm.disks.filter(device="cdrom")
    image = pycdlib.PyCdlib()
    name = drive.source.rpartition("/")[2]
    image.open_fp(io.BytesIO(bytes(farm.world.storage.content("default", name))))
    out = io.BytesIO()
    image.get_file_from_iso_fp(out, joliet_path="/meta-data")
    assert yaml.safe_load(out.getvalue()) == {"instance-id": f"i-{vm.pk}", "local-hostname": "web-02"}
    assert KEY not in str(operation.params)


def test_drive_with_an_installer_then_the_clone_has_it_empty(farm):
    farm.world.storage.add_volume("default", "install.iso", content=b"CD001", format_="iso")
    farm.see()
    made = farm.made(disks=[{"size_bytes": MIB}, {"image": "install.iso"}], start=False)
    operation = cloned(farm, VM.objects.get(pk=made.result["vm"]), name="copy")
    vm = VM.objects.get(pk=operation.result["vm"])
    assert [(one.device, bool(one.source)) for one in vm.disks.all()] == [("disk", True), ("cdrom", False)]


@pytest.mark.parametrize(
    ("name", "count", "names"),
    [
        ("web", 1, ["web"]),
        ("web", 2, ["web-01", "web-02"]),
        ("db-9", 2, ["db-09", "db-10"]),
        ("ci-", 2, ["ci-01", "ci-02"]),
    ],
)
def test_names_count_on(name, count, names):
    assert names_of(name, count) == names


# -- refused -----------------------------------------------------------------------------------------------------------
def test_running_then_refused_with_what_to_do(farm, source):
    farm.world.outside("web-01", "start")
    VM.objects.filter(pk=source.pk).update(state="running")
    with pytest.raises(WrongState, match="shut it down first"):
        submit(source, name="web-02")
    row = services.vm_get(source.pk, by=SYSTEM)
    assert services.vm_actions(row, by=SYSTEM)["clone"]["code"] == "wrong_state"


def test_started_outside_while_it_waited_then_fails_and_nothing_is_made(farm, source):
    before = farm.volumes()
    farm.world.outside("web-01", "start")
    operation = cloned(farm, source, name="web-02")
    assert (operation.state, operation.error["code"]) == ("failed", "wrong_state")
    assert farm.volumes() == before


def test_saved_memory_then_refused(farm, source):
    VM.objects.filter(pk=source.pk).update(has_managed_save=True)
    with pytest.raises(WrongState, match="saved memory"):
        submit(source, name="web-02")


def test_linked_then_the_way_is_told(farm, source):
    with pytest.raises(NeedsTemplate, match="Make a template of it first"):
        submit(source, name="web-02", mode="linked")


def test_disk_in_no_pool_then_refused_by_its_name(farm):
    xml = (
        "<domain type='fake'><name>odd</name><memory unit='MiB'>64</memory><devices><disk type='file' device='disk'>"
        "<source file='/srv/odd.img'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    farm.world.define(xml)
    vms_observe(farm.hypervisor, farm.world.infos(), complete=True)
    with pytest.raises(NotCopyable, match=r"disk vda, it lies in no storage pool"):
        submit(VM.objects.get(name="odd"), name="copy")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": "../../etc/passwd"},
        {"name": "a b"},
        {"name": "x" * 64},
        {"name": "a\n"},
        {"name": "web-02", "count": 0},
        {"name": "web-02", "count": 21},
        {"name": "web-02", "count": "2"},
        {"name": "web-02", "pool": "nowhere"},
        {"name": "web-02", "mode": "magic"},
        {"name": "web-02", "start": "yes"},
        {"name": "web-02", "path": "/etc"},
        {"name": "web-02", "cloud_init": {"user_data": "#cloud-config\n- ["}},
    ],
)
def test_nonsense_then_a_pointer_and_nothing_queued(farm, source, params):
    before = Operation.objects.count()
    with pytest.raises(BadInput) as refusal:
        submit(source, **params)
    assert refusal.value.errors
    assert Operation.objects.count() == before


def test_name_is_taken_then_refused(farm, source):
    with pytest.raises(AlreadyExists):
        submit(source, name="web-01")


def test_two_at_once_of_the_same_name_then_one_operation_or_a_refusal(farm, source):
    farm.world.hang("volume_clone")
    first = submit(source, name="web-02")
    assert submit(source, name="web-02") == first
    with pytest.raises(AlreadyExists, match="being made"):
        submit(source, name="web-02", start=True)
    farm.world.release("volume_clone")
    farm.workers()
    assert engine.wait_ended(first, timeout_seconds=20).state == "succeeded"
    assert farm.names() == {"web-01", "web-02"}


# -- what goes wrong -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["volume_clone", "volume_upload", "clone", "guest"])
def test_step_fails_for_good_then_all_is_undone(farm, source, verb):
    before = farm.volumes()
    rows = set(Volume.objects.values_list("name", flat=True))
    farm.world.fail_next(NoSpace("There is no space left in default."), verb=verb)
    operation = cloned(farm, source, name="web-02", count=2, cloud_init={"ssh_keys": [KEY]})
    assert (operation.state, operation.error["code"]) == ("failed", "no_space")
    assert farm.names() == {"web-01"}
    assert farm.volumes() == before
    assert set(Volume.objects.values_list("name", flat=True)) == rows
    assert VM.objects.filter(gone_at=None).count() == 1


def test_second_of_two_fails_then_the_first_goes_too(farm, source):
    real = farm.world.clone
    before = farm.volumes()

    def second_fails(ref, spec):
        if spec.name == "web-03":
            raise NoSpace("full")
        return real(ref, spec)

    farm.world.clone = second_fails
    operation = cloned(farm, source, name="web-02", count=2)
    assert operation.state == "failed"
    assert farm.names() == {"web-01"}
    assert farm.volumes() == before


def test_pool_is_too_small_then_said_before_anything_is_copied(farm, source):
    farm.world.storage.add_pool("small", capacity_bytes=1024)
    farm.see()
    operation = cloned(farm, source, name="web-02", pool="small")
    assert operation.error["code"] == "no_space"
    assert farm.world.calls["volume_clone"] == 0


def test_cannot_be_started_then_the_clones_stay_and_the_log_says_so(farm, source):
    farm.world.fail_next(NoSpace("no memory left"), verb="start")
    operation = cloned(farm, source, name="web-02", start=True)
    assert operation.state == "failed"
    assert farm.names() == {"web-01", "web-02"}
    assert "The clones stay" in lines(operation)


def test_cancelled_in_the_middle_then_undone(farm, source):
    before = farm.volumes()
    farm.world.hang("volume_clone")
    operation = submit(source, name="web-02", count=2)
    assert farm.world.wait_for_calls("volume_clone", 1)
    engine.cancel(operation, by=SYSTEM)
    farm.world.release("volume_clone")
    farm.workers()
    assert Operation.objects.get(pk=operation.pk).state == "cancelled"
    assert farm.volumes() == before


@pytest.mark.parametrize("verb", ["volume_clone", "clone", "start", "volume"])
def test_host_is_away_for_a_moment_then_made_once(farm, source, monkeypatch, verb):
    monkeypatch.setattr("operations.actions.Retry.delay_seconds", lambda self, attempt: 0.7)
    farm.world.fail_next(Unreachable("gone in the middle"), verb=verb)
    operation = submit(source, name="web-02", start=True)
    wait_until(lambda: Operation.objects.get(pk=operation.pk).ended, 20, "it ends")
    operation.refresh_from_db()
    assert operation.state == "succeeded", operation.error
    assert farm.names() == {"web-01", "web-02"}


@pytest.mark.parametrize("verb", ["volume_clone", "volume", "volume_upload", "clone", "guest", "start", "guest_state"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_worker_dies_at_a_step_then_the_next_makes_each_once(farm, source, monkeypatch, verb, after):
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
    before = len(farm.volumes())
    operation = submit(source, name="web-02", count=2, start=True, cloud_init={"ssh_keys": [KEY]})
    claimed = engine.claim(operation.pk)
    with pytest.raises(Killed):
        engine._attempt(claimed)
    Operation.objects.filter(pk=operation.pk).update(worker="dead:7:7")
    reconcile.take_over_from_the_dead(alone=True)
    engine.execute(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.attempts) == ("succeeded", 2), (operation.error, lines(operation))
    assert farm.names() == {"web-01", "web-02", "web-03"}
    assert len(farm.volumes()) == before + 2 * 3
