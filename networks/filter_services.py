"""What callers may ask of network filters: permission, validation, submit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from accounts import policy
from core.ids import uuid7
from drivers.netfilters import check_filter, outline
from drivers.types import Feature
from hosts.wishes import Allowed, answered, serving
from networks.filter_actions import ChangeFilter, CreateFilter, DeleteFilter, FilterXml, NewFilter, NewFilterXml
from networks.models import NetworkFilter
from operations import actions, engine

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from accounts.actor import Actor
    from hosts.models import Host
    from networks.services import OnConflict
    from operations.models import Operation

NEW: Final = """\
<filter name='no-mail' chain='ipv4'>
  <!-- Guests with this filter send no mail by themselves. -->
  <rule action='drop' direction='out' priority='500'>
    <tcp dstportstart='25'/>
  </rule>
</filter>
"""
"""What the editor of a new one begins with."""


def filter_create(*, host: Host, xml: str, by: Actor) -> Operation:
    """Queue the making of a filter on a host; the result names its id.

    Raises:
        BadInput: `/xml`: no filter, or it takes in what is not there. AlreadyExists, Unsupported, Unreachable.
    """
    policy.require(by, "network.manage")
    new = outline(xml)
    hypervisor = serving(host, Feature.NETWORKS_MANAGE, "network filters")
    check_filter(_there(host.pk), new.name, new.uses)
    params = NewFilterXml(hypervisor=hypervisor.pk, name=new.name, xml=xml)
    return engine.submit(CreateFilter, target=NewFilter(uuid7(), new.name, hypervisor), by=by, params=params)


def filter_change(*, row: NetworkFilter, xml: str, by: Actor, on_conflict: OnConflict = "wait") -> Operation:
    """Queue another definition in its place. Raises BadInput also for another name."""
    policy.require(by, ChangeFilter.verb, row)
    new = outline(xml)
    check_filter(_there(row.host_id), new.name, new.uses, changes=row.name)
    return engine.submit(ChangeFilter, target=row, by=by, params=FilterXml(xml=xml), on_conflict=on_conflict)


def filter_delete(*, row: NetworkFilter, by: Actor, on_conflict: OnConflict = "wait") -> Operation:
    """Queue its removal. Raises InUse while guests or filters name it."""
    return engine.submit(DeleteFilter, target=row, by=by, on_conflict=on_conflict)


def filter_actions(row: NetworkFilter, *, by: Actor) -> Allowed:
    """Whether it may be changed and deleted, and why not. Needs who uses it; no query."""

    def ask(kind: str) -> None:
        action = actions.get(kind)
        policy.require(by, action.verb, row)
        action.check(row, FilterXml(xml=""), idle=True)

    return {
        "change": answered(lambda: ask(ChangeFilter.kind)),
        "delete": answered(lambda: ask(DeleteFilter.kind)),
    }


def _there(host: uuid.UUID) -> Mapping[str, list[str]]:
    rows = NetworkFilter.objects.filter(host=host, gone_at=None)
    return dict(rows.values_list("name", "uses"))
