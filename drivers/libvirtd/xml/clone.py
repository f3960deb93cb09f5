"""The definition of a guest that is like another one: all of it, but for what two guests cannot both have.

What names the one guest and no other goes (name, uuid, MAC and tap names, serial numbers, state files that libvirt made for it, ports of
screens, labels of its confinement), and so do devices of the host that were handed to it: libvirt gives the new one its own of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.errors import InvalidDefinition
from drivers.libvirtd.xml import metadata
from drivers.libvirtd.xml.domain import Metadata
from drivers.libvirtd.xml.element import remove

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lxml import etree

    from drivers.libvirtd.xml.devices import Disk, Interface
    from drivers.libvirtd.xml.domain import Domain
    from drivers.types import CloneSpec

_OWN: Final = (
    "metadata",
    "title",
    "description",
    "devices/hostdev",
    "devices/disk/serial",
    "devices/disk/wwn",
    "devices/disk/backingStore",
    "devices/disk/mirror",
    "devices/interface/target",
    "devices/interface/backend",
    "devices/*/alias",
)
"""What goes from wherever it stands."""
_SERIALS: Final = ("uuid", "serial")
_ANY_FORMAT: Final = {"iso": "raw", "": "raw"}


def make_clone(domain: Domain, spec: CloneSpec) -> None:
    """Turn the definition of the source into that of its clone. Raises InvalidDefinition for a disk that cannot be named."""
    os_id = domain.metadata.os_id if domain.metadata else None
    for path in _OWN:
        _drop(domain.node.findall(path))
    domain.name, domain.uuid = spec.name, spec.uuid.lower()
    domain.title, domain.description = spec.title or None, spec.description or None
    if os_id:
        domain.metadata = Metadata(os_id=os_id)
    metadata.write(domain, spec.metadata)
    _drop(one for one in domain.node.findall("seclabel") if one.get("type") != "none")
    _drop(one for one in domain.node.findall("sysinfo//entry") if one.get("name") in _SERIALS)
    for genid in domain.node.findall("genid"):
        genid.text = None
    _own_state(domain)
    for disk in list(domain.disks):
        _give_disk(domain, disk, spec)
    for nic in domain.interfaces:
        _give_mac(nic, spec)


def _drop(nodes: Iterable[etree._Element]) -> None:
    for node in list(nodes):
        remove(node)


def _own_state(domain: Domain) -> None:
    """Files, sockets and ports that libvirt chooses for each guest."""
    for nvram in domain.node.findall("os/nvram"):
        nvram.text = None
        _drop(nvram.findall("source"))
        nvram.attrib.pop("type", None)
        if not nvram.attrib:
            remove(nvram)
    for screen in domain.graphics:
        if screen.socket is None and screen.listen_type != "socket":
            for name in ("port", "tlsPort", "websocket"):
                screen.node.attrib.pop(name, None)
            screen.autoport = "yes"
    for channel in domain.channels:
        if channel.type == "unix":
            _drop(one for one in channel.node.findall("source") if one.get("mode") != "connect")
    for cid in domain.node.findall("devices/vsock/cid"):
        cid.set("auto", "yes")
        cid.attrib.pop("address", None)


def _give_disk(domain: Domain, disk: Disk, spec: CloneSpec) -> None:
    place = spec.disks.get(disk.target or "")
    if place is None:
        domain.disks.remove(disk)
        return
    path, form = place
    source = disk.node.find("source")
    keys = source.findall("encryption") if source is not None else []
    if source is not None:
        remove(source)
    if not path:
        if disk.device not in ("cdrom", "floppy"):
            message = f"The disk {disk.target} needs a path on the host: only a drive can be empty."
            raise InvalidDefinition(message, guest=spec.name)
        disk.type = "file"
        return
    if not path.startswith("/"):
        message = f"The disk {disk.target}: {path} is not a path on the host."
        raise InvalidDefinition(message, guest=spec.name)
    disk.type = "block" if path.startswith("/dev/") else "file"
    if disk.type == "block":
        disk.dev = path
    else:
        disk.file = path
    disk.format = _ANY_FORMAT.get(form, form)
    made = disk.node.find("source")
    for key in keys if made is not None else ():
        made.append(key)  # type: ignore[union-attr]  # looked at in the line above


def _give_mac(nic: Interface, spec: CloneSpec) -> None:
    """Its own address, and none of what a switch knows the source's port by. A source without a new address gets one from libvirt."""
    wanted = {old.lower(): new for old, new in spec.macs.items()}
    nic.mac = wanted.get((nic.mac or "").lower())
    for port in nic.node.findall("virtualport/parameters"):
        port.attrib.pop("interfaceid", None)
        port.attrib.pop("instanceid", None)
    for place in nic.node.findall("source"):
        place.attrib.pop("portid", None)
