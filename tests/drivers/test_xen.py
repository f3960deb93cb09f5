"""Real Xen in an emulated machine: the conformance suite on PV guests, and what only Xen has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drivers import registry
from drivers.types import Endpoint, GuestRef
from tests.drivers.conformance import Conformance, Lab, ask

if TYPE_CHECKING:
    from drivers.base import Session

pytestmark = [pytest.mark.lab]


@pytest.fixture(scope="module")
def session(xen_host):
    session = registry.get("xen").open(Endpoint(driver="xen", uri=xen_host.uri()))
    yield session
    session.close()


@pytest.fixture
def make(xen_host, xen_guests, session):
    """Defines a guest: `make("pvh", "--vnc", "5901")`."""

    def make(kind: str = "pv", *options: str) -> GuestRef:
        info = session.define(xen_host.xml(kind, *options))
        xen_guests.append(info.uuid)
        return info.ref

    return make


@pytest.fixture
def xen(xen_host, session, make) -> Lab:
    return Lab(
        driver=registry.get("xen"),
        endpoint=session.endpoint,
        session=session,
        make=make,
        make_shell=make,
        make_screen=lambda: make("pv", "--vnc", str(xen_host.vnc_port)),
    )


def booted(session: Session, ref: GuestRef) -> GuestRef:
    """The same guest, with its kernel up."""
    console = session.open_console(ref, "serial")
    try:
        ask(console, b"echo ready-$((6*7))", b"ready-42")
    finally:
        console.close()
    return ref


class BootedLab(Lab):
    """A paravirtualized guest takes part in its own saving: its kernel must be up."""

    def started(self) -> GuestRef:
        return booted(self.session, super().started())


class TestXen(Conformance):
    @pytest.fixture
    def lab(self, request: pytest.FixtureRequest, xen: Lab) -> Lab:
        return BootedLab(**vars(xen)) if "managed_save" in request.node.name else xen
