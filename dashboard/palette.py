"""What the command palette finds: guests with what may be done to them, hosts, pools, networks, images. Bounded: nine queries."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Prefetch, Q
from django.db.models.functions import Lower

from accounts.policy import visible
from core.errors import BadInput
from hosts.models import Host, Hypervisor
from images.models import Image
from networks.models import GivenAddress, Network
from storage.models import StoragePool
from vms.consoles import console_action
from vms.models import VM, VMNic
from vms.offers import Offers
from vms.rows import address_text, labels
from vms.selectors import vm_list
from vms.services import vm_actions

if TYPE_CHECKING:
    import uuid

    from django.db.models import QuerySet

    from accounts.actor import Actor
    from hosts.resources import R, Resource

LOCAL_MAX: Final = 300
"""So many guests are sent whole, and matched letter by letter in the browser; of more, those that a search finds."""
FOUND_MAX: Final = 40
HOSTS_MAX: Final = 200
RESOURCES_MAX: Final = 200


def palette(by: Actor, q: str = "") -> dict[str, Any]:
    """`{"items": [{kind, id, name, state, sub, url, also, actions}], "complete": bool}`.

    Args:
        by: The caller.
        q: What was typed; a verb at its begin ("start web") is not searched for.
    """
    complete = vm_list(by)[: LOCAL_MAX + 1].count() <= LOCAL_MAX
    guests = _found(by, q) if q and not complete else _guests(vm_list(by), LOCAL_MAX if complete else FOUND_MAX)
    hosts = visible(by, Host.objects.all()).order_by(Lower("name"))
    if q and not complete:
        hosts = hosts.filter(Q(name__icontains=q) | Q(hostname__icontains=q))
    named = Q(name__icontains=q) if q and not complete else Q()
    pools = _resources(visible(by, StoragePool.objects.filter(named, gone_at=None)))
    networks = _resources(visible(by, Network.objects.filter(named, gone_at=None)))
    images = visible(by, Image.objects.filter(named)).order_by(Lower("name"), "pk")[:RESOURCES_MAX]
    offers = Offers(lambda vm: _offered(vm, by))
    given = _given(guests)
    return {
        "items": [_guest(vm, offers, given) for vm in guests]
        + [_host(host) for host in hosts[:HOSTS_MAX]]
        + [_resource("pool", pool, pool.state, f"/storage/{pool.pk}", pool.target) for pool in pools]
        + [
            _resource("network", one, "active" if one.active else "inactive", f"/networks/{one.pk}", one.bridge)
            for one in networks
        ]
        + [_image(image) for image in images],
        "complete": complete,
    }


def _guests(rows: QuerySet[VM], limit: int) -> list[VM]:
    hypervisors = Hypervisor.objects.select_related("host").defer("credentials")
    nics = VMNic.objects.only("vm_id", "mac")
    whole = rows.defer("description").prefetch_related(
        Prefetch("hypervisor", queryset=hypervisors), Prefetch("interfaces", queryset=nics)
    )
    return list(whole.order_by(Lower("name"), "pk")[:limit])


def _found(by: Actor, q: str) -> list[VM]:
    words = q.split()
    verbs = [label.lower().split() for label in labels().values()] + [["console"], ["snapshot"], ["take", "snapshot"]]
    for length in (2, 1):
        begun = [word.lower() for word in words[:length]]
        if len(words) > length and any(
            verb[: length - 1] == begun[:-1] and len(verb) >= length and verb[length - 1].startswith(begun[-1])
            for verb in verbs
        ):
            words = words[length:]
            break
    try:
        return _guests(vm_list(by, q=" ".join(words)), FOUND_MAX)
    except BadInput:
        return []


def _offered(vm: VM, by: Actor) -> dict[str, dict[str, Any]]:
    return {
        name: {"allowed": one["allowed"], "reason": one["reason"]}
        for name, one in {**vm_actions(vm, by=by), "console": console_action(vm, by=by)}.items()
        if name not in ("autostart", "delete") and one.get("code") != "unsupported"
    }


def _given(guests: list[VM]) -> dict[tuple[uuid.UUID, str], list[str]]:
    """Host and MAC → addresses that its networks have given it or keep for it. One query."""
    macs = {nic.mac for vm in guests for nic in vm.interfaces.all()}
    found: defaultdict[tuple[uuid.UUID, str], list[str]] = defaultdict(list)
    rows = GivenAddress.objects.filter(mac__in=macs)
    for host, mac, address in rows.values_list("network__host", "mac", "address"):
        found[host, mac].append(address)
    return found


def _guest(vm: VM, offers: Offers, given: dict[tuple[uuid.UUID, str], list[str]]) -> dict[str, Any]:
    host = vm.hypervisor.host.name
    macs = [nic.mac for nic in vm.interfaces.all()]
    addresses = [one for mac in macs for one in given.get((vm.hypervisor.host_id, mac), ())]
    addresses = list(dict.fromkeys([*map(address_text, vm.addresses), *addresses]))
    also = [vm.uuid, str(vm.pk), *macs, *addresses, vm.title]
    return {
        "kind": "vm",
        "id": str(vm.pk),
        "name": vm.name,
        "state": vm.state,
        "sub": f"{vm.hypervisor.driver}, {host}",
        "url": f"/vms/{vm.pk}",
        "also": " ".join(text for text in (*also, *vm.tags) if text),
        "actions": offers.of(vm),
    }


def _host(host: Host) -> dict[str, Any]:
    return {
        "kind": "host",
        "id": str(host.pk),
        "name": host.name,
        "state": host.state,
        "sub": host.hostname,
        "url": f"/hosts/{host.pk}",
        "also": " ".join(text for text in (host.host_uuid, str(host.pk), *host.tags) if text),
    }


def _resources(rows: QuerySet[R]) -> QuerySet[R]:
    return rows.select_related("host").order_by(Lower("name"), "pk")[:RESOURCES_MAX]


def _resource(kind: str, row: Resource, state: str, url: str, also: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "id": str(row.pk),
        "name": row.name,
        "state": state,
        "sub": row.host.name,
        "url": url,
        "also": " ".join(text for text in (row.uuid, str(row.pk), also) if text),
    }


def _image(image: Image) -> dict[str, Any]:
    return {
        "kind": "image",
        "id": str(image.pk),
        "name": image.name,
        "state": "",
        "sub": image.get_kind_display(),
        "url": f"/images/{image.pk}",
        "also": " ".join(text for text in (image.title, image.os_id, str(image.pk), *image.tags) if text),
    }
