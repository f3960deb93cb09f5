"""The shape of a network configuration, as cloud-init and netplan write it: version 2, and version 1 as far as its devices."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

from cloudinit.document import Unreadable, read
from cloudinit.findings import Report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cloudinit.document import Document, Path

_DEVICES: Final = (
    "ethernets", "wifis", "bonds", "bridges", "vlans", "tunnels", "vrfs", "modems", "dummy-devices", "nm-devices",
)  # fmt: skip
_V2_KEYS: Final = frozenset({"version", "renderer", "openvswitch", *_DEVICES})
_V1_TYPES: Final = frozenset({"physical", "bond", "bridge", "vlan", "nameserver", "route", "infiniband", "loopback"})
_ANYWHERE: Final = ("default", "0.0.0.0/0", "::/0")


def check_network_config(text: str) -> Report:
    """Look at one of version 1 or 2, with or without `network:` above it."""
    if not text.strip():
        return Report.refused("It is empty; leave it out, and every interface takes DHCP.", 0)
    try:
        document = read(text)
    except Unreadable as error:
        return Report.refused(error.detail, error.line)
    report = Report(value=document.value)
    report.add_repeated(document)
    look = _Look(report, document)
    content: Any = document.value
    above: Path = ()
    if isinstance(content, dict) and set(content) == {"network"}:
        content, above = content["network"], ("network",)
    if not isinstance(content, dict):
        look.wrong(above, "It must be a mapping with version: 2.")
    elif content.get("version") == 2:
        look.version_2(content, above)
    elif content.get("version") == 1:
        look.version_1(content, above)
    else:
        look.wrong((*above, "version"), "version: 2 (or 1) must stand in it.")
    return report.sorted()


class _Look:
    """Goes through one document."""

    def __init__(self, report: Report, document: Document) -> None:
        self._report = report
        self._document = document

    def wrong(self, path: Path, detail: str, *, warning: bool = False) -> None:
        self._report.add(self._document, path, detail, warning=warning)

    def version_2(self, content: dict[Any, Any], above: Path) -> None:
        for key in content:
            if key not in _V2_KEYS:
                self.wrong((*above, str(key)), f"Unknown; it takes {', '.join(sorted(_V2_KEYS))}.", warning=True)
        for kind in _DEVICES:
            for name, settings in self._mapping(content, kind, above).items():
                path = (*above, kind, str(name))
                if isinstance(settings, dict):
                    self._device(settings, path)
                else:
                    self.wrong(path, "A mapping with its settings: dhcp4: true, for example.")

    def _device(self, settings: dict[Any, Any], path: Path) -> None:
        for key in ("dhcp4", "dhcp6", "optional", "wakeonlan"):
            if key in settings and not isinstance(settings[key], bool):
                self.wrong((*path, key), "true or false.")
        for key in ("gateway4", "gateway6"):
            if key in settings:
                self._address(settings[key], (*path, key))
        for number, entry in self._list(settings, "addresses", path):
            self._interface(next(iter(entry), "") if isinstance(entry, dict) else entry, (*path, "addresses", number))
        servers = self._mapping(settings, "nameservers", path)
        for number, entry in self._list(servers, "addresses", (*path, "nameservers")):
            self._address(entry, (*path, "nameservers", "addresses", number))
        for number, route in self._list(settings, "routes", path):
            self._route(route, (*path, "routes", number))

    def _route(self, route: Any, path: Path) -> None:
        if not isinstance(route, dict):
            self.wrong(path, "A mapping with to and via.")
            return
        if route.get("to", "default") not in _ANYWHERE:
            self._interface(route["to"], (*path, "to"))
        if "via" in route:
            self._address(route["via"], (*path, "via"))

    def version_1(self, content: dict[Any, Any], above: Path) -> None:
        if "config" not in content:
            self.wrong(above, "config: with a list of devices must stand in it.")
        for number, entry in self._list(content, "config", above):
            if not isinstance(entry, dict) or entry.get("type") not in _V1_TYPES:
                self.wrong((*above, "config", number), f"type: one of {', '.join(sorted(_V1_TYPES))}.")

    # -- values --------------------------------------------------------------------------------------------------------
    def _mapping(self, settings: dict[Any, Any], key: str, path: Path) -> dict[Any, Any]:
        value = settings.get(key, {})
        if isinstance(value, dict):
            return value
        self.wrong((*path, key), "A mapping: names, each with its settings.")
        return {}

    def _list(self, settings: dict[Any, Any], key: str, path: Path) -> Iterable[tuple[int, Any]]:
        value = settings.get(key, [])
        if isinstance(value, list):
            return enumerate(value)
        self.wrong((*path, key), "A list.")
        return ()

    def _address(self, value: Any, path: Path) -> None:
        try:
            ipaddress.ip_address(value if isinstance(value, str) else "")
        except ValueError:
            self.wrong(path, "An IP address.")

    def _interface(self, value: Any, path: Path) -> None:
        try:
            ipaddress.ip_interface(value if isinstance(value, str) else "")
        except ValueError:
            self.wrong(path, "An address with its prefix: 192.0.2.10/24.")
        else:
            if "/" not in value:
                self.wrong(path, "Without a prefix it is a network of one: 192.0.2.10/24 may be meant.", warning=True)
