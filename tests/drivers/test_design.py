"""From a spec and a host to a domain: what each design decides, what it refuses, and that libvirt's schema takes all of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from drivers.errors import InvalidDefinition, Unsupported
from drivers.libvirtd.design import common, kvm, lxc, simulated, xen
from drivers.libvirtd.guests import read_definition
from drivers.types import DiskSpec, GuestSpec, NicSpec
from tests.drivers.design_hosts import plain_host, qemu_host, xen_host

GIB = 1 << 30
SCHEMA = etree.RelaxNG(
    etree.parse(Path("/usr/share/libvirt/schemas/domain.rng"))
)  # of libvirt0, which libvirt-python needs
DISK = DiskSpec(pool="default", volume="web.qcow2", path="/pool/web.qcow2", format="qcow2")
CD = DiskSpec(pool="default", volume="cd.iso", path="/pool/cd.iso", format="iso", device="cdrom")
SEED = DiskSpec(pool="default", volume="s.iso", path="/pool/s.iso", format="raw", device="cdrom", seed=True)
BLOCK = DiskSpec(pool="vg0", volume="web", path="/dev/vg0/web")
FAR = DiskSpec(pool="ceph", volume="web", path="rbd/web", format="raw")
NIC = NicSpec(network="default")
SPEC = GuestSpec(
    name="web", uuid="0b7f0f4e-53a4-4f3e-9c0e-2f6a5f3f1d11", vcpus=2, memory_bytes=GIB, disks=(DISK,), interfaces=(NIC,)
)
CONTAINER = dataclasses.replace(SPEC, disks=(), root="/srv/web")
DIRECT = dataclasses.replace(SPEC, kernel="/boot/vmlinuz", initrd="/boot/initrd", cmdline="console=hvc0")
LXC_HOST, TEST_HOST = plain_host("exe", "lxc"), plain_host("hvm", "test")


def built(design, host, spec=SPEC, **changes):
    """The domain of this spec, which libvirt's schema takes."""
    made = design.design(dataclasses.replace(spec, **changes), host)
    SCHEMA.assertValid(etree.fromstring(made.to_xml()))
    return made


def refused(design, host, spec=SPEC, error=Unsupported, **changes):
    """The refusal of this spec."""
    with pytest.raises(error) as refusal:
        design.design(dataclasses.replace(spec, **changes), host)
    assert refusal.value.detail.startswith(f"{refusal.value.context['field']}: ")
    assert refusal.value.detail.endswith(".")
    return refusal.value.context["field"]


# -- every design, many specs ------------------------------------------------------------------------------------------
text = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=40)
line = text.filter(str.strip)
names = line.map(lambda name: name.replace("/", "&"))
disks = st.lists(
    st.builds(
        DiskSpec,
        pool=st.just("p"),
        volume=st.just("v"),
        path=st.sampled_from(["/pool/a & <b>.qcow2", "/dev/vg0/web", "rbd/web", "/pool/\"'.img"]),
        format=st.sampled_from(["raw", "qcow2", "vmdk", "iso", ""]),
        device=st.sampled_from(["disk", "cdrom"]),
        readonly=st.booleans(),
    ),
    max_size=30,
).map(tuple)
nics = st.lists(
    st.one_of(
        st.builds(NicSpec, network=line.map(lambda name: name.replace("/", "-"))),
        st.builds(NicSpec, bridge=st.sampled_from(["br0", "virbr0"]), model=st.sampled_from(["", "e1000e"])),
    ),
    max_size=3,
).map(tuple)
common_fields = {
    "name": names,
    "uuid": st.uuids().map(str),
    "vcpus": st.integers(1, 255),
    "memory_bytes": st.integers(1 << 20, 1 << 44),
    "title": text,
    "description": st.one_of(text, st.just("two\nlines & <more>\t]]>")),
    "os_id": st.sampled_from(["", "http://debian.org/debian/13", "http://microsoft.com/win/11"]),
    "metadata": st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), text, max_size=3),
    "interfaces": nics,
    "boot_order": st.lists(st.sampled_from(["disk", "cdrom", "network"]), unique=True).map(tuple),
    "graphics": st.sampled_from(["vnc", "none"]),
}
machines = st.builds(
    GuestSpec,
    **common_fields,
    disks=disks,
    kernel=st.sampled_from(["", "/boot/vmlinuz <&>"]),
    firmware=st.sampled_from(["bios", "uefi"]),
    agent=st.booleans(),
)
FULL_HOSTS = [qemu_host(uefi=True, secure=True, tpm=True), qemu_host(arch="aarch64", uefi=True, kvm=False, rng=False)]


