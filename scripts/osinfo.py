"""Makes drivers/osinfo.json: what guests of common operating systems need, from libosinfo's data and what it does not know yet.

    python scripts/osinfo.py [DIRECTORY]     DIRECTORY: libosinfo's, by itself /usr/share/osinfo (the package osinfo-db)

libosinfo tells names, versions, memory, disks and processors. What it does not tell stands here: the user of cloud images, whether
UEFI is advisable, how image files are called, and the releases that are younger than a distribution's osinfo-db: those need what the
release that is named as `like` needs, unless they say otherwise.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "drivers" / "osinfo.json"
GIB = 1024**3
MIB = 1024**2
DEBIAN, UBUNTU, FEDORA = "http://debian.org/debian/", "http://ubuntu.com/ubuntu/", "http://fedoraproject.org/fedora/"
ROCKY, ALMA, STREAM = (
    "http://rockylinux.org/rocky/",
    "http://almalinux.org/almalinux/",
    "http://centos.org/centos-stream/",
)
SUSE, ALPINE, ARCH = (
    "http://opensuse.org/opensuse/",
    "http://alpinelinux.org/alpinelinux/",
    "http://archlinux.org/archlinux/",
)
FREEBSD, OPENBSD, WINDOWS = "http://freebsd.org/freebsd/", "http://openbsd.org/openbsd/", "http://microsoft.com/win/"


REBUILDS = {
    ROCKY: ("Rocky Linux", "rocky", "rocky"),
    ALMA: ("AlmaLinux", "almalinux", "almalinux"),
    STREAM: ("CentOS Stream", "centos-stream", "cloud-user"),
}
"""Name, how image files begin, who signs in."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system.

    Attributes:
        files: Regular expressions, one of which a file's name must match (in lower case, from its start).
        like: Whose needs it has, where libosinfo does not know it.
        memory_mib, disk_gib, vcpus: What a guest of it is given by default, where libosinfo says too little; 0: what it says.
        virtio: Whether it has virtio drivers of its own. `uefi`, `secure_boot`, `tpm`: whether that is advisable.
    """

    id: str
    name: str
    files: tuple[str, ...]
    user: str = ""
    like: str = ""
    memory_mib: int = 0
    disk_gib: int = 0
    vcpus: int = 0
    virtio: bool = True
    uefi: bool = False
    secure_boot: bool = False
    tpm: bool = False


def debian(version: int, code: str, like: str = "") -> Row:
    """Debian names its images by number or by code name."""
    names = (rf"debian-?{version}\b", rf"debian-{code}\b", rf"{code}-(?:generic|nocloud)")
    return Row(id=f"{DEBIAN}{version}", name=f"Debian {version}", files=names, user="debian", like=like)


def ubuntu(version: str, code: str, like: str = "") -> Row:
    """Ubuntu's cloud images bear the code name."""
    names = (rf"ubuntu-{version.replace('.', '[.]')}", rf"{code}-(?:server|minimal|live|desktop)", rf"ubuntu-{code}\b")
    long_term = " LTS" if version.endswith(".04") and int(version[:2]) % 2 == 0 else ""
    return Row(id=f"{UBUNTU}{version}", name=f"Ubuntu {version}{long_term}", files=names, user="ubuntu", like=like)


def fedora(version: int) -> Row:
    """Fedora puts the version behind what the image is for."""
    names = (rf"fedora-(?:[a-z_]+-)*(?:x86_64-|aarch64-)?{version}\b", rf"fedora-?{version}\b")
    return Row(
        id=f"{FEDORA}{version}", name=f"Fedora {version}", files=names, user="fedora", like=f"{FEDORA}37", disk_gib=20
    )


def enterprise(base: str, version: int, like: str = "") -> Row:
    """The rebuilds of Red Hat's."""
    name, word, user = REBUILDS[base]
    names = (rf"{word}-?{version}\b", rf"{word}-(?:genericcloud|ec2|azure)-(?:base-)?{version}\b")
    return Row(
        id=f"{base}{version}",
        name=f"{name} {version}",
        files=names,
        user=user,
        like=like,
        memory_mib=2048,
        disk_gib=20,
        vcpus=2,
    )


