"""A `GuestSpec` as the libvirt-shaped XML that an in-memory world keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from drivers import specs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.types import CloneSpec, DiskSpec, GuestSpec, NicSpec

FACTS: Final = "{https://vmmanager.invalid/xmlns/1}"
"""Our own namespace, as behind libvirt, so that what reads definitions sees the same here."""
OSINFO: Final = "{http://libosinfo.org/xmlns/libvirt/domain/1.0}"


def design(spec: GuestSpec) -> str:
    """The definition of the guest that `spec` asks for. Raises InvalidDefinition."""
    specs.check(spec)
    root = ET.Element("domain", type="fake")
    for tag, text in (
        ("name", spec.name),
        ("uuid", spec.uuid.lower()),
        ("title", spec.title),
        ("description", spec.description),
    ):
        if text:
            ET.SubElement(root, tag).text = text
    _metadata(root, spec)
    ET.SubElement(root, "memory", unit="b").text = str(spec.memory_bytes)
    ET.SubElement(root, "vcpu").text = str(spec.vcpus)
    os = ET.SubElement(root, "os", firmware="efi" if spec.firmware == "uefi" else "bios")
    ET.SubElement(os, "type").text = "exe" if spec.root else "hvm"
    for tag, text in (("init", spec.init), ("kernel", spec.kernel), ("initrd", spec.initrd), ("cmdline", spec.cmdline)):
        if text:
            ET.SubElement(os, tag).text = text
    devices = ET.SubElement(root, "devices")
    if spec.root:
        directory = ET.SubElement(devices, "filesystem", type="mount")
        ET.SubElement(directory, "source", dir=spec.root)
        ET.SubElement(directory, "target", dir="/")
    for number, disk in enumerate(spec.disks):
        _disk(devices, disk, number)
    for number, nic in enumerate(spec.interfaces):
        _nic(devices, nic, spec.uuid, number)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")


def facts(root: ET.Element) -> dict[str, str]:
    """Our own facts in a definition."""
    found = root.find(f"metadata/{FACTS}guest")
    return {} if found is None else {one.tag.removeprefix(FACTS): one.text or "" for one in found}


def os_id(root: ET.Element) -> str:
    """The system's libosinfo name in it, "" where the definition has none."""
    found = root.find(f"metadata/{OSINFO}libosinfo/{OSINFO}os")
    return "" if found is None else found.get("id", "")


def described(xml: str, facts: Mapping[str, str], *, title: str, description: str) -> str:
    """A definition with these facts, title and description in the place of its own."""
    root = ET.fromstring(xml)  # noqa: S314 - a definition that this room has written itself
    for tag, text in (("title", title), ("description", description)):
        for old in root.findall(tag):
            root.remove(old)
        if text:
            ET.SubElement(root, tag).text = text
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(root, "metadata")
    for old in metadata.findall(f"{FACTS}guest"):
        metadata.remove(old)
    _write_facts(ET.SubElement(metadata, f"{FACTS}guest"), facts)
    return ET.tostring(root, encoding="unicode")


def cloned(xml: str, spec: CloneSpec) -> str:
    """The definition of a guest that is like another but for what `spec` says."""
    root = ET.fromstring(xml)  # noqa: S314 - a definition that this room has written itself
    for tag, text in (("name", spec.name), ("uuid", spec.uuid.lower())):
        for node in root.findall(tag):
            node.text = text
    devices = root.find("devices")
    for disk in list(devices.findall("disk")) if devices is not None else ():
        target = disk.find("target")
        place = spec.disks.get("" if target is None else target.get("dev", ""))
        for source in disk.findall("source"):
            disk.remove(source)
        if place is None:
            devices.remove(disk)  # type: ignore[union-attr]  # it is what the disk was found in
            continue
        path, format_ = place
        if path:
            disk.set("type", "file")
            ET.SubElement(disk, "source", file=path)
            for driver in disk.findall("driver"):
                driver.set("type", format_)
    for mac in root.iterfind("devices/interface/mac"):
        mac.set("address", spec.macs.get(mac.get("address", ""), ""))
    return described(
        ET.tostring(root, encoding="unicode"), spec.metadata, title=spec.title, description=spec.description
    )


def _metadata(root: ET.Element, spec: GuestSpec) -> None:
    if not spec.metadata and not spec.os_id:
        return
    metadata = ET.SubElement(root, "metadata")
    if spec.os_id:
        ET.SubElement(ET.SubElement(metadata, f"{OSINFO}libosinfo"), f"{OSINFO}os", id=spec.os_id)
    if spec.metadata:
        _write_facts(ET.SubElement(metadata, f"{FACTS}guest"), spec.metadata)


def _write_facts(guest: ET.Element, written: Mapping[str, str]) -> None:
    for name, value in sorted(written.items()):
        ET.SubElement(guest, f"{FACTS}{name}").text = value


def _disk(devices: ET.Element, disk: DiskSpec, number: int) -> None:
    node = ET.SubElement(devices, "disk", type="file" if disk.path else "volume", device=disk.device)
    ET.SubElement(node, "driver", name="fake", type=disk.format)
    if disk.path:
        ET.SubElement(node, "source", file=disk.path)
    else:
        ET.SubElement(node, "source", pool=disk.pool, volume=disk.volume)
    bus = disk.bus or ("sata" if disk.device == "cdrom" else "virtio")
    prefix = "vd" if bus == "virtio" else "sd"
    ET.SubElement(node, "target", dev=f"{prefix}{chr(ord('a') + number)}", bus=bus)
    if disk.readonly or disk.device == "cdrom":
        ET.SubElement(node, "readonly")


def _nic(devices: ET.Element, nic: NicSpec, uuid: str, number: int) -> None:
    node = ET.SubElement(devices, "interface", type="bridge" if nic.bridge else "network")
    made = uuid.replace("-", "")
    mac = nic.mac.lower() or f"52:54:00:{made[0:2]}:{made[2:4]}:{number:02x}"
    ET.SubElement(node, "mac", address=mac)
    if nic.bridge:
        ET.SubElement(node, "source", bridge=nic.bridge)
    else:
        ET.SubElement(node, "source", network=nic.network)
    ET.SubElement(node, "model", type=nic.model or "virtio")
