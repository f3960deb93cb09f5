"""PCI Express: a device that is plugged in takes a port of its own, and no port can be added while the guest runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drivers.libvirtd.xml.domain import Domain

_PORTS: Final = frozenset({"pcie-root-port", "pcie-switch-downstream-port"})
_ROOT: Final = "pcie-root"


def free(domain: Domain) -> int | None:
    """Ports of a running guest that nothing is in; None where its bus is another one."""
    buses = [one for one in domain.controllers if one.type == "pci"]
    if not any(one.model == _ROOT for one in buses):
        return None
    ports = {one.index for one in buses if one.model in _PORTS}
    taken: set[int] = set()
    for address in domain.node.iterfind("devices/*/address[@type='pci']"):
        try:
            taken.add(int(address.get("bus", ""), 0))
        except ValueError:
            continue
    return len(ports - taken)


NO_PORT: Final = (
    "The guest has no free PCIe port, and none can be added while it runs: give it the device for its next start (a port is added "
    "with it){instead}."
)
