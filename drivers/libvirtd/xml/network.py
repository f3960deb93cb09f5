"""`<network>`, `<filter>`, and the host's own interfaces in both of libvirt's accounts of them. Fields only."""

# ruff: noqa: D101 - the class names its tag, and that says it

from __future__ import annotations

from drivers.libvirtd.xml.element import Attr, Children, Element, Flag, Text


class NetworkHost(Element):
    """An address that is kept for somebody. Of IPv6 it has an `id` in place of a `mac`."""

    tag = "host"
    mac = Attr("@mac", str)
    name = Attr("@name", str)
    ip = Attr("@ip", str)


class NetworkIp(Element):
    tag = "ip"
    family = Attr("@family", str)
    address = Attr("@address", str)
    netmask = Attr("@netmask", str)
    prefix = Attr("@prefix", int)
    dhcp = Flag("dhcp")
    dhcp_start = Attr("dhcp/range@start", str)
    dhcp_end = Attr("dhcp/range@end", str)
    hosts = Children("dhcp/host", NetworkHost)


class VlanTag(Element):
    tag = "tag"
    id = Attr("@id", int)


class NetworkPortGroup(Element):
    tag = "portgroup"
    name = Attr("@name", str)
    default = Attr("@default", str)
    trunk = Attr("vlan@trunk", str)
    vlans = Children("vlan/tag", VlanTag)


class ForwardInterface(Element):
    tag = "interface"
    dev = Attr("@dev", str)


class Network(Element):
    tag = "network"
    name = Text("name", str)
    uuid = Text("uuid", str)
    forward = Flag("forward")
    forward_mode = Attr("forward@mode", str)
    forward_dev = Attr("forward@dev", str)
    forward_interfaces = Children("forward/interface", ForwardInterface)
    nat_ipv6 = Attr("forward/nat@ipv6", str)
    bridge = Attr("bridge@name", str)
    mtu = Attr("mtu@size", int)
    domain = Attr("domain@name", str)
    virtual_port = Attr("virtualport@type", str)
    trunk = Attr("vlan@trunk", str)
    vlans = Children("vlan/tag", VlanTag)
    port_groups = Children("portgroup", NetworkPortGroup)
    ips = Children("ip", NetworkIp)


class FilterRef(Element):
    tag = "filterref"
    filter = Attr("@filter", str)


class FilterRule(Element):
    tag = "rule"


class Filter(Element):
    tag = "filter"
    name = Attr("@name", str)
    chain = Attr("@chain", str)
    uuid = Text("uuid", str)
    refs = Children("filterref", FilterRef)
    rules = Children("rule", FilterRule)


class NetDevice(Element):
    """A node device that is a network interface."""

    tag = "device"
    path = Text("path", str)
    interface = Text("capability[@type='net']/interface", str)
    mac = Text("capability[@type='net']/address", str)
    link = Attr("capability[@type='net']/link@state", str)
    speed = Attr("capability[@type='net']/link@speed", int)


class Port(Element):
    tag = "interface"
    name = Attr("@name", str)
    type = Attr("@type", str)
    mac = Attr("mac@address", str)
    link = Attr("link@state", str)
    speed = Attr("link@speed", int)
    vlan = Attr("vlan@tag", int)


class Interface(Port):
    """An interface as libvirt's interface driver has it: what it is made of."""

    bridge_ports = Children("bridge/interface", Port)
    bond_ports = Children("bond/interface", Port)
