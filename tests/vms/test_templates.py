"""Templates on the in-memory hypervisor: made, versioned, protected, filled in, and not deleted under what stands on them."""

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
from drivers.errors import AlreadyExists, DriverError, NoSpace, WrongState
from drivers.fake import FakeSession
from operations import engine, reconcile
from operations.models import Operation, OperationLog
from storage import services as storage
from storage.models import Volume
from storage.uses import InUse
from vms import services
from vms.cloning import templates
from vms.cloning.api import template_json
from vms.cloning.models import Template, TemplateVersion
from vms.cloning.parameters import Parameter, check_declared, filled
from vms.cloning.selectors import template_get, template_page
from vms.cloning.uses import uses_json
from vms.models import VM

if TYPE_CHECKING:
    from tests.vms.conftest import Farm

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO ada"
USER_DATA = "#cloud-config\nfqdn: ${host}.${domain}\nruncmd:\n  - [setup, '${domain}', '${unknown}']\npackage_update: ${update}\n"
PARAMETERS = [
    Parameter(name="host", sets="hostname", default="node"),
    Parameter(name="domain", required=True, help="The domain of the site"),
    Parameter(name="update", type="boolean", default=False),
    Parameter(name="cpus", type="integer", sets="vcpus", default=2, minimum=1, maximum=4),
    Parameter(name="memory", type="bytes", sets="memory_bytes", choices=[512 * MIB, GIB], default=GIB),
    Parameter(name="disk", type="bytes", sets="disk_bytes"),
    Parameter(name="role", sets="tags", default="web"),
]


def ended(farm: Farm, operation: Operation) -> Operation:
    farm.workers()
    return engine.wait_ended(operation, timeout_seconds=20)


@pytest.fixture
def source(farm: Farm) -> VM:
    """A guest that is off, with two disks and a seed."""
    disks = [{"image": "debian.qcow2"}, {"size_bytes": GIB, "format": "raw"}]
    operation = farm.made(disks=disks, cloud_init={"ssh_keys": [KEY]}, start=False, project="shop", vcpus=3)
    return VM.objects.get(pk=operation.result["vm"])


def make(farm: Farm, vm: VM, **values: Any) -> Operation:
    return ended(farm, templates.template_make(vm=vm.pk, by=SYSTEM, **{"name": "web", **values}))


@pytest.fixture
def template(farm: Farm, source: VM) -> Template:
    """Of a copy, with parameters."""
    operation = make(farm, source, user_data=USER_DATA, parameters=PARAMETERS)
    assert operation.state == "succeeded", operation.error
    return template_get(Template.objects.get().pk, by=SYSTEM)


def lines(operation: Operation) -> str:
    return "\n".join(OperationLog.objects.filter(operation=operation).values_list("text", flat=True))


def created(farm: Farm, **values: Any) -> Operation:
    spec = {
        "disks": [],
        "template": "web",
        "parameters": {"domain": "example.org"},
        "start": False,
        "name": "new",
        **values,
    }
    return farm.made(**spec)


# -- made ----------------------------------------------------------------------------------------------------------------
def test_copy_then_volumes_of_its_own_and_the_guest_stays(farm, source):
    before = farm.volumes()
    operation = make(farm, source, description="The web", notes="first")
    assert operation.state == "succeeded", operation.error
    found = template_json(template_get(Template.objects.get().pk, by=SYSTEM), by=SYSTEM)
    (version,) = found["versions"]
    assert (found["name"], found["project"], found["current"], version["number"]) == ("web", "shop", 1, 1)
    assert (version["facts"]["vcpus"], version["cloud_init"], version["mode"]) == (3, True, "copy")
    assert [(one["format"], one["there"]) for one in version["volumes"]] == [("qcow2", True), ("raw", True)]
    new = farm.volumes() - before
    assert {one["volume"] for one in version["volumes"]} == new
    assert all(name.startswith("vmm-template-") for name in new)
    assert farm.names() == {"web-01"}


def test_definition_is_kept_without_what_named_the_guest(farm, source):
    make(farm, source)
    definition = TemplateVersion.objects.get().definition
    assert "<vcpu>3</vcpu>" in definition
    for own in ("web-01", source.uuid, source.interfaces.first().mac, KEY):
        assert own not in definition


