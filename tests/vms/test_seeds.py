"""The seed of a guest: what stands in it, and another in its place, by REST and on its page."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import pytest

import cloudinit
from core.units import MIB
from vms.models import VM

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from accounts.models import User
    from tests.conftest import Api
    from tests.vms.conftest import Farm

pytestmark = pytest.mark.django_db(transaction=True)
SPEC = {"name": "web-01", "disks": [{"image": "debian.qcow2"}]}


def off(api: Api, **asked: Any) -> str:
    """The id of a guest that is off, with a seed of what is asked for."""
    made = api.post("/vms", {**SPEC, "start": False, "cloud_init": asked}, Prefer="wait=20").json()
    return str(made["result"]["vm"])


def seed(farm: Farm) -> dict[str, str]:
    """What lies in the guest's seed now."""
    name = next(name for name in farm.volumes() if name.endswith("-seed.iso"))
    return cloudinit.contents(bytes(farm.world.storage.content("default", name)))


def test_what_stands_in_it_then_as_it_was_asked_for(farm: Farm, api: Api) -> None:
    vm = off(api, user_data="#cloud-config\npackages: [git]  # for later\n", hostname="here")
    answer = api.get(f"/vms/{vm}/cloud-init")
    found = answer.json()
    assert found["user_data"] == "#cloud-config\npackages: [git]  # for later\n"
    assert (found["hostname"], found["instance_id"], found["network_config"]) == ("here", f"i-{vm}", "")
    assert found["volume"] in farm.volumes()
    assert answer["Cache-Control"] == "no-store"


def test_another_seed_for_a_guest_that_is_off_then_a_new_instance_at_its_next_boot(farm: Farm, api: Api) -> None:
    vm = off(api, packages=["git"])
    before = seed(farm)
    larger = "#cloud-config\n# " + "x" * 100_000 + "\nhostname: again\n"
    answer = api.post(f"/vms/{vm}/cloud-init", {"user_data": larger}, Prefer="wait=20").json()
    assert answer["state"] == "succeeded", answer["error"]
    after = seed(farm)
    assert "hostname: again" in after["user-data"]
    assert "git" not in after["user-data"]
    assert before["meta-data"] != after["meta-data"]
    assert answer["result"]["instance_id"] in after["meta-data"]
    assert answer["params"]["cloud_init"] == "<hidden>"


def test_another_seed_for_the_same_instance_then_it_keeps_its_name(farm: Farm, api: Api) -> None:
    vm = off(api, packages=["git"])
    wanted = {"user_data": "#cloud-config\nhostname: b\n", "rerun": False}
    answer = api.post(f"/vms/{vm}/cloud-init", wanted, Prefer="wait=20").json()
    assert answer["result"] == {"instance_id": f"i-{vm}"}
    assert api.get(f"/vms/{vm}/cloud-init").json()["instance_id"] == f"i-{vm}"


def test_two_who_change_it_at_once_then_the_second_is_told(farm: Farm, api: Api) -> None:
    vm = off(api)
    tag = api.get(f"/vms/{vm}/cloud-init")["ETag"]
    ends = [
        api.post(f"/vms/{vm}/cloud-init", {"hostname": name}, If_Match=tag, Prefer="wait=20").json()
        for name in ("first", "second")
    ]
    assert [end["state"] for end in ends] == ["succeeded", "failed"]
    assert ends[1]["error"]["code"] == "stale"
    assert "first" in seed(farm)["meta-data"]


def test_another_seed_where_that_cannot_be_then_why(farm: Farm, api: Api, viewer: User) -> None:
    without = api.post("/vms", {**SPEC, "start": False}, Prefer="wait=20").json()["result"]["vm"]
    assert api.post(f"/vms/{without}/cloud-init", {}).json()["code"] == "no_seed"
    assert api.get(f"/vms/{without}/cloud-init").json()["code"] == "no_seed"
    runs = api.post("/vms", {**SPEC, "name": "b", "cloud_init": {}}, Prefer="wait=20").json()["result"]["vm"]
    assert api.post(f"/vms/{runs}/cloud-init", {}).json()["code"] == "wrong_state"
    wrong = api.post(f"/vms/{runs}/cloud-init", {"user_data": "packages: []"}).json()
    assert wrong["errors"][0]["pointer"] == "/user_data"
    for method in ("get", "post"):
        body = ({},) if method == "post" else ()
        assert getattr(api.of(viewer), method)(f"/vms/{runs}/cloud-init", *body).status_code == 403


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 40_000, b"CD001" * 8000, b"\xff" * 50_000], ids=["empty", "zeros", "words", "ones"]
)
def test_what_is_no_seed_any_more_then_said_and_written_over(farm: Farm, api: Api, content: bytes) -> None:
    vm = off(api)
    name = next(name for name in farm.volumes() if name.endswith("-seed.iso"))
    farm.world.storage.remove_volume("default", name)
    farm.world.storage.add_volume("default", name, content=content, capacity_bytes=len(content) or MIB)
    read = api.get(f"/vms/{vm}/cloud-init")
    assert (read.status_code, read.json()["code"]) == (422, "invalid_input")
    done = api.post(f"/vms/{vm}/cloud-init", {"hostname": "again"}, Prefer="wait=20").json()
    assert done["state"] == "succeeded", done["error"]
    assert api.get(f"/vms/{vm}/cloud-init").json()["hostname"] == "again"


def test_its_page_says_what_can_be_done_with_it_now(
    farm: Farm, api: Api, admin: User, viewer: User, client_for: Callable[..., Client]
) -> None:
    vm = off(api)
    without = api.post("/vms", {**SPEC, "name": "b", "start": False}, Prefer="wait=20").json()["result"]["vm"]
    page = text_of(client_for(admin), vm)
    assert 'data-seed="/vms/' in page
    assert "data-why" not in page.partition("Write the seed")[0].rpartition('type="submit"')[2]
    VM.objects.filter(pk=vm).update(state="running")
    assert "shut it down, change it, start it" in text_of(client_for(admin), vm)
    assert "has no seed that was made here" in text_of(client_for(admin), without)
    assert "Only who may change this guest reads its seed" in text_of(client_for(viewer), vm)
    assert "data-seed=" not in text_of(client_for(viewer), vm)


def text_of(client: Client, vm: str) -> str:
    answer = client.get(f"/vms/{vm}/cloud-init")
    assert answer.status_code == 200
    return " ".join(html.unescape(answer.content.decode()).split())
