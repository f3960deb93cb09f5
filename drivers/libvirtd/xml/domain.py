"""`<domain>`. Fields only."""

# ruff: noqa: D101 - the class names its tag, and that says it

from __future__ import annotations

from lxml import etree

from drivers.libvirtd.xml.capabilities import CpuFeature
from drivers.libvirtd.xml.devices import (
    Boot,
    Channel,
    CharDevice,
    Controller,
    Disk,
    Filesystem,
    Graphics,
    HostDev,
    Input,
    Interface,
    MemoryBalloon,
    Rng,
    Serial,
    Sound,
    Timer,
    Tpm,
    Video,
    Watchdog,
)
from drivers.libvirtd.xml.element import Attr, Child, Children, Element, Flag, Size, Text

_OSINFO = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
OSINFO = f"{{{_OSINFO}}}"
etree.register_namespace("libosinfo", _OSINFO)  # the prefix that everybody writes


class Metadata(Element):
    tag = "metadata"
    os_id = Attr(f"{OSINFO}libosinfo/{OSINFO}os@id", str)


class FirmwareFeature(Element):
    tag = "feature"
    name = Attr("@name", str)
    enabled = Attr("@enabled", str)


class InitArgument(Element):
    tag = "initarg"
    text = Text("", str)


class Os(Element):
    tag = "os"
    type = Text("type", str)
    arch = Attr("type@arch", str)
    machine = Attr("type@machine", str)
    firmware = Attr("@firmware", str)
    loader = Text("loader", str)
    loader_type = Attr("loader@type", str)
    loader_readonly = Attr("loader@readonly", str)
    loader_secure = Attr("loader@secure", str)
    firmware_features = Children("firmware/feature", FirmwareFeature)
    nvram = Text("nvram", str)
    kernel = Text("kernel", str)
    initrd = Text("initrd", str)
    cmdline = Text("cmdline", str)
    init = Text("init", str)
    init_arguments = Children("initarg", InitArgument)
    boots = Children("boot", Boot)
    menu = Attr("bootmenu@enable", str)


class Features(Element):
    tag = "features"
    acpi = Flag("acpi")
    apic = Flag("apic")
    pae = Flag("pae")
    privnet = Flag("privnet")
    smm = Attr("smm@state", str)
    vmport = Attr("vmport@state", str)
    hyperv_relaxed = Attr("hyperv/relaxed@state", str)
    hyperv_vapic = Attr("hyperv/vapic@state", str)
    hyperv_spinlocks = Attr("hyperv/spinlocks@state", str)
    hyperv_spinlock_retries = Attr("hyperv/spinlocks@retries", int)


class NumaCell(Element):
    """Its memory is its own attribute, in KiB where no unit is beside it."""

    tag = "cell"
    id = Attr("@id", int)
    cpus = Attr("@cpus", str)
    memory = Attr("@memory", int)
    unit = Attr("@unit", str)


class CpuPin(Element):
    tag = "vcpupin"
    vcpu = Attr("@vcpu", int)
    cpuset = Attr("@cpuset", str)


class Cpu(Element):
    tag = "cpu"
    mode = Attr("@mode", str)
    match = Attr("@match", str)
    check = Attr("@check", str)
    model = Text("model", str)
    fallback = Attr("model@fallback", str)
    features = Children("feature", CpuFeature)
    sockets = Attr("topology@sockets", int)
    dies = Attr("topology@dies", int)
    clusters = Attr("topology@clusters", int)
    cores = Attr("topology@cores", int)
    threads = Attr("topology@threads", int)
    cells = Children("numa/cell", NumaCell)


class Clock(Element):
    tag = "clock"
    offset = Attr("@offset", str)
    timers = Children("timer", Timer)


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
    features = Child("features", Features)
    cpu = Child("cpu", Cpu)
    pins = Children("cputune/vcpupin", CpuPin)
    emulator_pins = Attr("cputune/emulatorpin@cpuset", str)
    memory_nodes = Attr("numatune/memory@nodeset", str)
    memory_mode = Attr("numatune/memory@mode", str)
    clock = Child("clock", Clock)
    suspend_to_memory = Attr("pm/suspend-to-mem@enabled", str)
    suspend_to_disk = Attr("pm/suspend-to-disk@enabled", str)
    disks = Children("devices/disk", Disk)
    filesystems = Children("devices/filesystem", Filesystem)
    interfaces = Children("devices/interface", Interface)
    graphics = Children("devices/graphics", Graphics)
    serials = Children("devices/serial", Serial)
    consoles = Children("devices/console", CharDevice)
    channels = Children("devices/channel", Channel)
    controllers = Children("devices/controller", Controller)
    inputs = Children("devices/input", Input)
    videos = Children("devices/video", Video)
    tpms = Children("devices/tpm", Tpm)
    rngs = Children("devices/rng", Rng)
    watchdogs = Children("devices/watchdog", Watchdog)
    sounds = Children("devices/sound", Sound)
    host_devices = Children("devices/hostdev", HostDev)
    balloon = Child("devices/memballoon", MemoryBalloon)
