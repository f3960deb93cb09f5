"""What `virsh` does beside us shows up, on real libvirtd: this machine's own, and lab hosts that are killed and frozen."""

from __future__ import annotations

import os
import signal
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers.pool import SessionPool
from events.models import Event
from hosts.choices import LinkState
from hosts.models import Host, Hypervisor
from metrics import store
from metrics.models import Sample
from networks.models import Network, NetworkFilter
from tests.labs import local
from tests.labs.fixtures import require_libvirtd
from tests.labs.local import virsh
from tests.waiting import wait_until
from tests.watcher.conftest import add_host, online, stands, state_of
from vms.models import VM
from watcher.service import WatcherService

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def watching(transactional_db: None) -> Iterator[WatcherService]:
    """The watcher with the house's own times."""
    pool = SessionPool()
    service = WatcherService(pool=pool, alone=True)
    yield service
    service.stop()
    pool.close()


def told(guest: str) -> list[str]:
    """Events of a guest: its states, and the other types by name."""
    rows = Event.objects.filter(object_name=guest, object__startswith="vm/").exclude(type="vm.changed").order_by("seq")
    return [event.data["to"] if event.type == "vm.state_changed" else event.type for event in rows]


def test_a_guests_life_by_virsh_is_seen_step_by_step(watching, qemu_guest):
    [hypervisor] = add_host("here", local.QEMU_URI, driver="qemu")
    watching.start()
    online(hypervisor)
    guest = qemu_guest(kind="bootsector")
    for verb, state in (
        ("", "shutoff"),
        ("start", "running"),
        ("suspend", "paused"),
        ("resume", "running"),
        ("destroy", "shutoff"),
    ):
        if verb:
            guest.virsh(verb)
        wait_until(lambda state=state: state_of(guest.name) == state, 5, f"{verb or 'define'} seen")
    vm = VM.objects.get(name=guest.name)
    assert (vm.memory_bytes, vm.domain_type, vm.disks.count()) == (16 << 20, "qemu", 1)
    guest.virsh("undefine")
    wait_until(lambda: state_of(guest.name) is None, 5, "undefine seen")
    assert told(guest.name) == ["vm.defined", "running", "paused", "running", "shutoff", "vm.undefined"]


