"""`<capabilities>`, `<domainCapabilities>`, `<sysinfo>` and `<cpu>`. Fields only."""

# ruff: noqa: D101 - the class names its tag, and that says it

from __future__ import annotations

from drivers.libvirtd.xml.element import Attr, Child, Children, Element, Text


class CpuFeature(Element):
    tag = "feature"
    name = Attr("@name", str)
    policy = Attr("@policy", str)


class HostCpu(Element):
    tag = "cpu"
    arch = Text("arch", str)
    model = Text("model", str)
    vendor = Text("vendor", str)
    features = Children("feature", CpuFeature)


class GuestDomain(Element):
    tag = "domain"
    type = Attr("@type", str)


class GuestCapability(Element):
    tag = "guest"
    os_type = Text("os_type", str)
    arch = Attr("arch@name", str)
    emulator = Text("arch/emulator", str)
    domains = Children("arch/domain", GuestDomain)


class Capabilities(Element):
    tag = "capabilities"
    host_uuid = Text("host/uuid", str)
    host_cpu = Child("host/cpu", HostCpu)
    guests = Children("guest", GuestCapability)


class CpuMode(Element):
    tag = "mode"
    supported = Attr("@supported", str)
    model = Text("model", str)
    features = Children("feature", CpuFeature)


class DomainCapabilities(Element):
    tag = "domainCapabilities"
    domain = Text("domain", str)
    arch = Text("arch", str)
    host_model = Child("cpu/mode[@name='host-model']", CpuMode)


class SysInfo(Element):
    tag = "sysinfo"
    processor_version = Text("processor/entry[@name='version']", str)
    manufacturer = Text("system/entry[@name='manufacturer']", str)
    product = Text("system/entry[@name='product']", str)
    uuid = Text("system/entry[@name='uuid']", str)
