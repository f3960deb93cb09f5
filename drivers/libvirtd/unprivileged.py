"""`qemu:///session`: a libvirtd of one account, whose guests are processes of that account. Hosted, whether the kernel helps or not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from drivers.libvirtd.session import LibvirtSession
from drivers.types import VirtualizationType

if TYPE_CHECKING:
    import libvirt

    from drivers.libvirtd.guests import Marks
    from drivers.types import GuestInfo, HostInfo


class QemuSession(LibvirtSession):
    """A connection to QEMU: the machine's (`/system`) or an account's (`/session`)."""

    @property
    def _unprivileged(self) -> bool:
        return urlsplit(self.endpoint.uri).path == "/session"

    def host_info(self) -> HostInfo:
        """The machine and the hypervisor, which for an account is a program among others."""
        info = super().host_info()
        return replace(info, virtualization_type=VirtualizationType.HOSTED) if self._unprivileged else info

    def _info(self, domain: libvirt.virDomain, uuid: str, marks: Marks) -> GuestInfo | None:
        info = super()._info(domain, uuid, marks)
        if info is None or not self._unprivileged:
            return info
        return replace(info, virtualization_type=VirtualizationType.HOSTED)
