"""A virtual network on this machine's libvirtd: what the driver makes is what others see there."""

from __future__ import annotations

import uuid

import pytest

from drivers import registry
from drivers.errors import AlreadyExists
from drivers.types import Endpoint, NetworkSpec
from tests.labs.fixtures import require_libvirtd
from tests.labs.local import PREFIX, QEMU_URI, virsh

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
