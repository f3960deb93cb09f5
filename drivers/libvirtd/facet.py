"""What the facets of a session ask of the session as a whole.

Every facet derives from this, so whoever has the real thing, the session or another facet, comes before it whatever order they stand in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import libvirt

    from drivers.libvirtd.kinds import LibvirtDriver
    from drivers.libvirtd.xml.capabilities import Capabilities
    from drivers.types import Endpoint, Feature, GuestInfo, GuestRef


class Facet(ABC):
    """One side of a session, over its connection."""

    endpoint: Endpoint
    _driver: LibvirtDriver

    @property
    @abstractmethod
    def _connection(self) -> libvirt.virConnect:
        """The session's connection. Raises Unreachable once it is lost or closed."""

    @abstractmethod
    def _home(self, uuid: str) -> libvirt.virConnect:
        """The connection that knows a guest; for hypervisors whose connections do not all know the same."""

    @abstractmethod
    def _domain(self, ref: GuestRef) -> libvirt.virDomain:
        """A guest as libvirt has it. Raises NotFound."""

    @abstractmethod
    def _read(self, domain: libvirt.virDomain) -> GuestInfo | None:
        """All that is kept of a guest, read now; None when it went away meanwhile."""

    @abstractmethod
    def _require(self, feature: Feature) -> None:
        """Raises Unsupported with the reason, without a round trip, for what this hypervisor cannot do."""

    @abstractmethod
    def _nested(self, capabilities: Capabilities) -> bool | None:
        """Whether guests can be hypervisors themselves; None where that is not known."""

    @abstractmethod
    def alive(self) -> bool:
        """Whether the connection still stands, without a round trip."""