def said_again(made, spec):
    """What the definition says when it is read is what the spec asked for."""
    SCHEMA.assertValid(etree.fromstring(made.to_xml()))
    read = read_definition(made.to_xml())
    assert (read.name, read.title, read.description) == (spec.name, spec.title, spec.description)
    assert (read.vcpus, read.memory_bytes) == (spec.vcpus, spec.memory_bytes // 1024 * 1024)
    assert (read.metadata, read.os) == (spec.metadata, spec.os_id)
    assert [nic.network for nic in read.interfaces] == [nic.network or nic.bridge for nic in spec.interfaces]


@given(spec=machines, host=st.sampled_from(FULL_HOSTS), tpm=st.booleans(), accelerator=st.sampled_from(["auto", "tcg"]))
@settings(max_examples=120, deadline=None)
def test_whatever_a_qemu_host_can_do_is_valid(spec, host, tpm, accelerator):
    spec = dataclasses.replace(spec, accelerator=accelerator, tpm=tpm and host is FULL_HOSTS[0])
    made = kvm.design(spec, host)
    said_again(made, spec)
    sources = [disk.file or disk.dev or disk.volume for disk in made.disks]
    assert sources == [disk.path if disk.path.startswith("/") else disk.volume for disk in spec.disks]
    assert len({disk.target for disk in made.disks}) == len(spec.disks)


@given(spec=machines)
@settings(max_examples=60, deadline=None)
def test_whatever_a_xen_host_can_do_is_valid(spec):
    spec = dataclasses.replace(spec, firmware="bios" if spec.kernel else spec.firmware, vcpus=min(spec.vcpus, 128))
    said_again(xen.design(spec, xen_host()), spec)


@given(spec=st.builds(GuestSpec, **{**common_fields, "boot_order": st.just(())}, root=st.just("/srv/<a> & b")))
@settings(max_examples=60, deadline=None)
def test_whatever_a_container_can_be_is_valid(spec):
    said_again(lxc.design(spec, LXC_HOST), spec)


@given(spec=machines)
@settings(max_examples=40, deadline=None)
def test_whatever_a_simulated_host_keeps_is_valid(spec):
    spec = dataclasses.replace(spec, firmware="bios")
    said_again(simulated.design(spec, TEST_HOST), spec)


# -- QEMU: the machine -------------------------------------------------------------------------------------------------
def test_a_guest_gets_the_best_that_the_host_has():
    made = built(kvm, qemu_host())
    assert (made.type, made.os.machine, made.os.arch, made.os.firmware) == ("kvm", "q35", "x86_64", None)
    assert (made.cpu.mode, made.clock.offset) == ("host-passthrough", "utc")
    assert made.features.acpi
    assert made.features.apic
    assert made.suspend_to_memory == made.suspend_to_disk == "no"
    assert [(disk.bus, disk.target, disk.format, disk.file) for disk in made.disks] == [
        ("virtio", "vda", "qcow2", "/pool/web.qcow2")
    ]
    assert [(nic.type, nic.network, nic.model) for nic in made.interfaces] == [("network", "default", "virtio")]
    assert [(one.type, one.listen_type, one.port) for one in made.graphics] == [("vnc", "socket", None)]
    assert [one.target_name for one in made.channels] == ["org.qemu.guest_agent.0"]
    assert (made.serials[0].type, made.consoles[0].type, made.inputs[0].type) == ("pty", "pty", "tablet")
    assert (made.rngs[0].backend, made.balloon.stats_period_seconds) == ("/dev/urandom", 5)
    assert read_definition(made.to_xml()).consoles == ("serial", "vnc")


def test_without_kvm_a_guest_is_emulated_and_kvm_itself_refused():
    host = qemu_host(kvm=False)
    made = built(kvm, host)
    assert (made.type, made.cpu.mode) == ("qemu", "maximum")
    assert refused(kvm, host, accelerator="kvm") == "accelerator"
    assert built(kvm, qemu_host(), accelerator="tcg").type == "qemu"


def test_a_machine_is_taken_where_there_is_one():
    assert built(kvm, qemu_host(), machine="pc").os.machine == "pc"
    assert built(kvm, qemu_host(), machine="pc-q35-7.2").os.machine == "pc-q35-7.2"
    assert refused(kvm, qemu_host(), machine="virt") == "machine"
    assert refused(kvm, qemu_host(arch="s390x")) == "machine"


def test_a_machine_with_pci_express_has_ports_to_spare():
    ports = [one for one in built(kvm, qemu_host()).controllers if one.model == "pcie-root-port"]
    more = [one for one in built(kvm, qemu_host(), disks=(DISK, DISK)).controllers if one.model == "pcie-root-port"]
    assert len(ports) > kvm.SPARE_PORTS
    assert len(more) == len(ports) + 1
    assert not [one for one in built(kvm, qemu_host(), machine="pc").controllers if one.type == "pci"]


def test_arm_has_uefi_only_and_devices_of_its_own():
    made = built(kvm, qemu_host(arch="aarch64", uefi=True), disks=(DISK, CD))
    assert (made.os.machine, made.os.firmware) == ("virt", "efi")
    assert not made.features.apic
    assert [disk.bus for disk in made.disks] == ["virtio", "scsi"]
    assert {one.type for one in made.inputs} == {"tablet", "keyboard"}
    assert any(one.model == "virtio-scsi" for one in made.controllers)
    assert refused(kvm, qemu_host(arch="aarch64")) == "firmware"
    assert built(kvm, qemu_host(arch="aarch64"), spec=DIRECT).os.firmware is None


def test_firmware_is_chosen_by_libvirt_from_what_it_has():
    made = built(kvm, qemu_host(uefi=True), firmware="uefi")
    assert made.os.firmware == "efi"
    assert [(one.name, one.enabled) for one in made.os.firmware_features] == [("enrolled-keys", "no")]
    assert made.os.loader_secure is None
    assert refused(kvm, qemu_host(), firmware="uefi") == "firmware"


def test_secure_boot_needs_a_firmware_and_a_machine_that_can():
    host = qemu_host(uefi=True, secure=True)
    made = built(kvm, host, firmware="uefi", secure_boot=True)
    assert {one.name: one.enabled for one in made.os.firmware_features} == {
        "secure-boot": "yes",
        "enrolled-keys": "yes",
    }
    assert (made.os.loader_secure, made.features.smm) == ("yes", "on")
    assert refused(kvm, qemu_host(uefi=True), firmware="uefi", secure_boot=True) == "secure_boot"
    assert refused(kvm, host, firmware="uefi", secure_boot=True, machine="pc") == "secure_boot"
    assert refused(kvm, host, error=InvalidDefinition, secure_boot=True) == "secure_boot"


def test_a_tpm_is_emulated_or_refused():
    assert [
        (one.model, one.backend_type, one.backend_version) for one in built(kvm, qemu_host(tpm=True), tpm=True).tpms
    ] == [("tpm-crb", "emulator", "2.0")]
    assert refused(kvm, qemu_host(), tpm=True) == "tpm"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cpu_mode": "host-model"}, ("host-model", None)),
        ({"cpu_mode": "maximum"}, ("maximum", None)),
        ({"cpu_mode": "qemu64"}, ("custom", "qemu64")),
        ({"cpu_mode": "qemu64", "accelerator": "tcg"}, ("custom", "qemu64")),
    ],
)
def test_a_processor_is_what_was_asked_for(changes, expected):
    cpu = built(kvm, qemu_host(), **changes).cpu
    assert (cpu.mode, cpu.model) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu_mode": "EPYC-Rome"},
        {"cpu_mode": "Z80"},
        {"cpu_mode": "custom"},
        {"cpu_mode": "host-passthrough", "accelerator": "tcg"},
    ],
)
def test_a_processor_that_cannot_be_is_refused(changes):
    assert refused(kvm, qemu_host(), **changes) == "cpu_mode"


