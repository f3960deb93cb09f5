"""What guests of common systems need, and which system an image's file name tells of."""

from __future__ import annotations

import pytest

from drivers import osinfo

DEBIAN, UBUNTU, WINDOWS = "http://debian.org/debian/", "http://ubuntu.com/ubuntu/", "http://microsoft.com/win/"
FILES = [
    ("debian-13-genericcloud-amd64.qcow2", f"{DEBIAN}13"),
    ("debian-12.11.0-amd64-netinst.iso", f"{DEBIAN}12"),
    ("https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-nocloud-arm64.qcow2", f"{DEBIAN}12"),
    ("noble-server-cloudimg-amd64.img", f"{UBUNTU}24.04"),
    ("ubuntu-24.04.3-live-server-amd64.iso", f"{UBUNTU}24.04"),
    ("ubuntu-22.04-server-cloudimg-amd64.img", f"{UBUNTU}22.04"),
    ("jammy-minimal-cloudimg-amd64.img", f"{UBUNTU}22.04"),
    ("Fedora-Cloud-Base-Generic-42-1.1.x86_64.qcow2", "http://fedoraproject.org/fedora/42"),
    ("Fedora-Server-dvd-x86_64-43-1.6.iso", "http://fedoraproject.org/fedora/43"),
    ("Fedora-Workstation-Live-43-1.6.x86_64.iso", "http://fedoraproject.org/fedora/43"),
    ("Rocky-9-GenericCloud-Base.latest.x86_64.qcow2", "http://rockylinux.org/rocky/9"),
    ("Rocky-10.0-x86_64-minimal.iso", "http://rockylinux.org/rocky/10"),
    ("AlmaLinux-9-GenericCloud-latest.x86_64.qcow2", "http://almalinux.org/almalinux/9"),
    ("AlmaLinux-10.0-x86_64-dvd.iso", "http://almalinux.org/almalinux/10"),
    ("CentOS-Stream-GenericCloud-9-20250901.0.x86_64.qcow2", "http://centos.org/centos-stream/9"),
    ("CentOS-Stream-10-latest-x86_64-dvd1.iso", "http://centos.org/centos-stream/10"),
    ("openSUSE-Leap-15.6-Minimal-VM.x86_64-Cloud.qcow2", "http://opensuse.org/opensuse/15.6"),
    ("Leap-16.0-Minimal-VM.x86_64-Cloud.qcow2", "http://opensuse.org/opensuse/16.0"),
    ("openSUSE-Tumbleweed-DVD-x86_64-Current.iso", "http://opensuse.org/opensuse/tumbleweed"),
    ("nocloud_alpine-3.22.1-x86_64-bios-cloudinit-r0.qcow2", "http://alpinelinux.org/alpinelinux/3.22"),
    ("alpine-virt-3.20.0-x86_64.iso", "http://alpinelinux.org/alpinelinux/3.20"),
    ("Arch-Linux-x86_64-cloudimg.qcow2", "http://archlinux.org/archlinux/rolling"),
    ("archlinux-2025.09.01-x86_64.iso", "http://archlinux.org/archlinux/rolling"),
    ("FreeBSD-14.3-RELEASE-amd64-BASIC-CLOUDINIT-ufs.qcow2.xz", "http://freebsd.org/freebsd/14.3"),
    ("install78.iso", "http://openbsd.org/openbsd/7.8"),
    ("Win11_25H2_English_x64.iso", f"{WINDOWS}11"),
    ("Win10_22H2_English_x64v1.iso", f"{WINDOWS}10"),
    ("en-us_windows_server_2022_updated_x64_dvd.iso", f"{WINDOWS}2k22"),
    ("26100.1742.240906-0331.ge_release_svc_refresh_SERVER_EVAL_x64FRE_en-us.iso", f"{WINDOWS}2k25"),
    ("C:\\images\\17763.3650.221105-1748.rs5_SERVER_EVAL_x64FRE_en-us.iso", f"{WINDOWS}2k19"),
]


@pytest.mark.parametrize(("name", "expected"), FILES, ids=lambda text: text[-40:])
def test_a_files_name_tells_its_system(name, expected):
    assert osinfo.guess(name) == expected


@pytest.mark.parametrize(
    "name", ["", "disk.qcow2", "my-debian.qcow2", "debian-99.iso", "debian-130.qcow2", "fedora.iso", "/"]
)
def test_what_a_name_does_not_tell_is_not_guessed(name):
    assert osinfo.guess(name) == ""


def test_every_system_of_the_table_makes_sense():
    table = osinfo.known()
    assert len(table) >= 35
    for os_id, row in table.items():
        assert os_id.startswith("http://")
        assert row.family in {"linux", "bsd", "windows"}
        assert 64 << 20 <= row.memory_minimum_bytes <= row.memory_bytes <= 8 << 30
        assert 1 << 30 <= row.disk_minimum_bytes <= row.disk_bytes <= 64 << 30
        assert row.vcpus in {1, 2}
        assert bool(row.user) is (row.family != "windows")
        assert row.virtio or (row.disk_bus, row.nic_model) == ("sata", "e1000e")
        assert row.uefi or not row.secure_boot
    assert {os_id for _, os_id in FILES} <= set(table)


def test_windows_11_wants_all_that_its_installer_asks_for():
    row = osinfo.defaults(f"{WINDOWS}11")
    assert (row.uefi, row.secure_boot, row.tpm, row.virtio, row.memory_bytes) == (True, True, True, False, 4 << 30)


def test_a_system_that_nobody_knows_has_defaults_too():
    assert osinfo.defaults("http://example.org/os/1") is osinfo.UNKNOWN
    assert osinfo.defaults("").family == "other"
