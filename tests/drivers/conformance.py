"""What every driver promises, as one suite. A driver's test module derives from `Conformance` and gives it a `lab`.

Every declared feature works, every other is refused with its reason, every error is a DriverError, news comes.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import queue
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from drivers.errors import (
    AlreadyExists,
    ConsoleBusy,
    DriverError,
    InvalidDefinition,
    NotFound,
    Unreachable,
    Unsupported,
    WrongState,
)
from drivers.types import (
    AddressInfo,
    CloneSpec,
    Feature,
    GuestEvent,
    GuestEventKind,
    GuestRef,
    GuestSpec,
    GuestState,
    SnapshotSpec,
)
from tests import scorecard
from tests.drivers.conformance_clone import CloneConformance
from tests.drivers.conformance_hardware import HardwareConformance
from tests.drivers.conformance_snapshots import SnapshotConformance
from tests.drivers.holdings import HoldingsConformance
from tests.labs.local import PREFIX
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.base import Console, Driver, Session
    from drivers.types import DiskHardware, Endpoint, NicHardware

NOBODY = GuestRef(uuid="00000000-0000-0000-0000-0000000000ff", name="nobody")

VERBS: dict[Feature, Callable[[Session, GuestRef], object]] = {
    Feature.START: lambda session, ref: session.start(ref),
    Feature.SHUTDOWN: lambda session, ref: session.shutdown(ref),
    Feature.REBOOT: lambda session, ref: session.reboot(ref),
    Feature.RESET: lambda session, ref: session.reset(ref),
    Feature.FORCE_OFF: lambda session, ref: session.force_off(ref),
    Feature.SUSPEND: lambda session, ref: session.suspend(ref),
    Feature.RESUME: lambda session, ref: session.resume(ref),
    Feature.MANAGED_SAVE: lambda session, ref: session.managed_save(ref),
    Feature.DISCARD_MANAGED_SAVE: lambda session, ref: session.discard_managed_save(ref),
    Feature.AUTOSTART: lambda session, ref: session.set_autostart(ref, enabled=True),
    Feature.UNDEFINE: lambda session, ref: session.undefine(ref),
    Feature.XML: lambda session, ref: session.definition(ref),
    Feature.DEFINE: lambda session, ref: session.define(f"<domain><name>{ref.name}</name></domain>"),
    Feature.RENAME: lambda session, ref: session.rename(ref, f"{ref.name}-2"),
    Feature.EVENTS: lambda session, ref: session.subscribe(lambda event: None),
    Feature.CONSOLE_SERIAL: lambda session, ref: session.open_console(ref, "serial"),
    Feature.CONSOLE_SHELL: lambda session, ref: session.open_console(ref, "shell"),
    Feature.CONSOLE_VNC: lambda session, ref: session.open_console(ref, "vnc"),
    Feature.CONSOLE_SPICE: lambda session, ref: session.open_console(ref, "spice"),
    Feature.SCREENSHOT: lambda session, ref: session.screenshot(ref),
    Feature.CREATE: lambda session, ref: session.create(GuestSpec(name=ref.name, uuid=str(uuid.uuid4()))),
    Feature.ADDRESSES: lambda session, ref: session.addresses(ref),
    Feature.CLONE: lambda session, ref: session.clone(ref, CloneSpec(name=f"{ref.name}-2", uuid=str(uuid.uuid4()))),
    Feature.SNAPSHOTS_DISK: lambda session, ref: session.snapshot_create(ref, SnapshotSpec(name="first")),
    Feature.SNAPSHOTS_MEMORY: lambda session, ref: session.snapshot_create(
        ref, SnapshotSpec(name="first", memory=True)
    ),
    Feature.HARDWARE: lambda session, ref: session.hardware(ref),
    Feature.HOST_DEVICES: lambda session, _ref: session.host_devices(),
}
ASKS_NO_GUEST = frozenset({Feature.DEFINE, Feature.EVENTS, Feature.CREATE, Feature.HOST_DEVICES})
"""Verbs that a guest which is not there does not stop."""
"""Verbs of guests; those of storage and networks stand in `holdings.EVERY_VERB`."""
NEEDS_RUNNING = (
    Feature.SHUTDOWN,
    Feature.REBOOT,
    Feature.RESET,
    Feature.FORCE_OFF,
    Feature.SUSPEND,
    Feature.MANAGED_SAVE,
    Feature.ADDRESSES,
)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """One hypervisor to try a driver on.

    Attributes:
        make: A new guest, defined and off, that starts within a second and cannot be hurt.
        make_shell: A new guest, defined and off, that comes up with a shell on its console and obeys shutdown.
        make_screen: A new guest, defined and off, with a VNC screen.
        make_kept: A new guest, defined and off, of which snapshots can be taken; `make` where that is any.
        changed: The guest's definition, changed to have this title.
        booted: The reason of a guest that was started.
        killed: The reason of a guest whose plug was pulled.
        while_rebooting: What a guest may read as between its reboot and its return; never as shut off.
        tells_memory: Whether how much memory a guest was given can be read back.
        console_is_shared: Every console is a shell of its own: nobody has to be thrown out of it.
        spec: The spec of a guest that could be started, and for `remove_made` to take away; None where none is made.
        addressed: A guest that runs and will have an address; None where it cannot be had here.
        given_pool: Name of a pool that is there, where none can be made.
        pool_target: Name of a pool to be made → an absolute path that may be a directory on the host.
        has_bytes: Whether volumes hold what is written into them.
        makes_qcow2: Whether the host can make qcow2 volumes.
        network: Name of a network that is there, and has given no address out.
        has_leases: Whether networks tell what they gave out.
        runs_networks: Whether the host has what a network needs to be started.
        disk: A disk that can be given to a guest made by `make`, while it runs too where that can be; None where it has none.
        nic: Likewise, an interface; its network or bridge works.
        plugged: A guest that runs, and lets go of what is taken from it; `started` where that is any.
        balloons: Whether such a guest gives memory back when it is asked to.
        most_vcpus: What a guest can have while it runs.
    """

    driver: Driver
    endpoint: Endpoint
    session: Session
    make: Callable[[], GuestRef]
    make_shell: Callable[[], GuestRef]
    make_screen: Callable[[], GuestRef]
    changed: Callable[[str, str], str] = lambda xml, title: xml.replace("</name>", f"</name><title>{title}</title>", 1)
    boot_seconds: float = 60.0
    make_kept: Callable[[], GuestRef] | None = None
    booted: str = "booted"
    killed: str = "destroyed"
    while_rebooting: frozenset[GuestState] = frozenset({GuestState.RUNNING})
    tells_memory: bool = True
    console_is_shared: bool = False
    spec: Callable[[], GuestSpec] | None = None
    addressed: Callable[[], GuestRef] | None = None
    given_pool: str = ""
    pool_target: Callable[[str], str] = "/srv/{}".format
    has_bytes: bool = True
    makes_qcow2: bool = True
    network: str = "default"
    has_leases: bool = True
    runs_networks: bool = True
    disk: Callable[[], DiskHardware] | None = None
    nic: Callable[[], NicHardware] | None = None
    plugged: Callable[[], GuestRef] | None = None
    balloons: bool = True
    most_vcpus: int = 2

    def has(self, feature: Feature) -> bool:
        return feature in self.driver.features

    def works(self, *features: Feature) -> None:
        """Said when a test has seen them work."""
        scorecard.works(self.driver.kind, *(feature for feature in features if self.has(feature)))

    def started(self) -> GuestRef:
        ref = self.make()
        self.session.start(ref)
        return ref


class News:
    """Collects a session's events."""

    def __init__(self, session: Session) -> None:
        self.events: queue.SimpleQueue[GuestEvent] = queue.SimpleQueue()
        session.subscribe(lambda event: self.events.put(event) if isinstance(event, GuestEvent) else None)

    def expect(self, ref: GuestRef, *words: str, seconds: float = 20.0) -> GuestEvent:
        """The next event of the guest whose reason has one of these words in it."""
        deadline = time.monotonic() + seconds
        heard = []
        while True:
            try:
                event = self.events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no event {words} of {ref}; heard {heard}")
            heard.append((event.uuid, event.reason))
            if event.uuid == ref.uuid and any(word in event.reason for word in words):
                return event