def test_convert_then_the_guest_is_gone_and_its_disks_are_the_templates(farm, source):
    paths = {disk.source.rpartition("/")[2] for disk in source.disks.filter(device="disk")}
    operation = make(farm, source, mode="convert")
    assert operation.state == "succeeded", operation.error
    assert farm.names() == set()
    assert VM.objects.get(pk=source.pk).gone_at is not None
    assert farm.volumes() == paths | {"debian.qcow2"}  # its seed, with keys in it, went
    assert "and no guest any more" in lines(operation)


def test_another_version_then_it_is_current_and_the_old_one_can_be_named(farm, source, template):
    operation = ended(farm, templates.template_make(vm=source.pk, by=SYSTEM, template=template, mode="convert"))
    assert operation.result["version"] == 2
    old = created(farm, template="web@1", name="old")
    new = created(farm, template=f"{template.pk}", name="fresh", parameters={})
    assert (old.state, new.state) == ("succeeded", "succeeded"), (old.error, new.error)
    assert {row.version.number for row in template_guests()} == {1, 2}
    templates.template_update(template=template_get(template.pk, by=SYSTEM), by=SYSTEM, changes={"current": 1})
    with pytest.raises(BadInput, match="domain"):
        created(farm, parameters={}, name="third")


def template_guests() -> list[Any]:
    return [
        vm.made_from
        for vm in VM.objects.filter(gone_at=None).exclude(made_from=None).select_related("made_from__version")
    ]


# -- guests of it --------------------------------------------------------------------------------------------------------
def test_created_then_linked_disks_and_every_parameter_in_its_place(farm, template):
    operation = created(
        farm, parameters={"domain": "x: y\nz", "disk": 128 * MIB} | {"domain": 'a: "b" # c'}, name="db-01"
    )
    assert operation.state == "succeeded", operation.error
    vm = VM.objects.get(pk=operation.result["vm"])
    assert (vm.vcpus, vm.memory_bytes, vm.tags, vm.state) == (2, GIB, ["web"], "shutoff")
    first, second = (Volume.objects.get(path=disk.source) for disk in vm.disks.filter(device="disk"))
    own = {one.volume for one in template.versions.all()[0].volumes.all()}
    assert {first.backing.rpartition("/")[2], second.backing.rpartition("/")[2]} == own
    assert (first.capacity_bytes, second.capacity_bytes) == (128 * MIB, GIB)
    seed = next(name for name in farm.volumes() if name.startswith("db-01-") and name.endswith("-seed.iso"))
    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(bytes(farm.world.storage.content("default", seed))))
    out = io.BytesIO()
    image.get_file_from_iso_fp(out, joliet_path="/user-data")
    found = yaml.safe_load(out.getvalue())
    assert found["fqdn"] == 'node.a: "b" # c'
    assert found["runcmd"] == [["setup", 'a: "b" # c', "${unknown}"]]
    assert found["package_update"] is False


def test_what_the_caller_writes_wins(farm, template):
    operation = created(
        farm,
        vcpus=1,
        tags=["mine"],
        disks=[{"template": "web", "clone": "full"}],
        interfaces=[],
        cloud_init={"hostname": "other"},
    )
    vm = VM.objects.get(pk=operation.result["vm"])
    assert (vm.vcpus, vm.tags, vm.interfaces.count()) == (1, ["mine", "web"], 0)
    assert {Volume.objects.get(path=disk.source).backing for disk in vm.disks.filter(device="disk")} == {""}


