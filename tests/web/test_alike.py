"""Rows that are rendered once for each kind are the rows that would stand there if each were rendered by itself."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest
from django.template import Context, Engine, TemplateSyntaxError
from django.template.loader import render_to_string
from django.utils import timezone

from accounts.actor import Actor
from accounts.choices import Scope
from drivers.types import Feature
from metrics import store
from metrics.rates import Values
from tests.factories import ALL_SUPPORTED, HostFactory, HypervisorFactory, VMFactory
from vms.api import vms_json
from vms.choices import Kind, State
from vms.models import VM
from vms.offers import DECIDING
from vms.rows import _Rows, vm_rows
from vms.selectors import vm_page
from vms.services import vm_actions

if TYPE_CHECKING:
    from accounts.models import User

HOURS_AGO = timezone.now() - dt.timedelta(hours=3, minutes=30)
LACKING = {
    **ALL_SUPPORTED,
    str(Feature.REBOOT): {"supported": False, "reason": "It cannot."},
    str(Feature.SUSPEND): {"supported": False, "reason": "<b>"},
}


def actor(user: User, scope: Scope = Scope.ADMIN) -> Actor:
    return Actor(name=user.username, scope=scope, user=user)


def fleet() -> list[VM]:
    """Two guests for each way in which rows can differ, in no order."""
    hypervisors = [
        HypervisorFactory(),
        HypervisorFactory(capabilities=LACKING, driver="lxc"),
        HypervisorFactory(state="offline"),
        HypervisorFactory(host=HostFactory(maintenance=True, maintenance_by="eve", name="<i>host</i>")),
    ]
    found = []
    ways = list(itertools.product(hypervisors, State.values, Kind.values))
    for number, (hypervisor, state, kind) in [*enumerate(ways), *enumerate(ways)]:
        odd = number % 2 == 1
        vm = VMFactory(
            hypervisor=hypervisor, state=state, kind=kind, name=f"{len(found)}-<&'\"{{{{", observed_at=HOURS_AGO,
            started_at=HOURS_AGO if number % 3 else None, has_managed_save=odd, persistent=number % 5 > 0,
            title="" if number % 4 else "\0 <title>", tags=["a", "b&c", "d", "e"][: number % 5],
            consoles=[["serial"], ["vnc", "serial"], [], ["spice"]][number % 4], memory_bytes=0 if number == 9 else 2**31,
        )  # fmt: skip
        if number % 3:
            ratio = 0.95 if number % 4 == 1 else 0.08 * (number % 9)
            values = Values(cpu_ratio=ratio, memory_bytes=2**30 + len(found) * 2**22 if odd else 2**31)
            store.append([store.NewSample(subject=vm.pk, at=timezone.now(), values=values)])
        found.append(vm)
    random.shuffle(found)
    return list(VM.objects.select_related("hypervisor__host").filter(pk__in=[vm.pk for vm in found]))


@pytest.mark.django_db
@pytest.mark.parametrize("scope", [Scope.ADMIN, Scope.READ])
def test_rows_of_a_page_when_rendered_together_then_as_each_alone(admin: User, scope: Scope) -> None:
    by, vms = actor(admin, scope), fleet()
    together = vm_rows(vms, by=by)
    alone = [vm_rows([vm], by=by)[0] for vm in vms]
    assert together == alone
    assert [item["actions"] for item in vms_json(vms, by=by)] == [vm_actions(vm, by=by) for vm in vms]
    assert len({item["alike"] for item in together}) <= len(vms) / 2  # else nothing would be shown
    page = render_to_string("vms/_rows.html", {"items": together})
    for item in alone:
        row = render_to_string("vms/_rows.html", {"items": [item]})
        row = row[row.index("<tr") : row.index("</tr>")]
        assert row in page
        assert "<&" not in row
        assert "<title>" not in row


@pytest.mark.django_db
@pytest.mark.parametrize("ordering", ["name", "-created_at", "vcpus", "owner"])
def test_rows_are_made_of_what_the_list_reads(admin: User, django_assert_num_queries: Any, ordering: str) -> None:
    fleet()
    page = vm_page(actor(admin), whole=False, limit=200, ordering=ordering)
    with django_assert_num_queries(2):  # newest samples, ten minutes of CPU
        render_to_string("vms/_rows.html", {"items": vm_rows(page.items, by=actor(admin))})


@pytest.mark.django_db
def test_what_may_be_done_to_a_guest_is_decided_by_the_columns_that_say_so(
    admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Offers` asks once for all guests that agree in `DECIDING`: a check that looks at another column belongs there."""
    columns = {field.attname for field in VM._meta.concrete_fields} - {"id", "name"}  # those are in reasons only
    looked_at: set[str] = set()

    def look(self: VM, name: str) -> Any:
        if name in columns:
            looked_at.add(name)
        return object.__getattribute__(self, name)

    vms, rows = fleet(), _Rows(actor(admin))
    with monkeypatch.context() as patch:
        patch.setattr(VM, "__getattribute__", look, raising=False)
        for vm in vms:
            rows._ask(vm)
    assert looked_at == set(DECIDING)


# -- the tag -------------------------------------------------------------------------------------------------------------
ENGINE = Engine(
    libraries={"alike": "dashboard.templatetags.alike"},
    builtins=["django.template.defaulttags", "dashboard.templatetags.alike"],
)


def render(text: str, items: list[dict[str, Any]]) -> str:
    template = ENGINE.from_string(f"{{% for item in items %}}{text}{{% endfor %}}")
    return template.render(Context({"items": items}))


def test_the_block_is_rendered_once_a_kind_and_its_gaps_for_each_row() -> None:
    items = [{"kind": kind, "shared": number, "name": f"<{number}>"} for number, kind in enumerate("aba")]
    text = "{% alike item.kind %}{{ item.shared }}:{% own item.name %}{% own item.name|lower %} {% endalike %}"
    assert render(text, items) == "0:&lt;0&gt;&lt;0&gt; 1:&lt;1&gt;&lt;1&gt; 0:&lt;2&gt;&lt;2&gt; "


def test_outside_of_a_block_a_value_is_a_value() -> None:
    assert render("{% own item.name %}|{% own item.none %}", [{"name": "&", "none": None}]) == "&amp;|"


def test_a_path_that_leads_nowhere_is_an_error() -> None:
    with pytest.raises(KeyError):
        render("{% alike item.name %}{% own item.missing %}{% endalike %}", [{"name": "a"}])


def test_a_gap_that_another_tag_swallows_is_an_error() -> None:
    with pytest.raises(TemplateSyntaxError):
        render(
            "{% alike 1 %}{% firstof item.none %}{% filter truncatechars:2 %}{% own item.a %}{% endfilter %}{% endalike %}",
            [{"a": 1}],
        )


@pytest.mark.parametrize("text", ["{% own %}", "{% own a b %}"])
def test_own_takes_one_value(text: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        ENGINE.from_string(text)
