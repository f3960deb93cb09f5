"""Every kind of hypervisor there is, for people who choose one: what it is, whether it can be used here, how to get there.

One source for the host dialog, the API and whoever writes a client. Blocks for as long as the drivers' modules take to load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import BadInput
from drivers import registry
from drivers.forms import compose
from drivers.types import Feature, Proof, Support, VirtualizationType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.base import Driver
    from drivers.forms import Way

_BARE, _HOSTED = VirtualizationType.BARE_METAL, VirtualizationType.HOSTED
_HYBRID, _OS = VirtualizationType.HYBRID, VirtualizationType.OS_LEVEL

_KNOWN: dict[str, tuple[str, tuple[VirtualizationType, ...]]] = {
    "qemu": ("QEMU/KVM", (_HYBRID, _HOSTED)),
    "xen": ("Xen", (_BARE,)),
    "lxc": ("LXC", (_OS,)),
    "docker": ("Docker", (_OS,)),
    "podman": ("Podman", (_OS,)),
    "esx": ("VMware ESXi", (_BARE,)),
    "vpx": ("VMware vCenter", (_BARE,)),
    "hyperv": ("Microsoft Hyper-V", (_BARE,)),
    "xapi": ("XenServer, XCP-ng", (_BARE,)),
    "openvz": ("OpenVZ", (_OS,)),
    "vz": ("Virtuozzo", (_OS, _HYBRID)),
    "vmware": ("VMware Workstation, Player", (_HOSTED,)),
    "vbox": ("VirtualBox", (_HOSTED,)),
    "bhyve": ("bhyve", (_HYBRID,)),
    "ch": ("Cloud Hypervisor", (_HYBRID,)),
    "test": ("Test driver (simulated)", (_HOSTED,)),
}
"""Kind -> name for people, and who owns the hardware (the first is the usual case): also where the driver cannot be loaded."""

_NOT_OFFERED = "It has no form: it is added by its URI."


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of hypervisor.

    Attributes:
        types: Who owns the hardware, the usual case first; empty where a driver of others does not say.
        available: Whether it can be used in this installation, and if not, why.
        features: What it can do at best, each no with its reason; empty where it is not available.
    """

    kind: str
    label: str
    types: tuple[VirtualizationType, ...]
    available: Support
    proof: Proof = Proof.NONE
    ways: tuple[Way, ...] = ()
    features: Mapping[Feature, Support]

    def way(self, name: str) -> Way:
        """The way of this name. Raises BadInput."""
        found = next((way for way in self.ways if way.name == name), None)
        if found is None:
            known = ", ".join(way.name for way in self.ways) or "none"
            message = f"{self.label} has no way {name!r}. There is: {known}."
            raise BadInput(message, errors=[{"pointer": "/way", "detail": message}])
        return found

    def uri(self, way: str, values: Mapping[str, str]) -> str:
        """The URI that the answers make (`drivers.forms.compose`). Raises BadInput."""
        return compose(self.way(way), values)


def kinds() -> tuple[Kind, ...]:
    """All that can be offered, in the registry's order: ours, then others'."""
    return tuple(one for kind in registry.kinds() if (one := find(kind)) is not None)


def find(kind: str) -> Kind | None:
    """One kind; None where nobody knows it, or where it is never offered (the one that tests use)."""
    label, types = _KNOWN.get(kind, (kind, ()))
    available = registry.availability(kind)
    if not available.supported:
        known = kind in registry.kinds() and (kind in _KNOWN or kind not in registry.BUILT_IN)
        return Kind(kind=kind, label=label, types=types, available=available, features={}) if known else None
    driver = registry.get(kind)
    if not driver.ways and kind not in _KNOWN and kind in registry.BUILT_IN:
        return None
    return Kind(
        kind=kind,
        label=driver.label,
        types=driver.virtualization_types or types,
        available=available if driver.ways else Support(supported=False, reason=_NOT_OFFERED),
        proof=driver.proof,
        ways=driver.ways,
        features=_features(driver),
    )


def _features(driver: Driver) -> dict[Feature, Support]:
    return {
        feature: Support(supported=feature in driver.features, reason=driver.reasons.get(feature, ""))
        for feature in Feature
    }