def test_full_into_another_pool_then_copied_there(farm, template):
    farm.world.storage.add_pool("fast", capacity_bytes=900 * GIB)
    farm.see()
    operation = created(farm, disks=[{"template": "web", "clone": "full", "pool": "fast"}])
    assert operation.state == "succeeded", operation.error
    assert len(farm.volumes("fast")) == 3
    linked = created(farm, name="linked")
    assert {one["pool"] for one in linked.result["volumes"]} == {
        "default"
    }  # its seed too, though the other has more room
    with pytest.raises(BadInput, match="a linked disk lies where its template does"):
        created(farm, name="b", disks=[{"template": "web", "pool": "fast"}])


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({}, "/parameters/domain"),
        ({"domain": 7}, "/parameters/domain"),
        ({"domain": "x" * 2001}, "/parameters/domain"),
        ({"domain": "a\nb"}, "/parameters/domain"),
        ({"domain": "x", "cpus": "2"}, "/parameters/cpus"),
        ({"domain": "x", "cpus": True}, "/parameters/cpus"),
        ({"domain": "x", "cpus": 5}, "/parameters/cpus"),
        ({"domain": "x", "memory": 7}, "/parameters/memory"),
        ({"domain": "x", "disk": 1}, "/parameters/disk"),
        ({"domain": "x", "disk": -1}, "/parameters/disk"),
        ({"domain": "x", "update": "yes"}, "/parameters/update"),
        ({"domain": "x", "host": "-bad host-"}, "/parameters/host"),
        ({"domain": "x", "role": "no/tag"}, None),
        ({"domain": "x", "nothing": 1}, "/parameters/nothing"),
    ],
)
def test_wrong_value_then_a_pointer_to_it_and_nothing_is_queued(farm, template, parameters, pointer):
    before = Operation.objects.count()
    with pytest.raises(BadInput) as refusal:
        created(farm, parameters=parameters)
    if pointer is not None:
        assert refusal.value.errors[0]["pointer"] == pointer
    assert Operation.objects.count() == before


def test_no_such_template_or_version_then_refused(farm, template):
    for text in ("nothing", "web@9", "web@", "../web", f"{template.pk}@0"):
        with pytest.raises(BadInput):
            created(farm, template=text)
        with pytest.raises(BadInput):
            farm.made(name="n", disks=[{"template": text}])
    with pytest.raises(BadInput, match="they are a template's"):
        farm.made(parameters={"a": 1})


def test_disks_of_a_template_alone_then_nothing_else_of_it(farm, template):
    operation = farm.made(name="bare", disks=[{"template": "web@1"}, {"size_bytes": MIB}], start=False)
    assert operation.state == "succeeded", operation.error
    vm = VM.objects.get(pk=operation.result["vm"])
    assert (vm.vcpus, vm.disks.count()) == (1, 3)
    assert vm.made_from.version.template == template


def test_volume_has_vanished_then_refused_by_its_name(farm, template):
    name = template.versions.all()[0].volumes.all()[1].volume
    farm.world.storage.remove_volume("default", name)
    farm.see()
    with pytest.raises(BadInput, match="is gone from default"):
        created(farm)
    farm.world.storage.add_volume("default", name, capacity_bytes=GIB)
    farm.see()
    farm.world.storage.remove_volume("default", name)
    before = farm.volumes()  # nobody has seen that it went
    operation = created(farm)
    assert (operation.state, operation.error["code"]) == ("failed", "not_found")
    assert farm.volumes() == before


# -- protected -----------------------------------------------------------------------------------------------------------
def test_its_volumes_are_neither_deleted_nor_written(farm, template):
    row = Volume.objects.get(name=template.versions.all()[0].volumes.all()[0].volume)
    volume = storage.volume_get(row.pk, by=SYSTEM)
    for call in (
        lambda: storage.volume_delete(volume=volume, by=SYSTEM),
        lambda: storage.volume_wipe(volume=volume, by=SYSTEM),
        lambda: storage.volume_resize(volume=volume, capacity_bytes=2 * GIB, by=SYSTEM),
    ):
        with pytest.raises(InUse, match="web"):
            call()


def test_delete_when_a_guest_stands_on_it_then_refused_and_listed(farm, template):
    vm = VM.objects.get(pk=created(farm).result["vm"])
    with pytest.raises(InUse):
        templates.template_delete(template=template, by=SYSTEM)
    found = uses_json(template)
    assert {(use["type"], use["breaks"]) for use in found} == {("volume", True), ("vm", True)}
    assert str(vm.pk) in {use["id"] for use in found}
    ended(farm, services.vm_delete(vm=services.vm_get(vm.pk, by=SYSTEM), by=SYSTEM, storage="delete", to_bin=False))
    operation = ended(farm, templates.template_delete(template=template, by=SYSTEM))
    assert operation.state == "succeeded", operation.error
    assert not Template.objects.exists()
    assert not {name for name in farm.volumes() if name.startswith("vmm-template-")}


