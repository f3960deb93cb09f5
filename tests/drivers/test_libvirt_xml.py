"""The XML mapping: what is declared can be read and written, what is not stays as it was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from drivers.errors import InvalidDefinition
from drivers.libvirtd.guests import read_definition, read_live
from drivers.libvirtd.session_host import nearest_model, true_uuid
from drivers.libvirtd.xml import capabilities, devices, domain, metadata, network, snapshot, storage
from drivers.libvirtd.xml.capabilities import Capabilities, CpuFeature, DomainCapabilities, SysInfo
from drivers.libvirtd.xml.devices import Disk, Filesystem, Graphics, Interface
from drivers.libvirtd.xml.domain import Domain
from drivers.libvirtd.xml.element import MAX_BYTES, Attr, Child, Children, Element, Field, Flag, Size, parse

FULL = """<domain type="kvm" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0" id="7">
  <!-- kept -->
  <name>web</name>
  <uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">
      <libosinfo:os id="http://debian.org/debian/12"/>
    </libosinfo:libosinfo>
    <other:thing xmlns:other="urn:other" a="1"/>
  </metadata>
  <memory unit="GiB">2</memory>
  <currentMemory unit="MiB">512</currentMemory>
  <vcpu placement="static" current="2">4</vcpu>
  <os firmware="efi">
    <type arch="x86_64" machine="pc-q35-7.2">hvm</type>
    <boot dev="hd"/>
    <boot dev="network"/>
  </os>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" cache="none"/>
      <source file="/a.qcow2"/>
      <target dev="vda" bus="virtio"/>
    </disk>
    <disk type="network" device="disk">
      <source protocol="rbd" name="pool/image"/>
      <target dev="vdb" bus="virtio"/>
    </disk>
    <disk type="file" device="cdrom">
      <target dev="sda" bus="sata"/>
      <readonly/>
    </disk>
    <interface type="bridge">
      <mac address="52:54:00:AA:BB:CC"/>
      <source bridge="br0"/>
      <target dev="vnet3"/>
      <model type="virtio"/>
      <link state="down"/>
    </interface>
    <serial type="pty"><target port="0"/></serial>
    <graphics type="vnc" port="5901" autoport="yes" listen="127.0.0.1">
      <listen type="address" address="127.0.0.1"/>
    </graphics>
    <graphics type="spice" port="-1"/>
  </devices>
  <qemu:commandline>
    <qemu:arg value="-x"/>
  </qemu:commandline>
