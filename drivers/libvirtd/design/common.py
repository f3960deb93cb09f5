"""What all designs share: identity, memory, where disks and networks are, screens, consoles, the order of booting."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from drivers import specs
from drivers.libvirtd.xml import metadata
from drivers.libvirtd.xml.devices import CharDevice, Disk, Graphics, Interface, Serial
from drivers.libvirtd.xml.domain import Domain, Metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from drivers.libvirtd.xml.capabilities import Capabilities, DomainCapabilities, GuestCapability, Value
    from drivers.types import DiskSpec, GuestSpec

KIB: Final = 1024
_FORMATS: Final = {
    **{name: name for name in ("raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "vhd", "ploop")},
    # libvirt's pools tell a CD's image from other raw files; QEMU knows no such format.
    "iso": "raw",
    "": "raw",
}
_MODEL = re.compile(r"[a-zA-Z0-9_-]+")
_PREFIXES: Final = {"virtio": "vd", "xen": "xvd", "ide": "hd", "fdc": "fd"}
WITHOUT_NETWORK: Final = ("disk", "cdrom")
WINDOWS: Final = "http://microsoft.com/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the host can do, as its libvirt tells it.

    Attributes:
        domains: By domain type, architecture and machine; each call asks the host.
        nests: Whether guests can have vmx or svm; None where nobody knows.
    """

    capabilities: Capabilities
    domains: Callable[[str, str, str], DomainCapabilities]
    nests: Callable[[], bool | None]

    @property
    def architecture(self) -> str:
        """The machine's own (`x86_64`)."""
        cpu = self.capabilities.host_cpu
        return (cpu.arch if cpu else None) or ""

    def guests(self, os_type: str) -> list[GuestCapability]:
        """The kinds of guests of this type of operating system, those of the machine's own architecture first."""
        found = [guest for guest in self.capabilities.guests if guest.os_type == os_type]
        return sorted(found, key=lambda guest: guest.arch != self.architecture)


class Design(Protocol):
    """A family's design."""

    def __call__(self, spec: GuestSpec, host: Host) -> Domain:
        """The domain that this host would run for `spec`. Raises InvalidDefinition, Unsupported."""


def words(values: Iterable[Value]) -> set[str]:
    """An enumeration's words."""
    return {value.text for value in values if value.text}


def begin(spec: GuestSpec, domain_type: str) -> Domain:
    """The part of a definition that is the same for whatever it is of."""
    domain = Domain(type=domain_type, name=spec.name, uuid=spec.uuid.lower())
    if spec.os_id:
        domain.metadata = Metadata(os_id=spec.os_id)
    metadata.write(domain, spec.metadata)
    domain.title = spec.title or None
    domain.description = spec.description or None
    domain.memory_bytes = spec.memory_bytes // KIB * KIB
    domain.vcpus = spec.vcpus
    domain.on_poweroff, domain.on_reboot, domain.on_crash = "destroy", "restart", "destroy"
    return domain


def check_paths(spec: GuestSpec) -> None:
    """Raises InvalidDefinition for a path on the host that is none, and for what is said to a kernel that is not given."""
    for name in ("kernel", "initrd", "root"):
        path = getattr(spec, name)
        if path and (not path.startswith("/") or len(path) < 2 or "\n" in path):
            raise specs.refusal(name, "not a path on the host: it begins with a slash.")
    for name in ("initrd", "cmdline"):
        if getattr(spec, name) and not spec.kernel:
            raise specs.refusal(name, "it goes with a kernel; name the kernel too.")


def check_vcpus(spec: GuestSpec, most: int | None) -> None:
    """Raises Unsupported for more than the host gives one guest."""
    if most and spec.vcpus > most:
        raise specs.lacking("vcpus", f"at most {most} in one guest on this host.")


# -- disks ---------------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Targets:
    """Gives disks their names: vda, sda, xvda, …; `apart` numbers each prefix for itself."""

    apart: bool = True
    _counts: dict[str, itertools.count[int]] = field(default_factory=dict)

    def next(self, bus: str) -> str:
        """The next name on this bus."""
        prefix = prefix_of(bus)
        count = self._counts.setdefault(prefix if self.apart else "", itertools.count())
        return f"{prefix}{letters(next(count))}"


def prefix_of(bus: str) -> str:
    """What the names of disks on this bus begin with."""
    return _PREFIXES.get(bus, "sd")


