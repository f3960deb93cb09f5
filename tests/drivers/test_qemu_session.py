"""The type-2 case, real: QEMU for one unprivileged account, by a libvirtd of its own, without KVM."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from drivers import registry
from drivers.types import (
    Endpoint,
    Feature,
    GuestRef,
    GuestState,
    PoolSpec,
    Technique,
    VirtualizationType,
    VolumeSpec,
)
from tests.drivers.conformance import News, state_of
from tests.labs.fixtures import require
from tests.labs.local import HERE, LabError, run
from tests.waiting import wait_until

pytestmark = [pytest.mark.lab]

NOBODY = 65534
XML = """<domain type='qemu'><name>sector</name><memory unit='MiB'>16</memory><os><type arch='x86_64'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/><target dev='hda' bus='ide'/></disk>
<serial type='file'><source path='{log}'/></serial><graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>
</devices></domain>"""


@pytest.fixture
def home():
    """A home directory of the account, which is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="vmm-session-"))
    for place in (directory, directory / "run"):
        place.mkdir(exist_ok=True, mode=0o700)
        os.chown(place, NOBODY if os.geteuid() == 0 else -1, -1)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def endpoint(home):
    """The account's libvirtd, as its first client would have started it."""
    socket = home / "run/libvirt/libvirt-sock"
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    words = [*become, "env", "-i", f"PATH={os.environ['PATH']}", f"HOME={home}", f"XDG_RUNTIME_DIR={home / 'run'}"]

    def have() -> None:
        if not shutil.which("libvirtd") or not shutil.which("qemu-system-x86_64"):
            raise LabError("libvirtd or qemu-system-x86_64 is missing")

    require(have, "no qemu:///session")
    with (home / "log").open("wb") as log:
        daemon = subprocess.Popen([*words, "libvirtd"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=home)
    try:
        wait_until(socket.exists, 30, "the account's libvirtd")
        yield Endpoint(driver="qemu", uri=f"qemu+unix:///session?socket={socket}")
    finally:
        daemon.terminate()
        daemon.wait(20)


@pytest.fixture
def session(endpoint):
    opened = registry.get("qemu").open(endpoint)
    yield opened
    for info in opened.guests():
        if info.state is not GuestState.SHUTOFF:
            opened.force_off(info.ref)
    opened.close()


@pytest.fixture
def guest(session, home) -> GuestRef:
    """A boot sector that says `!` on its serial port."""
    disk = home / "sector.raw"
    run(HERE / "tiny-guest", "bootsector", disk)
    os.chown(disk, NOBODY if os.geteuid() == 0 else -1, -1)
    return session.define(XML.format(disk=disk, log=home / "serial.log")).ref


def test_an_accounts_qemu_is_hosted_and_emulates(session, guest):
    host = session.host_info()
    assert host.virtualization_type is VirtualizationType.HOSTED
    assert Technique.EMULATION in host.techniques
    info = session.guest(guest)
    assert (info.virtualization_type, info.domain_type) == (VirtualizationType.HOSTED, "qemu")
    assert info.techniques == (Technique.FULL_VIRTUALIZATION, Technique.EMULATION)
    assert [each.virtualization_type for each in session.guests()] == [VirtualizationType.HOSTED]


def test_its_guests_run_as_the_account(session, guest, home):
    session.start(guest)
    wait_until(lambda: "!" in (home / "serial.log").read_text(), 60, "the boot sector ran")
    pid = int((home / "run/libvirt/qemu/run/sector.pid").read_text())
    assert Path(f"/proc/{pid}").stat().st_uid == (NOBODY if os.geteuid() == 0 else os.geteuid())
    assert [each.uuid for each in session.stats()] == [guest.uuid]


def test_it_has_pools_of_its_own(session, home):
    assert session.capabilities()[Feature.STORAGE_POOLS].supported
    session.pool_create(PoolSpec(name="mine", type="dir", target=f"{home}/.local/share/libvirt/images"))
    made = session.volume_create("mine", VolumeSpec(name="disk.qcow2", capacity_bytes=1 << 20, format="qcow2"))
    assert Path(made.path).stat().st_uid == (NOBODY if os.geteuid() == 0 else os.geteuid())
    session.volume_upload("mine", "disk.qcow2", bytes, length=4096)
    session.pool_delete("mine")
    assert session.pools() == []


def test_its_power_verbs_and_news_are_those_of_any_qemu(session, guest):
    assert session.capabilities()[Feature.EVENTS].supported
    news = News(session)
    session.start(guest)
    news.expect(guest, "started")
    session.suspend(guest)
    assert state_of(session, guest) is GuestState.PAUSED
    session.resume(guest)
    session.reset(guest)
    session.force_off(guest)
    news.expect(guest, "stopped")
    session.undefine(guest)
    assert session.guest_or_none(guest) is None
