"""The facet of a session that makes a guest like another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt

from drivers.errors import InvalidDefinition, NotFound
from drivers.libvirtd.errors import translate
from drivers.libvirtd.facet import Facet
from drivers.libvirtd.session_create import there
from drivers.libvirtd.session_definition import INACTIVE, NAME_MAX
from drivers.libvirtd.xml import check
from drivers.libvirtd.xml.clone import make_clone
from drivers.libvirtd.xml.domain import Domain
from drivers.types import Feature

if TYPE_CHECKING:
    from drivers.types import CloneSpec, GuestInfo, GuestRef


class CloneFacet(Facet):
    """`clone` over the session's connection."""

    def clone(self, ref: GuestRef, spec: CloneSpec) -> GuestInfo:
        """Read the inactive definition with its screens' passwords, change what is the source's own, define.

        Without the passwords the clone of a screen that had one would be open to whoever finds its port.
        """
        self._require(Feature.CLONE)
        if (
            not spec.name.strip()
            or not spec.name.isprintable()
            or "/" in spec.name
            or len(spec.name.encode()) > NAME_MAX
        ):
            message = f"A name has 1 to {NAME_MAX} bytes, no slash and nothing that cannot be printed."
            raise InvalidDefinition(message, guest=ref.name or ref.uuid)
        with translate(guest=ref.name or ref.uuid):
            home = self._home(spec.uuid)
            domain = there(home, spec.uuid)
            if domain is None:
                document = Domain.parse(self._domain(ref).XMLDesc(INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
                if any(check.is_raw(node) for node in document.node.iterchildren(tag="{*}*")):
                    raise InvalidDefinition(check.RAW_REFUSED)
                make_clone(document, spec)
                domain = home.defineXMLFlags(document.to_xml(), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
            info = self._read(domain)
        if info is None:
            message = "The guest went away as soon as it was made."
            raise NotFound(message, guest=spec.name)
        return info
