"""The XenServer driver against the stand-in of ours (`tests/labs/xapi-sim`): no real XenServer was ever asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drivers import registry
from drivers.types import Credentials, Endpoint, GuestRef
from tests.drivers.conformance import Conformance, Lab
from tests.labs.xapi import PASSWORD, USERNAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.xapi.session import XapiSession
    from tests.labs.xapi import StandIn

pytestmark = [pytest.mark.lab]


def endpoint(host: StandIn, **credentials) -> Endpoint:
    given = {"username": USERNAME, "password": PASSWORD, "ca_certificate": host.ca} | credentials
    return Endpoint(driver="xapi", uri=host.uri, credentials=Credentials(**given))


@pytest.fixture
def session(xapi_host: StandIn) -> Iterator[XapiSession]:
    opened = registry.get("xapi").open(endpoint(xapi_host))
    yield opened
    opened.close()


class TestConformance(Conformance):
    @pytest.fixture
    def lab(self, xapi_host: StandIn, session: XapiSession) -> Lab:
        def make() -> GuestRef:
            uuid = xapi_host.make()
            return GuestRef(uuid=uuid, name=xapi_host.api.VM.get_name_label(xapi_host.ref(uuid)))

        return Lab(
            driver=registry.get("xapi"), endpoint=endpoint(xapi_host), session=session,
            make=make, make_shell=make, make_screen=make, killed="",
        )  # fmt: skip
