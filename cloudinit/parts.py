"""The files of a seed, made of parts: what a form asks for, and a document of the user's own that they are merged into.

What the user wrote wins; lists (keys, packages) are put together. A document to which nothing is added stays as it was written, with
its comments. A script stays a script: what is added to it becomes a second part of a MIME message, as cloud-init takes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import TYPE_CHECKING, Any, Final

import yaml

from cloudinit.checks import CLOUD_CONFIG, check_user_data
from cloudinit.network import check_network_config

if TYPE_CHECKING:
    from collections.abc import Sequence

_EMPTY: Final = f"{CLOUD_CONFIG}\n{{}}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What goes into a seed.

    Attributes:
        instance_id: cloud-init does its work once for each: a new one makes it run again.
        macs: Of the guest's interfaces, for a network configuration where none is given and there are several: DHCP on each.
        user: Account to be made; "": the image's own.
        password_hash: As in /etc/shadow.
    """

    instance_id: str
    hostname: str
    macs: Sequence[str] = ()
    user_data: str = ""
    network_config: str = ""
    ssh_keys: Sequence[str] = ()
    user: str = ""
    password_hash: str = ""
    packages: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """The files that NoCloud reads, by their names there with `_` for `-`."""

    meta_data: str
    user_data: str
    vendor_data: str
    network_config: str

    def files(self) -> dict[str, bytes]:
        """Name → content; no network configuration, no file."""
        found = {
            "meta-data": self.meta_data,
            "user-data": self.user_data,
            "vendor-data": self.vendor_data,
            "network-config": self.network_config,
        }
        return {name: text.encode() for name, text in found.items() if text}


def seed_of(parts: Parts) -> Seed:
    """Its files. Both documents must have passed their checks."""
    meta = {"instance-id": parts.instance_id, "local-hostname": parts.hostname}
    return Seed(
        meta_data=_dump(meta),
        user_data=_user_data(parts),
        vendor_data=_EMPTY,
        network_config=_network_config(parts),
    )


def _user_data(parts: Parts) -> str:
    text = parts.user_data.lstrip("\ufeff")
    if not text.strip():
        ours = _merged({}, parts)
        return f"{CLOUD_CONFIG}\n{_dump(ours)}" if ours else _EMPTY
    value = check_user_data(text).value
    if value is None:
        ours = _merged({}, parts)
        return text if not ours else _multipart(text, f"{CLOUD_CONFIG}\n{_dump(ours)}")
    merged = _merged(value, parts)
    return text if merged == value else f"{CLOUD_CONFIG}\n{_dump(merged)}"


def _merged(theirs: dict[str, Any], parts: Parts) -> dict[str, Any]:
    found = dict(theirs)
    if parts.packages:
        found["packages"] = _united(found.get("packages"), parts.packages)
        found.setdefault("package_update", True)
    if parts.user:
        account: dict[str, Any] = {"name": parts.user, "shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL"}
        account["lock_passwd"] = not parts.password_hash
        if parts.password_hash:
            account["passwd"] = parts.password_hash
        if parts.ssh_keys:
            account["ssh_authorized_keys"] = list(parts.ssh_keys)
        users = list(found["users"]) if isinstance(found.get("users"), list) else []
        if not any(isinstance(one, dict) and one.get("name") == parts.user for one in users):
            found["users"] = [*users, account]
        return found
    if parts.ssh_keys:
        found["ssh_authorized_keys"] = _united(found.get("ssh_authorized_keys"), parts.ssh_keys)
    if parts.password_hash and "password" not in found:
        found["password"] = parts.password_hash
        found.setdefault("chpasswd", {"expire": False})
    return found


def _united(theirs: Any, ours: Sequence[str]) -> list[Any]:
    first = list(theirs) if isinstance(theirs, list) else []
    return [*first, *(one for one in ours if one not in first)]


def _multipart(script: str, config: str) -> str:
    message = MIMEMultipart()
    for text, kind in ((config, "cloud-config"), (script, "x-shellscript" if script.startswith("#!") else "plain")):
        part = MIMEText(text, kind, "utf-8")
        part.add_header("Content-Disposition", "attachment", filename=kind)
        message.attach(part)
    return message.as_string()


def _network_config(parts: Parts) -> str:
    if parts.network_config.strip():
        value = check_network_config(parts.network_config).value
        return (
            _dump(value["network"]) if isinstance(value, dict) and set(value) == {"network"} else parts.network_config
        )
    if len(parts.macs) < 2:
        return (
            ""  # where nothing is said cloud-init asks for an address on the interface that there is, on every system
        )
    # Found by their addresses. Each has a name: but for netplan, cloud-init's writers take the key for the interface's own
    # name, and would configure one that is not there. The first is waited for at boot, the others are not.
    devices = {
        f"eth{number}": {
            "match": {"macaddress": mac},
            "set-name": f"eth{number}",
            "dhcp4": True,
            **({"optional": True} if number else {}),
        }
        for number, mac in enumerate(parts.macs)
    }
    return _dump({"version": 2, "ethernets": devices})


def _dump(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False)
