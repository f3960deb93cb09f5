"""A `GuestSpec` as the body of the call that creates a container, and where a container can be reached. No call, no thread."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from drivers import specs
from drivers.types import AddressInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.dockerd.document import Document
    from drivers.dockerd.guests import Room
    from drivers.types import GuestSpec

OWN: Final = "vmmanager."
UUID_LABEL: Final = f"{OWN}uuid"
"""An engine gives identities of its own: by this label a container is known again that an interrupted attempt has made."""
FACT_PREFIX: Final = f"{OWN}fact."
TITLE_LABEL: Final = "org.opencontainers.image.title"
DESCRIPTION_LABEL: Final = "org.opencontainers.image.description"

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,254}")
_NANO: Final = 1_000_000_000
_NO_MACHINE: Final = {
    "accelerator": "a container runs on the host's own kernel; leave it auto.",
    "machine": "a container has no machine of its own.",
    "firmware": "a container has no firmware.",
    "secure_boot": "a container has no firmware.",
    "tpm": "a container has no TPM.",
    "cpu_mode": "a container has the host's processors.",
    "nested": "a container has the host's processors, and no say over them.",
    "kernel": "a container runs on the host's own kernel.",
    "initrd": "a container runs on the host's own kernel.",
    "cmdline": "a container runs on the host's own kernel.",
    "boot_order": "a container boots from nothing; it runs a command.",
    "root": "an engine's container has an image, and no directory; give image.",
    "disks": "an engine's container has an image, and no disks; give image.",
}


def body(spec: GuestSpec, room: Room) -> dict[str, Any]:
    """What `POST /containers/create` is sent for `spec`.

    A terminal and an open input, so that what it runs can be a shell. Without an interface it is on the engine's usual network.

    Raises:
        InvalidDefinition, Unsupported: With the field's name.
    """
    specs.check(spec)
    specs.refuse_wishes(spec, _NO_MACHINE)
    if not _NAME.fullmatch(spec.name):
        raise specs.refusal(
            "name", "a container's name has letters, digits, _, . and -, two at least, and begins with the first two."
        )
    if not spec.image:
        raise specs.refusal("image", "name the image that the container is to run, one that the engine has.")
    if not _IMAGE.fullmatch(spec.image) or ".." in spec.image:
        raise specs.refusal("image", "not an image's name, such as debian:13 or registry/name:tag.")
    if room.cpu_count and spec.vcpus > room.cpu_count:
        raise specs.lacking("vcpus", f"at most {room.cpu_count}: the engine's machine has no more.")
    made: dict[str, Any] = {
        "Image": spec.image,
        "Tty": True,
        "OpenStdin": True,
        "Labels": _labels(spec),
        "HostConfig": {"NanoCpus": spec.vcpus * _NANO, "Memory": spec.memory_bytes},
    }
    command = specs.command(spec)
    if command:
        made["Cmd"] = command
    network = _network(spec)
    if network:
        made["HostConfig"]["NetworkMode"] = network
    return made


def shown(name: str, made: dict[str, Any]) -> str:
    """The body as text, for people."""
    return json.dumps({"name": name, **made}, indent=2, ensure_ascii=False)


def _labels(spec: GuestSpec) -> dict[str, str]:
    found = {UUID_LABEL: spec.uuid.lower(), TITLE_LABEL: spec.title, DESCRIPTION_LABEL: spec.description}
    found |= {f"{FACT_PREFIX}{name}": value for name, value in spec.metadata.items()}
    return {name: value for name, value in found.items() if value or name.startswith(FACT_PREFIX)}


def _network(spec: GuestSpec) -> str:
    if not spec.interfaces:
        return ""
    if len(spec.interfaces) > 1:
        raise specs.lacking(
            "interfaces[1]", "an engine puts a new container on one network; connect it to others there."
        )
    nic = spec.interfaces[0]
    if nic.bridge:
        raise specs.lacking("interfaces[0].bridge", "an engine puts nothing on a bridge; name one of its networks.")
    if nic.mac:
        raise specs.lacking("interfaces[0].mac", "the engine chooses it; leave it empty.")
    if nic.model:
        raise specs.lacking("interfaces[0].model", "a container's interface is of no model; leave it empty.")
    return nic.network


def facts(labels: dict[str, str]) -> dict[str, str]:
    """Our own facts among a container's labels."""
    return {name.removeprefix(FACT_PREFIX): value for name, value in labels.items() if name.startswith(FACT_PREFIX)}


def addresses(found: Document) -> Sequence[AddressInfo] | str:
    """What the engine has given a running container, as a DHCP server gives a machine: it chose it and keeps it for it."""
    told = []
    for _name, network in found.items("NetworkSettings", "Networks"):
        mac = network.text("MacAddress").lower()
        for address, length in (("IPAddress", "IPPrefixLen"), ("GlobalIPv6Address", "GlobalIPv6PrefixLen")):
            if network.text(address):
                prefix = network.number(length) or None
                told.append(AddressInfo(address=network.text(address), prefix=prefix, mac=mac, source="lease"))
    if told:
        return told
    mode = found.text("HostConfig", "NetworkMode")
    if mode == "host":
        return "The container uses its host's network: its addresses are the host's."
    if mode.startswith(("container:", "ns:")):
        return "The container shares the network of another one, and has its addresses."
    return "The engine has given this container no address: it is on no network."
