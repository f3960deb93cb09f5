"""What a file's name tells of an image, where nobody said: its processor, and whether it is made for cloud-init."""

from __future__ import annotations

import re
from typing import Final

_ARCHITECTURES: Final = {
    "x86_64": re.compile(r"(?:^|[^a-z0-9])(?:x86[-_]64|amd64|x64)(?:[^0-9]|$)"),
    "aarch64": re.compile(r"(?:^|[^a-z0-9])(?:aarch64|arm64)(?:[^0-9]|$)"),
    "riscv64": re.compile(r"(?:^|[^a-z0-9])riscv64(?:[^0-9]|$)"),
    "s390x": re.compile(r"(?:^|[^a-z0-9])s390x(?:[^0-9]|$)"),
    "ppc64le": re.compile(r"(?:^|[^a-z0-9])(?:ppc64le|ppc64el)(?:[^0-9]|$)"),
}


def architecture(filename: str) -> str:
    """`x86_64`, …; "" where it tells none."""
    name = filename.lower()
    return next((word for word, pattern in _ARCHITECTURES.items() if pattern.search(name)), "")


def cloud_init(filename: str) -> bool | None:
    """True where its name says so. Debian's `nocloud` images have none, Alpine's have and say it once more."""
    name = filename.lower().replace("\\", "/").rpartition("/")[2]
    if re.search(r"cloud-?init", name):
        return True
    return True if "cloud" in name and "nocloud" not in name and not name.endswith(".iso") else None