def letters(number: int) -> str:
    """0: a … 25: z, 26: aa …, as Linux names disks."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def disk(spec: DiskSpec, where: str) -> Disk:
    """A disk with its source and format; bus, target and driver are the design's. Raises InvalidDefinition.

    The source is named by its path where it has one. By pool and volume libvirt would look the path up itself, but only when
    the guest starts: then AppArmor's helper does not see the file and QEMU may not open it, block jobs and snapshots are
    refused, and a migration needs a pool of the same name over there. What has no path on the host (RBD, Gluster) is named by
    pool and volume: the pool knows its servers and secrets.
    """
    made = Disk(type="volume", device=spec.device)
    if spec.path.startswith("/dev/"):
        made.type, made.dev = "block", spec.path
    elif spec.path.startswith("/"):
        made.type, made.file = "file", spec.path
    elif spec.pool and spec.volume:
        made.pool, made.volume = spec.pool, spec.volume
    else:
        raise specs.refusal(f"{where}.path", "not a path on the host, and no pool and volume beside it.")
    known = _FORMATS.get(spec.format)
    if known is None:
        raise specs.refusal(f"{where}.format", f"{spec.format} is none of {', '.join(sorted(filter(None, _FORMATS)))}.")
    made.format = known
    made.readonly = spec.readonly or spec.device == "cdrom"
    return made


def offered_bus(wanted: str, preferred: Iterable[str], offered: Collection[str], where: str) -> str:
    """The bus that a disk is put on. Raises Unsupported."""
    best = next((bus for bus in preferred if not offered or bus in offered), "")
    if not wanted and best:
        return best
    if not wanted or (offered and wanted not in offered):
        raise specs.lacking(
            f"{where}.bus", f"there is no {wanted or 'usable'} bus here; there is {', '.join(sorted(offered))}."
        )
    return wanted


def boot_orders(spec: GuestSpec) -> Iterator[tuple[str, int]]:
    """In the order of booting: the kind of a device, and its number among its like. Nothing where a kernel is given."""
    if spec.kernel:
        return
    disks = [disk.device for disk in spec.disks if not disk.seed]
    counts = {
        "disk": disks.count("disk"),
        "cdrom": disks.count("cdrom"),
        "network": len(spec.interfaces),
    }
    # Nobody waits for a network that does not answer where there is something else to boot from.
    order = dict.fromkeys(spec.boot_order or (WITHOUT_NETWORK if disks else ("network",)))
    for kind in order:
        yield from ((kind, number) for number in range(counts[kind]))


def put_in_boot_order(spec: GuestSpec, domain: Domain) -> None:
    """Number the devices that the guest tries to boot from."""
    disks = [made for made, wanted in zip(domain.disks, spec.disks, strict=True) if not wanted.seed]
    devices: dict[str, list[Disk] | list[Interface]] = {
        "disk": [disk for disk in disks if disk.device == "disk"],
        "cdrom": [disk for disk in disks if disk.device == "cdrom"],
        "network": list(domain.interfaces),
    }
    for place, (kind, number) in enumerate(boot_orders(spec), start=1):
        devices[kind][number].boot_order = place


# -- the rest ------------------------------------------------------------------------------------------------------------
def add_interfaces(spec: GuestSpec, domain: Domain, *, model: str | None) -> None:
    """Network interfaces, of `model` where the spec names none. Raises InvalidDefinition."""
    for number, nic in enumerate(spec.interfaces):
        if nic.model and not _MODEL.fullmatch(nic.model):
            raise specs.refusal(f"interfaces[{number}].model", "a model's name has letters, digits, _ and -.")
        made = Interface(
            type="bridge" if nic.bridge else "network", mac=(nic.mac or own_mac(spec.uuid, number)).lower()
        )
        if nic.bridge:
            made.bridge = nic.bridge
        else:
            made.network = nic.network
        made.model = nic.model or model
        domain.interfaces.add(made)


def own_mac(uuid: str, number: int) -> str:
    """A MAC address that stays the same, however often the guest is made: what the design showed is what the network sees."""
    made = hashlib.sha256(f"{uuid.lower()}/{number}".encode()).hexdigest()
    return f"52:54:00:{made[0:2]}:{made[2:4]}:{made[4:6]}"


def add_serial_console(domain: Domain) -> None:
    """A serial port, and the console on it."""
    domain.serials.add(Serial(type="pty", target_port=0))
    domain.consoles.add(CharDevice(type="pty", target_type="serial", target_port=0))


def loopback_screen(kind: str) -> Graphics:
    """A screen on a port of the host's own loopback."""
    return Graphics(
        type=kind, port=-1, autoport="yes", listen="127.0.0.1", listen_type="address", listen_address="127.0.0.1"
    )