def test_a_killed_guest_is_seen_off(watching, qemu_guest):
    [hypervisor] = add_host("here", local.QEMU_URI, driver="qemu")
    guest = qemu_guest(kind="bootsector", start=True)
    watching.start()
    online(hypervisor)
    assert state_of(guest.name) == "running"
    os.kill(int(Path(f"/run/libvirt/qemu/{guest.name}.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: state_of(guest.name) in ("shutoff", "crashed"), 5, "its death")


def test_a_container_is_a_guest_too(watching, lxc_guest):
    [hypervisor] = add_host("here", "lxc:///", driver="lxc")
    watching.start()
    online(hypervisor)
    guest = lxc_guest(start=True)
    wait_until(lambda: state_of(guest.name) == "running", 10, "the container")
    vm = VM.objects.get(name=guest.name)
    assert (vm.kind, vm.virtualization_type, vm.techniques) == ("container", "os_level", ["shared_kernel"])


def test_qemu_and_lxc_of_one_machine_are_one_host(watching):
    require_libvirtd(local.QEMU_URI)
    require_libvirtd(local.LXC_URI)
    [qemu] = add_host("here", local.QEMU_URI, driver="qemu")
    lxc = Hypervisor.objects.create(host=qemu.host, driver="lxc", uri="lxc:///")
    watching.start()
    online(qemu)
    online(lxc)
    host = Host.objects.get()
    assert (host.state, bool(host.host_uuid), host.cpu_count > 0) == ("online", True, True)


def test_a_busy_guest_is_measured(watching, qemu_guest):
    [hypervisor] = add_host("here", local.QEMU_URI, driver="qemu")
    guest = qemu_guest(start=True)
    watching.start()
    online(hypervisor)
    vm = VM.objects.get(name=guest.name)

    def measured() -> bool:
        store.looking(vm.ref)
        return Sample.objects.filter(subject=vm.pk, cpu_ratio__gt=0).count() >= 2

    wait_until(measured, 30, "two measurements while it boots")
    assert Sample.objects.filter(subject=vm.pk).latest("at").memory_bytes > 0
    assert Sample.objects.filter(subject=hypervisor.host_id, cpu_ratio__gt=0).exists()
    guest.destroy()
    wait_until(lambda: store.latest([vm.pk]) == {}, 15, "a guest that is off has no latest values")


@pytest.mark.alone
@pytest.mark.chaos
def test_a_frozen_libvirtd_is_offline_in_time_and_nobody_elses_problem(watching, lab_hosts):
    [frozen] = add_host("one", lab_hosts.uri(1, "unix"), driver="qemu")
    [well] = add_host("two", lab_hosts.uri(2, "unix"), driver="qemu")
    watching.start()
    online(frozen, 20)
    online(well, 20)
    try:
        lab_hosts.freeze(1)
        started = time.monotonic()
        while time.monotonic() - started < 20 and Hypervisor.objects.get(pk=frozen.pk).state == LinkState.ONLINE:
            _define_and_undefine(lab_hosts.uri(2, "unix"))
        stands(frozen, LinkState.OFFLINE, 0.1)
        assert Hypervisor.objects.get(pk=well.pk).state == LinkState.ONLINE
        lab_hosts.thaw(1)
        online(frozen, 30)
        _define_and_undefine(lab_hosts.uri(1, "unix"))
    finally:
        lab_hosts.restore()


@pytest.mark.chaos
def test_a_killed_libvirtd_comes_back_with_what_happened_meanwhile(watching, lab_hosts):
    uri = lab_hosts.uri(1, "unix")
    [hypervisor] = add_host("one", uri, driver="qemu")
    watching.start()
    online(hypervisor, 20)
    try:
        lab_hosts.kill(1)
        stands(hypervisor, LinkState.OFFLINE, 5)
        lab_hosts.start(1)
        _define(uri, "chaos-meanwhile")
        online(hypervisor, 30)
        wait_until(lambda: state_of("chaos-meanwhile") == "shutoff", 5, "defined while we were away")
        _define_and_undefine(uri)
    finally:
        virsh(uri, "undefine", "chaos-meanwhile")
        lab_hosts.restore()


def _define(uri: str, name: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(
            f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>"
            "<os><type arch='x86_64'>hvm</type></os></domain>"
        )
        file.flush()
        virsh(uri, "define", file.name)


def _define_and_undefine(uri: str) -> None:
    """On a host that is well both are seen within a second."""
    name = local.unique_name("chaos")
    _define(uri, name)
    wait_until(lambda: state_of(name) == "shutoff", 1, "define seen")
    virsh(uri, "undefine", name)
    wait_until(lambda: state_of(name) is None, 1, "undefine seen")


@pytest.mark.alone
def test_what_somebody_does_by_virsh_shows_within_a_second(watching):
    require_libvirtd(local.QEMU_URI)
    add_host("here", local.QEMU_URI, driver="qemu")
    watching.start()
    name = f"{local.PREFIX}{uuid.uuid4().hex[:8]}"
    rows = Network.objects.filter(name=name, gone_at=None)
    wait_until(NetworkFilter.objects.exists, 30, "the first survey")
    xml = f"<network><name>{name}</name></network>"
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(xml)
        file.flush()
        try:
            virsh(local.QEMU_URI, "net-define", file.name)
            wait_until(lambda: rows.filter(active=False).exists(), 1, "defined")
            virsh(local.QEMU_URI, "net-start", name)
            wait_until(lambda: rows.filter(active=True).exists(), 1, "started")
            virsh(local.QEMU_URI, "net-destroy", name)
            wait_until(lambda: rows.filter(active=False).exists(), 1, "stopped")
        finally:
            virsh(local.QEMU_URI, "net-undefine", name)
    wait_until(lambda: not rows.exists(), 1, "undefined")
