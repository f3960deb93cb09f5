"""Devices of a domain. Fields only."""

# ruff: noqa: D101 - the class names its tag, and that says it

from __future__ import annotations

from drivers.libvirtd.xml.element import Attr, Element, Flag, Size, Text


class Disk(Element):
    tag = "disk"
    type = Attr("@type", str)
    device = Attr("@device", str)
    file = Attr("source@file", str)
    dev = Attr("source@dev", str)
    directory = Attr("source@dir", str)
    pool = Attr("source@pool", str)
    volume = Attr("source@volume", str)
    protocol = Attr("source@protocol", str)
    source_name = Attr("source@name", str)
    driver_name = Attr("driver@name", str)
    format = Attr("driver@type", str)
    cache = Attr("driver@cache", str)
    io = Attr("driver@io", str)
    discard = Attr("driver@discard", str)
    target = Attr("target@dev", str)
    bus = Attr("target@bus", str)
    boot_order = Attr("boot@order", int)
    serial = Text("serial", str)
    capacity_bytes = Size("capacity")
    readonly = Flag("readonly")
    shareable = Flag("shareable")
    total_bytes = Text("iotune/total_bytes_sec", int)
    read_bytes = Text("iotune/read_bytes_sec", int)
    write_bytes = Text("iotune/write_bytes_sec", int)
    total_requests = Text("iotune/total_iops_sec", int)
    read_requests = Text("iotune/read_iops_sec", int)
    write_requests = Text("iotune/write_iops_sec", int)


class Filesystem(Element):
    tag = "filesystem"
    type = Attr("@type", str)
    accessmode = Attr("@accessmode", str)
    source_dir = Attr("source@dir", str)
    source_file = Attr("source@file", str)
    target = Attr("target@dir", str)
    readonly = Flag("readonly")


class Interface(Element):
    tag = "interface"
    type = Attr("@type", str)
    mac = Attr("mac@address", str)
    network = Attr("source@network", str)
    bridge = Attr("source@bridge", str)
    source_dev = Attr("source@dev", str)
    source_mode = Attr("source@mode", str)
    model = Attr("model@type", str)
    target = Attr("target@dev", str)
    link = Attr("link@state", str)
    filter = Attr("filterref@filter", str)
    vlan = Attr("vlan/tag@id", int)
    inbound_average = Attr("bandwidth/inbound@average", int)
    outbound_average = Attr("bandwidth/outbound@average", int)
    boot_order = Attr("boot@order", int)


class Graphics(Element):
    tag = "graphics"
    type = Attr("@type", str)
    port = Attr("@port", int)
    tls_port = Attr("@tlsPort", int)
    autoport = Attr("@autoport", str)
    listen = Attr("@listen", str)
    socket = Attr("@socket", str)
    listen_type = Attr("listen@type", str)
    listen_address = Attr("listen@address", str)
    listen_socket = Attr("listen@socket", str)
    password = Attr("@passwd", str)


class HostDev(Element):
    """A device of the host. The fields of PCI's address are as libvirt prints them: `0x01`."""

    tag = "hostdev"
    type = Attr("@type", str)
    mode = Attr("@mode", str)
    managed = Attr("@managed", str)
    domain = Attr("source/address@domain", str)
    bus = Attr("source/address@bus", str)
    slot = Attr("source/address@slot", str)
    function = Attr("source/address@function", str)
    device = Attr("source/address@device", str)
    vendor = Attr("source/vendor@id", str)
    product = Attr("source/product@id", str)
    boot_order = Attr("boot@order", int)


class CharDevice(Element):
    """A `<serial>` or `<console>`."""

    tag = "console"
    type = Attr("@type", str)
    target_type = Attr("target@type", str)
    target_port = Attr("target@port", int)
    alias = Attr("alias@name", str)


class Serial(CharDevice):
    tag = "serial"


class Channel(Element):
    tag = "channel"
    type = Attr("@type", str)
    target_type = Attr("target@type", str)
    target_name = Attr("target@name", str)
    target_state = Attr("target@state", str)


class Controller(Element):
    tag = "controller"
    type = Attr("@type", str)
    model = Attr("@model", str)
    index = Attr("@index", int)


class Input(Element):
    tag = "input"
    type = Attr("@type", str)
    bus = Attr("@bus", str)


class Video(Element):
    tag = "video"
    model = Attr("model@type", str)


class Watchdog(Element):
    tag = "watchdog"
    model = Attr("@model", str)
    action = Attr("@action", str)


class Sound(Element):
    tag = "sound"
    model = Attr("@model", str)


class Rng(Element):
    tag = "rng"
    model = Attr("@model", str)
    backend_model = Attr("backend@model", str)
    backend = Text("backend", str)


class Tpm(Element):
    tag = "tpm"
    model = Attr("@model", str)
    backend_type = Attr("backend@type", str)
    backend_version = Attr("backend@version", str)


class MemoryBalloon(Element):
    tag = "memballoon"
    model = Attr("@model", str)
    stats_period_seconds = Attr("stats@period", int)


class Timer(Element):
    tag = "timer"
    name = Attr("@name", str)
    present = Attr("@present", str)
    tickpolicy = Attr("@tickpolicy", str)


class Boot(Element):
    tag = "boot"
    dev = Attr("@dev", str)