def state_of(session: Session, ref: GuestRef) -> GuestState:
    return session.guest_state(ref)[0]


def wait_state(session: Session, ref: GuestRef, state: GuestState, seconds: float = 30.0) -> None:
    wait_until(lambda: state_of(session, ref) is state, seconds, f"{ref} {state}")


def read_until(console: Console, marker: bytes, seconds: float = 30.0) -> bytes:
    data = b""
    deadline = time.monotonic() + seconds
    while marker not in data:
        piece = console.read(timeout_seconds=max(0.0, min(1.0, deadline - time.monotonic())))
        assert piece != b"", f"the console ended before {marker!r}: {data[-500:]!r}"
        assert time.monotonic() < deadline, f"{marker!r} never came: {data[-500:]!r}"
        data += piece or b""
    return data


def ask(console: Console, question: bytes, answer: bytes, seconds: float = 60.0) -> None:
    """Type a line until its answer comes: before a shell listens, what is typed is lost."""
    deadline = time.monotonic() + seconds
    data = b""
    patience = 0.3
    while answer not in data:
        assert time.monotonic() < deadline, f"no {answer!r}: {data[-500:]!r}"
        console.write(question + b"\n")
        until = time.monotonic() + patience
        while answer not in data and time.monotonic() < until:
            data += console.read(timeout_seconds=0.2) or b""
        patience = min(2.0, patience * 2)