</domain>"""


def test_a_whole_definition_is_read():
    read = read_definition(FULL)
    assert (read.name, read.domain_type, read.os) == ("web", "kvm", "http://debian.org/debian/12")
    assert (read.vcpus, read.memory_bytes, read.max_memory_bytes) == (2, 512 << 20, 2 << 30)
    assert [(disk.target, disk.source, disk.readonly) for disk in read.disks] == [
        ("vda", "/a.qcow2", False), ("vdb", "rbd:pool/image", False), ("sda", None, True)
    ]  # fmt: skip
    nic = read.interfaces[0]
    assert (nic.mac, nic.network, nic.link, nic.target) == ("52:54:00:aa:bb:cc", "br0", "down", "vnet3")
    assert [(each.type, each.port) for each in read.graphics] == [("vnc", 5901), ("spice", None)]
    assert read.consoles == ("serial", "vnc", "spice")
    assert read.boot["firmware"] == "uefi"
    assert read.boot["devices"] == "hd,network"
    assert read_live(FULL).vcpus == 2


def test_an_edit_changes_its_own_line_and_no_other():
    edited = Domain.parse(FULL)
    edited.disks[0].file = "/b.qcow2"
    edited.vcpus = 8
    before, after = Domain.parse(FULL).to_xml().splitlines(), edited.to_xml().splitlines()
    changed = [(old.strip(), new.strip()) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [
        ('<vcpu placement="static" current="2">4</vcpu>', '<vcpu placement="static" current="2">8</vcpu>'),
        ('<source file="/a.qcow2"/>', '<source file="/b.qcow2"/>'),
    ]


def test_removing_a_value_leaves_no_empty_shell():
    edited = Domain.parse(FULL)
    edited.disks[0].file = None
    assert "<source file" not in edited.to_xml()
    assert edited.disks[0].node.find("source") is None
    edited.disks[0].cache = None
    assert edited.disks[0].node.find("driver").attrib == {"name": "qemu", "type": "qcow2"}


def test_devices_are_added_after_their_like_and_removed():
    edited = Domain.parse(FULL)
    edited.disks.add(Disk(type="file", device="disk", file="/c.img", target="vdc", bus="virtio"))
    edited.interfaces.remove(edited.interfaces[0])
    again = Domain.parse(edited.to_xml())
    assert [disk.target for disk in again.disks] == ["vda", "vdb", "sda", "vdc"]
    assert len(again.interfaces) == 0
    assert len(again.graphics) == 2


def test_a_document_is_built_from_nothing():
    made = Domain(type="kvm", name="new", memory_bytes=1 << 30, vcpus=2)
    made.os = domain.Os(type="hvm", arch="x86_64")
    made.disks.add(Disk(file="/x", target="vda"))
    made.disks.add(Disk(file="/y", target="vdb", readonly=True))
    again = Domain.parse(made.to_xml())
    assert (again.os.type, again.memory_bytes, [disk.file for disk in again.disks]) == ("hvm", 1 << 30, ["/x", "/y"])
    assert again.disks[1].readonly


text = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


@given(title=text, description=text, memory=st.integers(1, 2**50), vcpus=st.integers(1, 4096), source=text)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_and_the_rest_survives(title, description, memory, vcpus, source):
    edited = Domain.parse(FULL)
    edited.title, edited.description, edited.memory_bytes, edited.vcpus = title, description, memory, vcpus
    edited.disks[1].source_name = source
    again = Domain.parse(edited.to_xml())
    assert (again.title, again.description, again.memory_bytes, again.vcpus) == (title, description, memory, vcpus)
    assert again.disks[1].source_name == source
    again.title = again.description = None
    again.memory_bytes, again.vcpus, again.disks[1].source_name = 2 << 30, 4, "pool/image"
    assert canonical(again.to_xml()) == canonical(FULL).replace('<memory unit="GiB">2<', '<memory unit="KiB">2097152<')


def canonical(xml: str) -> str:
    return etree.tostring(etree.fromstring(xml), method="c14n").decode()


def fields(kind: type[Element]) -> dict[str, object]:
    found: dict[str, object] = {}
    for base in reversed(kind.__mro__):
        found |= {
            name: value for name, value in vars(base).items() if isinstance(value, Field | Flag | Child | Children)
        }
    return found


KINDS = sorted(
    {
        value
        for module in (devices, domain, capabilities, storage, network, snapshot)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Element) and value is not Element
    },
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_declared_field_is_written_read_and_removed(kind):
    for name, declared in fields(kind).items():
        item = kind()
        if isinstance(declared, Flag):
            value: object = True
        elif isinstance(declared, Child):
            value = declared.kind()
        elif isinstance(declared, Children):
            getattr(item, name).add(declared.kind())
            assert len(kind.parse(item.to_xml()).__getattribute__(name)) == 1
            continue
        else:
            value = 4096 if isinstance(declared, Size) or declared.convert is int else "some"
        setattr(item, name, value)
        again = kind.parse(item.to_xml())
        if isinstance(declared, Child):
            assert getattr(again, name) is not None
        else:
            assert getattr(again, name) == value, name
        setattr(again, name, False if isinstance(declared, Flag) else None)
        assert getattr(again, name) in (None, False)
        assert not isinstance(declared, Attr) or not again.node.attrib


def test_units():
    for xml, expected in [
        ("<memory>1</memory>", 1024), ("<memory unit='b'>1000</memory>", 1000), ("<memory unit='MB'>1</memory>", 10**6),
        ("<memory unit='TiB'>1</memory>", 1 << 40), ("<memory unit='parsec'>1</memory>", None), ("<memory/>", None),
    ]:  # fmt: skip
        assert Domain.parse(f"<domain>{xml}</domain>").memory_bytes == expected


@pytest.mark.parametrize(
    "xml",
    [
        '<!DOCTYPE a [<!ENTITY x "y">]><domain>&x;</domain>',
        '<!DOCTYPE domain SYSTEM "http://127.0.0.1:1/x.dtd"><domain/>',
        "<domain>&undefined;</domain>",
        "<domain><name></domain>",
        "<domain>" + "x" * MAX_BYTES + "</domain>",
        "<domain>" + "<a>" * 5000 + "</a>" * 5000 + "</domain>",
    ],
)
def test_hostile_documents_are_refused(xml):
    with pytest.raises(InvalidDefinition):
        parse(xml)


def test_the_wrong_root_is_named():
    with pytest.raises(InvalidDefinition, match="network"):
        Domain.parse("<network/>")


def test_a_newer_word_is_unknown_and_not_fatal():
    assert Graphics.parse("<graphics type='vnc' port='auto'/>").port is None


def test_our_facts_live_in_the_metadata_beside_others():
    document = Domain.parse(FULL)
    assert metadata.read(document) == {}
    metadata.write(document, {"owner": "anna & co", "id": "1"})
    again = Domain.parse(document.to_xml())
    assert metadata.read(again) == {"owner": "anna & co", "id": "1"}
    assert read_definition(again.to_xml()).metadata == {"owner": "anna & co", "id": "1"}
    metadata.write(again, {"id": "2"})
    assert metadata.read(again) == {"id": "2"}
    metadata.write(again, {})
    assert canonical(again.to_xml()).split() == canonical(FULL).split()
    assert metadata.parse_document(metadata.document({"a": "b"})) == {"a": "b"}
    with pytest.raises(InvalidDefinition):
        metadata.write(again, {"not a name": ""})


def test_capabilities_are_read():
    host = Capabilities.parse(
        "<capabilities><host><uuid>u</uuid><cpu><arch>x86_64</arch><model>EPYC</model><feature name='svm'/></cpu></host>"
        "<guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/><domain type='kvm'/></arch></guest>"
        "</capabilities>"
    )
    assert (host.host_uuid, host.host_cpu.model, [each.name for each in host.host_cpu.features]) == (
        "u",
        "EPYC",
        ["svm"],
    )
    assert [each.type for each in host.guests[0].domains] == ["qemu", "kvm"]
    offered = DomainCapabilities.parse(
        "<domainCapabilities><cpu><mode name='host-passthrough' supported='no'/>"
        "<mode name='host-model' supported='yes'><model>A</model></mode></cpu></domainCapabilities>"
    )
    assert (offered.host_model.supported, offered.host_model.model) == ("yes", "A")
    assert CpuFeature(name="vmx").to_xml() == '<feature name="vmx"/>'
    assert (
        SysInfo.parse("<sysinfo><processor><entry name='version'>Z80</entry></processor></sysinfo>").processor_version
        == "Z80"
    )


def test_a_machines_own_uuid_stands_in_for_the_hosts():
    def found(uuid: str) -> str:
        return true_uuid(SysInfo.parse(f"<sysinfo><system><entry name='uuid'>{uuid}</entry></system></sysinfo>"))

    assert found("8e2f5f52-7e2b-4a5e-9d11-78656e6c6162") == "8e2f5f52-7e2b-4a5e-9d11-78656e6c6162"
    assert found("ffffffff-ffff-ffff-ffff-ffffffffffff") == true_uuid(None) == ""


@pytest.mark.parametrize(
    ("arch", "model", "expected"),
    [("x86_64", "EPYC", "EPYC"), ("x86_64", "pentium", ""), ("i686", "pentium", "pentium"), ("aarch64", "", "")],
)
def test_a_cpu_model_that_cannot_be_true_is_not_told(arch, model, expected):
    text = f"<capabilities><host><cpu><arch>{arch}</arch><model>{model}</model></cpu></host></capabilities>"
    assert nearest_model(Capabilities.parse(text).host_cpu) == expected
    assert nearest_model(None) == ""


def test_containers_have_directories_where_machines_have_disks():
    read = read_definition(
        "<domain type='lxc'><name>c</name><memory>1</memory><os><type>exe</type><init>/sbin/init</init></os><devices>"
        "<filesystem type='mount'><source dir='/srv/c'/><target dir='/'/></filesystem></devices></domain>"
    )
    assert [(disk.target, disk.device, disk.source) for disk in read.disks] == [("/", "filesystem", "/srv/c")]
    assert read.boot == {"type": "exe", "init": "/sbin/init"}
    assert Filesystem(target="/").target == "/"
    assert Interface(mac="x").mac == "x"
