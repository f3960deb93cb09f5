"""The page of a new guest. It only reads: what is asked for goes to REST, and the page's script says what that would make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.db.models.functions import Lower
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts.access import access
from accounts.policy import may, visible
from drivers import registry
from drivers.types import Feature
from hosts.advisor import Demand, advise
from hosts.places import places
from images.choices import ImageState
from images.models import Image
from networks.models import Network
from storage.models import StoragePool
from vms.cloning.models import Template
from vms.cloning.parameters import Parameter
from vms.cloning.selectors import with_versions

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.actor import Actor
    from hosts.advisor import Place

PLACES_MAX: Final = 48
IMAGES_MAX: Final = 60
THINGS_MAX: Final = 1000
GIB_STEPS: Final = (
    0.125, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048,
)  # fmt: skip
"""Stops of the memory's slider, as far as the largest host goes."""


@require_safe
@access("vm.create")
def vm_new(request: HttpRequest) -> HttpResponse:
    """One page, sensible defaults. `?hypervisor=<id>&image=<id>`, or `&template=<id>`, chooses those."""
    by: Actor = request.actor  # type: ignore[attr-defined]
    everywhere = places(by)
    advice = advise(Demand(create=True), everywhere)
    # Machines first: a container needs more to be said.
    able = sorted((one.place for one in advice.candidates), key=lambda place: place.shares_kernel)
    hosts = {place.host_id for place in able}
    images = _images(by)
    templates = _templates(by)
    context = {
        "places": [_pick(place) for place in able[:PLACES_MAX]],
        "refused": advice.refused[: PLACES_MAX - min(len(able), PLACES_MAX)],
        "none_at_all": not everywhere,
        "images": images,
        "templates": templates,
        "image_state": "" if templates else _image_state(by, images),
        "chosen": {name: request.GET.get(name, "") for name in ("hypervisor", "image", "template")},
        "most_vcpus": max((place.cpu_count for place in able), default=0) or 32,
        "known": {
            "places": {place.id: _known(place) for place in able},
            "pools": _pools(by, hosts),
            "networks": _networks(by, hosts),
            "images": {str(image.pk): _image(image) for image in images},
            "templates": {one["id"]: one for one in templates},
            "steps": _steps(able),
            "user": by.name,
        },
        "may_manage_hosts": may(by, "host.manage"),
        "may_manage_images": may(by, "image.manage"),
        "may_manage_pools": may(by, "pool.manage"),
        "may_xml": may(by, "vm.xml"),
    }
    return render(request, "vms/new.html", context)


def _pick(place: Place) -> dict[str, Any]:
    return {"place": place, "free": place.memory_free_bytes}


def _known(place: Place) -> dict[str, Any]:
    """What the script asks of a place: it hides what a place has no use for."""
    return {
        "host": place.host_id,
        "label": str(registry.get(place.driver).label) if place.driver in registry.kinds() else place.driver,
        "container": place.shares_kernel,
        "pools": place.has(Feature.STORAGE_POOLS),
        "content": place.has(Feature.STORAGE_CONTENT),
        "networks": place.has(Feature.NETWORKS),
        "cpus": place.cpu_count,
        "memory": place.memory_total_bytes,
    }


def _steps(able: list[Place]) -> list[float]:
    largest = max((place.memory_total_bytes for place in able), default=0) / 2**30 or 64
    return [step for step in GIB_STEPS if step <= largest]


def _images(by: Actor) -> list[Image]:
    """What is ready, disks before installers."""
    return list(visible(by, Image.objects.filter(state=ImageState.READY)).order_by("kind", "name")[:IMAGES_MAX])


def _image_state(by: Actor, ready: list[Image]) -> str:
    """What to say where there is none."""
    if ready:
        return ""
    return "importing" if visible(by, Image.objects.filter(state=ImageState.IMPORTING)).exists() else "none"


def _image(image: Image) -> dict[str, Any]:
    return {
        "kind": image.kind,
        "size": image.virtual_size_bytes,
        "cloud": image.cloud_init,
        "name": image.title or image.name,
    }


def _templates(by: Actor) -> list[dict[str, Any]]:
    """By name, each with what may be chosen and what a guest of it has. A few queries."""
    rows = with_versions(visible(by, Template.objects.exclude(current=None).filter(closing=False)))
    found = []
    for template in rows.order_by(Lower("name"))[:IMAGES_MAX]:
        version = next((one for one in template.versions.all() if one.number == template.current), None)
        if version is not None:
            found.append(
                {
                    "id": str(template.pk),
                    "name": template.name,
                    "host": str(version.host_id) if version.host_id else "",
                    "host_name": version.host_name,
                    "driver": version.driver,
                    "vcpus": version.facts.get("vcpus", 1),
                    "memory": version.facts.get("memory_bytes", 0),
                    "size": next((disk.size_bytes for disk in version.volumes.all()), 0),
                    "parameters": [Parameter.model_validate(one).model_dump(mode="json") for one in version.parameters],
                }
            )
    return found


def _pools(by: Actor, hosts: set[str]) -> list[dict[str, Any]]:
    rows = visible(by, StoragePool.objects.filter(host__in=list(hosts), gone_at=None))
    rows = rows.select_related("host").order_by("host__name", "name")[:THINGS_MAX]
    return [
        {
            "id": str(pool.pk),
            "name": pool.name,
            "host": str(pool.host_id),
            "host_name": pool.host.name,
            "free": pool.available_bytes,
            "formats": pool.formats,
        }
        for pool in rows
        if pool.running and pool.formats
    ]


def _networks(by: Actor, hosts: set[str]) -> list[dict[str, Any]]:
    rows = visible(by, Network.objects.filter(host__in=list(hosts), gone_at=None, active=True))
    rows = rows.select_related("host").order_by("host__name", "name")[:THINGS_MAX]
    return [
        {
            "id": str(network.pk),
            "name": network.name,
            "host": str(network.host_id),
            "host_name": network.host.name,
            "words": _("DHCP") if network.dhcp else network.mode,
        }
        for network in rows
    ]
