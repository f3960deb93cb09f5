"""The facet of a session that speaks of definitions: reading, checking, changing them, and a guest's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt

from drivers.errors import InvalidDefinition, NotFound
from drivers.libvirtd.errors import translate
from drivers.libvirtd.facet import Facet
from drivers.libvirtd.xml import check
from drivers.libvirtd.xml.domain import Domain
from drivers.types import Feature, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.types import GuestInfo, GuestRef

INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE
NAME_MAX = 255


class DefinitionFacet(Facet):
    """Definitions over the session's connection."""

    def _home(self, uuid: str) -> libvirt.virConnect:
        """The connection that knows a guest; for hypervisors whose connections do not all know the same."""
        del uuid
        return self._connection

    def definition(self, ref: GuestRef) -> str:
        """The inactive XML. Without the SECURE flag libvirt leaves every password out."""
        self._require(Feature.XML)
        with translate(guest=ref.name or ref.uuid):
            return self._domain(ref).XMLDesc(INACTIVE)

    def define(self, xml: str) -> GuestInfo:
        """Make or change a persistent guest. Validated twice: by our hardened parser, and by libvirt's own schema."""
        self._require(Feature.DEFINE)
        document = Domain.parse(xml)
        if any(check.is_raw(node) for node in document.node.iterchildren(tag="{*}*")):
            raise InvalidDefinition(check.RAW_REFUSED)
        with translate(guest=document.name or ""):
            home = self._home(document.uuid or "")
            _keep_passwords(home, document)
            domain = home.defineXMLFlags(document.to_xml(), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
            info = self._read(domain)
        if info is None:
            message = "The guest went away as soon as it was defined."
            raise NotFound(message, guest=document.name or "")
        return info

    def check_definition(self, xml: str, *, ref: GuestRef | None = None) -> Sequence[Finding]:
        """By our parser and this machine's schema; what passes is shown to the host, where it can judge without defining."""
        self._require(Feature.DEFINE)
        with translate():
            identity = check.Identity(name=self._domain(ref).name(), uuid=ref.uuid) if ref else None
            # What an older libvirt here does not know, a newer one there may.
            knows = self._connection.getLibVersion() <= libvirt.getVersion()
        found = check.check(xml, identity=identity, schema_decides=knows)
        if any(one.fatal for one in found):
            return found
        said = self._driver.judgement(self._connection, Domain.parse(xml).to_xml())
        return [*found, Finding(detail=said, fatal=False)] if said else found

    def holds_change(self, ref: GuestRef, *, before: str, wished: str) -> bool:
        """Compared as heaps of facts: libvirt adds addresses and defaults, and writes sizes in KiB."""
        return check.holds_change(before, wished, self.definition(ref))

    def rename(self, ref: GuestRef, name: str) -> None:
        """Rename a stopped guest. Its managed save, where it has one, is in the way (measured: OPERATION_INVALID).

        libvirt 9.0 takes line ends and other control characters as part of a name (measured); we do not.
        """
        self._require(Feature.RENAME)
        if not name.strip() or not name.isprintable() or "/" in name or len(name.encode()) > NAME_MAX:
            message = f"A name has 1 to {NAME_MAX} bytes, no slash and nothing that cannot be printed."
            raise InvalidDefinition(message, guest=ref.name or ref.uuid)
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.RENAME)):
            domain = self._domain(ref)
            if domain.name() != name:  # "Can't rename domain to itself" (measured)
                domain.rename(name, 0)


def _keep_passwords(home: libvirt.virConnect, document: Domain) -> None:
    """Screens that had a password keep it where the new definition says nothing of it.

    A definition is read without passwords, and would lose them by being written back (measured: no warning, an open screen).
    """
    screens = [screen for screen in document.graphics if screen.password is None]
    if not screens or not document.uuid:
        return
    try:
        domain = home.lookupByUUIDString(document.uuid.strip())
        known = Domain.parse(domain.XMLDesc(INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
    except libvirt.libvirtError as error:
        if error.get_error_code() in (
            libvirt.VIR_ERR_NO_DOMAIN,
            libvirt.VIR_ERR_INVALID_ARG,
            libvirt.VIR_ERR_NO_SUPPORT,
        ):
            return  # a new guest, or a driver that keeps no passwords
        raise
    passwords: dict[str | None, list[str | None]] = {}
    for screen in known.graphics:
        passwords.setdefault(screen.type, []).append(screen.password)
    places: dict[str | None, int] = {}
    for screen in document.graphics:
        place = places[screen.type] = places.get(screen.type, -1) + 1
        had = passwords.get(screen.type, [])
        if screen.password is None and place < len(had):
            screen.password = had[place]
