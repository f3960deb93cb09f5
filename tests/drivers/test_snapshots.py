"""Names of snapshots, libvirt's documents of them, and the in-memory hypervisor's tree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import InvalidDefinition, NotFound, Timeout, Unsupported, WrongState
from drivers.fake import FakeDriver, FakeWorld, drop_world, world
from drivers.libvirtd.session_snapshots import snapshot_info
from drivers.snapshots import BYTES_MAX, LENGTH_MAX, why_no_name
from drivers.types import GuestState, SnapshotSpec

HOSTILE = [
    "", " ", "a/b", "../etc", ".hidden", "-dash", 'q"uote', "back\\slash", "new\nline", "tab\t", "nul\0", "<b>", "a&b", "it's",
    "1", "42", "x" * 81, "é" * 81, "日" * 70, " lead", "trail ", "%41", "a?b", "a#b", "\u202egnp", "\ud800", "a;b", "a|b", "$(x)",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_some_hypervisor_would_misread_is_refused_in_words(name):
    assert why_no_name(name).endswith(".")


@pytest.mark.parametrize(
    "name", ["before the upgrade", "2026-11-30 06:51", "v1.2 (ok)", "späß 日本", "a", "x" * 80, "1a", "user@host+1"]
)
def test_a_name_that_people_give_is_taken(name):
    assert why_no_name(name) == ""


@given(st.text(max_size=120))
def test_what_is_taken_never_hurts(name):
    if why_no_name(name) == "":
        assert not set(name) & set("/\\\"'<>&\0\n\r\t%?#")
        assert len(name) <= LENGTH_MAX
        assert len(name.encode()) <= BYTES_MAX
        assert name == name.strip()
        assert not name.startswith((".", "-"))
        assert not name.isdigit()


DOCUMENT = """<domainsnapshot><name>run 1</name><description>d &lt;x&gt;</description><state>{state}</state>
<parent><name>off</name></parent><creationTime>1796021511</creationTime><memory snapshot='{memory}'/>
<disks><disk name='vda' snapshot='{disk}'/><disk name='vdc' snapshot='no'/></disks><domain type='qemu'/></domainsnapshot>"""


@pytest.mark.parametrize(
    ("state", "memory", "disk", "expected"),
    [
        ("running", "internal", "internal", (GuestState.RUNNING, True, "internal")),
        ("paused", "internal", "internal", (GuestState.PAUSED, True, "internal")),
        ("shutoff", "no", "internal", (GuestState.SHUTOFF, False, "internal")),
        ("disk-snapshot", "no", "external", (GuestState.SHUTOFF, False, "external")),
        ("running", "external", "external", (GuestState.RUNNING, True, "external")),
    ],
)
def test_libvirts_document_is_read(state, memory, disk, expected):
    info = snapshot_info(DOCUMENT.format(state=state, memory=memory, disk=disk), current=True, overlays_work=False)
    assert (info.state, info.memory, info.kind) == expected
    assert (info.name, info.description, info.parent, info.created_at) == ("run 1", "d <x>", "off", 1796021511.0)
    assert (info.disks, info.current) == (("vda",), True)
    assert bool(info.no_revert) is bool(info.no_delete) is (info.kind == "external")


def test_a_newer_libvirt_is_trusted_with_overlays():
    text = DOCUMENT.format(state="disk-snapshot", memory="no", disk="external")
    assert snapshot_info(text, current=False, overlays_work=True).no_revert == ""


@pytest.mark.parametrize(
    ("name", "refused"), [("1", True), ("00000001", True), ("1796021511", False), ('a"b', True), ("a\\b", True)]
)
def test_a_snapshot_that_qemu_would_take_for_another_is_not_gone_back_to(name, refused):
    text = f"<domainsnapshot><name>{name}</name><disks/></domainsnapshot>"
    info = snapshot_info(text, current=False, overlays_work=False)
    assert bool(info.no_revert) is refused
    assert info.no_delete == ""


def test_what_is_no_snapshot_is_refused():
    with pytest.raises(InvalidDefinition):
        snapshot_info("<domain/>", current=False, overlays_work=False)


# -- the in-memory hypervisor ----------------------------------------------------------------------------------------------
@pytest.fixture
def place(request):
    name = request.node.name
    yield world(name)
    drop_world(name)


@pytest.fixture
def session(place: FakeWorld):
    return FakeDriver().open(place.endpoint)


def test_going_back_brings_the_guest_of_then(place, session):
    ref = place.add("web", state=GuestState.RUNNING).ref
    place.mark("web", "before")
    session.snapshot_create(ref, SnapshotSpec(name="s", memory=True))
    place.mark("web", "after")
    session.define(session.definition(ref).replace("<vcpu>1<", "<vcpu>4<"))
    session.force_off(ref)
    heard: list[str] = []
    session.subscribe(lambda event: heard.append(event.reason))
    session.snapshot_revert(ref, "s")
    assert place.marks("web") == {"before"}
    assert (session.guest(ref).vcpus, session.guest_state(ref)) == (1, (GuestState.RUNNING, "from_snapshot"))
    assert heard == ["started/from_snapshot", "defined/from_snapshot"]


def test_saved_memory_is_in_the_way(place, session):
    ref = place.add("web", state=GuestState.RUNNING).ref
    session.managed_save(ref)
    with pytest.raises(WrongState):
        session.snapshot_create(ref, SnapshotSpec(name="s"))


def test_an_outsider_names_as_he_likes_and_leaves_what_cannot_be_gone_back_to(place, session):
    ref = place.add("web").ref
    place.outside("web", "snapshot-create", name="<b>a/b</b>")
    place.mend_snapshot("web", "<b>a/b</b>", kind="external", no_revert="Not this one.", no_delete="Nor that.")
    assert session.snapshots(ref)[0].kind == "external"
    for verb in (session.snapshot_revert, session.snapshot_delete):
        with pytest.raises(Unsupported, match=r"Not this one|Nor that"):
            verb(ref, "<b>a/b</b>")


def test_faults_reach_snapshots_too(place, session):
    ref = place.add("web").ref
    place.fail_next(Timeout("late"), verb="snapshot_create")
    with pytest.raises(Timeout):
        session.snapshot_create(ref, SnapshotSpec(name="s"))
    session.undefine(ref)
    place.add("web")
    assert session.snapshots(ref) == []
    with pytest.raises(NotFound):
        session.snapshot_revert(ref, "s")
