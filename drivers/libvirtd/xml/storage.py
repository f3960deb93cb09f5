"""`<pool>` and `<volume>`. Fields only."""

# ruff: noqa: D101 - the class names its tag, and that says it

from __future__ import annotations

from drivers.libvirtd.xml.element import Attr, Children, Element, Size, Text


class SourceHost(Element):
    tag = "host"
    name = Attr("@name", str)
    port = Attr("@port", int)


class SourceDevice(Element):
    tag = "device"
    path = Attr("@path", str)


class StoragePool(Element):
    tag = "pool"
    type = Attr("@type", str)
    name = Text("name", str)
    uuid = Text("uuid", str)
    capacity_bytes = Size("capacity")
    allocation_bytes = Size("allocation")
    available_bytes = Size("available")
    hosts = Children("source/host", SourceHost)
    directory = Attr("source/dir@path", str)
    devices = Children("source/device", SourceDevice)
    adapter = Attr("source/adapter@name", str)
    source_name = Text("source/name", str)
    source_format = Attr("source/format@type", str)
    initiator = Attr("source/initiator/iqn@name", str)
    auth_type = Attr("source/auth@type", str)
    username = Attr("source/auth@username", str)
    secret_uuid = Attr("source/auth/secret@uuid", str)
    target = Text("target/path", str)


class StorageVolume(Element):
    tag = "volume"
    type = Attr("@type", str)
    name = Text("name", str)
    key = Text("key", str)
    capacity_bytes = Size("capacity")
    allocation_bytes = Size("allocation")
    physical_bytes = Size("physical")
    path = Text("target/path", str)
    format = Attr("target/format@type", str)
    compat = Text("target/compat", str)
    backing = Text("backingStore/path", str)
    backing_format = Attr("backingStore/format@type", str)
