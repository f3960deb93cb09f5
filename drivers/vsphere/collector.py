"""Reading many properties of many objects in one call: the PropertyCollector over a view, with its pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyVmomi import vim, vmodl

from drivers.vsphere.errors import Garbled
from drivers.vsphere.values import items, text
from drivers.vsphere.wire import moid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.vsphere.wire import Wire

PAGE = 2000
"""Objects in one answer: 10,000 guests are five calls, and no answer is larger than some 25 MB."""
_PAGES_MAX = 1000

query = vmodl.query.PropertyCollector


@dataclass(frozen=True, slots=True)
class Found:
    """One object, and those of its properties that it has and that we may read."""

    object: Any
    values: Mapping[str, Any]

    @property
    def moid(self) -> str:
        """Its identifier, unique within the server among objects of its type."""
        return moid(self.object)

    def get(self, name: str) -> Any:
        """A property, None where it is not there."""
        return self.values.get(name)


def through_view(view: Any, kind: type, paths: Sequence[str]) -> Any:
    """What is to be read of all objects in a container view."""
    step = query.TraversalSpec(name="view", path="view", skip=False, type=type(view))
    return query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[step])],
        propSet=[query.PropertySpec(type=kind, pathSet=list(paths))],
    )


def of_objects(objects: Sequence[Any], kind: type, paths: Sequence[str]) -> Any:
    """What is to be read of these objects; those that are gone are left out."""
    return query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=each) for each in objects],
        propSet=[query.PropertySpec(type=kind, pathSet=list(paths))],
        reportMissingObjectsInResults=True,
    )


def retrieve(wire: Wire, *specs: Any) -> list[Found]:
    """All that the specs name: one call, and one more for each further page.

    A session that has expired may be told by a fault, which the wire sees, or by each property's being withheld.
    """
    generation = wire.generation
    try:
        return _pages(wire, specs)
    except vim.fault.NotAuthenticated:
        wire.renew(generation)
        return _pages(wire, specs)


def _pages(wire: Wire, specs: Sequence[Any]) -> list[Found]:
    collector = wire.service("propertyCollector")
    result = collector.RetrievePropertiesEx(list(specs), query.RetrieveOptions(maxObjects=PAGE))
    found: list[Found] = []
    for _page in range(_PAGES_MAX):
        if result is None:
            return found
        if not isinstance(result, query.RetrieveResult):
            break
        found.extend(read_object(each) for each in items(result.objects))
        if not isinstance(result.token, str) or not result.token:
            return found
        result = collector.ContinueRetrievePropertiesEx(result.token)
    message = "The hypervisor's list of objects cannot be read, or has no end."
    raise Garbled(message)


def read_object(content: Any) -> Found:
    """One object of an answer. Raises Garbled, and NotAuthenticated where it is told so little because of that."""
    if not isinstance(content, query.ObjectContent) or content.obj is None:
        message = "The hypervisor's list has something in it that is no object."
        raise Garbled(message)
    for each in items(content.missingSet):
        fault = getattr(each, "fault", None)
        if isinstance(fault, vim.fault.NotAuthenticated):
            raise fault
    values = {text(getattr(each, "name", None)): getattr(each, "val", None) for each in items(content.propSet)}
    return Found(content.obj, values)