def alpine(version: str) -> Row:
    """Alpine needs next to nothing."""
    names = (rf"(?:[a-z]+_)?alpine-(?:[a-z]+-)?{version.replace('.', '[.]')}\b",)
    return Row(
        id=f"{ALPINE}{version}", name=f"Alpine Linux {version}", files=names, user="alpine", like=f"{ALPINE}3.17",
        memory_mib=512, disk_gib=4,
    )  # fmt: skip


def freebsd(version: str, like: str = "") -> Row:
    """FreeBSD's machine images and installers."""
    names = (rf"freebsd-{version.replace('.', '[.]')}\b",)
    return Row(
        id=f"{FREEBSD}{version}", name=f"FreeBSD {version}", files=names, user="freebsd", like=like, memory_mib=1024,
        disk_gib=20,
    )  # fmt: skip


def openbsd(version: str) -> Row:
    """OpenBSD's installers have the version without its point."""
    names = (rf"(?:install|miniroot|cd){version.replace('.', '')}\b", rf"openbsd-{version.replace('.', '[.]')}")
    return Row(
        id=f"{OPENBSD}{version}", name=f"OpenBSD {version}", files=names, user="openbsd", like=f"{OPENBSD}7.0",
        memory_mib=1024, disk_gib=20,
    )  # fmt: skip


def windows(word: str, name: str, files: tuple[str, ...], **more: int | bool | str) -> Row:
    """Windows has no virtio drivers of its own."""
    return Row(id=f"{WINDOWS}{word}", name=name, files=files, virtio=False, **more)  # type: ignore[arg-type]


WANTED = (
    debian(13, "trixie", like=f"{DEBIAN}11"),
    debian(12, "bookworm", like=f"{DEBIAN}11"),
    debian(11, "bullseye"),
    ubuntu("26.04", "resolute", like=f"{UBUNTU}22.04"),
    ubuntu("25.10", "questing", like=f"{UBUNTU}22.04"),
    ubuntu("25.04", "plucky", like=f"{UBUNTU}22.04"),
    ubuntu("24.04", "noble", like=f"{UBUNTU}22.04"),
    ubuntu("22.04", "jammy"),
    ubuntu("20.04", "focal"),
    fedora(43),
    fedora(42),
    fedora(41),
    fedora(40),
    enterprise(ROCKY, 10, f"{ROCKY}9"),
    enterprise(ROCKY, 9),
    enterprise(ROCKY, 8),
    enterprise(ALMA, 10, f"{ALMA}9"),
    enterprise(ALMA, 9),
    enterprise(ALMA, 8),
    enterprise(STREAM, 10, f"{STREAM}9"),
    enterprise(STREAM, 9),
    Row(
        id=f"{SUSE}16.0", name="openSUSE Leap 16.0", files=("(?:opensuse-)?leap-16[.]0",), user="opensuse", like=f"{SUSE}15.4",
        memory_mib=2048, disk_gib=20,
    ),
    Row(
        id=f"{SUSE}15.6", name="openSUSE Leap 15.6", files=("opensuse-leap-15[.]6",), user="opensuse", like=f"{SUSE}15.4",
        memory_mib=2048, disk_gib=20,
    ),
    Row(
        id=f"{SUSE}tumbleweed", name="openSUSE Tumbleweed", files=("opensuse-tumbleweed",), user="opensuse", memory_mib=2048,
        disk_gib=20,
    ),
    *map(alpine, ("3.23", "3.22", "3.21", "3.20")),
    Row(
        id=f"{ARCH}rolling", name="Arch Linux", files=(r"arch-?linux\b",), user="arch", memory_mib=1024, disk_gib=20,
    ),
    freebsd("15.0", like=f"{FREEBSD}13.1"),
    freebsd("14.3", like=f"{FREEBSD}13.1"),
    freebsd("13.5", like=f"{FREEBSD}13.1"),
    *map(openbsd, ("7.8", "7.7")),
    windows(
        "11", "Microsoft Windows 11", (r"win(?:dows)?[_ -]?11",), memory_mib=4096, disk_gib=64, vcpus=2, uefi=True,
        secure_boot=True, tpm=True,
    ),
    windows("10", "Microsoft Windows 10", (r"win(?:dows)?[_ -]?10",), memory_mib=4096, disk_gib=40, vcpus=2),
    windows(
        "2k25", "Microsoft Windows Server 2025",
        (r".*server[_ -]?2025", r"win2k25", r"26100[.].*server"), like=f"{WINDOWS}2k22", memory_mib=4096, disk_gib=40, vcpus=2,
        uefi=True, secure_boot=True, tpm=True,
    ),
    windows(
        "2k22", "Microsoft Windows Server 2022",
        (r".*server[_ -]?2022", r"win2k22", r"20348[.].*server"), memory_mib=4096, disk_gib=40, vcpus=2, uefi=True,
    ),
    windows(
        "2k19", "Microsoft Windows Server 2019",
        (r".*server[_ -]?2019", r"win2k19", r"17763[.].*server"), memory_mib=4096, disk_gib=40, vcpus=2,
    ),
)  # fmt: skip


