"""libosinfo's identifier of a guest's system -> what vSphere calls it. A version knows no newer systems than itself.

The versions are those since which VMware's API reference has each identifier (`VirtualMachineGuestOsIdentifier`).
"""

from __future__ import annotations

import re
from typing import Final

from drivers import osinfo

_Names = tuple[tuple[tuple[int, ...], str], ...]
"""Since which version of the API -> the identifier, the newest first."""

_DEBIAN: Final[_Names] = (
    ((8, 0, 0, 1), "debian12_64Guest"),
    ((7, 0), "debian11_64Guest"),
    ((6, 5), "debian10_64Guest"),
)
_TABLE: Final[tuple[tuple[str, _Names], ...]] = (
    ("http://debian.org/debian/13", (((9, 0), "debian13_64Guest"), *_DEBIAN)),
    ("http://debian.org/debian/12", _DEBIAN),
    ("http://debian.org/debian/", _DEBIAN[1:]),
    ("http://ubuntu.com/ubuntu/", (((), "ubuntu64Guest"),)),
    ("http://fedoraproject.org/fedora/", (((), "fedora64Guest"),)),
    ("http://rockylinux.org/rocky/", (((8, 0, 0, 1), "rockylinux_64Guest"), ((7, 0), "rhel8_64Guest"))),
    ("http://almalinux.org/almalinux/", (((8, 0, 0, 1), "almalinux_64Guest"), ((7, 0), "rhel8_64Guest"))),
    ("http://centos.org/centos-stream/", (((7, 0, 1), "centos9_64Guest"), ((7, 0), "centos8_64Guest"))),
    ("http://opensuse.org/opensuse/", (((), "opensuse64Guest"),)),
    ("http://freebsd.org/freebsd/", (((8, 0, 0, 1), "freebsd14_64Guest"), ((7, 0), "freebsd12_64Guest"))),
    ("http://microsoft.com/win/11", (((8, 0, 0, 1), "windows11_64Guest"), ((), "windows9_64Guest"))),
    ("http://microsoft.com/win/10", (((), "windows9_64Guest"),)),
    ("http://microsoft.com/win/2k25", (((8, 0, 0, 1), "windows2022srvNext_64Guest"),)),
    ("http://microsoft.com/win/2k22", (((7, 0, 1), "windows2019srvNext_64Guest"),)),
    ("http://microsoft.com/win/2k", (((7, 0), "windows2019srv_64Guest"), ((), "windows9Server64Guest"))),
)
_FAMILIES: Final[dict[str, _Names]] = {
    "linux": (((7, 0, 1), "other5xLinux64Guest"), ((7, 0), "other4xLinux64Guest"), ((), "other3xLinux64Guest")),
    "windows": (((7, 0), "windows2019srv_64Guest"), ((), "windows9Server64Guest")),
    "bsd": (((), "freebsd64Guest"),),
    "other": (((), "otherGuest64"),),
}


def guest_id(os_id: str, api_version: str) -> str:
    """What a server of this version of the API calls the system; the most general name of its family where it knows no better."""
    version = tuple(int(part) for part in api_version.split(".") if part.isdigit())
    named = next((names for start, names in _TABLE if os_id.startswith(start)), ())
    family = _FAMILIES.get(osinfo.defaults(os_id).family, _FAMILIES["other"])
    return next(name for since, name in (*named, *family) if version >= since)


def file_id(name: str) -> str:
    """The same as a `.vmx` has it: `debian12-64`, `other-64`."""
    return re.sub(r"_?64$", "-64", name.replace("Guest", "").lower())