@pytest.mark.parametrize(
    ("vendor", "changes", "features"),
    [
        ("Intel", {}, []),  # the host's processor as it is has it
        ("Intel", {"cpu_mode": "host-model"}, ["vmx"]),
        ("AMD", {"cpu_mode": "qemu64"}, ["svm"]),
        ("AMD", {"cpu_mode": "host-model"}, ["arch-capabilities", "svm"]),
        ("Intel", {"accelerator": "tcg"}, ["svm"]),  # QEMU emulates AMD's
    ],
)
def test_a_nested_guest_has_the_feature_of_its_processor(vendor, changes, features):
    cpu = built(kvm, qemu_host(vendor=vendor), nested=True, **changes).cpu
    assert [one.name for one in cpu.features] == features


def test_a_register_of_intels_is_not_feigned_on_amds():
    for vendor, features in (("AMD", {"arch-capabilities": "disable"}), ("Intel", {})):
        cpu = built(kvm, qemu_host(vendor=vendor)).cpu
        assert {one.name: one.policy for one in cpu.features} == features
    assert len(built(kvm, qemu_host(vendor="AMD"), accelerator="tcg").cpu.features) == 0


def test_nesting_is_refused_where_the_host_does_not_give_it():
    assert refused(kvm, qemu_host(nests=False), nested=True) == "nested"
    assert refused(kvm, qemu_host(arch="aarch64", uefi=True), nested=True) == "nested"
    assert refused(kvm, qemu_host(vendor="VIA"), nested=True, cpu_mode="host-model") == "nested"
    assert built(kvm, qemu_host(nests=None), nested=True).cpu.mode == "host-passthrough"


