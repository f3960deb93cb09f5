"""The labs themselves: what every other real test stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.labs import fixtures, local
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.labs.hosts import LabHosts

pytestmark = pytest.mark.real


def test_linux_guest_started_reaches_its_shell_and_obeys_shutdown(qemu_guest: fixtures.QemuGuestFactory) -> None:
    guest = qemu_guest(ready=True)
    with guest.console() as console:
        console.ask("echo $((6*7))-answered", "42-answered")
    guest.shutdown()
    guest.wait_state("shut off")
    assert "TINY-GUEST DOWN" in guest.serial_output()


def test_bootsector_guest_started_runs_its_one_instruction(qemu_guest: fixtures.QemuGuestFactory) -> None:
    guest = qemu_guest(kind="bootsector", ready=True)
    assert guest.running
    assert guest.serial_output().endswith("!")


def test_disk_guest_boots_from_its_disk_and_counts(
    qemu_guest: fixtures.QemuGuestFactory, tiny_disk: local.TinyKernel
) -> None:
    name = local.unique_name("disk")
    overlay = local.guest_directory(name) / "disk.qcow2"
    try:
        local.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", tiny_disk.disk, "-F", "qcow2", overlay)
        guest = qemu_guest("--boot", "disk", "--disk", str(overlay), name=name, ready=True)
        wait_until(lambda: "boots=1" in guest.serial_output(), 5, "the guest found its disk")
        guest.destroy()
    finally:
        overlay.unlink()
        overlay.parent.rmdir()


def test_lxc_guest_started_gives_a_shell_and_obeys_shutdown_and_reboot(lxc_guest: fixtures.GuestFactory) -> None:
    guest = lxc_guest(ready=True)
    with guest.console() as console:
        console.ask("hostname", guest.name)
    first = guest.virsh("domid")
    guest.virsh("reboot")
    wait_until(lambda: guest.running and guest.virsh("domid") != first, 10, "the container came back")
    guest.wait_ready()
    guest.shutdown()
    guest.wait_state("shut off")


def test_guest_removed_in_any_state_leaves_nothing(lxc_guest: fixtures.GuestFactory) -> None:
    guest = lxc_guest(start=True)
    guest.remove()
    assert guest.state == ""
    assert not guest.directory.exists()
    guest.remove()


@pytest.mark.parametrize("transport", ["tls", "unix", "ssh"])
@pytest.mark.parametrize("driver", ["qemu", "lxc"])
def test_lab_host_answers_over_each_transport(lab_hosts: LabHosts, transport: str, driver: str) -> None:
    assert local.virsh(lab_hosts.uri(2, transport, driver), "hostname").strip() == "hv2.lab"


def test_lab_host_killed_frozen_cut_and_crashed_comes_back(lab_hosts: LabHosts) -> None:
    uri = lab_hosts.uri(1)
    for harm, mend in (
        (lab_hosts.kill, lab_hosts.start),
        (lab_hosts.crash, lab_hosts.boot),
    ):
        harm(1)
        assert not local.answers(uri)
        mend(1)
        wait_until(lambda: local.answers(uri), 10, "the host answers over TLS again")
    for harm, mend in ((lab_hosts.freeze, lab_hosts.thaw), (lab_hosts.cut, lab_hosts.mend)):
        harm(1)
        with pytest.raises(local.LabError, match="no end within"):
            local.virsh(uri, "uri", timeout=1)
        mend(1)
        wait_until(lambda: local.answers(uri), 10, "the host answers again")


def test_lab_hosts_migrate_a_running_guest(lab_hosts: LabHosts, tiny_kernel: local.TinyKernel) -> None:
    for part in (tiny_kernel.vmlinuz, tiny_kernel.initrd):
        local.run("cp", part, lab_hosts.shared)
    name = local.unique_name("move")
    xml = lab_hosts.directory / "move.xml"
    xml.write_text(local.run(local.HERE / "tiny-guest", "xml", name, "/srv/shared"))
    source, destination = lab_hosts.uri(1), lab_hosts.uri(2)
    local.virsh(source, "create", xml)
    try:
        local.virsh(source, "migrate", "--live", "--p2p", name, "qemu+tls://hv2.lab/system")
        assert local.virsh(destination, "domstate", name).strip() == "running"
        assert name not in local.virsh(source, "list", "--all", "--name")
    finally:
        for uri in (source, destination):
            if name in local.virsh(uri, "list", "--name"):
                local.virsh(uri, "destroy", name)
