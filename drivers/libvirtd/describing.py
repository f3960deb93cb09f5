"""What is ours to say of a guest, written into its definition without touching anything else in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt

from drivers.libvirtd.xml import metadata

if TYPE_CHECKING:
    from collections.abc import Mapping


def describe(domain: libvirt.virDomain, facts: Mapping[str, str], *, title: str, description: str) -> None:
    """Title, description and our own facts, both as it runs and as it will start next."""
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
    if domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, title or None, None, None, flags)
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, description or None, None, None, flags)
    domain.setMetadata(
        libvirt.VIR_DOMAIN_METADATA_ELEMENT, metadata.document(facts), metadata.PREFIX, metadata.NAMESPACE, flags
    )
