"""One hypervisor frozen, one that lies, one that refuses the password: each says so, and nobody else notices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.conftest import MEASURED, add_host, check_log, measured, wait_host
from tests.chaos.life import Life
from tests.labs import esx, xapi
from tests.server import Clock, Server, p95
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.labs.esx import Simulator
    from tests.labs.hyperv import HyperVHost
    from tests.labs.xapi import StandIn

pytestmark = [pytest.mark.chaos, pytest.mark.real, pytest.mark.alone, pytest.mark.timeout(170)]
NONSENSE = (
    "<?xml version='1.0'?><methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value>"
    "</member><member><name>Value</name><value>yes</value></member></struct></value></param></params></methodResponse>"
)


def add(server: Server, name: str, uri: str, **credentials: Any) -> str:
    answer = server.api("POST", "/hosts", json={"name": name, "uri": uri, "credentials": credentials})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def error_of(server: Server, host: str) -> dict[str, Any]:
    return server.get(f"/hosts/{host}")["hypervisors"][0]["error"]


def test_frozen_lying_and_refusing_then_each_says_so_and_the_others_work_on(
    own_esx_host: Simulator, own_xapi_host: StandIn, hyperv_host: HyperVHost
) -> None:
    own_xapi_host.make("intranet")
    with Server() as server, server.browser() as browser:
        good = add_host(server, "good", "test:///default")["id"]
        frozen = add(server, "frozen", own_esx_host.uri, username=esx.USERNAME, password=esx.PASSWORD, verify=False)
        lying = add(server, "lying", own_xapi_host.uri, username=xapi.USERNAME, password=xapi.PASSWORD, verify=False)
        for host in (frozen, lying):
            wait_host(server, host, "online", 30)
        vm = wait_until(lambda: server.all(f"/vms?host={good}"), 10, "its guest")[0]["id"]
        with Life(server, browser, vm, good) as life:
            wait_until(lambda: life.worked >= 4, 30, "life goes on")
            calm = p95(life.seconds)
            threads = server.threads()
            refusing = add(
                server, "refusing", f"hyperv://127.0.0.1:{hyperv_host.port}",
                username="Administrator", password="wrong", ca_certificate=hyperv_host.certificate,
            )  # fmt: skip
            own_xapi_host.order(lie={"VM.get_all_records": NONSENSE, "event.from": NONSENSE})
            with Clock() as clock:
                own_esx_host.freeze()
                server.api("POST", f"/hosts/{lying}/refresh")
                wait_host(server, frozen, "offline", 60)
            measured("ESXi frozen: until its host shows offline", clock.seconds)
            wait_until(lambda: (error_of(server, lying) or {}).get("code") == "hypervisor_error", 60, "the lie is told")
            wait_until(lambda: (error_of(server, refusing) or {}).get("code") == "auth_failed", 60, "refused is said")
            assert "wrong" not in str(error_of(server, refusing))
            worked = life.worked
            wait_until(lambda: life.worked >= worked + 10, 30, "life goes on beside them")
            more = server.threads() - threads
            own_esx_host.thaw()
            own_xapi_host.order(clear=True)
            for host in (frozen, lying):
                wait_host(server, host, "online", 60)
        assert life.wrong == []
        assert more <= 16
        MEASURED["p95 of 9 pages and calls: in peace, beside a frozen, a lying and a refusing host"] = (
            f"{calm:.2f} s, {p95(life.seconds):.2f} s"
        )
        check_log(server)
