"""VMware Workstation and Player: libvirt's real driver, in a child process, over a stand-in vmrun that boots real machines."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from drivers import registry
from drivers.errors import AlreadyExists, DriverError, Unreachable, Unsupported
from drivers.libvirtd.hosted import VirtualBoxDriver, VmwareDriver
from drivers.types import Endpoint, Feature, GuestRef, GuestState, Proof, Technique, VirtualizationType
from tests.drivers.conformance import Conformance, Lab, state_of
from tests.vms.sites import gone, made, managed
from tests.waiting import wait_until
from tests.web.conftest import workers

__all__ = ["workers"]
pytestmark = [pytest.mark.lab]


@pytest.fixture
def opened(workstation):
    """Opens sessions, and closes them."""
    made = []

    def open_(endpoint=workstation.endpoint):
        made.append(VmwareDriver().open(endpoint))
        return made[-1]

    yield open_
    for session in made:
        session.close()


@pytest.fixture
def lab(workstation, opened):
    session = opened()

    def make() -> GuestRef:
        xml, uuid, name = workstation.xml()
        session.define(xml)
        return GuestRef(uuid=uuid, name=name)

    return Lab(
        driver=registry.get("vmware"),
        endpoint=workstation.endpoint,
        session=session,
        make=make,
        make_shell=make,
        make_screen=make,
        booted="",
        killed="",
    )


class TestConformance(Conformance):
    """What every driver promises."""


# -- what is known of guests -----------------------------------------------------------------------------------------------
def test_a_guest_is_hosted(lab):
    info = lab.session.guest(lab.make())
    assert info.virtualization_type is VirtualizationType.HOSTED
    assert info.techniques == (Technique.FULL_VIRTUALIZATION, Technique.HARDWARE_ASSISTED)
    host = lab.session.host_info()
    assert host.hypervisor_version == "VMware Workstation 17.5.0"
    assert host.virtualization_type is VirtualizationType.HOSTED


def test_what_its_owner_starts_and_stops_is_seen_and_stays_known(workstation, opened):
    session = opened()
    assert session.guests() == []
    vmx = workstation.vm()
    workstation.vmrun("start", vmx)
    [info] = session.guests()
    assert (info.name, info.state, info.persistent) == (vmx.stem, GuestState.RUNNING, True)
    workstation.vmrun("stop", vmx, "hard")
    assert [(each.uuid, each.state) for each in session.guests()] == [(info.uuid, GuestState.SHUTOFF)]
    session.start(info.ref)
    assert str(vmx) in workstation.vmrun("list")


def test_what_is_off_is_forgotten_with_the_child_process_and_found_when_it_runs(workstation, opened):
    session = opened()
    vmx = workstation.vm()
    workstation.vmrun("start", vmx)
    [info] = session.guests()
    workstation.vmrun("stop", vmx, "hard")
    session.close()
    again = opened()
    assert again.guests() == []
    assert again.guest_or_none(info.ref) is None
    workstation.vmrun("start", vmx)
    assert again.guest(info.ref).state is GuestState.RUNNING


def test_a_pause_is_seen_by_every_session(workstation, opened):
    one, other = opened(), opened()
    workstation.vmrun("start", workstation.vm())
    [info] = one.guests()
    one.suspend(info.ref)
    assert [each.state for each in other.guests()] == [GuestState.PAUSED]
    other.resume(info.ref)
    assert state_of(one, info.ref) is GuestState.RUNNING


def test_undefined_leaves_its_files(workstation, lab):
    ref = lab.make()
    lab.session.undefine(ref)
    assert (workstation.directory / "vms" / ref.name / f"{ref.name}.vmx").exists()
    assert (workstation.directory / "vms" / ref.name / f"{ref.name}.vmdk").exists()


def test_player_cannot_pause_and_says_so(workstation, opened):
    session = opened(workstation.player)
    assert session.host_info().hypervisor_version.startswith("VMware Player")
    assert not session.capabilities()[Feature.SUSPEND].supported
    workstation.vmrun("start", workstation.vm())
    [info] = session.guests()
    with pytest.raises(Unsupported, match="Player cannot pause"):
        session.suspend(info.ref)


MORE = frozenset({Feature.AUTOSTART, Feature.EVENTS})


class Greedy(VmwareDriver):
    """Declares more than libvirt's driver has."""

    features = VmwareDriver.features | MORE
    reasons = {name: why for name, why in VmwareDriver.reasons.items() if name not in MORE}


