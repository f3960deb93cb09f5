"""What is ours to say of a guest as its own definition keeps it, flat names and texts: written there, and read at first sight."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from core.errors import BadInput
from core.fields import check_tags
from drivers.errors import Unsupported

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from drivers.base import Session
    from vms.models import VM

ORDER_MAX: Final = 1000
DELAY_MAX_SECONDS: Final = 3600
UNORDERED: Final[Mapping[str, Any]] = MappingProxyType(
    {"autostart_order": None, "autostart_delay_seconds": 0, "autostart_wait": False}
)
"""Of a guest that we do not start with its host."""


def facts(vm_id: uuid.UUID, *, tags: list[str], project: str, owner: str) -> dict[str, str]:
    """What a guest's definition says of it for us, so that it outlives our database."""
    found = {"id": str(vm_id), "tags": ",".join(tags), "project": project, "owner": owner}
    return {name: value for name, value in found.items() if value}


def facts_of(vm: VM) -> dict[str, str]:
    """All that there is to be said of a guest. Reads its owner."""
    owner = vm.owner.get_username() if vm.owner is not None else ""
    found = facts(vm.pk, tags=vm.tags, project=vm.project, owner=owner)
    if vm.autostart_order is not None:
        found |= {"autostart_order": str(vm.autostart_order), "autostart_delay": str(vm.autostart_delay_seconds)}
        found |= {"autostart_wait": "yes"} if vm.autostart_wait else {}
    return found


def write_facts(session: Session, vm: VM) -> str:
    """Have them kept in its definition; why not, where its hypervisor keeps none: then the row alone says them."""
    try:
        session.set_metadata(vm.guest_ref, facts_of(vm), title=vm.title, description=vm.description)
    except Unsupported as error:
        return error.detail
    return ""


def adopted(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Columns of a guest that is seen for the first time; what is no tag and no number is left out."""
    tags: list[str] = []
    for word in str(metadata.get("tags", "")).replace(",", " ").split()[:50]:
        try:
            tags += check_tags([word])
        except BadInput:
            continue
    project = str(metadata.get("project", "")).replace("\0", "")[:100]
    return {"tags": list(dict.fromkeys(tags)), "project": project, **_ordered(metadata)}


def _ordered(metadata: Mapping[str, str]) -> dict[str, Any]:
    order = _number(metadata.get("autostart_order"), ORDER_MAX)
    if order is None:
        return {}
    return {
        "autostart_order": order,
        "autostart_delay_seconds": _number(metadata.get("autostart_delay"), DELAY_MAX_SECONDS) or 0,
        "autostart_wait": metadata.get("autostart_wait") == "yes",
    }


def _number(text: object, top: int) -> int | None:
    said = str(text or "")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= 4 and int(said) <= top else None