def test_windows_keeps_local_time_and_is_told_of_its_hypervisor():
    made = built(kvm, qemu_host(), os_id="http://microsoft.com/win/11")
    assert made.clock.offset == "localtime"
    assert made.features.hyperv_relaxed == "on"
    assert "hypervclock" in {one.name for one in made.clock.timers}
    assert built(kvm, qemu_host(kvm=False), os_id="http://microsoft.com/win/11").features.hyperv_relaxed is None


# -- disks, networks, booting ------------------------------------------------------------------------------------------
def test_a_disk_is_named_by_its_path_and_by_its_pool_only_where_it_has_none():
    made = built(kvm, qemu_host(), disks=(DISK, BLOCK, FAR, CD))
    assert [(disk.type, disk.file or disk.dev or (disk.pool, disk.volume), disk.format) for disk in made.disks] == [
        ("file", "/pool/web.qcow2", "qcow2"),
        ("block", "/dev/vg0/web", "raw"),
        ("volume", ("ceph", "web"), "raw"),
        ("file", "/pool/cd.iso", "raw"),
    ]
    assert [(disk.target, disk.readonly, disk.discard) for disk in made.disks] == [
        ("vda", False, "unmap"), ("vdb", False, "unmap"), ("vdc", False, "unmap"), ("sda", True, None)
    ]  # fmt: skip