def known(directory: Path) -> dict[str, ET.Element]:
    """All systems of libosinfo's by their id."""
    found = {}
    for path in sorted(directory.glob("os/**/*.xml")):
        for os in ET.parse(path).getroot().iter("os"):
            if os.get("id") and os.find("name") is not None:
                found[os.get("id", "")] = os
    return found


def needs(systems: dict[str, ET.Element], wanted: str) -> dict[str, int]:
    """Memory, disk and processors of a system, or of the one that it was made from. Bytes; 0 where nobody says."""
    found = {"memory_minimum_bytes": 0, "memory_bytes": 0, "disk_minimum_bytes": 0, "disk_bytes": 0, "vcpus": 0}
    places = {
        "memory_minimum_bytes": "minimum/ram", "memory_bytes": "recommended/ram",
        "disk_minimum_bytes": "minimum/storage", "disk_bytes": "recommended/storage", "vcpus": "recommended/n-cpus",
    }  # fmt: skip
    seen: set[str] = set()
    while wanted in systems and wanted not in seen:
        seen.add(wanted)
        for resources in systems[wanted].iterfind("resources"):
            if resources.get("arch") in {"all", "x86_64"}:
                for field, place in places.items():
                    found[field] = found[field] or int(resources.findtext(place) or 0)
        older = next(
            (systems[wanted].find(tag) for tag in ("clones", "derives-from") if systems[wanted].find(tag) is not None),
            None,
        )
        wanted = "" if older is None else older.get("id", "")
    return found


def entry(row: Row, systems: dict[str, ET.Element]) -> dict[str, object]:
    """The JSON of one system."""
    source = row.id if row.id in systems else row.like
    if source not in systems:
        sys.exit(f"{row.id}: libosinfo's data knows neither it nor {row.like!r}; is osinfo-db too old?")
    told = needs(systems, source)
    memory = max(row.memory_mib * MIB, told["memory_bytes"], told["memory_minimum_bytes"])
    disk = max(row.disk_gib * GIB, told["disk_bytes"], told["disk_minimum_bytes"])
    version = row.id.rpartition("/")[2]
    return {
        "id": row.id,
        "name": row.name,
        "family": "windows" if row.id.startswith(WINDOWS) else "bsd" if "bsd.org" in row.id else "linux",
        "version": version.replace("2k", "20") if row.id.startswith(WINDOWS) else version,
        "memory_minimum_bytes": told["memory_minimum_bytes"] or memory // 2,
        "memory_bytes": memory,
        "disk_minimum_bytes": told["disk_minimum_bytes"] or disk // 2,
        "disk_bytes": disk,
        "vcpus": row.vcpus or max(told["vcpus"], 1),
        "virtio": row.virtio,
        "uefi": row.uefi,
        "secure_boot": row.secure_boot,
        "tpm": row.tpm,
        "user": row.user,
        "files": list(row.files),
    }


def main() -> None:
    """Write the file."""
    systems = known(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/osinfo"))
    if not systems:
        sys.exit("There is no libosinfo data there; install osinfo-db, or name the directory where it is unpacked.")
    OUT.write_text(json.dumps([entry(row, systems) for row in WANTED], indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