def test_delete_when_only_full_copies_were_made_then_it_goes(farm, template):
    created(farm, disks=[{"template": "web", "clone": "full"}])
    (use,) = uses_json(template)
    assert (use["type"], use["name"], use["breaks"]) == ("vm", "new", False)
    assert ended(farm, templates.template_delete(template=template, by=SYSTEM)).state == "succeeded"
    assert farm.names() == {"web-01", "new"}


def test_delete_when_a_guest_is_being_made_of_it_then_refused(farm, template):
    farm.world.hang("volume_create")
    spec = farm.spec(name="new", disks=[], template="web", parameters={"domain": "x"}, start=False)
    operation = services.vm_create(spec=spec, by=SYSTEM)
    assert farm.world.wait_for_calls("volume_create", 1)
    with pytest.raises(InUse, match="being made"):
        templates.template_delete(template=template, by=SYSTEM)
    farm.world.release("volume_create")
    assert ended(farm, operation).state == "succeeded"


def test_deleted_while_a_guest_waits_to_be_made_of_it_then_that_one_says_so(farm, template, monkeypatch):
    monkeypatch.setattr("operations.doorbell.ring", lambda *_, **__: None)
    spec = farm.spec(name="new", disks=[], template="web", parameters={"domain": "x"}, start=False)
    operation = services.vm_create(spec=spec, by=SYSTEM)
    Template.objects.update(closing=True)
    engine.execute(operation.pk)
    operation.refresh_from_db()
    assert "deleted meanwhile" in operation.error["detail"]


def test_overlay_outside_of_our_sight_then_found_by_the_fresh_look(farm, template):
    name = template.versions.all()[0].volumes.all()[0].volume
    farm.world.storage.add_volume("default", "theirs.qcow2", capacity_bytes=GIB, format_="qcow2", backing=name)
    operation = ended(farm, templates.template_delete(template=template, by=SYSTEM))
    assert (operation.state, operation.error["code"]) == ("failed", "in_use")
    template.refresh_from_db()
    assert not template.closing


def test_delete_newer_version_stands_on_the_older_one_then_in_that_order(farm, template):
    vm = VM.objects.get(pk=created(farm).result["vm"])
    ended(farm, templates.template_make(vm=vm.pk, by=SYSTEM, template=template, mode="convert"))
    template = template_get(template.pk, by=SYSTEM)
    assert [one.number for one in template.versions.all()] == [2, 1]
    operation = ended(farm, templates.template_delete(template=template, by=SYSTEM))
    assert operation.state == "succeeded", operation.error
    assert not {name for name in farm.volumes() if name.startswith(("vmm-template-", "new-"))}


# -- refused -------------------------------------------------------------------------------------------------------------
def test_running_then_refused(farm, source):
    farm.world.outside("web-01", "start")
    VM.objects.filter(pk=source.pk).update(state="running")
    with pytest.raises(WrongState, match="shut it down first"):
        make(farm, source)


def test_convert_a_protected_guest_then_refused(farm, source):
    VM.objects.filter(pk=source.pk).update(protected=True)
    with pytest.raises(WrongState, match="protected"):
        make(farm, source, mode="convert")


def test_convert_a_guest_with_snapshots_then_fails_and_it_stays(farm, source):
    farm.world.outside("web-01", "snapshot-create", name="first", description="", memory=False)
    operation = make(farm, source, mode="convert")
    assert "delete them first" in operation.error["detail"]
    assert farm.names() == {"web-01"}
    assert not Template.objects.exists()


@pytest.mark.parametrize("name", ["", " ", "a/b", "a@1", "x" * 101, "a\nb"])
def test_name_that_cannot_be_then_refused(farm, source, name):
    with pytest.raises(BadInput):
        make(farm, source, name=name)


def test_name_is_taken_then_refused_in_any_case(farm, source, template):
    with pytest.raises(AlreadyExists):
        make(farm, source, name="WEB")


def test_two_of_one_name_at_once_then_one_is_made(farm, source):
    farm.world.hang("definition")
    first = templates.template_make(vm=source.pk, by=SYSTEM, name="web")
    second = templates.template_make(vm=source.pk, by=SYSTEM, name="Web")
    farm.world.release("definition")
    assert {ended(farm, one).state for one in (first, second)} == {"succeeded", "failed"}
    assert Template.objects.count() == 1
    assert len([name for name in farm.volumes() if name.startswith("vmm-template-")]) == 2


