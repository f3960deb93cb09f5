"""The search language of guests: what each term finds, and that no text can hurt."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.actor import SYSTEM, Actor
from core.errors import BadInput
from core.search import parse
from core.units import GIB
from metrics.models import Latest
from networks.models import GivenAddress
from operations.models import Operation
from tests.factories import HostFactory, HypervisorFactory, NetworkFactory, UserFactory, VMFactory
from vms.grammar import KEYS, unknown_keys
from vms.models import VM, VMNic
from vms.selectors import vm_list

pytestmark = pytest.mark.django_db


@pytest.fixture
def fleet() -> dict[str, VM]:
    near = HypervisorFactory(host=HostFactory(name="Kvm-Ams-01"), driver="qemu")
    far = HypervisorFactory(host=HostFactory(name="lab 2"), driver="lxc", state="offline")
    ada = UserFactory(username="ada")
    web = VMFactory(
        hypervisor=near,
        name="web-01",
        title="100% up_time",
        state="running",
        tags=["prod", "web"],
        project="Shop",
        owner=ada,
        memory_bytes=16 * GIB,
        os="Debian 12",
        addresses=["10.0.0.7"],
        autostart=True,
    )
    db = VMFactory(
        hypervisor=near, name="db-01", state="shutoff", tags=["prod"], memory_bytes=512 * 1024**2, persistent=False
    )
    box = VMFactory(hypervisor=far, name="box", kind="container", state="running", virtualization_type="os_level")
    VMNic.objects.create(vm=web, mac="52:54:00:ab:cd:ef")
    VMNic.objects.create(vm=db, mac="52:54:00:00:00:70")
    lan, other = NetworkFactory(hypervisor=near), NetworkFactory(hypervisor=far)
    GivenAddress.objects.create(network=lan, mac="52:54:00:00:00:70", address="10.0.0.70")
    GivenAddress.objects.create(network=lan, mac="52:54:00:00:00:70", address="fd00::9")
    GivenAddress.objects.create(network=other, mac="52:54:00:00:00:70", address="192.168.9.9")
    Latest.objects.create(subject=web.pk, at=timezone.now(), cpu_ratio=0.9)
    Latest.objects.create(subject=box.pk, at=timezone.now() - dt.timedelta(hours=1), cpu_ratio=0.9)
    Operation.objects.create(kind="vm.start", target=db.ref, lock_key=db.ref)
    return {"web": web, "db": db, "box": box}


def found(text: str, by: Actor = SYSTEM) -> set[str]:
    return {vm.name.removesuffix("-01") for vm in vm_list(by, q=text)}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "web db box"),
        ("state:running", "web box"),
        ("STATE:Running,shutoff", "web db box"),
        ("-state:running", "db"),
        ("state:nonsense", ""),
        ("state:", "web db box"),
        ("driver:lxc", "box"),
        ("type:os_level", "box"),
        ("kind:machine", "web db"),
        ("host:kvm-ams-01", "web db"),
        ('host:"lab 2"', "box"),
        ("host:kvm*", "web db"),
        ("tag:prod", "web db"),
        ("tag:prod -tag:web", "db"),
        ("tag:web,nothing", "web"),
        ("tag:w*", "web"),
        ("project:shop", "web"),
        ("owner:ada", "web"),
        ("-owner:ada", "db box"),
        ("owner:none", "db box"),
        ("is:stale", "box"),
        ("is:running", "web box"),
        ("is:autostart", "web"),
        ("is:transient", "db"),
        ("is:busy", "db"),
        ("-is:busy", "web box"),
        ("is:odd", ""),
        ("cpu:>80", "web"),
        ("cpu:>80%", "web"),
        ("cpu:90", "web"),
        ("cpu:<80", ""),
        ("-cpu:>80", "db box"),
        ("cpu:lots", ""),
        ("mem:>=16", "web"),
        ("mem:512M", "db"),
        ("mem:<1GiB", "db"),
        ("mem:>999999999999999T", ""),
        ("name:EB", "web"),
        ("web", "web"),
        ("01 -web", "db"),
        ("Debian", "web"),
        ("100%", "web"),
        ("up_time", "web"),
        ("e_t", ""),
        ("10.0.0.7", "web db"),
        ("52:54:00:AB", "web"),
        ("52-54-00-ab-cd-ef", "web"),
        ("ams", "web db"),
        ("prod", "web db"),
        ("|prod|", "web db"),
        ("||prod", "web db"),
        ("-prod", "box"),
        ("-ams", "box"),
        ("01100%", ""),  # the end of a name and the begin of a title are no word
        ('"up_time"', "web"),
        ("colour:red", ""),
        ("ip:10.0.0.7", "web"),
        ("address:10.0.0.7", "web"),
        ("ip:10.0.0", "web db"),
        ("ip:10.0.0.*", "web db"),
        ("ip:0.0.7", ""),
        ("ip:10.0.0.70", "db"),
        ("ip:10.0.0.7*", "web db"),
        ("ip:10.0.0.7,10.0.0.70", "web db"),
        ("-ip:10.0.0.", "box"),
        ("ip:FD00:0:0::9", "db"),
        ("ip:fd00:", "db"),
        ("ip:x", ""),
        ("ip:192.168.9.9", ""),  # another host's network has given it to the same MAC
        ("0.0.70", "db"),
        ("mac:52:54:00:ab:cd:ef", "web"),
        ("mac:525400ABCDEF", "web"),
        ("mac:ab-cd", "web"),
        ("mac:52:54:00", "web db"),
        ("mac:*:70", "db"),
        ("mac:%", ""),
        ("-mac:52:", "box"),
    ],
)
def test_a_search_finds_what_it_says(fleet: dict[str, VM], text: str, names: str) -> None:
    assert found(text) == set(names.split())


def test_identifiers_are_found_whole_and_in_part(fleet: dict[str, VM]) -> None:
    assert found(str(fleet["db"].pk)) == {"db"}
    assert found(fleet["db"].uuid) == {"db"}
    assert "db" in found(fleet["db"].uuid[:8])


def test_owner_me_is_the_caller(fleet: dict[str, VM]) -> None:
    owner = fleet["web"].owner
    assert owner is not None
    assert found("owner:me", Actor.of_user(owner)) == {"web"}


@pytest.mark.parametrize("text", ["x" * 10_000, "a " * 1000, "tag:" + "a," * 900, "nul\0byte"])
def test_a_search_that_is_too_much_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        vm_list(SYSTEM, q=text)
    assert refused.value.errors[0]["pointer"] == "/q"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(
        st.text(max_size=300),
        st.lists(
            st.builds("{}{}{}{}".format, st.sampled_from(["", "-"]), st.sampled_from(KEYS), st.just(":"), st.text()),
            max_size=20,
        ).map(" ".join),
        st.text(alphabet="\"%_\\:,-* ()ö'", max_size=200),
    )
)
def test_no_text_can_hurt(fleet: dict[str, VM], text: str) -> None:
    try:
        assert vm_list(SYSTEM, q=text).count() <= 3
    except BadInput:
        assert len(text) > 300 or "\0" in text or len(text.split()) > 50 or text.count(",") > 50
    unknown_keys(text)


def test_quotes_and_commas_part_as_written() -> None:
    (term,) = parse('host:"a, b",c', keys={"host"})
    assert term.values == ("a, b", "c")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("stat:running", {"stat": "state"}),
        ("tags:prod", {"tags": "tag"}),
        ("zzzz:1", {"zzzz": None}),
        ("state:running", {}),
        ("52:54:00:ab", {}),
        ("fe80::1", {}),
        ("http://x", {"http": None}),
    ],
)
def test_unknown_keys_are_named_with_what_was_meant(text: str, meant: dict[str, str | None]) -> None:
    assert unknown_keys(text) == meant