def test_a_disk_goes_on_the_bus_that_was_asked_for():
    made = built(
        kvm, qemu_host(), disks=tuple(dataclasses.replace(DISK, bus=bus) for bus in ("scsi", "sata", "usb", "virtio"))
    )
    assert [(disk.bus, disk.target) for disk in made.disks] == [
        ("scsi", "sda"), ("sata", "sdb"), ("usb", "sdc"), ("virtio", "vda")
    ]  # fmt: skip
    assert refused(kvm, qemu_host(), disks=(dataclasses.replace(DISK, bus="ide"),)) == "disks[0].bus"
    assert built(kvm, qemu_host(), machine="pc", disks=(dataclasses.replace(DISK, bus="ide"),)).disks[0].target == "hda"
    many = built(kvm, qemu_host(), disks=(DISK,) * 28)
    assert [disk.target for disk in many.disks][25:] == ["vdz", "vdaa", "vdab"]


@pytest.mark.parametrize(
    "case",
    [
        ({}, ("vda", "disk"), ("vdb", "disk")),
        ({"disks": (dataclasses.replace(DISK, bus="scsi"), SEED)}, ("sda", "disk"), ("sdb", "disk")),
        ({"disks": (dataclasses.replace(DISK, bus="sata"), SEED)}, ("sda", "disk"), ("sdb", "cdrom")),
        ({"os_id": "http://microsoft.com/win/2k22"}, ("vda", "disk"), ("sda", "cdrom")),
        ({"disks": (CD, DISK, SEED)}, ("sda", "cdrom"), ("vda", "disk"), ("vdb", "disk")),
    ],
    ids=["virtio", "virtio-scsi", "sata", "windows", "with an installer"],
)
def test_a_seed_is_where_the_system_on_the_disk_sees_it_and_nothing_boots_from_it(case):
    changes, *expected = case
    made = built(kvm, qemu_host(), **{"disks": (DISK, SEED), **changes})
    assert [(one.target, one.device) for one in made.disks] == expected
    seed = list(made.disks)[-1]
    assert (seed.readonly, seed.boot_order, seed.discard) == (True, None, None)
    assert None not in [one.boot_order for one in list(made.disks)[:-1]]


@pytest.mark.parametrize(
    ("field", "changes"),
    [("disks[0].format", {"format": "tape"}), ("disks[0].path", {"path": "relative", "pool": ""})],
)
def test_a_disk_that_cannot_be_is_refused(field, changes):
    assert refused(kvm, qemu_host(), error=InvalidDefinition, disks=(dataclasses.replace(DISK, **changes),)) == field


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ((), {"vda": 1, "vdb": 2, "sda": 3}),
        (("cdrom", "disk"), {"sda": 1, "vda": 2, "vdb": 3}),
        (("network", "disk", "disk"), {"nic": 1, "vda": 2, "vdb": 3}),
        (("cdrom",), {"sda": 1}),
    ],
)
def test_devices_are_tried_in_the_order_of_booting(order, expected):
    made = built(kvm, qemu_host(), disks=(DISK, CD, DISK), boot_order=order)
    found = {disk.target: disk.boot_order for disk in made.disks} | {"nic": made.interfaces[0].boot_order}
    assert {name: place for name, place in found.items() if place} == expected


def test_a_guest_without_disks_boots_from_the_network_and_one_with_a_kernel_from_that():
    assert built(kvm, qemu_host(), disks=()).interfaces[0].boot_order == 1
    made = built(kvm, qemu_host(), spec=DIRECT, boot_order=("disk",))
    assert (made.os.kernel, made.os.initrd, made.os.cmdline) == ("/boot/vmlinuz", "/boot/initrd", "console=hvc0")
    assert made.disks[0].boot_order is None


