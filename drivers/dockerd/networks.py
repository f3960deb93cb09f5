"""An engine's networks as the house knows networks: read only. No call, no thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.types import NetworkInfo

if TYPE_CHECKING:
    from drivers.dockerd.document import Document

_MODES: Final = {"bridge": "nat", "macvlan": "bridge", "ipvlan": "bridge", "overlay": "bridge"}
_NO_NETWORKS: Final = frozenset({"host", "null"})
"""Drivers of the engine's words for the host's own network, and for none."""


def network_infos(rows: list[Document], *, podman: bool) -> list[NetworkInfo]:
    """Those that a container can be put on by name."""
    return [_info(row, podman=podman) for row in rows if row.text("Driver") not in _NO_NETWORKS and row.text("Name")]


def _info(row: Document, *, podman: bool) -> NetworkInfo:
    driver = row.text("Driver")
    identity = row.text("Id")
    usual = f"br-{identity[:12]}" if driver == "bridge" and identity and not podman else ""  # Podman does not tell
    return NetworkInfo(
        uuid=identity or row.text("Name"),
        name=row.text("Name"),
        active=True,
        mode="isolated" if row.flag("Internal") else _MODES.get(driver, "bridge"),
        bridge=row.text("Options", "com.docker.network.bridge.name") or usual,
        addresses=tuple(
            f"{pool.text('Gateway').partition('/')[0]}/{pool.text('Subnet').partition('/')[2]}"
            for pool in row.parts("IPAM", "Config")
            if pool.text("Gateway") and "/" in pool.text("Subnet")
        ),
        autostart=True,
    )
