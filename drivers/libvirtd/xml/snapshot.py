"""`<domainsnapshot>`. Fields only."""

# ruff: noqa: D101 - the class names its tag, and that says it

from __future__ import annotations

from drivers.libvirtd.xml.element import Attr, Children, Element, Text


class SnapshotDisk(Element):
    tag = "disk"
    name = Attr("@name", str)
    snapshot = Attr("@snapshot", str)


class DomainSnapshot(Element):
    tag = "domainsnapshot"
    name = Text("name", str)
    description = Text("description", str)
    state = Text("state", str)
    parent = Text("parent/name", str)
    created_at = Text("creationTime", int)
    memory = Attr("memory@snapshot", str)
    disks = Children("disks/disk", SnapshotDisk)
