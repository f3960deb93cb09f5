"""Pages of templates: what they say, what they offer to whom, and that they cost the same whatever there is."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from storage.models import StoragePool, Volume
from tests.factories import HypervisorFactory, VMFactory
from vms.models import Template, TemplateGuest, TemplateVersion, TemplateVolume

if TYPE_CHECKING:
    from django.test import Client

pytestmark = pytest.mark.django_db
HOSTILE = "\"><script>alert(1)</script>{{ 7 }}'&"


def template(name: str = "web", **values: Any) -> Template:
    """With one version of one disk, which is there."""
    hypervisor = HypervisorFactory()
    pool = StoragePool.objects.create(
        host=hypervisor.host, hypervisor=hypervisor, uuid=name, name="default", type="dir", state="running",
        formats=["qcow2"], observed_at=hypervisor.created_at,
    )  # fmt: skip
    row = Template.objects.create(name=name, current=1, description=values.pop("description", ""))
    version = TemplateVersion.objects.create(
        template=row, number=1, ready=True, host=hypervisor.host, host_name="h", driver="qemu", mode="copy", source=row.pk,
        source_name="web-01", facts={"vcpus": 3, "memory_bytes": 2**30, "os": "", "firmware": "uefi", "interfaces": []}, **values,
    )  # fmt: skip
    TemplateVolume.objects.create(
        version=version, position=0, target="vda", pool=pool, pool_name="default", volume=f"{name}.qcow2", format="qcow2",
        size_bytes=10 * 2**30,
    )  # fmt: skip
    Volume.objects.create(
        pool=pool, name=f"{name}.qcow2", path=f"/p/{name}.qcow2", format="qcow2", observed_at=row.created_at
    )
    return row


def page(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.content
    return " ".join(html.unescape(answer.content.decode()).split())


def test_list_and_one_say_what_a_guest_of_it_gets(admin, client_for):
    row = template(
        parameters=[{"name": "domain", "type": "string", "required": True, "help": "Of the site"}],
        user_data="#cloud-config\n",
    )
    client = client_for(admin)
    listed = page(client, "/templates")
    assert f'href="/templates/{row.pk}">web</a>' in listed
    shown = page(client, f"/templates/{row.pk}")
    for words in ("3 vCPU, 1 GiB", "UEFI", "domain", "must be given", "Of the site", "Nothing: it can be deleted."):
        assert words in shown
    assert 'href="/templates"' in page(client, "/")


def test_what_stands_on_it_is_named_and_the_button_says_why(admin, client_for):
    row = template()
    pool = StoragePool.objects.get()
    Volume.objects.create(
        pool=pool,
        name="db.qcow2",
        path="/p/db.qcow2",
        backing="/p/web.qcow2",
        format="qcow2",
        observed_at=row.created_at,
    )
    made = VMFactory(name="full-copy")
    TemplateGuest.objects.create(version=row.versions.get(), vm=made, linked=False)
    shown = page(client_for(admin), f"/templates/{row.pk}")
    assert "db.qcow2" in shown
    assert "full-copy" in shown
    button = re.search(r"<button[^>]*data-delete-template[^>]*>", shown)[0]
    assert "web is used by db.qcow2" in button


def test_nothing_hostile_is_run(admin, client_for):
    row = template(
        name=HOSTILE[:90].replace("/", ""),
        description=HOSTILE,
        notes=HOSTILE,
        user_data=f"#cloud-config\na: {HOSTILE!r}",
    )
    for path in ("/templates", f"/templates/{row.pk}", "/vms/new"):
        raw = client_for(admin).get(path).content.decode()
        assert "<script>alert(1)" not in raw


def test_viewer_is_offered_nothing_and_sees_no_document(viewer, client_for):
    row = template(user_data="#cloud-config\npassword: x")
    shown = page(client_for(viewer), f"/templates/{row.pk}")
    assert "data-delete-template" not in shown
    assert "password: x" not in shown
    answer = client_for(viewer).get(f"/api/v1/templates/{row.pk}").json()
    assert answer["versions"][0]["user_data"] is None


def test_guest_menu_offers_it_while_the_guest_is_off(admin, viewer, client_for):
    off, on = VMFactory(), VMFactory(state="running")
    offered = re.compile(r"<button[^>]*data-make-template[^>]*>")
    assert "aria-disabled" not in offered.search(client_for(admin).get(f"/vms/{off.pk}").content.decode())[0]
    assert "shut it down first" in offered.search(client_for(admin).get(f"/vms/{on.pk}").content.decode())[0]
    assert offered.search(client_for(viewer).get(f"/vms/{off.pk}").content.decode()) is None


def test_new_guest_page_knows_its_parameters(admin, client_for):
    row = template(parameters=[{"name": "cpus", "type": "integer", "sets": "vcpus", "default": 2}])
    raw = client_for(admin).get(f"/vms/new?template={row.pk}").content.decode()
    known = json.loads(re.search(r'<script id="known" type="application/json">(.*?)</script>', raw)[1])
    assert known["templates"][str(row.pk)]["parameters"][0]["sets"] == "vcpus"
    assert re.search(rf'value="template:{row.pk}"\s+checked', raw)


def test_list_costs_the_same_whatever_there_is(admin, client_for, django_assert_max_num_queries):
    template()
    client = client_for(admin)
    client.get("/templates")
    for number in range(5):
        template(name=f"t{number}")
    with django_assert_max_num_queries(14):
        page(client, "/templates")


def test_change_by_rest_is_versioned_and_told(admin, client_for):
    row = template()
    client = client_for(admin)
    path = f"/api/v1/templates/{row.pk}"
    etag = client.get(path)["ETag"]
    change = {"name": "web2", "description": "Now"}
    answer = client.patch(path, change, content_type="application/json", headers={"If-Match": etag})
    assert (answer.status_code, answer.json()["name"]) == (200, "web2"), answer.content
    stale = client.patch(path, change, content_type="application/json", headers={"If-Match": etag})
    assert stale.status_code == 412
    for wrong in ({"current": 9}, {"name": "a/b"}, {"nothing": 1}):
        assert client.patch(path, wrong, content_type="application/json").status_code == 422


def test_uses_and_versions_page_by_page(admin, client_for):
    row = template()
    pool = StoragePool.objects.get()
    for number in range(5):
        Volume.objects.create(
            pool=pool,
            name=f"v{number}",
            path=f"/p/v{number}",
            backing="/p/web.qcow2",
            format="qcow2",
            observed_at=row.created_at,
        )
    client = client_for(admin)
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        answer = client.get(
            f"/api/v1/templates/{row.pk}/uses", {"limit": 2, **({"cursor": cursor} if cursor else {})}
        ).json()
        assert answer["total"] == 5
        seen += [one["name"] for one in answer["items"]]
        cursor = answer["next"]
    assert seen == [f"v{number}" for number in range(5)]
    assert client.get(f"/api/v1/templates/{row.pk}/uses?cursor=x").status_code == 422
    assert [one["number"] for one in client.get(f"/api/v1/templates/{row.pk}/versions").json()["items"]] == [1]
