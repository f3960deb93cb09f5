"""One change of a guest: of its definition, of what runs, or of both with neither left half done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import libvirt

from drivers.errors import DriverError
from drivers.libvirtd.errors import driver_error
from drivers.libvirtd.hardware import read
from drivers.libvirtd.xml.domain import Domain

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.types import Device

_WHOLE: Final = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
"""With the passwords: what is defined again without them has none."""


@dataclass(slots=True, kw_only=True)
class Change:
    """A guest about to be changed: `live`, `defined`, or both. A definition that is not to be changed is read all the same."""

    connection: libvirt.virConnect
    domain: libvirt.virDomain
    live: bool
    defined: bool

    @property
    def documents(self) -> list[Domain]:
        """What is defined and what runs, as far as there is either; one at least."""
        found = [self._definition()] if self.domain.isPersistent() else []
        if self.domain.isActive():
            found.append(Domain.parse(self.domain.XMLDesc(0)))
        return found

    def defined_device(self, key: str) -> Device | None:
        """What the guest has under this key at its next start."""
        return read.hardware(self._definition()).devices.get(key) if self.domain.isPersistent() else None

    def carry_out(self, edit: Callable[[Domain], bool], plug: Callable[[libvirt.virDomain], None]) -> None:
        """Edit the definition (`edit` says whether anything was changed), then do the same to what runs.

        The definition comes first because it can be put back to the letter. Raises what either raises, after that.
        """
        before = ""
        if self.defined:
            document = self._definition()
            text = document.to_xml()
            if edit(document):
                before = text
                self.connection.defineXMLFlags(document.to_xml(), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        if not self.live:
            return
        try:
            plug(self.domain)
        except (libvirt.libvirtError, DriverError) as error:
            if before:
                self._put_back(before, error)
            raise

    def _definition(self) -> Domain:
        return Domain.parse(self.domain.XMLDesc(_WHOLE))

    def _put_back(self, before: str, error: libvirt.libvirtError | DriverError) -> None:
        try:
            self.connection.defineXMLFlags(before, 0)
        except libvirt.libvirtError as again:
            why = error if isinstance(error, DriverError) else driver_error(error)
            raise type(why)(
                f"{why.detail} Its definition has the change already, and could not be put back: {driver_error(again).detail}",
                **why.context,
            ) from again
