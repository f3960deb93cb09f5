"""The vSphere driver against govmomi's simulator, as an ESXi host and as a vCenter, and against servers that lie."""

from __future__ import annotations

import pytest

from drivers import registry
from drivers.types import Credentials, Endpoint, GuestRef
from tests.drivers.conformance import Conformance, Lab
from tests.labs.esx import PASSWORD, USERNAME

pytestmark = [pytest.mark.lab]


def endpoint_of(simulator, uri: str = "", **changes) -> Endpoint:
    uri = uri or simulator.uri
    fields = {"username": USERNAME, "password": PASSWORD, "verify": simulator.pin} | changes
    return Endpoint(driver=uri.partition(":")[0], uri=uri, credentials=Credentials(**fields))


def lab_on(simulator):
    endpoint = endpoint_of(simulator)
    driver = registry.get(endpoint.driver)
    session = driver.open(endpoint)

    def make() -> GuestRef:
        uuid = simulator.make()
        return session.guest(GuestRef(uuid=uuid)).ref

    yield Lab(driver=driver, endpoint=endpoint, session=session, make=make, make_shell=make, make_screen=make)
    session.close()


class TestEsx(Conformance):
    @pytest.fixture
    def lab(self, esx_host):
        yield from lab_on(esx_host)


class TestVCenter(Conformance):
    @pytest.fixture
    def lab(self, vcenter):
        yield from lab_on(vcenter)