@pytest.mark.parametrize(
    "values",
    [
        {"name": "Big"},
        {"name": "a", "type": "integer", "default": "2"},
        {"name": "a", "type": "integer", "sets": "network"},
        {"name": "a", "sets": "vcpus"},
        {"name": "a", "required": True, "default": "x"},
        {"name": "a", "choices": ["b"], "default": "c"},
        {"name": "a", "type": "boolean", "choices": ["b"]},
        {"name": "a", "minimum": 1},
        {"name": "a", "type": "integer", "minimum": 3, "maximum": 2},
        {"name": "a", "type": "integer", "default": True},
        {"name": "a", "default": "x\x00"},
        {"name": "a", "shell": "rm"},
    ],
)
def test_parameter_that_cannot_be_then_refused(values):
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's
        Parameter.model_validate(values)


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\necho ${a}",
        "#cloud-config\n- a",
        "#cloud-config\n[",
        "#cloud-config\na: &a [1, 1]\n"
        + "".join(
            f"{k}: &{k} [*{p}, *{p}, *{p}, *{p}, *{p}, *{p}, *{p}]\n" for p, k in zip("abcdef", "bcdefg", strict=True)
        ),
        "#cloud-config\na: !!python/object/apply:os.system [ls]",
        "#cloud-config\n" + "[" * 5000,
    ],
)
def test_document_that_is_no_cloud_config_then_refused(text):
    with pytest.raises(BadInput):
        check_declared([], text)


def test_twice_the_same_parameter_then_refused():
    for pair in ([Parameter(name="a")] * 2, [Parameter(name="a", sets="tags"), Parameter(name="b", sets="tags")]):
        with pytest.raises(BadInput, match="twice"):
            check_declared(pair, "")


def test_value_stays_where_it_is_put():
    hostile = "x\"\n  - rm -rf / # '}"
    text = filled("#cloud-config\nruncmd: ['echo ${a}', '${a}']\n${a}: 1\n", {"a": hostile})
    assert yaml.safe_load(text) == {"runcmd": [f"echo {hostile}", hostile], hostile: 1}


# -- interrupted -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["volume_clone", "definition"])
def test_step_fails_for_good_then_nothing_is_left(farm, source, verb):
    before = farm.volumes()
    farm.world.fail_next(NoSpace("full"), verb=verb)
    assert make(farm, source).state == "failed"
    assert farm.volumes() == before
    assert not Template.objects.exists()


@pytest.mark.parametrize("mode", ["copy", "convert"])
@pytest.mark.parametrize(
    "verb", ["volume_clone", "definition", "undefine", "guest_state", "guest_or_none", "volume_delete"]
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_worker_dies_at_a_step_then_the_next_makes_it_whole(farm, source, monkeypatch, mode, verb, after):
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
    operation = templates.template_make(vm=source.pk, by=SYSTEM, name="web", mode=mode)
    claimed = engine.claim(operation.pk)
    with contextlib.suppress(Killed):
        engine._attempt(claimed)()
    if died:
        Operation.objects.filter(pk=operation.pk).update(worker="dead:7:7")
        reconcile.take_over_from_the_dead(alone=True)
        engine.execute(operation.pk)
    operation.refresh_from_db()
    assert operation.state == "succeeded", (operation.error, lines(operation))
    template = template_get(Template.objects.get().pk, by=SYSTEM)
    assert (template.current, len(template.versions.all()[0].volumes.all())) == (1, 2)
    assert farm.names() == ({"web-01"} if mode == "copy" else set())
    assert (VM.objects.get(pk=source.pk).gone_at is None) is (mode == "copy")


# -- read ------------------------------------------------------------------------------------------------------------------
def test_list_costs_the_same_however_many(farm, source, template, django_assert_num_queries):
    with django_assert_num_queries(4):
        page = template_page(SYSTEM)
        [template_json(one, by=SYSTEM) for one in page.items]
    for number in range(3):
        make(farm, source, name=f"t{number}")
    with django_assert_num_queries(4):
        page = template_page(SYSTEM, filters={"host": str(farm.hypervisor.host_id)})
        assert [template_json(one, by=SYSTEM)["name"] for one in page.items] == ["t0", "t1", "t2", "web"]
