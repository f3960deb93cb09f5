"""What is said of a definition before it is defined: each fault with its line, and hostile documents at no cost.

The documents are of libvirt's own test driver; the schema is libvirt's.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from drivers.errors import InvalidDefinition
from drivers.libvirtd.kinds import TestDriver as SimulatedDriver
from drivers.libvirtd.xml.check import Identity, check, holds_change
from drivers.types import Endpoint, GuestRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.base import Session

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
ME = Identity(name="test", uuid=UUID)
PLAIN = f"""\
<domain type='test'>
  <name>test</name>
  <uuid>{UUID}</uuid>
  <memory unit='KiB'>8388608</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os>
    <type arch='i686'>hvm</type>
  </os>
  <clock offset='utc'/>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <source file='/guest/diskimage1'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='network'>
      <mac address='aa:bb:cc:dd:ee:ff'/>
      <source network='default'/>
    </interface>
  </devices>
</domain>
"""
FOREIGN = "xmlns:q='http://libvirt.org/schemas/domain/{}/1.0'"


def found(xml: str, *, identity: Identity | None = ME, decides: bool = True) -> list[tuple[int, str]]:
    return [(one.line, one.detail) for one in check(xml, identity=identity, schema_decides=decides)]


def edited(old: str, new: str) -> str:
    assert old in PLAIN
    return PLAIN.replace(old, new, 1)


def test_what_libvirt_wrote_is_well():
    assert found(PLAIN) == []
    assert found(f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- mine -->\n{PLAIN}') == []


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("<source file=", "<source filee=", 14, ("no attribute filee", "mean file?")),
        ("<devices>", "<devices><nonsense/>", 12, ("no <nonsense>",)),
        ("<clock offset='utc'/>", "<clok offset='utc'/>", 10, ("no <clok>", "mean <clock>?")),
        (">8388608<", ">eight<", 4, ("<memory>", "'eight'")),
        (">2</vcpu>", ">two</vcpu>", 6, ("<vcpu>", "'two'")),
        ("bus='virtio'", "bus='bogus'", 15, ("<target>", "bus", "'bogus'")),
        (">destroy<", ">explode<", 11, ("<on_crash>", "'explode'")),
        ("unit='KiB'>8", "unit='Potatoes'>8", 4, ("unit", "'Potatoes'")),
        ("aa:bb:cc", "zz:bb:cc", 18, ("<mac>",)),
        ("<vcpu", "<vcpu>1</vcpu>\n<vcpu", 7, ("<vcpu>", "once too often")),
    ],
)
def test_a_fault_is_found_where_it_is(old: str, new: str, line: int, words: tuple[str, ...]):
    ((at, detail),) = found(edited(old, new))
    assert at == line
    for word in words:
        assert word in detail


def test_several_faults_are_found_at_once_and_in_order():
    xml = (
        PLAIN.replace("<source file=", "<source filee=").replace("<clock", "<clok").replace(">2</vcpu>", ">two</vcpu>")
    )
    assert [line for line, _detail in found(xml)] == [6, 10, 14]


def test_two_faults_of_one_kind_are_two():
    disk = re.search(r"    <disk.*?</disk>\n", PLAIN, re.DOTALL)[0].replace("file='/", "filee='/")
    paths = [
        one.path for one in check(edited("<devices>", f"<devices>\n{disk}{disk}"), identity=ME, schema_decides=True)
    ]
    assert paths == ["/domain/devices/disk[1]/source", "/domain/devices/disk[2]/source"]


def test_a_name_and_a_uuid_stay():
    (name, uuid) = found(PLAIN.replace(">test<", ">best<").replace("6695eb01", "7795eb01"))
    assert name == (2, "The name of this guest is test. Its definition cannot change that: rename it instead.")
    assert uuid[0] == 3
    assert "another guest" in uuid[1]
    assert found(PLAIN.replace(">test<", ">best<"), identity=None) == []
    assert found(edited(UUID, UUID.upper().replace("-", ""))) == []
    without = re.sub(r"  <uuid>.*\n", "", PLAIN)
    assert found(without) == [(1, f"The <uuid> is missing; this guest's is {UUID}.")]


@pytest.mark.parametrize("namespace", ["qemu", "lxc", "xen", "bhyve"])
def test_raw_command_lines_are_refused(namespace: str):
    xml = edited("<domain ", f"<domain {FOREIGN.format(namespace)} ")
    assert found(xml) == [], "a namespace alone does nothing"
    (line, detail), *_more = found(
        xml.replace("<devices>", "<q:commandline><q:arg value='-x'/></q:commandline><devices>")
    )
    assert (line, detail[:17]) == (12, "Raw command lines")


@pytest.mark.parametrize(
    ("xml", "line", "words"),
    [
        ("", 1, "nothing here"),
        ("{}", 1, "not well-formed"),
        ("<network/>", 1, "<network>, not a <domain>"),
        ("<domain>\n<a>\n</b></domain>", 3, "not well-formed"),
        ("<domain>\n\0</domain>", 2, "not well-formed"),
        ("<domain>\ud800</domain>", 0, "half a character"),
        ("\n<!DOCTYPE d [<!ENTITY a 'b'>]><domain>&a;</domain>", 2, "no document type"),
        ("<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain/>", 1, "no document type"),
        ("<?xml version='1.0' encoding='latin1'?><domain/>", 1, "send UTF-8"),
    ],
)
def test_what_is_no_definition(xml: str, line: int, words: str):
    (at, detail), *_more = found(xml)
    assert at == line
    assert words in detail


BOMB = "<!ENTITY a0 'x'>" + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12))


@pytest.mark.parametrize(
    "xml",
    [
        f"<!DOCTYPE d [{BOMB}]><domain>&a11;</domain>",
        "<domain>" + "<a>" * 100_000 + "</a>" * 100_000 + "</domain>",
        PLAIN + " " * (10 << 20),
        edited("<devices>", "<x/>" * 100_000 + "<devices>"),
        edited("<devices>", "<devices>" + "<disk/>" * 30_000),
        edited("<devices>", "<devices " + " ".join(f"a{n}='1'" for n in range(5_000)) + ">"),
        edited("<devices>", ("<a>" * 200 + "</a>" * 200) * 1_000 + "<devices>"),
    ],
    ids=["billion laughs", "deep", "ten megabytes", "wide", "many alike", "many attributes", "many deep"],
)
def test_a_hostile_document_is_refused_in_bounded_time(xml: str):
    started = time.process_time()
    assert any(one.fatal for one in check(xml, identity=ME, schema_decides=True))
    assert time.process_time() - started < 20, "an answer in seconds, whatever was sent"


def test_an_older_schema_does_not_decide():
    (one,) = check(edited("<clock", "<clok"), identity=ME, schema_decides=False)
    assert not one.fatal
    assert "newer than the schema here" in one.detail


def test_without_a_schema_that_is_said(monkeypatch):
    monkeypatch.setattr("drivers.libvirtd.xml.check.schema", lambda: None)
    (one,) = check(edited("<clock", "<clok"), identity=ME, schema_decides=True)
    assert not one.fatal
    assert "not installed" in one.detail


@pytest.mark.parametrize(
    ("wished", "there", "holds"),
    [
        (edited(">2</vcpu>", ">4</vcpu>"), edited(">2</vcpu>", ">4</vcpu>"), True),
        (edited(">2</vcpu>", ">4</vcpu>"), PLAIN, False),
        (edited("<memory unit='KiB'>8388608", "<memory unit='GiB'>4"), edited(">8388608<", ">4194304<"), True),
        (edited("  <clock offset='utc'/>\n", ""), PLAIN, False),
        (edited("  <clock offset='utc'/>\n", ""), edited("  <clock offset='utc'/>\n", ""), True),
        (edited("<clock offset='utc'/>", "<clock offset='utc'><timer name='rtc'/></clock>"), PLAIN, False),
        (PLAIN, PLAIN, False),
        (edited("<devices>", "<devices><graphics passwd='x'/>"), edited("<devices>", "<devices><graphics port='-1'/>"), True),
    ],
    ids=["a value", "not yet", "other units", "not taken out", "taken out", "not added", "nothing", "a password, a default"],
)  # fmt: skip
def test_whether_a_change_is_in_what_a_host_wrote(wished: str, there: str, holds: bool):
    assert holds_change(PLAIN, wished, there) is holds


# -- on libvirt itself -----------------------------------------------------------------------------------------------------
@pytest.fixture
def session() -> Iterator[Session]:
    session = SimulatedDriver().open(Endpoint(driver="test", uri="test:///default"))
    yield session
    session.close()


@pytest.fixture
def ref(session) -> Iterator[GuestRef]:
    name = "screened"
    info = session.define(
        "<domain type='test'><name>screened</name><memory unit='MiB'>64</memory><os><type>hvm</type></os><devices>"
        "<graphics type='vnc' passwd='first'/><graphics type='spice' passwd='second'/></devices></domain>"
    )
    yield GuestRef(uuid=info.uuid, name=name)
    session.undefine(info.ref)


def passwords(session, ref) -> list[str]:
    domain = session._connection.lookupByUUIDString(ref.uuid)
    return re.findall(r"passwd='([^']*)'", domain.XMLDesc(3))


def test_passwords_are_not_shown_and_stay(session, ref):
    xml = session.definition(ref)
    assert "first" not in xml
    session.define(xml.replace("<name>", "<title>Door</title><name>", 1))
    assert passwords(session, ref) == ["first", "second"]


def test_a_new_password_is_taken_and_the_other_stays(session, ref):
    session.define(session.definition(ref).replace("<graphics type='spice'", "<graphics passwd='third' type='spice'"))
    assert passwords(session, ref) == ["first", "third"]


def test_a_screen_that_goes_takes_its_password_along(session, ref):
    xml = session.definition(ref)
    session.define(re.sub(r"<graphics type='spice'.*?</graphics>", "", xml, flags=re.DOTALL))
    assert passwords(session, ref) == ["first"]


@pytest.mark.parametrize("namespace", ["qemu", "xen"])
def test_define_refuses_raw_command_lines_too(session, ref, namespace):
    xml = session.definition(ref).replace("<domain ", f"<domain {FOREIGN.format(namespace)} ")
    with pytest.raises(InvalidDefinition, match="Raw command lines"):
        session.define(xml.replace("<devices>", "<q:commandline/><devices>"))
