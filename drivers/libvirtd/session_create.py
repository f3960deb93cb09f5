"""The facet of a session that makes guests: what their definition will be, and the making of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt

from drivers import specs
from drivers.errors import NotFound, Unsupported
from drivers.libvirtd.design.common import Host
from drivers.libvirtd.errors import translate
from drivers.libvirtd.facet import Facet
from drivers.libvirtd.xml.capabilities import Capabilities, DomainCapabilities
from drivers.libvirtd.xml.element import laid_out
from drivers.types import Feature

if TYPE_CHECKING:
    from drivers.libvirtd.xml.domain import Domain
    from drivers.types import GuestInfo, GuestSpec


class CreateFacet(Facet):
    """`design` and `create` over the session's connection."""

    def design(self, spec: GuestSpec) -> str:
        """The XML that `create` would define: two to four questions to the host."""
        self._require(Feature.CREATE)
        with translate(guest=spec.name):
            return laid_out(self._designed(spec).node)

    def create(self, spec: GuestSpec) -> GuestInfo:
        """Define the guest. libvirt's own schema looks the definition over once more."""
        self._require(Feature.CREATE)
        specs.check(spec)
        with translate(guest=spec.name):
            home = self._home(spec.uuid)
            domain = there(home, spec.uuid)
            if domain is None:
                domain = home.defineXMLFlags(self._designed(spec).to_xml(), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
            info = self._read(domain)
        if info is None:
            message = "The guest went away as soon as it was made."
            raise NotFound(message, guest=spec.name)
        return info

    def _designed(self, spec: GuestSpec) -> Domain:
        design = self._driver.design
        if design is None:
            raise Unsupported(self._driver.reasons[Feature.CREATE], feature=str(Feature.CREATE))
        capabilities = Capabilities.parse(self._connection.getCapabilities())

        def domains(kind: str, architecture: str, machine: str) -> DomainCapabilities:
            return DomainCapabilities.parse(
                self._connection.getDomainCapabilities(None, architecture or None, machine or None, kind, 0)
            )

        return design(spec, Host(capabilities=capabilities, domains=domains, nests=lambda: self._nested(capabilities)))


def there(home: libvirt.virConnect, uuid: str) -> libvirt.virDomain | None:
    """The guest of this identifier; None where there is none."""
    try:
        return home.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return None