def test_an_interface_keeps_its_address_however_often_it_is_made():
    first, again = built(kvm, qemu_host()).interfaces[0].mac, built(kvm, qemu_host()).interfaces[0].mac
    assert first == again == common.own_mac(SPEC.uuid.upper(), 0)
    assert first.startswith("52:54:00:")
    assert common.own_mac(SPEC.uuid, 1) != first
    made = built(
        kvm, qemu_host(), interfaces=(NicSpec(bridge="br0", model="e1000e", mac="52:54:00:0A:0B:0C"),)
    ).interfaces[0]
    assert (made.type, made.bridge, made.model, made.mac) == ("bridge", "br0", "e1000e", "52:54:00:0a:0b:0c")
    assert refused(kvm, qemu_host(), error=InvalidDefinition, interfaces=(NicSpec(network="n", model="a b"),)).endswith(
        "model"
    )


def test_screens():
    made = built(kvm, qemu_host(), graphics="spice")
    assert [(one.type, one.listen_address) for one in made.graphics] == [("spice", "127.0.0.1")]
    assert "com.redhat.spice.0" in {one.target_name for one in made.channels}
    assert refused(kvm, qemu_host(spice=False), graphics="spice") == "graphics"
    bare = built(kvm, qemu_host(rng=False), graphics="none", agent=False)
    assert [len(each) for each in (bare.graphics, bare.videos, bare.inputs, bare.channels, bare.rngs)] == [0] * 5
    assert len(bare.consoles) == 1


@pytest.mark.parametrize(
    ("field", "changes", "error"),
    [
        ("root", {"root": "/srv"}, Unsupported),
        ("init", {"init": "/sbin/init"}, Unsupported),
        ("image", {"image": "debian"}, Unsupported),
        ("vcpus", {"vcpus": 256}, Unsupported),
        ("kernel", {"kernel": "vmlinuz"}, InvalidDefinition),
        ("initrd", {"initrd": "/boot/initrd"}, InvalidDefinition),
        ("cmdline", {"cmdline": "quiet"}, InvalidDefinition),
        ("name", {"name": "a/b"}, InvalidDefinition),
    ],
)
def test_what_a_machine_cannot_be_is_refused(field, changes, error):
    assert refused(kvm, qemu_host(), error=error, **changes) == field


# -- containers --------------------------------------------------------------------------------------------------------
def test_a_container_has_a_root_an_init_and_a_console():
    made = built(lxc, LXC_HOST, spec=CONTAINER)
    assert (made.type, made.os.type, made.os.init) == ("lxc", "exe", "/sbin/init")
    assert [(one.source_dir, one.target) for one in made.filesystems] == [("/srv/web", "/")]
    assert made.features.privnet
    assert (made.interfaces[0].network, made.interfaces[0].model) == ("default", None)
    assert read_definition(made.to_xml()).consoles == ("serial",)
    assert len(made.graphics) == 0  # nobody asked for a screen: vnc is what the spec says by itself


def test_a_containers_init_is_a_command_line():
    made = built(lxc, LXC_HOST, spec=CONTAINER, init="/bin/sh -c 'echo \"<hi>\"; exec sleep 1'")
    assert made.os.init == "/bin/sh"
    assert [one.text for one in made.os.init_arguments] == ["-c", 'echo "<hi>"; exec sleep 1']
    for wrong in ("sh", "/bin/sh 'open"):
        assert refused(lxc, LXC_HOST, spec=CONTAINER, error=InvalidDefinition, init=wrong) == "init"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accelerator", "kvm"), ("firmware", "uefi"), ("tpm", True), ("nested", True), ("cpu_mode", "host-model"),
        ("machine", "q35"), ("kernel", "/boot/vmlinuz"), ("disks", (DISK,)), ("image", "debian"), ("boot_order", ("disk",)),
    ],
)  # fmt: skip
def test_what_only_machines_have_is_refused_to_containers(field, value):
    assert refused(lxc, LXC_HOST, spec=CONTAINER, **{field: value}) == field


def test_a_container_needs_a_root_and_a_host_that_runs_containers():
    assert refused(lxc, LXC_HOST, spec=CONTAINER, error=InvalidDefinition, root="") == "root"
    assert refused(lxc, LXC_HOST, spec=CONTAINER, error=InvalidDefinition, root="srv") == "root"
    assert refused(lxc, qemu_host(), spec=CONTAINER) == "root"


