"""`<network>`. Fields only."""

# ruff: noqa: D101 - the class names its tag, and that says it

from __future__ import annotations

from drivers.libvirtd.xml.element import Attr, Children, Element, Flag, Text


class NetworkIp(Element):
    tag = "ip"
    family = Attr("@family", str)
    address = Attr("@address", str)
    netmask = Attr("@netmask", str)
    prefix = Attr("@prefix", int)
    dhcp = Flag("dhcp")
    dhcp_start = Attr("dhcp/range@start", str)
    dhcp_end = Attr("dhcp/range@end", str)


class Network(Element):
    tag = "network"
    name = Text("name", str)
    uuid = Text("uuid", str)
    forward = Flag("forward")
    forward_mode = Attr("forward@mode", str)
    bridge = Attr("bridge@name", str)
    domain = Attr("domain@name", str)
    ips = Children("ip", NetworkIp)
