"""`<domain>`. Fields only."""

# ruff: noqa: D101 - the class names its tag, and that says it

from __future__ import annotations

from drivers.libvirtd.xml.devices import Boot, Channel, CharDevice, Disk, Filesystem, Graphics, Interface, Serial
from drivers.libvirtd.xml.element import Attr, Child, Children, Element, Size, Text

OSINFO = "{http://libosinfo.org/xmlns/libvirt/domain/1.0}"


class Metadata(Element):
    tag = "metadata"
    os_id = Attr(f"{OSINFO}libosinfo/{OSINFO}os@id", str)


class Os(Element):
    tag = "os"
    type = Text("type", str)
    arch = Attr("type@arch", str)
    machine = Attr("type@machine", str)
    firmware = Attr("@firmware", str)
    loader = Text("loader", str)
    loader_type = Attr("loader@type", str)
    nvram = Text("nvram", str)
    kernel = Text("kernel", str)
    initrd = Text("initrd", str)
    cmdline = Text("cmdline", str)
    init = Text("init", str)
    boots = Children("boot", Boot)


class Cpu(Element):
    tag = "cpu"
    mode = Attr("@mode", str)
    model = Text("model", str)


class Domain(Element):
    tag = "domain"
    type = Attr("@type", str)
    id = Attr("@id", int)
    name = Text("name", str)
    uuid = Text("uuid", str)
    title = Text("title", str)
    description = Text("description", str)
    memory_bytes = Size("memory")
    current_memory_bytes = Size("currentMemory")
    max_memory_bytes = Size("maxMemory")
    vcpus = Text("vcpu", int)
    current_vcpus = Attr("vcpu@current", int)
    on_poweroff = Text("on_poweroff", str)
    on_reboot = Text("on_reboot", str)
    on_crash = Text("on_crash", str)
    metadata = Child("metadata", Metadata)
    os = Child("os", Os)
    cpu = Child("cpu", Cpu)
    disks = Children("devices/disk", Disk)
    filesystems = Children("devices/filesystem", Filesystem)
    interfaces = Children("devices/interface", Interface)
    graphics = Children("devices/graphics", Graphics)
    serials = Children("devices/serial", Serial)
    consoles = Children("devices/console", CharDevice)
    channels = Children("devices/channel", Channel)