# -- Xen ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("hvm", "changes", "expected"),
    [
        (True, {}, ("xenpvh", "xenpvh")),
        (False, {}, ("linux", "xenpv")),
        (True, {"machine": "xenpv"}, ("linux", "xenpv")),
        (True, {"machine": "pv"}, ("linux", "xenpv")),
        (True, {"machine": "hvm"}, ("hvm", "xenfv")),
        (True, {"kernel": "", "initrd": "", "cmdline": ""}, ("hvm", "xenfv")),
    ],
)
def test_the_kind_of_a_xen_guest(hvm, changes, expected):
    made = built(xen, xen_host(hvm=hvm), spec=DIRECT, **changes)
    assert (made.type, made.os.type, made.os.machine) == ("xen", *expected)
    assert read_definition(made.to_xml()).consoles == ("serial", "vnc")
    assert made.consoles[0].target_type == ("serial" if expected[0] == "hvm" else "xen")


def test_an_hvm_guest_has_firmware_and_boots_by_kind():
    made = built(xen, xen_host(), disks=(DISK, CD, BLOCK), boot_order=("cdrom", "disk"))
    assert (made.os.loader, made.os.loader_type) == ("/usr/lib/xen/boot/hvmloader", "rom")
    assert [boot.dev for boot in made.os.boots] == ["cdrom", "hd"]
    assert [(disk.target, disk.bus, disk.driver_name) for disk in made.disks] == [
        ("xvda", "xen", "qemu"), ("hdb", "ide", "qemu"), ("xvdc", "xen", "phy")
    ]  # fmt: skip
    uefi = built(xen, xen_host(), firmware="uefi")
    assert (uefi.os.loader, uefi.os.loader_type) == ("/usr/lib/xen/boot/ovmf.bin", "pflash")
    assert refused(xen, xen_host(ovmf=False), firmware="uefi") == "firmware"


def test_a_paravirtualized_guests_disks_are_all_xens_own():
    made = built(xen, xen_host(), spec=DIRECT, disks=(DISK, CD))
    assert [(disk.target, disk.bus) for disk in made.disks] == [("xvda", "xen"), ("xvdb", "xen")]
    assert refused(xen, xen_host(), spec=DIRECT, disks=(dataclasses.replace(DISK, bus="virtio"),)) == "disks[0].bus"
    assert refused(xen, xen_host(), spec=DIRECT, firmware="uefi") == "firmware"


@pytest.mark.parametrize(
    ("field", "changes", "error"),
    [
        ("accelerator", {"accelerator": "kvm"}, Unsupported),
        ("tpm", {"tpm": True}, Unsupported),
        ("cpu_mode", {"cpu_mode": "maximum"}, Unsupported),
        ("graphics", {"graphics": "spice"}, Unsupported),
        ("machine", {"machine": "q35"}, Unsupported),
        ("kernel", {"machine": "xenpv"}, InvalidDefinition),
        ("vcpus", {"vcpus": 129}, Unsupported),
    ],
)
def test_what_a_xen_guest_cannot_be_is_refused(field, changes, error):
    assert refused(xen, xen_host(), error=error, **changes) == field


def test_without_hvm_a_kernel_is_asked_for():
    assert refused(xen, xen_host(hvm=False)) == "kernel"


# -- the simulated host ------------------------------------------------------------------------------------------------
def test_a_simulated_guest_keeps_its_disks_and_networks():
    made = built(simulated, TEST_HOST, disks=(DISK, CD))
    assert made.type == "test"
    assert [(disk.target, disk.bus) for disk in made.disks] == [("vda", "virtio"), ("sda", "sata")]
    assert read_definition(made.to_xml()).consoles == ()
    assert refused(simulated, TEST_HOST, firmware="uefi") == "firmware"
