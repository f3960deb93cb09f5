"""One guest of an in-memory world: its facts, read from libvirt-shaped XML, and its counters."""

from __future__ import annotations

import hashlib
import json
import uuid as uuids
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from drivers.errors import InvalidDefinition
from drivers.fake import design
from drivers.fake.hardware import hardware_of
from drivers.fake.snapshots import Tree
from drivers.types import (
    DiskInfo,
    GuestInfo,
    GuestKind,
    GuestState,
    GuestStats,
    NicInfo,
    Technique,
    VirtualizationType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from drivers.fake.console import FakeConsole
    from drivers.types import AddressInfo, Hardware

ACTIVE = frozenset({GuestState.RUNNING, GuestState.PAUSED, GuestState.SHUTTING_DOWN, GuestState.PMSUSPENDED})
_UNITS = {"b": 1, "bytes": 1, "KiB": 1 << 10, "k": 1 << 10, "MiB": 1 << 20, "M": 1 << 20, "GiB": 1 << 30, "G": 1 << 30}


@dataclass(slots=True, kw_only=True, eq=False)
class Guest:
    """One guest of a world. Guarded by the world's lock.

    Attributes:
        live: What it was started with, and was given since; None where that is its definition.
    """

    uuid: str
    name: str
    definition: str
    kind: GuestKind
    vcpus: int
    memory_bytes: int
    max_memory_bytes: int
    title: str
    description: str
    os: str
    disks: tuple[DiskInfo, ...]
    interfaces: tuple[NicInfo, ...]
    metadata: Mapping[str, str]
    boot: Mapping[str, str]
    state: GuestState = GuestState.SHUTOFF
    reason: str = "unknown"
    persistent: bool = True
    autostart: bool = False
    has_managed_save: bool = False
    obeys: bool = True
    started_at: float = 0.0
    console: FakeConsole | None = None
    addresses: dict[str, Sequence[AddressInfo] | str] = field(default_factory=dict)
    tree: Tree = field(default_factory=Tree)
    marks: set[str] = field(default_factory=set)
    live: Guest | None = None

    @property
    def alive(self) -> bool:
        """Whether it holds its hardware."""
        return self.state in ACTIVE

    def hardware(self) -> Hardware:
        """What its definition says of it."""
        return hardware_of(
            ET.fromstring(self.definition),  # noqa: S314 - our own text
            vcpus=self.vcpus,
            memory_bytes=self.memory_bytes,
            max_memory_bytes=self.max_memory_bytes,
        )

    def run_with(self, xml: str) -> None:
        """From now on, until it is off, this is what it runs with."""
        self.live = parse(xml, lambda _name: self.uuid)

    def copy(self) -> Guest:
        """As it is defined now."""
        return parse(self.definition, lambda _name: self.uuid)

    def info(self) -> GuestInfo:
        """What a session reports of it."""
        now = (self.live if self.alive else None) or self
        return GuestInfo(
            uuid=self.uuid,
            name=self.name,
            state=self.state,
            state_reason=self.reason,
            kind=self.kind,
            virtualization_type=VirtualizationType.HYBRID
            if self.kind is GuestKind.MACHINE
            else VirtualizationType.OS_LEVEL,
            techniques=(Technique.EMULATION,) if self.kind is GuestKind.MACHINE else (Technique.SHARED_KERNEL,),
            domain_type="fake",
            vcpus=now.vcpus,
            memory_bytes=now.memory_bytes,
            max_memory_bytes=now.max_memory_bytes,
            persistent=self.persistent,
            autostart=self.autostart,
            has_managed_save=self.has_managed_save,
            title=self.title,
            description=self.description,
            disks=now.disks,
            interfaces=now.interfaces,
            consoles=("serial",),
            os=self.os,
            boot=self.boot,
            metadata=self.metadata,
            xml_digest=hashlib.sha256(self.definition.encode()).hexdigest(),
        )

    def rename(self, name: str) -> None:
        """Another name, in its definition too."""
        root = ET.fromstring(self.definition)  # noqa: S314 - our own text
        element = root.find("name")
        if element is not None:
            element.text = name
        self.name, self.definition = name, ET.tostring(root, encoding="unicode")


def line_of(error: InvalidDefinition) -> int:
    """Where the XML was broken; 0 where that is not what was wrong."""
    return error.__cause__.position[0] if isinstance(error.__cause__, ET.ParseError) else 0


def stats_of(guest: Guest, now: float) -> GuestStats:
    """A quarter of every vCPU, 1 MB/s read, half of that written, 100 kB/s in, 50 out, since the guest's start."""
    elapsed = max(0.0, now - guest.started_at)
    return GuestStats(
        uuid=guest.uuid,
        at=now,
        vcpus=guest.vcpus,
        cpu_time_seconds=0.25 * guest.vcpus * elapsed,
        memory_bytes=guest.memory_bytes // 2,
        disk_read_bytes=int(1_000_000 * elapsed),
        disk_write_bytes=int(500_000 * elapsed),
        disk_read_requests=int(100 * elapsed),
        disk_write_requests=int(50 * elapsed),
        network_receive_bytes=int(100_000 * elapsed),
        network_transmit_bytes=int(50_000 * elapsed),
    )


def parse(xml: str, uuid_of: Callable[[str], str]) -> Guest:
    """A guest from libvirt-shaped XML; only what a `GuestInfo` shows is read, the text itself is kept."""
    if "<!" in xml.replace("<!--", ""):
        raise InvalidDefinition("A definition has no DOCTYPE and no entities.")
    try:
        root = ET.fromstring(xml)  # noqa: S314 - no DTD, no entities (above), and only tests come here
        name = (root.findtext("name") or "").strip()
        if root.tag != "domain" or not name or "/" in name:
            raise InvalidDefinition("A definition is a <domain> with a <name> without a slash.")
        uuid = str(uuids.UUID((root.findtext("uuid") or uuid_of(name)).strip()))
        maximum = _bytes(root.find("memory"))
        current = root.find("currentMemory")
        vcpu = root.find("vcpu")
        vcpus = 1 if vcpu is None else int((vcpu.get("current") or vcpu.text or "1").strip())
    except (ET.ParseError, ValueError, KeyError) as error:
        raise InvalidDefinition(f"The definition cannot be read: {error}.") from error
    if maximum <= 0 or vcpus <= 0:
        raise InvalidDefinition("A guest has at least one vCPU and some memory.")
    if root.find("uuid") is None:
        ET.SubElement(root, "uuid").text = uuid
    return Guest(
        uuid=uuid,
        name=name,
        definition=ET.tostring(root, encoding="unicode"),
        kind=GuestKind.CONTAINER if root.findtext("os/type") == "exe" else GuestKind.MACHINE,
        vcpus=vcpus,
        memory_bytes=_bytes(current) if current is not None else maximum,
        max_memory_bytes=maximum,
        title=root.findtext("title") or "",
        description=root.findtext("description") or "",
        os=design.os_id(root) or root.findtext("os/type") or "",
        disks=tuple(_disks(root)),
        interfaces=tuple(_nics(root)),
        metadata=design.facts(root),
        boot=_boot(root),
    )


def _bytes(element: ET.Element | None) -> int:
    if element is None:
        return 0
    return int((element.text or "0").strip()) * _UNITS[element.get("unit", "KiB")]


def _disks(root: ET.Element) -> Iterable[DiskInfo]:
    for disk in root.iterfind("devices/disk"):
        target, source, driver = disk.find("target"), disk.find("source"), disk.find("driver")
        if target is not None:
            yield DiskInfo(
                target=target.get("dev", ""),
                device=disk.get("device", "disk"),
                bus=target.get("bus"),
                source=None if source is None else source.get("file") or source.get("volume"),
                pool=None if source is None else source.get("pool"),
                format=None if driver is None else driver.get("type"),
                readonly=disk.find("readonly") is not None,
            )


def _nics(root: ET.Element) -> Iterable[NicInfo]:
    for nic in root.iterfind("devices/interface"):
        mac, source, model = nic.find("mac"), nic.find("source"), nic.find("model")
        named = nic.find("filterref")
        yield NicInfo(
            mac="" if mac is None else mac.get("address", ""),
            model=None if model is None else model.get("type"),
            filter=None if named is None else named.get("filter"),
            network=None if source is None else source.get("network") or source.get("bridge") or source.get("direct"),
            link=json.loads(nic.get("hardware", "{}")).get("link", "up"),
        )


def _boot(root: ET.Element) -> dict[str, str]:
    os = root.find("os")
    if os is None:
        return {}
    facts = {name: os.findtext(name) or "" for name in ("kernel", "initrd", "cmdline", "init")}
    facts["firmware"] = {"efi": "uefi"}.get(os.get("firmware", ""), os.get("firmware", ""))
    return {name: value for name, value in facts.items() if value}
