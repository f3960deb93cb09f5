"""What storage is made of, as data: the types of pools, what each asks for, and the rule for every word that a user types there.

Dialogs and REST draw their forms from `POOL_TYPES`. `check_pool` and `check_volume` stand at both doors: a request gets `BadInput`
with a pointer for each wrong field, a driver checks again before it acts and refuses with its own error (`findings.refusing`). Names and
paths are narrow on purpose: what passes here means nothing to a shell, to XML, to qemu-img or to LVM.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
import uuid as uuids
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from core.errors import BadInput
from drivers import uris
from drivers.findings import Findings
from drivers.forms import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from drivers.types import PoolSpec, VolumeInfo, VolumeSpec

CAPACITY_MAX: Final = 1 << 60
"""1 EiB: beyond every file system's largest file, and below what databases, JSON and qemu-img can count."""
POOL_NAME_BYTES: Final = 200
VOLUME_NAME_BYTES: Final = 240
"""A file name has 255 bytes; libvirt puts `.xml` behind the one, and tools their suffixes behind the other."""
PATH_BYTES: Final = 1024

_LOCAL: Final = "._+- "
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_ZPOOL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_IQN = re.compile(
    r"iqn\.[0-9]{4}-[0-9]{2}\.[a-z0-9.-]+(?::[A-Za-z0-9_.:-]+)?|eui\.[0-9A-Fa-f]{16}|naa\.[0-9A-Fa-f]{16,32}"
)
_PLACE = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([^:]*))?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,127}")
_THE_SYSTEMS_OWN: Final = ("/", "/home", "/root", "/tmp", "/var", "/var/cache", "/var/lib", "/var/lib/libvirt")  # noqa: S108
_THE_SYSTEMS_TREES: Final = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr",
    "/var/lib/libvirt/qemu", "/var/log",
)  # fmt: skip
"""A pool there would show and delete the host's own files as volumes. Against mistakes: who may make pools may read the host's files."""


# -- the rules: each gives the value as it is to be written, or raises ValueError with a sentence --------------------------
def _name(text: str, *, most: int, plain: bool = False) -> str:
    if not text or len(text.encode("utf-8", "surrogatepass")) > most:
        raise ValueError(f"A name has 1 to {most} bytes.")
    if plain and not _PLAIN.fullmatch(text):
        raise ValueError(
            "Here a name has letters a to z, digits and _ . + - in it, and starts with a letter, a digit or _."
        )
    if not (text[0].isalnum() or text[0] == "_") or text[-1] == " ":
        raise ValueError("A name starts with a letter, a digit or _, and does not end with a blank.")
    if not all(one.isalnum() or one in _LOCAL or unicodedata.category(one).startswith("M") for one in text):
        raise ValueError("A name has letters, digits, blanks and . _ + - in it, and nothing else: no slash, no quotes.")
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or len(text.encode("utf-8", "surrogatepass")) > PATH_BYTES:
        raise ValueError(f"A path starts with a slash and has at most {PATH_BYTES} bytes.")
    parts = text[1:].split("/")
    if not all(parts) or not {".", ".."}.isdisjoint(parts):
        raise ValueError("A path is written out: no empty part, no . and no .. in it, no slash at its end.")
    if not all(_is_path_part(part) for part in parts):
        raise ValueError("A path has names of letters, digits, blanks and . _ + - = : @ , in it, with slashes between.")
    return text


def _is_path_part(part: str) -> bool:
    letters = all(one.isalnum() or one in _LOCAL + "=:@," or unicodedata.category(one).startswith("M") for one in part)
    return letters and part[0] not in "- " and part[-1] != " "


def _directory(text: str) -> str:
    path = _path(text) if text != "/" else text
    if path in _THE_SYSTEMS_OWN or any(path == tree or path.startswith(f"{tree}/") for tree in _THE_SYSTEMS_TREES):
        raise ValueError(f"{path} belongs to the host's own system; take a directory that holds nothing but volumes.")
    return path


