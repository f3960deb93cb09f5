"""What a worker does to network filters. Facts come back through `networks.inventory`.

Making one follows `networks.actions`: that it was not there is recorded before the call, so that an interrupted attempt knows its work.
"""

from __future__ import annotations

import uuid  # noqa: TC003 - pydantic reads the annotation
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from core.errors import Missing
from drivers.errors import AlreadyExists, NotFound
from drivers.netfilters import outline
from drivers.types import Feature, FilterInfo
from hosts.wishes import BEGUN, ToBe, check_able, hypervisor_of
from networks import guests
from networks.inventory import filter_gone, filter_observe
from networks.models import NetworkFilter
from networks.selectors import look_for_users
from operations.actions import Action, Params, action

if TYPE_CHECKING:
    from drivers.base import Session
    from operations.actions import Context


class FilterXml(Params):
    """The definition."""

    xml: str


class NewFilterXml(FilterXml):
    """Where, and the definition."""

    hypervisor: uuid.UUID
    name: str


class NewFilter(ToBe):
    """A filter to be."""

    kind = NetworkFilter.kind


def filter_of(pk: uuid.UUID, *, gone: bool = False) -> NetworkFilter:
    """With hypervisor, host and who uses it. Raises Missing for one that is gone, unless `gone` ones are wanted too."""
    found = NetworkFilter.objects.select_related("hypervisor__host").filter(pk=pk).first()
    if found is None or (found.gone_at is not None and not gone):
        raise Missing("This network filter is gone from its host.")
    look_for_users([found])
    return found


def _seen(session: Session, name: str) -> FilterInfo | None:
    return next((one for one in session.filters() if one.name == name), None)


@action
class CreateFilter(Action[NewFilter, NewFilterXml]):
    """Make one."""

    kind = "network-filter.create"
    title = "Make network filter"
    verb = "network.manage"
    params = NewFilterXml

    def load(self, target_id: uuid.UUID) -> NewFilter:
        """There is nothing to load yet."""
        return NewFilter(target_id, "")

    def slot(self, target: NewFilter) -> tuple[str, int]:
        """One of the hypervisor's slots."""
        return (target.hypervisor.ref, target.hypervisor.slots) if target.hypervisor else ("", 0)

    def check(self, target: NewFilter, params: NewFilterXml, *, idle: bool) -> None:
        """Capability, reach, and that no filter there has this name."""
        del idle
        hypervisor = target.hypervisor or hypervisor_of(params.hypervisor)
        check_able(hypervisor, Feature.NETWORKS_MANAGE)
        twin = NetworkFilter.objects.filter(host=hypervisor.host_id, name=params.name, gone_at=None).first()
        if twin is not None:
            raise AlreadyExists(f"There is a filter {twin.name} on {hypervisor.host.name} already.", id=str(twin.pk))

    def run(self, ctx: Context, target: NewFilter, params: NewFilterXml) -> dict[str, Any]:
        """One call makes it whole: what is there after an interruption is done."""
        del target
        hypervisor = hypervisor_of(params.hypervisor)
        with ctx.session(hypervisor.endpoint()) as session:
            seen_at = timezone.now()
            info = _seen(session, params.name)
            if info is not None and not ctx.done(BEGUN):
                raise AlreadyExists(f"There is a filter {params.name} on {hypervisor.host.name} already.")
            if info is None:
                ctx.checkpoint(BEGUN)
                info = session.filter_define(params.xml)
                seen_at = timezone.now()
        return {"network_filter": str(filter_observe(hypervisor, info, seen_at=seen_at).pk)}


class FilterAction(Action[NetworkFilter, Params]):
    """What is done to one that is there."""

    verb = "network.manage"

    def load(self, target_id: uuid.UUID) -> NetworkFilter:
        """With hypervisor, host and who uses it. Raises Missing for one that is gone."""
        return filter_of(target_id)

    def slot(self, target: NetworkFilter) -> tuple[str, int]:
        """One of its hypervisor's slots."""
        return target.hypervisor.ref, target.hypervisor.slots

    def check(self, target: NetworkFilter, params: Params, *, idle: bool) -> None:
        """Capability and reach."""
        del params, idle
        check_able(target.hypervisor, Feature.NETWORKS_MANAGE)


@action
class ChangeFilter(FilterAction):
    """Put another definition in its place. Guests that run with it have it at once."""

    kind = "network-filter.change"
    title = "Change network filter"
    params = FilterXml

    def run(self, ctx: Context, target: NetworkFilter, params: Params) -> dict[str, Any] | None:
        """The same definition again changes nothing."""
        assert isinstance(params, FilterXml)  # noqa: S101 - narrows the type; the registry pairs them
        outline(params.xml)
        with ctx.session(target.hypervisor.endpoint()) as session:
            info = session.filter_define(params.xml, name=target.name)
            filter_observe(target.hypervisor, info, seen_at=timezone.now())
        return None


@action
class DeleteFilter(FilterAction):
    """Remove one that nobody uses."""

    kind = "network-filter.delete"
    title = "Remove network filter"

    def load(self, target_id: uuid.UUID) -> NetworkFilter:
        """One that is gone too: an earlier attempt may have come so far."""
        return filter_of(target_id, gone=True)

    def check(self, target: NetworkFilter, params: Params, *, idle: bool) -> None:
        """And that nobody uses it: such a guest would not start any more, or run without what should be in front of it."""
        super().check(target, params, idle=idle)
        guests.refuse_filter(target)

    def run(self, ctx: Context, target: NetworkFilter, params: Params) -> dict[str, Any] | None:
        """A filter that is gone is what was wished."""
        del params
        if target.gone_at is not None:
            return None
        with ctx.session(target.hypervisor.endpoint()) as session:
            look_for_users([target])
            guests.refuse_filter(target)
            try:
                session.filter_delete(target.name)
            except NotFound:
                ctx.log("It was gone already.")
            filter_gone(target, seen_at=timezone.now())
        return None
