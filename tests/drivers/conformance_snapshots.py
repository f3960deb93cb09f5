"""What every driver that keeps snapshots promises. A part of `tests.drivers.conformance`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from drivers.errors import AlreadyExists, InvalidDefinition, NotFound, Unsupported
from drivers.types import Feature, GuestRef, GuestState, SnapshotSpec

if TYPE_CHECKING:
    from drivers.base import Session
    from drivers.types import SnapshotInfo
    from tests.drivers.conformance import Lab

NOBODY = GuestRef(uuid="00000000-0000-0000-0000-0000000000ff", name="nobody")


def tree_of(session: Session, ref: GuestRef) -> dict[str, SnapshotInfo]:
    return {info.name: info for info in session.snapshots(ref)}


def state_of(session: Session, ref: GuestRef) -> GuestState:
    return session.guest_state(ref)[0]


class SnapshotConformance:
    """Needs the `lab` fixture of whoever derives from it."""

    def test_snapshots_of_a_stopped_guest_are_a_tree(self, lab: Lab) -> None:
        if not lab.has(Feature.SNAPSHOTS_DISK):
            return
        ref = (lab.make_kept or lab.make)()
        assert list(lab.session.snapshots(ref)) == []
        assert ref.uuid not in lab.session.snapshots_of_all()
        for name in ("first", "second"):
            lab.session.snapshot_create(ref, SnapshotSpec(name=name, description=f"the {name} <one>"))
        lab.session.snapshot_revert(ref, "first")
        lab.session.snapshot_create(ref, SnapshotSpec(name="Zweig 2"))
        tree = tree_of(lab.session, ref)
        assert {name: info.parent for name, info in tree.items()} == {
            "first": "", "second": "first", "Zweig 2": "first"
        }  # fmt: skip
        assert [name for name, info in tree.items() if info.current] == ["Zweig 2"]
        assert tree["first"].description == "the first <one>"
        assert (tree["first"].memory, tree["first"].state) == (False, GuestState.SHUTOFF)
        assert abs(time.time() - tree["first"].created_at) < 3600
        assert lab.session.snapshots_of_all()[ref.uuid] == list(lab.session.snapshots(ref))
        assert state_of(lab.session, ref) is GuestState.SHUTOFF
        lab.works(Feature.SNAPSHOTS_DISK)

    def test_a_snapshot_is_deleted_with_or_without_what_grew_from_it(self, lab: Lab) -> None:
        if not lab.has(Feature.SNAPSHOTS_DISK):
            return
        ref = (lab.make_kept or lab.make)()
        for name in ("one", "two", "three", "four"):
            lab.session.snapshot_create(ref, SnapshotSpec(name=name))
        lab.session.snapshot_delete(ref, "two")
        assert {name: info.parent for name, info in tree_of(lab.session, ref).items()} == {
            "one": "", "three": "one", "four": "three"
        }  # fmt: skip
        lab.session.snapshot_delete(ref, "three", children=True)
        tree = tree_of(lab.session, ref)
        assert list(tree) == ["one"]
        assert tree["one"].current

    def test_a_snapshot_with_memory_goes_on_from_there(self, lab: Lab) -> None:
        if not lab.has(Feature.SNAPSHOTS_MEMORY):
            return
        ref = (lab.make_kept or lab.make)()
        lab.session.start(ref)
        lab.session.snapshot_create(ref, SnapshotSpec(name="alive", memory=True))
        kept = tree_of(lab.session, ref)["alive"]
        assert (kept.memory, kept.state) == (True, GuestState.RUNNING)
        assert state_of(lab.session, ref) is GuestState.RUNNING
        lab.session.force_off(ref)
        lab.session.snapshot_revert(ref, "alive")
        assert state_of(lab.session, ref) is GuestState.RUNNING
        lab.session.snapshot_revert(ref, "alive")
        assert state_of(lab.session, ref) is GuestState.RUNNING
        lab.works(Feature.SNAPSHOTS_MEMORY)

    def test_a_running_guests_disks_alone_are_kept_or_refused_with_the_reason(self, lab: Lab) -> None:
        if not lab.has(Feature.SNAPSHOTS_DISK):
            return
        ref = (lab.make_kept or lab.make)()
        lab.session.start(ref)
        spec = SnapshotSpec(name="disks")
        if not lab.has(Feature.SNAPSHOTS_LIVE):
            with pytest.raises(Unsupported) as refusal:
                lab.session.snapshot_create(ref, spec)
            assert refusal.value.detail == lab.driver.reasons[Feature.SNAPSHOTS_LIVE]
            return
        lab.session.snapshot_create(ref, spec)
        kept = tree_of(lab.session, ref)["disks"]
        assert (kept.memory, kept.state) == (False, GuestState.SHUTOFF)
        assert state_of(lab.session, ref) is GuestState.RUNNING
        lab.session.snapshot_revert(ref, "disks")
        assert state_of(lab.session, ref) is GuestState.SHUTOFF
        lab.works(Feature.SNAPSHOTS_LIVE)

    def test_a_snapshot_that_cannot_be_is_refused(self, lab: Lab) -> None:
        if not lab.has(Feature.SNAPSHOTS_DISK):
            return
        ref = (lab.make_kept or lab.make)()
        lab.session.snapshot_create(ref, SnapshotSpec(name="taken"))
        with pytest.raises(AlreadyExists):
            lab.session.snapshot_create(ref, SnapshotSpec(name="taken"))
        for name in ("", "a/b", "12", 'q"x', "a\nb", "<b>", ".hidden", "x" * 300):
            with pytest.raises(InvalidDefinition):
                lab.session.snapshot_create(ref, SnapshotSpec(name=name))
        for verb in (lab.session.snapshot_revert, lab.session.snapshot_delete):
            with pytest.raises(NotFound):
                verb(ref, "nothing of the kind")
            with pytest.raises(NotFound):
                verb(NOBODY, "taken")
        with pytest.raises(NotFound):
            lab.session.snapshots(NOBODY)
        assert list(tree_of(lab.session, ref)) == ["taken"]