class Conformance(SnapshotConformance, CloneConformance, HardwareConformance, HoldingsConformance):
    """Derive, and give a `lab` fixture."""

    # -- what is declared -----------------------------------------------------------------------------------------
    def test_each_feature_is_declared_or_has_a_reason(self, lab: Lab) -> None:
        assert lab.driver.features.isdisjoint(lab.driver.reasons)
        assert lab.driver.features | set(lab.driver.reasons) == set(Feature)

    def test_capabilities_answer_for_every_feature(self, lab: Lab) -> None:
        support = lab.session.capabilities()
        assert set(support) == set(Feature)
        for feature, answer in support.items():
            if answer.supported:
                assert lab.has(feature)
            else:
                assert len(answer.reason) > 10
                assert answer.reason.endswith(".")
                scorecard.refused(lab.driver.kind, feature)

    def test_undeclared_verbs_are_refused_with_the_reason(self, lab: Lab) -> None:
        ref = lab.make()
        for feature, verb in VERBS.items():
            if not lab.has(feature):
                with pytest.raises(Unsupported) as refusal:
                    verb(lab.session, ref)
                assert refusal.value.detail == lab.driver.reasons[feature]

    def test_words_for_people(self, lab: Lab) -> None:
        assert lab.driver.kind
        assert lab.driver.label
        assert lab.driver.schemes

    # -- facts ----------------------------------------------------------------------------------------------------
    def test_host_info(self, lab: Lab) -> None:
        info = lab.session.host_info()
        assert info.hostname
        assert info.cpu_count > 0
        assert info.memory_total_bytes > 64 * 2**20
        assert 0 <= info.memory_free_bytes <= info.memory_total_bytes
        assert info.hypervisor_version
        assert info.techniques

    def test_host_stats_move_on(self, lab: Lab) -> None:
        first = lab.session.host_stats()
        assert first.cpu_count == lab.session.host_info().cpu_count
        assert first.memory_total_bytes
        second = lab.session.host_stats()
        assert second.at >= first.at
        assert (second.cpu_busy_seconds or 0) >= (first.cpu_busy_seconds or 0)

    def test_a_new_guest_is_off_everywhere_it_is_asked(self, lab: Lab) -> None:
        ref = lab.make()
        info = lab.session.guest(ref)
        assert (info.uuid, info.name) == (ref.uuid, ref.name)
        assert info.state is GuestState.SHUTOFF
        assert info.persistent
        assert not info.autostart
        assert not info.has_managed_save
        assert info.vcpus >= 1
        assert info.max_memory_bytes >= info.memory_bytes >= (1 if lab.tells_memory else 0)
        assert info.techniques
        assert next(each for each in lab.session.guests() if each.uuid == ref.uuid) == info
        assert lab.session.guest_state(ref)[0] is GuestState.SHUTOFF
        assert lab.session.guest_or_none(ref) == info

    def test_several_guests_are_read_at_once_and_the_gone_left_out(self, lab: Lab) -> None:
        refs = [lab.make(), lab.make()]
        found = lab.session.guests_by_ref([refs[0], NOBODY, refs[1]])
        assert [info.uuid for info in found] == [ref.uuid for ref in refs]

    def test_many_guests_are_read_at_once(self, lab: Lab) -> None:
        refs = [lab.make(), lab.make()]
        strangers = [GuestRef(uuid=f"00000000-0000-0000-0000-{number:012}") for number in range(1, 40)]
        found = lab.session.guests_by_ref([*strangers, *refs])
        assert [info.uuid for info in found] == [ref.uuid for ref in refs]

    def test_a_running_guest_reads_the_same_alone_and_in_the_list(self, lab: Lab) -> None:
        ref = lab.started()
        alone = lab.session.guest(ref)
        assert alone.state is GuestState.RUNNING
        listed = next(each for each in lab.session.guests() if each.uuid == ref.uuid)
        assert (listed.name, listed.state, listed.xml_digest) == (alone.name, alone.state, alone.xml_digest)

    def test_an_unknown_guest_is_not_found(self, lab: Lab) -> None:
        assert lab.session.guest_or_none(NOBODY) is None
        for read in (lab.session.guest, lab.session.guest_state):
            with pytest.raises(NotFound):
                read(NOBODY)
        for feature, verb in VERBS.items():
            if lab.has(feature) and feature not in ASKS_NO_GUEST:
                with pytest.raises(NotFound):
                    verb(lab.session, NOBODY)

    def test_sessions_see_the_same_guests(self, lab: Lab) -> None:
        other = lab.driver.open(lab.endpoint)
        try:
            ref = lab.started()
            assert state_of(other, ref) is GuestState.RUNNING
            lab.session.force_off(ref)
            assert state_of(other, ref) is GuestState.SHUTOFF
        finally:
            other.close()

    # -- power ----------------------------------------------------------------------------------------------------
    def test_power_verbs_reach_their_states(self, lab: Lab) -> None:
        ref = lab.started()
        assert lab.session.guest_state(ref) == (GuestState.RUNNING, lab.booted)
        lab.session.suspend(ref)
        assert state_of(lab.session, ref) is GuestState.PAUSED
        lab.session.resume(ref)
        assert state_of(lab.session, ref) is GuestState.RUNNING
        if lab.has(Feature.RESET):
            lab.session.reset(ref)
            assert state_of(lab.session, ref) is GuestState.RUNNING
        lab.session.force_off(ref)
        assert lab.session.guest_state(ref) == (GuestState.SHUTOFF, lab.killed)
        lab.works(Feature.START, Feature.SUSPEND, Feature.RESUME, Feature.RESET, Feature.FORCE_OFF)

    def test_a_stopped_guest_refuses_what_needs_a_running_one(self, lab: Lab) -> None:
        ref = lab.make()
        for feature in NEEDS_RUNNING:
            if lab.has(feature):
                with pytest.raises(WrongState):
                    VERBS[feature](lab.session, ref)
        with pytest.raises(WrongState):
            lab.session.resume(ref)
        assert state_of(lab.session, ref) is GuestState.SHUTOFF

    def test_a_running_guest_refuses_a_second_start_and_resume(self, lab: Lab) -> None:
        ref = lab.started()
        with pytest.raises(WrongState):
            lab.session.start(ref)
        with pytest.raises(WrongState):
            lab.session.resume(ref)
        assert state_of(lab.session, ref) is GuestState.RUNNING

    def test_managed_save_and_what_follows(self, lab: Lab) -> None:
        if not lab.has(Feature.MANAGED_SAVE):
            return
        ref = lab.started()
        lab.session.managed_save(ref)
        saved = lab.session.guest(ref)
        assert (saved.state, saved.has_managed_save) == (GuestState.SHUTOFF, True)
        assert next(each for each in lab.session.guests() if each.uuid == ref.uuid).has_managed_save
        lab.session.start(ref)
        assert lab.session.guest(ref).state is GuestState.RUNNING
        assert not lab.session.guest(ref).has_managed_save
        lab.session.managed_save(ref)
        lab.session.discard_managed_save(ref)
        assert not lab.session.guest(ref).has_managed_save
        lab.session.discard_managed_save(ref)  # nothing there: nothing happens
        lab.works(Feature.MANAGED_SAVE, Feature.DISCARD_MANAGED_SAVE)

    def test_autostart_is_set_and_unset_again_and_again(self, lab: Lab) -> None:
        if not lab.has(Feature.AUTOSTART):
            return
        ref = lab.make()
        for enabled in (True, True, False, False):
            lab.session.set_autostart(ref, enabled=enabled)
            assert lab.session.guest(ref).autostart is enabled
            assert next(each for each in lab.session.guests() if each.uuid == ref.uuid).autostart is enabled
        lab.works(Feature.AUTOSTART)

    # -- definitions ----------------------------------------------------------------------------------------------
    def test_the_definition_names_the_guest(self, lab: Lab) -> None:
        if not lab.has(Feature.XML):
            return
        ref = lab.make()
        assert f"<name>{ref.name}</name>" in lab.session.definition(ref)
        lab.works(Feature.XML)

    def test_defining_what_is_there_changes_nothing(self, lab: Lab) -> None:
        if not lab.has(Feature.DEFINE):
            return
        ref = lab.make()
        before = lab.session.guest(ref)
        assert lab.session.define(lab.session.definition(ref)).xml_digest == before.xml_digest
        after = lab.session.guest(ref)
        assert after.xml_digest == before.xml_digest

    def test_what_is_ours_to_say_is_kept_or_refused(self, lab: Lab) -> None:
        if not lab.has(Feature.DEFINE):
            return
        ref = lab.make()
        before = lab.session.guest(ref)
        facts = {"id": "0190c7b4-0000-7000-8000-000000000000", "tags": "prod,web", "project": "a <b> & \u00e9"}
        try:
            lab.session.set_metadata(ref, facts, title="The web", description="Two\nlines")
        except Unsupported:
            assert lab.session.guest(ref) == before
            return
        after = lab.session.guest(ref)
        assert (after.metadata, after.title, after.description) == (facts, "The web", "Two\nlines")
        assert (after.disks, after.interfaces, after.memory_bytes) == (
            before.disks,
            before.interfaces,
            before.memory_bytes,
        )
        lab.session.set_metadata(ref, {"id": facts["id"]}, title="", description="")
        after = lab.session.guest(ref)
        assert (after.metadata, after.title, after.description) == ({"id": facts["id"]}, "", "")

    def test_a_changed_definition_takes_effect(self, lab: Lab) -> None:
        if not lab.has(Feature.DEFINE):
            return
        ref = lab.make()
        before = lab.session.guest(ref)
        after = lab.session.define(lab.changed(lab.session.definition(ref), "Front door"))
        assert after.uuid == before.uuid
        assert after.title == "Front door"
        assert after.xml_digest != before.xml_digest
        assert lab.session.guest(ref) == after
        lab.works(Feature.DEFINE)

    @pytest.mark.parametrize(
        "xml",
        [
            "",
            "no xml",
            "<domain",
            "<network><name>x</name></network>",
            "<domain><name>a/b</name></domain>",
            '<!DOCTYPE domain [<!ENTITY a "b">]><domain><name>&a;</name></domain>',
            '<!DOCTYPE domain SYSTEM "file:///etc/passwd"><domain/>',
        ],
    )
    def test_bad_definitions_are_refused(self, lab: Lab, xml: str) -> None:
        if not lab.has(Feature.DEFINE):
            return
        before = self._strangers(lab)
        with pytest.raises(InvalidDefinition):
            lab.session.define(xml)
        assert self._strangers(lab) == before

    @staticmethod
    def _strangers(lab: Lab) -> set[str]:
        """All guests but those that other tests make and remove beside this one on the same machine."""
        return {info.uuid for info in lab.session.guests() if not info.name.startswith(PREFIX)}

    @pytest.mark.parametrize(
        ("xml", "line"), [("", 1), ("no xml", 1), ("<domain>\n<name>x</nam></domain>", 2), ("<domain>\n\n<", 3)]
    )
    def test_what_is_no_xml_is_found_with_its_line(self, lab: Lab, xml: str, line: int) -> None:
        if not lab.has(Feature.DEFINE):
            return
        found = lab.session.check_definition(xml, ref=lab.make())
        assert [(one.line, one.fatal) for one in found][:1] == [(line, True)]

    def test_a_checked_definition_is_not_defined(self, lab: Lab) -> None:
        if not lab.has(Feature.DEFINE):
            return
        ref = lab.make()
        before = lab.session.definition(ref)
        wished = lab.changed(before, "Front door")
        assert [one for one in lab.session.check_definition(wished, ref=ref) if one.fatal] == []
        assert lab.session.definition(ref) == before
        assert not lab.session.holds_change(ref, before=before, wished=wished)
        lab.session.define(wished)
        assert lab.session.holds_change(ref, before=before, wished=wished)

    def test_a_definition_of_another_guest_is_found_out(self, lab: Lab) -> None:
        if not lab.has(Feature.DEFINE):
            return
        ref, other = lab.make(), lab.make()
        found = lab.session.check_definition(lab.session.definition(other), ref=ref)
        assert {one.path for one in found if one.fatal} == {"/domain/name", "/domain/uuid"}

    def test_a_renamed_guest_is_the_same_guest(self, lab: Lab) -> None:
        if not lab.has(Feature.RENAME):
            return
        ref, other = lab.make(), lab.make()
        name = f"{ref.name}-2"
        lab.session.rename(ref, name)
        lab.session.rename(ref, name)  # it has it already: nothing happens
        after = lab.session.guest(ref)
        assert (after.uuid, after.name, after.state) == (ref.uuid, name, GuestState.SHUTOFF)
        with pytest.raises(AlreadyExists):
            lab.session.rename(ref, other.name)
        for odd in ("", "a\nb"):
            with pytest.raises(InvalidDefinition):
                lab.session.rename(ref, odd)
        lab.session.start(ref)
        with pytest.raises(WrongState):
            lab.session.rename(ref, ref.name)
        assert lab.session.guest(ref).name == name
        lab.works(Feature.RENAME)

    def test_undefined_is_gone(self, lab: Lab) -> None:
        if not lab.has(Feature.UNDEFINE):
            return
        ref = lab.make()
        lab.session.undefine(ref)
        assert lab.session.guest_or_none(ref) is None
        assert ref.uuid not in {info.uuid for info in lab.session.guests()}
        lab.works(Feature.UNDEFINE)

    def test_undefine_takes_the_managed_save_along(self, lab: Lab) -> None:
        if not lab.has(Feature.MANAGED_SAVE):
            return
        ref = lab.started()
        lab.session.managed_save(ref)
        lab.session.undefine(ref)
        assert lab.session.guest_or_none(ref) is None

    # -- making -----------------------------------------------------------------------------------------------------
    def test_a_guest_is_made_from_a_spec_once(self, lab: Lab) -> None:
        if not lab.has(Feature.CREATE):
            return
        assert lab.spec is not None
        spec = dataclasses.replace(lab.spec(), metadata={"project": "blue & <green>"})
        assert spec.name in lab.session.design(spec)
        assert lab.session.guest_or_none(GuestRef(uuid=spec.uuid, name=spec.name)) is None  # a design makes nothing
        info = lab.session.create(spec)
        assert (info.name, info.state, info.persistent) == (spec.name, GuestState.SHUTOFF, True)
        assert info.metadata["project"] == "blue & <green>"
        assert info.vcpus == spec.vcpus
        assert info.memory_bytes == spec.memory_bytes
        assert lab.session.guest(info.ref) == info
        assert lab.session.create(spec) == info  # made by an attempt that did not live to say so
        with pytest.raises(AlreadyExists):
            lab.session.create(dataclasses.replace(spec, uuid=str(uuid.uuid4())))
        lab.session.start(info.ref)
        assert state_of(lab.session, info.ref) is GuestState.RUNNING
        lab.session.force_off(info.ref)
        lab.works(Feature.CREATE)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("name", "a/b"),
            ("name", " "),
            ("uuid", "x"),
            ("vcpus", 0),
            ("memory_bytes", 0),
            ("title", "a\x00b"),
            ("graphics", "x11"),
        ],
    )
    def test_a_spec_that_cannot_be_names_its_field(self, lab: Lab, field: str, value: object) -> None:
        if not lab.has(Feature.CREATE):
            return
        assert lab.spec is not None
        spec = dataclasses.replace(lab.spec(), **{field: value})
        for verb in (lab.session.design, lab.session.create):
            with pytest.raises(InvalidDefinition) as refusal:
                verb(spec)
            assert refusal.value.detail.startswith(f"{field}: ")
            assert refusal.value.context["field"] == field
        assert spec.name not in {info.name for info in lab.session.guests()}

    def test_addresses_come_by_source_or_with_a_reason(self, lab: Lab) -> None:
        if not lab.has(Feature.ADDRESSES):
            return
        ref = lab.addressed() if lab.addressed else lab.started()

        def told() -> list[AddressInfo]:
            found = []
            for source, answer in lab.session.addresses(ref).items():
                assert source in {"agent", "lease", "arp"}
                if isinstance(answer, str):
                    assert answer.endswith((".", "?"))
                    continue
                assert {each.source for each in answer} <= {source}
                found += answer
            return found

        if lab.addressed is None:
            assert told() == []
            return
        for each in wait_until(told, lab.boot_seconds, "an address"):
            assert not ipaddress.ip_address(each.address).is_loopback
        lab.works(Feature.ADDRESSES)

    # -- news and numbers -----------------------------------------------------------------------------------------
    def test_each_change_of_life_makes_news(self, lab: Lab) -> None:
        if not lab.has(Feature.EVENTS):
            return
        news = News(lab.session)
        ref = lab.make()
        assert news.expect(ref, "defined").kind is GuestEventKind.DEFINED
        lab.session.start(ref)
        event = news.expect(ref, "started")
        assert event.kind is GuestEventKind.CHANGED
        assert event.name == ref.name
        assert abs(time.monotonic() - event.at) < 60
        lab.session.suspend(ref)
        news.expect(ref, "suspended", "paused")
        lab.session.resume(ref)
        news.expect(ref, "resumed")
        lab.session.force_off(ref)
        news.expect(ref, "stopped", "destroyed")
        lab.session.undefine(ref)
        assert news.expect(ref, "undefined").kind is GuestEventKind.UNDEFINED
        lab.works(Feature.EVENTS)

    def test_what_another_session_does_makes_news_here(self, lab: Lab) -> None:
        if not lab.has(Feature.EVENTS):
            return
        news = News(lab.session)
        other = lab.driver.open(lab.endpoint)
        try:
            ref = lab.make()
            other.start(ref)
            news.expect(ref, "started")
        finally:
            other.close()

    def test_a_sink_that_fails_harms_nobody(self, lab: Lab) -> None:
        if not lab.has(Feature.EVENTS):
            return

        def broken(_event: GuestEvent) -> None:
            raise RuntimeError("a sink with a bug")

        other = lab.driver.open(lab.endpoint)
        try:
            other.subscribe(broken)
            news = News(lab.session)
            ref = lab.started()
            news.expect(ref, "started")
        finally:
            other.close()

    def test_counters_of_a_running_guest_grow(self, lab: Lab) -> None:
        if not lab.has(Feature.METRICS_CPU):
            return
        ref = lab.started()

        def counters():
            return next((each for each in lab.session.stats() if each.uuid == ref.uuid), None)

        first = wait_until(counters, 10, "counters")
        assert first.vcpus >= 1
        assert first.cpu_time_seconds is not None
        assert (first.memory_bytes is not None) is lab.has(Feature.METRICS_MEMORY)
        for name in ("disk_read_bytes", "disk_write_bytes", "network_receive_bytes", "network_transmit_bytes"):
            value = getattr(first, name)
            assert value is None or value >= 0
        later = wait_until(lambda: (now := counters()) and now.at > first.at and now, 10, "later counters")
        assert later.cpu_time_seconds >= first.cpu_time_seconds
        lab.works(Feature.METRICS_CPU, Feature.METRICS_MEMORY)
        if first.disk_read_bytes is not None:
            lab.works(Feature.METRICS_DISK)
        if first.network_receive_bytes is not None:
            lab.works(Feature.METRICS_NETWORK)

    def test_a_stopped_guest_has_no_counters(self, lab: Lab) -> None:
        ref = lab.make()
        assert ref.uuid not in {each.uuid for each in lab.session.stats()}

    # -- shutdown and console: need a guest that listens -----------------------------------------------------------
    def test_shell_on_the_console_then_shutdown(self, lab: Lab) -> None:
        if not lab.has(Feature.CONSOLE_SERIAL):
            return
        ref = lab.make_shell()
        assert "serial" in lab.session.guest(ref).consoles
        lab.session.start(ref)
        console = lab.session.open_console(ref, "serial")
        try:
            ask(console, b"echo ready-$((6*7))", b"ready-42", lab.boot_seconds)
            console.resize(columns=100, rows=40)
            if lab.console_is_shared:
                successor = lab.session.open_console(ref, "serial")
                ask(console, b"echo mine-$((6*7))", b"mine-42")
            else:
                with pytest.raises(ConsoleBusy):
                    lab.session.open_console(ref, "serial")
                successor = lab.session.open_console(ref, "serial", take_over=True)
                with pytest.raises(ConsoleBusy):
                    read_until(console, b"never", 5)
            ask(successor, b"echo still-$((6*7))", b"still-42")
            lab.session.shutdown(ref)
            wait_state(lab.session, ref, GuestState.SHUTOFF)
            wait_until(lambda: successor.read(timeout_seconds=1.0) == b"", 10, "end of the console")
            successor.close()
            lab.works(Feature.CONSOLE_SERIAL, Feature.SHUTDOWN)
        finally:
            console.close()

    def test_a_shell_is_its_owners_own(self, lab: Lab) -> None:
        if not lab.has(Feature.CONSOLE_SHELL):
            return
        ref = lab.make_shell()
        assert "shell" in lab.session.guest(ref).consoles
        lab.session.start(ref)
        consoles = [lab.session.open_console(ref, "shell") for _ in range(2)]
        try:
            for number, console in enumerate(consoles):
                console.resize(columns=100 + number, rows=40)
                ask(console, b"stty size", b"40 %d" % (100 + number))
            lab.works(Feature.CONSOLE_SHELL)
        finally:
            for console in consoles:
                console.close()

    def test_reboot_is_obeyed(self, lab: Lab) -> None:
        if not lab.has(Feature.CONSOLE_SERIAL):
            return
        ref = lab.make_shell()
        lab.session.start(ref)
        console = lab.session.open_console(ref, "serial")
        try:
            ask(console, b"touch /tmp/mark; echo marked-$((6*7))", b"marked-42", lab.boot_seconds)
            lab.session.reboot(ref)
            assert state_of(lab.session, ref) in lab.while_rebooting
            wait_state(lab.session, ref, GuestState.RUNNING)
            lab.works(Feature.REBOOT)
        finally:
            console.close()

    def test_reboot_and_shutdown_are_obeyed_where_no_console_could_tell(self, lab: Lab) -> None:
        if lab.has(Feature.CONSOLE_SERIAL):
            return  # the two tests above ask the guest itself
        ref = lab.make_shell()
        lab.session.start(ref)
        if lab.has(Feature.REBOOT):
            lab.session.reboot(ref)
            wait_state(lab.session, ref, GuestState.RUNNING)
            lab.works(Feature.REBOOT)
        if lab.has(Feature.SHUTDOWN):
            lab.session.shutdown(ref)
            wait_state(lab.session, ref, GuestState.SHUTOFF)
            lab.works(Feature.SHUTDOWN)

    def test_close_wakes_a_blocked_reader(self, lab: Lab) -> None:
        if not lab.has(Feature.CONSOLE_SERIAL):
            return
        ref = lab.make_shell()
        lab.session.start(ref)
        console = lab.session.open_console(ref, "serial")
        ended = threading.Event()

        def reader() -> None:
            while console.read(timeout_seconds=60):
                pass
            ended.set()

        threading.Thread(target=reader, daemon=True).start()
        console.close()
        console.close()
        assert ended.wait(5)
        with pytest.raises(Unreachable):
            console.write(b"x")
        lab.session.open_console(ref, "serial").close()

    def test_a_guest_that_is_off_has_no_console(self, lab: Lab) -> None:
        ref = lab.make()
        for feature, kind in ((Feature.CONSOLE_SERIAL, "serial"), (Feature.CONSOLE_VNC, "vnc")):
            if lab.has(feature):
                with pytest.raises(WrongState):
                    lab.session.open_console(ref, kind)

    # -- the screen -----------------------------------------------------------------------------------------------
    def test_screen_as_rfb_and_as_picture(self, lab: Lab) -> None:
        ref = lab.make_screen() if lab.has(Feature.CONSOLE_VNC) or lab.has(Feature.SCREENSHOT) else None
        if ref is None:
            return
        lab.session.start(ref)
        if lab.has(Feature.SCREENSHOT):
            assert lab.session.screenshot(ref).startswith(b"\x89PNG\r\n\x1a\n")
            lab.works(Feature.SCREENSHOT)
        if lab.has(Feature.CONSOLE_VNC):
            assert "vnc" in lab.session.guest(ref).consoles
            console = lab.session.open_console(ref, "vnc")
            assert read_until(console, b"\n", 10).startswith(b"RFB 003.")
            console.write(b"RFB 003.008\n")
            assert console.read(timeout_seconds=10)  # the security types: it talks back
            console.close()
            assert console.read(timeout_seconds=1) == b""
            lab.works(Feature.CONSOLE_VNC)

    # -- life -----------------------------------------------------------------------------------------------------
    def test_after_close_every_verb_says_unreachable(self, lab: Lab) -> None:
        session = lab.driver.open(lab.endpoint)
        assert session.alive()
        session.close()
        session.close()
        assert not session.alive()
        with pytest.raises(DriverError):
            session.guests()
        with pytest.raises(DriverError):
            session.start(NOBODY)
