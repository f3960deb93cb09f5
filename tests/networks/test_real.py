"""A virtual network on this machine's libvirtd: what the driver makes is what others see there."""

from __future__ import annotations

import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from drivers import registry
from drivers.errors import AlreadyExists
from drivers.types import Endpoint, NetworkSpec, PortGroup
from tests.labs.fixtures import require_libvirtd
from tests.labs.local import PREFIX, QEMU_URI, virsh

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]


def test_an_isolated_network_is_made_and_seen_by_others() -> None:
    require_libvirtd(QEMU_URI)
    name = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    session = registry.get("qemu").open(Endpoint(driver="qemu", uri=QEMU_URI))
    spec = NetworkSpec(
        name=name, mode="isolated", address="198.18.201.1/26", dhcp_start="198.18.201.5", dhcp_end="198.18.201.9"
    )
    made = session.network_create(spec)
    try:
        assert name in virsh(QEMU_URI, "net-list", "--name")
        assert name in virsh(QEMU_URI, "net-list", "--autostart", "--name")
        written = virsh(QEMU_URI, "net-dumpxml", name)
        assert "start='198.18.201.5' end='198.18.201.9'" in written
        assert "<forward" not in written
        twin = NetworkSpec(name=f"{name}-b", mode="isolated", bridge=made.bridge, address="198.18.202.1/26")
        with pytest.raises(AlreadyExists, match="Another network has this bridge"):
            session.network_create(twin)
        same = NetworkSpec(name=f"{name}-b", mode="isolated", address="198.18.201.2/26")
        with pytest.raises(AlreadyExists, match="in this network's subnet already"):
            session.network_create(same)
        session.network_stop(name)
        assert name not in virsh(QEMU_URI, "net-list", "--name")
        session.network_start(name)
        assert name in virsh(QEMU_URI, "net-list", "--name")
    finally:
        session.network_delete(name)
        session.close()
    assert name not in virsh(QEMU_URI, "net-list", "--all", "--name")


@pytest.fixture
def bridge() -> Iterator[tuple[str, str, str]]:
    """A bridge of the host with one port, and the port's other end."""
    name = f"vmmt{uuid.uuid4().hex[:6]}"
    parts = f"{name}b", f"{name}p", f"{name}e"
    run("ip", "link", "add", parts[0], "type", "bridge")
    try:
        run("ip", "link", "add", parts[1], "type", "veth", "peer", "name", parts[2])
        run("ip", "link", "set", parts[1], "master", parts[0])
        yield parts
    finally:
        for one in parts[:2]:
            subprocess.run(["ip", "link", "del", one], check=False, capture_output=True)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def test_networks_are_made_of_what_the_host_has(bridge: tuple[str, str, str]) -> None:
    """Open vSwitch is not there: libvirt takes the definition, and finds out with the first guest."""
    require_libvirtd(QEMU_URI)
    name = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    session = registry.get("qemu").open(Endpoint(driver="qemu", uri=QEMU_URI))
    there = {one.name: one for one in session.host_interfaces()}
    assert (there[bridge[0]].kind, there[bridge[1]].master, there[bridge[2]].kind) == ("bridge", bridge[0], "virtual")
    red = PortGroup(name="red", vlans=(7,), default=True)
    trunk = PortGroup(name="trunk", vlans=(7, 8))
    for spec in (
        NetworkSpec(name=name, mode="bridge", bridge=bridge[0], autostart=False),
        NetworkSpec(name=name, mode="macvtap", device=bridge[2], macvtap="private", autostart=False),
        NetworkSpec(
            name=name, mode="openvswitch", bridge=bridge[0], vlans=(42,), port_groups=(red, trunk), autostart=False
        ),
    ):
        made = session.network_create(spec)
        try:
            assert made in list(session.networks())
            assert (made.mode, made.bridge, made.vlans) == (spec.mode, spec.bridge, spec.vlans)
            assert (made.devices, made.port_groups) == (((spec.device,) if spec.device else ()), spec.port_groups)
        finally:
            session.network_delete(name)
    session.close()
