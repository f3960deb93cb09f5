"""`<capabilities>`, `<domainCapabilities>`, `<sysinfo>` and `<cpu>`. Fields only."""

# ruff: noqa: D101 - the class names its tag, and that says it

from __future__ import annotations

from drivers.libvirtd.xml.element import Attr, Child, Children, Element, Text


class Value(Element):
    """One word of a list: of an `<enum>`, or of the loaders."""

    tag = "value"
    text = Text("", str)


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


class Machine(Element):
    tag = "machine"
    name = Text("", str)
    canonical = Attr("@canonical", str)


class GuestCapability(Element):
    tag = "guest"
    os_type = Text("os_type", str)
    arch = Attr("arch@name", str)
    machines = Children("arch/machine", Machine)
    emulator = Text("arch/emulator", str)
    domains = Children("arch/domain", GuestDomain)


class Capabilities(Element):
    tag = "capabilities"
    host_uuid = Text("host/uuid", str)
    host_cpu = Child("host/cpu", HostCpu)
    guests = Children("guest", GuestCapability)


class CpuModel(Element):
    tag = "model"
    name = Text("", str)
    usable = Attr("@usable", str)


class CpuMode(Element):
    tag = "mode"
    name = Attr("@name", str)
    supported = Attr("@supported", str)
    model = Text("model", str)
    vendor = Text("vendor", str)
    models = Children("model", CpuModel)
    features = Children("feature", CpuFeature)


class DomainCapabilities(Element):
    tag = "domainCapabilities"
    domain = Text("domain", str)
    arch = Text("arch", str)
    most_vcpus = Attr("vcpu@max", int)
    firmwares = Children("os/enum[@name='firmware']/value", Value)
    loaders = Children("os/loader/value", Value)
    loader_secure = Children("os/loader/enum[@name='secure']/value", Value)
    modes = Children("cpu/mode", CpuMode)
    buses = Children("devices/disk/enum[@name='bus']/value", Value)
    graphics = Children("devices/graphics/enum[@name='type']/value", Value)
    videos = Children("devices/video/enum[@name='modelType']/value", Value)
    rng = Attr("devices/rng@supported", str)
    tpm_models = Children("devices/tpm/enum[@name='model']/value", Value)
    tpm_backends = Children("devices/tpm/enum[@name='backendModel']/value", Value)
    hyperv = Attr("features/hyperv@supported", str)
    host_model = Child("cpu/mode[@name='host-model']", CpuMode)


class SysInfo(Element):
    tag = "sysinfo"
    processor_version = Text("processor/entry[@name='version']", str)
    manufacturer = Text("system/entry[@name='manufacturer']", str)
    product = Text("system/entry[@name='product']", str)
    uuid = Text("system/entry[@name='uuid']", str)
