"""The kinds of hypervisor over REST: one source for the page and for every client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drivers import registry
from drivers.types import Feature
from hosts.catalog import DriverOut, UriOut

if TYPE_CHECKING:
    from tests.conftest import Api

pytestmark = pytest.mark.django_db


def test_every_kind_is_listed_with_its_form_its_proof_and_what_it_can_do(api: Api) -> None:
    items = {item["kind"]: item for item in api.get("/drivers").json()["items"]}
    assert set(items) == set(registry.BUILT_IN) - {"fake"}
    for item in items.values():
        DriverOut.model_validate(item)
        assert item["available"] or (item["reason"] and not item["ways"])
        assert not item["available"] or set(item["features"]) == set(Feature)
    assert items["qemu"]["proof"] == "real"
    assert items["qemu"]["virtualization_types"] == ["hybrid", "hosted"]
    ssh = next(way for way in items["qemu"]["ways"] if way["name"] == "ssh")
    assert [field["name"] for field in ssh["fields"]] == ["host", "user", "port", "private_key", "host_key"]
    assert items["lxc"]["features"]["reset"] == {"supported": False, "reason": "A container has no reset button."}


def test_answers_become_the_uri_that_hosts_take(api: Api) -> None:
    answer = api.get("/drivers/qemu/uri?way=ssh&host=HV-01.example&user=virt&port=2222").json()
    UriOut.model_validate(answer)
    assert answer == {"uri": "qemu+ssh://virt@hv-01.example:2222/system", "encrypted": True, "local": False}
    made = api.post("/hosts", {"name": "hv-01", "uri": answer["uri"]})
    assert made.json()["hypervisors"][0]["uri"] == answer["uri"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("way=ssh", "/host"),
        ("way=ssh&host=h%3Fcommand%3Dx", "/host"),
        ("way=ssh&host=-oProxyCommand%3Dx", "/host"),
        ("way=ssh&host=h&port=http", "/port"),
        ("way=unix&socket=/../etc/passwd", "/socket"),
        ("way=teleport", "/way"),
    ],
)
def test_a_bad_answer_is_refused_at_its_field(api: Api, query: str, pointer: str) -> None:
    answer = api.get(f"/drivers/qemu/uri?{query}")
    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]


def test_a_kind_that_nobody_knows_is_missing(api: Api) -> None:
    for kind in ("fake", "nonsense", "%2e%2e"):
        assert api.get(f"/drivers/{kind}/uri?way=ssh&host=h").status_code == 404
