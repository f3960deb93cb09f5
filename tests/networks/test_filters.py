"""Network filters: seen, made, changed and removed; what uses one keeps it; hostile definitions are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from accounts.actor import SYSTEM
from networks.filter_api import FilterOut, FilterWhole
from networks.inventory import filters_observe
from networks.models import NetworkFilter
from networks.selectors import filter_get
from operations.models import Operation
from tests.factories import HypervisorFactory, NetworkFilterFactory, VMFactory
from vms.models import VMNic

if TYPE_CHECKING:
    from collections.abc import Callable

    from accounts.models import User
    from tests.networks.conftest import Place
    from tests.web.conftest import Api

XML = "<filter name='no-mail' chain='root'><rule action='drop' direction='out' priority='500'/></filter>"
HOSTILE = "\"><script>alert(1)</script>{{ 7 }}'&"


def last() -> tuple[str, str]:
    operation = Operation.objects.latest("created_at")
    return operation.state, (operation.error or {}).get("code", "")


@pytest.mark.django_db(transaction=True)
def test_a_filter_is_made_changed_and_removed(api: Api, place: Place, workers: Callable[[], None]) -> None:
    assert api.post("/network-filters", {"host": place.hypervisor.host.name, "xml": XML}).status_code == 202
    workers()
    assert last() == ("succeeded", "")
    path = f"/network-filters/{Operation.objects.get().result['network_filter']}"
    assert Operation.objects.get().target == f"network-filter/{path.rpartition('/')[2]}"
    assert api.put(path, {"xml": XML.replace("500", "400")}).status_code == 202
    workers()
    body = api.get(path).json()
    assert set(body) == set(FilterWhole.model_fields)
    assert (body["name"], body["rule_count"], "400" in body["xml"], body["used_by_count"]) == ("no-mail", 1, True, 0)
    assert "400" in place.world.networks.filters()[0].xml
    assert api.delete(path).status_code == 202
    workers()
    assert (last(), place.world.networks.filters()) == (("succeeded", ""), [])
    assert api.get(path).status_code == 404
    assert api.get("/network-filters").json()["total"] == 0


@pytest.mark.django_db(transaction=True)
def test_one_that_somebody_else_made_meanwhile_is_not_touched(
    api: Api, place: Place, workers: Callable[[], None]
) -> None:
    place.world.networks.add_filter("no-mail")
    api.post("/network-filters", {"host": place.hypervisor.host.name, "xml": XML})
    workers()
    assert (last(), place.world.calls["filter_define"]) == (("failed", "already_exists"), 0)
    filters_observe(place.hypervisor, place.world.networks.filters(), complete=True)
    assert api.post("/network-filters", {"host": place.hypervisor.host.name, "xml": XML}).status_code == 409


@pytest.mark.django_db
@pytest.mark.parametrize(
    "xml",
    [
        "no XML",
        "<domain/>",
        "<filter/>",
        "<filter name='../x'/>",
        "<filter name='a'><filterref filter='nothing'/></filter>",
        "<filter name='a'><filterref filter='a'/></filter>",
        "<!DOCTYPE filter [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><filter name='a'>&x;</filter>",
        "<!DOCTYPE l [<!ENTITY a 'a'><!ENTITY b '&a;&a;'>]><filter name='a'>&b;</filter>",
        "<?xml version='1.0' encoding='utf-16'?><filter name='a'/>",
        "<filter name='a'>" + "<rule/>" * 20_000 + "</filter>",
        "<filter name='a'>\0</filter>",
    ],
)
def test_a_hostile_definition_is_refused_at_the_door(api: Api, xml: str) -> None:
    row = NetworkFilterFactory(name="a")
    for answer in (
        api.post("/network-filters", {"host": str(HypervisorFactory().host_id), "xml": xml}),
        api.put(f"/network-filters/{row.pk}", {"xml": xml}),
    ):
        assert answer.status_code == 422, answer.json()
        assert answer.json()["errors"][0]["pointer"] == "/xml"
    assert not Operation.objects.exists()


@pytest.mark.django_db
def test_what_is_used_stays_and_says_by_whom(api: Api) -> None:
    row = NetworkFilterFactory(name="clean")
    NetworkFilterFactory(name="outer", uses=["clean"], hypervisor=row.hypervisor)
    NetworkFilterFactory(name="elsewhere", uses=["clean"])
    vm = VMFactory(hypervisor=row.hypervisor, name="web")
    for number in range(2):
        VMNic.objects.create(vm=vm, mac=f"52:54:00:00:00:0{number}", filter="clean")
    VMNic.objects.create(vm=VMFactory(), mac="52:54:00:00:00:09", filter="clean")
    body = api.get(f"/network-filters/{row.pk}").json()
    assert (body["used_by_count"], body["filters"]) == (2, ["outer"])
    assert body["guests"] == [{"id": str(vm.pk), "name": "web"}]
    answer = api.delete(f"/network-filters/{row.pk}")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert "clean is used by web, the filter outer." in answer.json()["detail"]
    assert body["actions"]["delete"]["code"] == "in_use"
    assert api.put(f"/network-filters/{row.pk}", {"xml": "<filter name='new'/>"}).status_code == 422
    circle = "<filter name='clean'><filterref filter='outer'/></filter>"
    assert "circle" in api.put(f"/network-filters/{row.pk}", {"xml": circle}).json()["detail"]


@pytest.mark.django_db
def test_a_list_costs_the_same_whatever_stands_on_it(api: Api, django_assert_num_queries: Callable[..., Any]) -> None:
    for count in (1, 20):
        for number in range(count):
            row = NetworkFilterFactory(uses=["clean"])
            VMNic.objects.create(
                vm=VMFactory(hypervisor=row.hypervisor), mac=f"52:54:00:00:01:{number:02x}", filter=row.name
            )
        api.get("/network-filters")
        with django_assert_num_queries(6):
            found = api.get("/network-filters").json()
    assert (found["total"], set(found["items"][0])) == (21, set(FilterOut.model_fields))
    assert api.get(f"/network-filters?q=name:{row.name}").json()["total"] == 1


@pytest.mark.django_db
def test_only_administrators_change_filters(api: Api, operator: User, client_for: Callable[..., Any]) -> None:
    row = NetworkFilterFactory(xml=f"<filter name='x'>{HOSTILE}</filter>", name=HOSTILE)
    mine = api.of(operator)
    for answer in (
        mine.post("/network-filters", {"host": row.host.name, "xml": XML}),
        mine.put(f"/network-filters/{row.pk}", {"xml": XML}),
        mine.delete(f"/network-filters/{row.pk}"),
    ):
        assert answer.status_code == 403
    client = client_for(operator)
    for path in ("/networks/filters", f"/networks/filters/{row.pk}", f"/networks/filters?q={HOSTILE}"):
        page = client.get(path).content.decode()
        assert "<script>alert" not in page, path
        assert "data-filter" not in page, path
    assert client.get("/networks/filters/new").status_code == 403
    assert client.post(f"/networks/filters/{row.pk}/remove").status_code == 403


@pytest.mark.django_db
def test_the_pages_of_filters(admin: User, client_for: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.doorbell.ring", lambda *_a, **_k: None)
    client = client_for(admin)
    assert "No network filters" in client.get("/networks/filters").content.decode()
    assert "No host has network filters" in client.get("/networks/filters/new").content.decode()
    row = NetworkFilterFactory(name="clean", xml=XML)
    assert 'data-filter="PUT"' in client.get(f"/networks/filters/{row.pk}").content.decode()
    assert 'data-filter="POST"' in client.get("/networks/filters/new").content.decode()
    assert "clean" in client.get("/networks/filters/table?q=clean").content.decode()
    assert client.get("/networks/filters?cursor=x").status_code == 422
    url = f"/networks/filters/{row.pk}/remove"
    assert "Nothing was removed" in client.post(url, {"typed": "CLEAN"}, follow=True).content.decode()
    assert client.post(url, {"typed": "clean"})["Location"].startswith("/operations/")
    assert Operation.objects.get().kind == "network-filter.delete"


@pytest.mark.django_db
def test_what_went_is_a_tombstone_and_comes_back_as_the_same_row() -> None:
    row = NetworkFilterFactory(name="clean")
    filters_observe(row.hypervisor, [], complete=True)
    assert NetworkFilter.objects.get().gone_at is not None
    NetworkFilter.objects.update(gone_at=None)
    assert filter_get(row.pk, by=SYSTEM).users == []