def _device(text: str) -> str:
    path = _path(text)
    if not path.startswith("/dev/"):
        raise ValueError("A device is a path below /dev, for example /dev/disk/by-id/….")
    return path


def _host(text: str) -> str:
    """A name or an address, and a port where one is given: `nas.lab`, `192.0.2.7:3260`, `[2001:db8::1]:6789`."""
    match = _PLACE.fullmatch(text)
    place, port = match.groups() if match else (f"[{text}]", None)  # a bare IPv6 address
    try:
        return uris.check_host(place) + (f":{uris.check_port(port)}" if port is not None else "")
    except BadInput as error:
        raise ValueError(error.detail) from None


def _hosts(text: str) -> str:
    return ",".join(_host(one.strip()) for one in text.split(","))


def _like(text: str, *, rule: re.Pattern[str], most: int, sentence: str) -> str:
    if len(text) > most or not rule.fullmatch(text):
        raise ValueError(sentence)
    return text


def _uuid(text: str) -> str:
    try:
        return str(uuids.UUID(text))
    except ValueError:
        raise ValueError("A secret is named by its UUID, as `virsh secret-list` shows it.") from None


def _one_of(text: str, *, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(f"One of {', '.join(choices)}.")
    return text


_group = partial(
    _like, rule=_PLAIN, most=127, sentence="A name here has at most 127 letters a to z, digits and _ . + - in it."
)
_zpool = partial(_like, rule=_ZPOOL, most=200, sentence="A ZFS pool, or a dataset in one: tank, or tank/guests.")
_iqn = partial(
    _like, rule=_IQN, most=223, sentence="A qualified name of iSCSI, for example iqn.2026-01.org.example:store."
)
_user = partial(_like, rule=_USER, most=128, sentence="A user name has letters, digits and _ . @ - in it.")


# -- the types -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class PoolField(Field):
    """One thing that a type of pool asks for; `name` is a field of `drivers.types.PoolSpec`.

    Attributes:
        check: The value as it is to be written. Raises ValueError with a sentence.
    """

    check: Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolType:
    """One type of pool.

    Attributes:
        name: libvirt's word.
        target: Where its volumes appear where no field asks for it; "" where that follows from the source, or means nothing.
        formats: Of volumes that can be made in it, the best first; empty where none can be made.
        build: What `PoolSpec.build` does, for people; "" where there is nothing to build. What holds data is never built over.
        plain_names: Volumes are named by LVM, Ceph or ZFS: ASCII, no blanks.
    """

    name: str
    label: str
    hint: str
    fields: tuple[PoolField, ...]
    target: str = ""
    formats: tuple[str, ...] = ("raw",)
    build: str = ""
    plain_names: bool = False


def _format(*choices: str) -> PoolField:
    return PoolField(name="source_format", label="Format", choices=choices, check=partial(_one_of, choices=choices))


_FILES: Final = ("qcow2", "raw")
_TARGET = PoolField(
    name="target",
    label="Directory",
    hint="On the host; for this pool alone.",
    placeholder="/var/lib/libvirt/images",
    required=True,
    check=_directory,
)
_MOUNT = dataclasses.replace(_TARGET, label="Mounted at", placeholder="/srv/guests")
_SERVER = PoolField(name="source_host", label="Server", placeholder="nas.example.org", required=True, check=_host)
_DEVICE = PoolField(
    name="source_device",
    label="Device",
    hint="A whole disk or a partition of the host.",
    placeholder="/dev/disk/by-id/…",
    required=True,
    check=_device,
)
_NEW_DEVICE = dataclasses.replace(_DEVICE, required=False, hint="Only to make a new one: an empty disk or partition.")
_USERNAME = PoolField(name="username", label="User name", check=_user)
_SECRET = PoolField(
    name="secret_uuid",
    label="Secret",
    hint="The UUID of a secret that libvirt on the host keeps (virsh secret-list).",
    check=_uuid,
)

POOL_TYPES: Final[Mapping[str, PoolType]] = {
    one.name: one
    for one in (
        PoolType(
            name="dir",
            label="Directory",
            hint="Files in a directory of the host.",
            fields=(_TARGET,),
            formats=_FILES,
            build="Makes the directory where it is missing.",
        ),
        PoolType(
            name="fs",
            label="File system on a device",
            hint="A disk or partition that the host mounts.",
            fields=(_DEVICE, _MOUNT, _format("auto", "ext4", "xfs", "btrfs")),
            formats=_FILES,
            build="Makes the file system on an empty device; without it the device has one already.",
        ),
        PoolType(
            name="netfs",
            label="Network file system",
            hint="An export of NFS, GlusterFS or CIFS that the host mounts.",
            fields=(
                _SERVER,
                PoolField(
                    name="source_directory", label="Export", placeholder="/export/guests", required=True, check=_path
                ),
                _MOUNT,
                _format("auto", "nfs", "glusterfs", "cifs"),
            ),
            formats=_FILES,
            build="Makes the directory that it is mounted at where it is missing.",
        ),
        PoolType(
            name="logical",
            label="LVM volume group",
            hint="Logical volumes of one group.",
            fields=(
                PoolField(name="source_name", label="Volume group", placeholder="vg0", required=True, check=_group),
                _NEW_DEVICE,
            ),
            build="Makes the group on an empty device, where one is given.",
            plain_names=True,
        ),
        PoolType(
            name="disk",
            label="Partitions of a disk",
            hint="A whole disk; volumes are its partitions, named by the host (sdb1, sdb2, …).",
            fields=(_DEVICE, _format("gpt", "dos")),
            target="/dev",
            build="Writes a partition table onto an empty disk; without it the disk has one already.",
            plain_names=True,
        ),
        PoolType(
            name="iscsi",
            label="iSCSI target",
            hint="The target's own units; volumes are made at the target, not here.",
            fields=(
                _SERVER,
                PoolField(
                    name="source_device",
                    label="Target",
                    placeholder="iqn.2026-01.org.example:store",
                    required=True,
                    check=_iqn,
                ),
                PoolField(name="initiator", label="Initiator", hint="If not the host's usual one.", check=_iqn),
                _USERNAME,
                _SECRET,
            ),
            target="/dev/disk/by-path",
            formats=(),
        ),
        PoolType(
            name="rbd",
            label="Ceph (RBD)",
            hint="Images of a Ceph pool.",
            fields=(
                dataclasses.replace(_SERVER, label="Monitors", hint="Several with commas between.", check=_hosts),
                PoolField(name="source_name", label="Ceph pool", placeholder="guests", required=True, check=_group),
                _USERNAME,
                _SECRET,
            ),
            plain_names=True,
        ),
        PoolType(
            name="zfs",
            label="ZFS",
            hint="Volumes (zvol) of a ZFS pool.",
            fields=(
                PoolField(name="source_name", label="ZFS pool", placeholder="tank", required=True, check=_zpool),
                _NEW_DEVICE,
            ),
            build="Makes the pool on a device, where one is given.",
            plain_names=True,
        ),
    )
}
"""libvirt's word → type, the most usual first."""

_SOURCES: Final = (
    "target", "source_host", "source_directory", "source_device", "source_name", "source_format", "initiator", "username",
    "secret_uuid",
)  # fmt: skip


def formats_of(type_: str) -> tuple[str, ...]:
    """Formats of volumes that can be made in a pool of this type, the best first; none in one that we do not know."""
    known = POOL_TYPES.get(type_)
    return known.formats if known else ()


# -- the doors -------------------------------------------------------------------------------------------------------------
def check_pool(spec: PoolSpec) -> PoolSpec:
    """The pool as it is to be made: every word checked, and as it is written down. Raises BadInput."""
    found = Findings()
    known = POOL_TYPES.get(spec.type)
    if known is None:
        sentence = f"One of {', '.join(POOL_TYPES)}."
        raise BadInput(f"type: {sentence}", errors=[{"pointer": "/type", "detail": sentence}])
    values: dict[str, Any] = {"name": found.checked("name", spec.name, partial(_name, most=POOL_NAME_BYTES))}
    asked = {field.name: field for field in known.fields}
    for name in _SOURCES:
        value, field = getattr(spec, name), asked.get(name)
        if field is None:
            if value:
                found.add(name, f"A pool of the type {known.name} takes none.")
        elif value:
            values[name] = found.checked(name, value, field.check)
        elif field.required:
            found.add(name, f"{field.label} is missing.")
    if spec.type == "fs" and spec.build and spec.source_format in ("", "auto"):
        found.add("source_format", "Say which file system is to be made, or that the device has one already.")
    if bool(spec.username) is not bool(spec.secret_uuid):
        found.add("secret_uuid" if spec.username else "username", "A user name and a secret come together.")
    found.settle()
    return dataclasses.replace(spec, **values)


def check_volume(spec: VolumeSpec, *, type_: str, formats: tuple[str, ...] = ()) -> VolumeSpec:
    """The volume as it is to be made in a pool of the type `type_`. Raises BadInput.

    `formats`: what such a pool holds, where its type is none of ours.
    """
    found = Findings()
    known = POOL_TYPES.get(type_)
    formats = known.formats if known else formats
    if not formats:
        raise BadInput(f"No volumes are made in a pool of the type {type_}; they appear there by themselves.")
    plain = known is not None and known.plain_names
    found.checked("name", spec.name, partial(_name, most=VOLUME_NAME_BYTES, plain=plain))
    found.checked("format", spec.format, partial(_one_of, choices=formats))
    if not 0 < spec.capacity_bytes <= CAPACITY_MAX:
        found.add("capacity_bytes", f"From 1 to {CAPACITY_MAX} bytes.")
    if not 0 <= spec.allocation_bytes <= max(0, spec.capacity_bytes):
        found.add("allocation_bytes", "From 0 to the capacity.")
    if spec.backing:
        _check_overlay(found, spec)
    found.settle()
    return spec


def _check_overlay(found: Findings, spec: VolumeSpec) -> None:
    if spec.format != "qcow2":
        found.add("format", "Only a qcow2 volume can be an overlay of another.")
    if spec.backing == spec.name:
        found.add("backing", "A volume cannot be an overlay of itself.")
    if spec.allocation_bytes:
        found.add("allocation_bytes", "An overlay grows as it is written; nothing can be reserved for it.")


def check_backing(spec: VolumeSpec, backing: VolumeInfo) -> None:
    """Whether `backing`, as it is now, can be under `spec`. Raises BadInput."""
    found = Findings()
    if backing.kind != "file":
        found.add("backing", f"{backing.name} is no file.")
    if spec.capacity_bytes < backing.capacity_bytes:
        found.add(
            "capacity_bytes",
            f"Not less than {backing.name} has ({backing.capacity_bytes} bytes): its guest would find the end of its disk cut off.",
        )
    found.settle()


def check_growth(volume: VolumeInfo, capacity_bytes: int) -> None:
    """Whether `volume` may get this capacity. Raises BadInput."""
    found = Findings()
    if capacity_bytes > CAPACITY_MAX:
        found.add("capacity_bytes", f"At most {CAPACITY_MAX} bytes.")
    elif capacity_bytes < volume.capacity_bytes:
        found.add(
            "capacity_bytes",
            f"Not less than it has ({volume.capacity_bytes} bytes): a volume is never made smaller, what is at its end would be lost.",
        )
    found.settle()


def check_extent(volume: VolumeInfo, *, offset: int, length: int) -> None:
    """Whether `length` bytes can be written from `offset` on. Raises BadInput.

    The end of a raw volume is its capacity. A file in another format is as long as it is, whatever its guest sees.
    """
    found = Findings()
    end = volume.capacity_bytes if volume.format == "raw" else CAPACITY_MAX
    if offset < 0 or length < 0:
        found.add("offset" if offset < 0 else "length", "Not less than nothing.")
    elif offset + length > end:
        found.add(
            "length", f"{volume.name} has room for {max(0, end - offset)} bytes from there on; make it larger first."
        )
    found.settle()
