"""What a facet of a session (snapshots, storage, making guests) asks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyVmomi import vim

from drivers.types import GuestRef
from drivers.vsphere.collector import of_objects, retrieve
from drivers.vsphere.errors import Garbled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.types import Feature
    from drivers.vsphere.collector import Found
    from drivers.vsphere.wire import Wire


class Facet:
    """The session's own, as its facets use it."""

    _wire: Wire
    _scope: Any

    def _require(self, feature: Feature) -> None:
        raise NotImplementedError

    def _now(self, ref: GuestRef) -> Found:
        raise NotImplementedError

    def _retrieve_all(self, kind: type, paths: Sequence[str], *more: Any) -> list[Found]:
        raise NotImplementedError

    def _name_of(self, key: str) -> str:
        raise NotImplementedError

    def _wait_for(self, task: Any, seconds: float, ref: GuestRef) -> None:
        raise NotImplementedError

    def _result_of(self, task: Any, seconds: float, *, what: str) -> Any:
        """What a task came to, once it has ended. Raises its fault as ours, Timeout, Garbled."""
        if not isinstance(task, vim.Task):
            message = "The hypervisor did not say how it goes on with this."
            raise Garbled(message)
        self._wait_for(task, seconds, GuestRef(uuid="", name=what))
        found = retrieve(self._wire, of_objects([task], vim.Task, ("info.result",)))
        return found[0].get("info.result") if found else None
