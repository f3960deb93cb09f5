"""What a `GuestSpec` must be whoever makes the guest. What a host can do is for its driver's design to say."""

from __future__ import annotations

import dataclasses
import re
import shlex
from typing import TYPE_CHECKING, Final

from drivers.errors import InvalidDefinition, Unsupported

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from drivers.types import GuestSpec

NAME_BYTES_MAX: Final = 200
"""Hypervisors keep files of the guest's name, with endings of their own."""
MEMORY_BYTES_MIN: Final = 1024 * 1024
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FACT = re.compile(r"[a-z][a-z0-9_]*")
_MAC = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""What XML cannot carry, nor a terminal show."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
"""What cannot stand in one line."""
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "accelerator": ("auto", "kvm", "tcg"),
    "firmware": ("bios", "uefi"),
    "graphics": ("vnc", "spice", "none"),
}
DEVICES: Final = ("disk", "cdrom", "network")
"""What a boot order may name."""


def refusal(field: str, sentence: str) -> InvalidDefinition:
    """The error for a field that cannot be as it is asked for; `sentence` goes on after the field's name."""
    return InvalidDefinition(f"{field}: {sentence}", field=field)


def lacking(field: str, sentence: str) -> Unsupported:
    """The error for a field that is well, and that this host or hypervisor cannot do."""
    return Unsupported(f"{field}: {sentence}", field=field)


def refuse_wishes(spec: GuestSpec, sentences: Mapping[str, str]) -> None:
    """Raises Unsupported for the first of these fields that says something else than it does by itself."""
    plain = {field.name: field.default for field in dataclasses.fields(spec)}
    for field, sentence in sentences.items():
        if getattr(spec, field) not in (plain[field], ()):
            raise lacking(field, sentence)


def command(spec: GuestSpec) -> list[str]:
    """The words of `spec.init`, as a shell splits them. Raises InvalidDefinition."""
    try:
        return shlex.split(spec.init)
    except ValueError as error:
        raise refusal("init", f"not a command line: {str(error).lower().rstrip('.')}.") from None


def check(spec: GuestSpec) -> None:
    """Raises InvalidDefinition, which names the field, for what no hypervisor could make."""
    _check_identity(spec)
    if spec.vcpus < 1:
        raise refusal("vcpus", "at least one.")
    if spec.memory_bytes < MEMORY_BYTES_MIN:
        raise refusal("memory_bytes", "at least 1 MiB.")
    for field, text in _texts(spec):
        if _UNPRINTABLE.search(text):
            raise refusal(field, "there are control characters in it.")
    for field, words in _WORDS.items():
        one_of(field, getattr(spec, field), words)
    for device in spec.boot_order:
        one_of("boot_order", device, DEVICES)
    if spec.secure_boot and spec.firmware != "uefi":
        raise refusal("secure_boot", "only UEFI firmware has it; set firmware to uefi.")
    _check_devices(spec)


def _check_identity(spec: GuestSpec) -> None:
    if not spec.name.strip() or "/" in spec.name or _CONTROL.search(spec.name):
        raise refusal("name", "a guest's name has no slash and no control character, and is not empty.")
    if len(spec.name.encode()) > NAME_BYTES_MAX:
        raise refusal("name", f"at most {NAME_BYTES_MAX} bytes.")
    if not _UUID.fullmatch(spec.uuid):
        raise refusal("uuid", "not a UUID as they are written, 8-4-4-4-12 hexadecimal digits.")
    if _CONTROL.search(spec.title):
        raise refusal("title", "one line; a description may have several.")
    for name in spec.metadata:
        if not _FACT.fullmatch(name):
            raise refusal("metadata", f"{name!r} is no name for a fact: lower-case letters, digits and underscores.")


def one_of(field: str, word: str, words: Collection[str]) -> None:
    """Raises InvalidDefinition unless `word` is one of `words`."""
    if word not in words:
        raise refusal(field, f"{word or 'nothing'} is none of {', '.join(words)}.")


def _check_devices(spec: GuestSpec) -> None:
    for number, disk in enumerate(spec.disks):
        one_of(f"disks[{number}].device", disk.device, ("disk", "cdrom"))
        one_of(f"disks[{number}].bus", disk.bus, ("", "virtio", "scsi", "sata", "ide", "usb", "xen"))
        if not disk.path and not (disk.pool and disk.volume):
            raise refusal(f"disks[{number}]", "name its volume: a path, or a pool and a volume.")
    for number, nic in enumerate(spec.interfaces):
        if bool(nic.network) == bool(nic.bridge):
            raise refusal(f"interfaces[{number}]", "name either a network or a bridge.")
        if nic.mac and (not _MAC.fullmatch(nic.mac) or int(nic.mac[:2], 16) & 1):
            raise refusal(f"interfaces[{number}].mac", "six pairs of hexadecimal digits, the first of them even.")


def _texts(spec: GuestSpec) -> Iterator[tuple[str, str]]:
    for field in (
        *(
            "title",
            "description",
            "machine",
            "cpu_mode",
            "kernel",
            "initrd",
            "cmdline",
            "root",
            "init",
            "image",
            "os_id",
        ),
    ):
        yield field, getattr(spec, field)
    for number, disk in enumerate(spec.disks):
        for part in ("pool", "volume", "path", "format"):
            yield f"disks[{number}].{part}", getattr(disk, part)
    for number, nic in enumerate(spec.interfaces):
        for part in ("network", "bridge", "model"):
            yield f"interfaces[{number}].{part}", getattr(nic, part)
    for name, value in spec.metadata.items():
        yield f"metadata.{name}", value