def test_what_the_connection_refuses_when_asked_is_no_capability(workstation):
    workstation.vmrun("start", workstation.vm())
    session = Greedy().open_here(workstation.endpoint)
    support = session.capabilities()
    for feature in MORE:
        assert not support[feature].supported
        assert "not supported by the connection driver" in support[feature].reason
    assert support[Feature.XML].supported
    with pytest.raises(Unsupported, match="virDomainGetAutostart"):
        session.set_autostart(GuestRef(uuid="x"), enabled=True)
    session.close()


# -- trouble ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sign", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_of_the_library_is_told_once_and_the_next_open_works(workstation, opened, sign):
    session = opened()
    workstation.vmrun("start", workstation.vm())
    assert session.guests()
    reasons: list[str] = []
    session.on_close(reasons.append)
    os.kill(session.pid, sign)
    wait_until(lambda: reasons, 5, "told")
    assert sign.name in reasons[0]
    with pytest.raises(Unreachable):
        session.guests()
    assert len(opened().guests()) == 1
    assert len(reasons) == 1
    assert not Path(f"/proc/{session.pid}").exists()


@pytest.mark.parametrize(
    "script", ["echo nonsense", "exit 3", "printf 'Total running VMs: 1\\n/no/such.vmx\\n'", "printf '\\377\\376\\n'"]
)
def test_whatever_vmrun_answers_ends_as_an_error_of_ours(workstation, opened, script):
    session = opened()
    tool = workstation.directory / "bin/vmrun"
    shutil.copy(tool, f"{tool}.good")
    tool.write_text(f"#!/bin/sh\n{script}\n")
    with contextlib.suppress(DriverError):
        assert session.guests() == []
    shutil.move(f"{tool}.good", tool)
    assert opened().guests() == []


def test_two_guests_of_one_name_are_refused(workstation, lab):
    ref = lab.make()
    xml, _, name = workstation.xml()
    with pytest.raises((AlreadyExists, DriverError)):
        lab.session.define(xml.replace(name, ref.name))


def test_without_the_product_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for uri in ("vmwarews:///session", "vmwareplayer:///session"):
        with pytest.raises(Unsupported, match="install VMware Workstation or Player"):
            VmwareDriver().open(Endpoint(driver="vmware", uri=uri))


def test_virtualbox_says_what_is_missing():
    with pytest.raises(Unsupported, match="libvirt-daemon-driver-vbox"):
        VirtualBoxDriver().open(Endpoint(driver="vbox", uri="vbox:///session"))
    assert VirtualBoxDriver.proof is Proof.NONE


# -- new guests -----------------------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_a_definition_sent_over_rest_becomes_a_vmx_that_runs(api, workstation, workers):
    with managed(workstation.endpoint) as hypervisor:
        place = {"hypervisor": str(hypervisor.pk)}
        refused = api.post("/vms?dry_run=true&definition=false", {"name": "web", **place}).json()
        assert (refused["code"], "define the guest from XML" in refused["detail"]) == ("unsupported", True)
        xml, uuid, name = workstation.xml()
        ended = made(api, {"xml": xml, **place})
        assert ended["state"] == "succeeded", ended
        vmx = workstation.directory / "vms" / name / f"{name}.vmx"
        assert str(vmx) in workstation.vmrun("list")
        vm = api.get(f"/vms/{ended['result']['vm']}").json()
        assert (vm["uuid"], vm["state"]) == (uuid, "running")
        gone(api, vm["id"], storage="keep")
        assert str(vmx) not in workstation.vmrun("list")
        assert vmx.with_suffix(".vmdk").exists()
