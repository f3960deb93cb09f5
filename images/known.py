"""Cloud images that their publishers keep under one address: what the dialog of a URL offers. Nothing is fetched by itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownImage:
    """One of them, made for cloud-init."""

    label: str
    name: str
    url: str
    os_id: str


KNOWN: Final = (
    KnownImage(
        label="Debian 12",
        name="debian-12",
        url="https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2",
        os_id="http://debian.org/debian/12",
    ),
    KnownImage(
        label="Ubuntu 24.04 LTS",
        name="ubuntu-24.04",
        url="https://cloud-images.ubuntu.com/noble/current/noble-server-cloudimg-amd64.img",
        os_id="http://ubuntu.com/ubuntu/24.04",
    ),
    KnownImage(
        label="Rocky Linux 9",
        name="rocky-9",
        url="https://dl.rockylinux.org/pub/rocky/9/images/x86_64/Rocky-9-GenericCloud.latest.x86_64.qcow2",
        os_id="http://rockylinux.org/rocky/9",
    ),
    KnownImage(
        label="AlmaLinux 9",
        name="alma-9",
        url="https://repo.almalinux.org/almalinux/9/cloud/x86_64/images/AlmaLinux-9-GenericCloud-latest.x86_64.qcow2",
        os_id="http://almalinux.org/almalinux/9",
    ),
)


def known() -> list[dict[str, Any]]:
    """As the page takes them."""
    return [asdict(one) for one in KNOWN]
