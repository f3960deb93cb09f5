"""What a spec comes to: on which hypervisor, and why there. Reads the database alone.

`auto` takes the advisor's places best first, and the first that has all that the spec asks for; why the others were passed over
stands in the plan beside the reasons for the one that was taken. What is volatile (room, reach, what lies where) is looked at again
when the guest is made.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Literal

from accounts.policy import require
from core.errors import Conflict, VmmError
from core.units import format_bytes
from drivers.errors import AlreadyExists, Unreachable, Unsupported, WrongState
from drivers.types import Feature
from hosts.advisor import Candidate, Demand, Refusal, advise
from hosts.places import places
from vms.creation.layout import Known, Layout
from vms.creation.plan import Placement, Plan, wrong
from vms.creation.spec import VMSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from accounts.actor import Actor
    from hosts.advisor import Place
    from images.models import Image
    from vms.creation.layout import UnderWay
    from vms.creation.spec import Placed, XmlSpec

PASSED_OVER_MAX: Final = 20
_GUEST_SYSTEMS: Final[dict[str, Literal["windows", "bsd"]]] = {
    "microsoft.com": "windows",
    "freebsd.org": "bsd",
    "openbsd.org": "bsd",
    "netbsd.org": "bsd",
}
"""The part of libosinfo's identifiers that says whose system it is."""


class NoPlace(Conflict):
    """No hypervisor can take this guest."""

    code = "no_place"


# -- the door ----------------------------------------------------------------------------------------------------------
def plan_vm(spec: VMSpec, *, by: Actor, vm_id: uuid.UUID) -> Plan:
    """Settle `spec` for a guest that is to get the id `vm_id`. The same few queries whatever the fleet, and no hypervisor is asked.

    Raises:
        BadInput: With a pointer to what cannot be. NoPlace: nowhere. Unreachable, Unsupported, WrongState, AlreadyExists: not at
            the place that was named. PermissionRefused.
    """
    _not_yet(spec)
    if spec.container is not None and spec.container.root is not None:
        require(by, "vm.xml")
    known = Known(spec, by)
    if spec.hypervisor is not None:
        return _plan_at(_named(spec, by), spec, known, vm_id)
    return _plan_best(spec, known, vm_id, by)


def _not_yet(spec: VMSpec) -> None:
    if spec.ttl_seconds is not None:
        raise wrong("/ttl_seconds", "guests that go by themselves are leases, which are not there yet; leave it out")


# -- where -------------------------------------------------------------------------------------------------------------
def demand_of(spec: VMSpec, images: Iterable[Image] = ()) -> Demand:
    """What the advisor is asked."""
    systems = [spec.os, *(image.os_id for image in images)]
    guest_os = next((kind for os_id in systems for part, kind in _GUEST_SYSTEMS.items() if part in os_id), None)
    return Demand(
        guest_os=guest_os,
        isolation=None if spec.container is not None else "machine",
        nested=spec.cpu.nested,
        vcpus=spec.vcpus,
        memory_bytes=spec.memory_bytes,
        create=True,
    )


def place_for_xml(spec: XmlSpec, *, by: Actor) -> Place:
    """Where a definition goes: it is of one kind of hypervisor, which must be said. Raises as `plan_vm`."""
    if spec.hypervisor is not None:
        return _named(spec, by).place
    if spec.driver is None:
        raise wrong("/hypervisor", "a definition is of one kind of hypervisor: say which, by hypervisor or driver")
    demand = Demand()
    fitting = [one for one in places(by) if one.driver == spec.driver]
    advice = advise(demand, [one for one in fitting if one.has(Feature.DEFINE)])
    if not advice.candidates:
        lacking = [Refusal(place=one, code="no_define", reason=one.why_not(Feature.DEFINE)) for one in fitting]
        raise _no_place(spec.driver, advice.refused or lacking)
    return advice.candidates[0].place


def _named(spec: Placed, by: Actor) -> Candidate:
    """The one that was asked for. What only makes it a bad choice does not stand against it. Raises what does."""
    text = str(spec.hypervisor).removeprefix("hypervisor/")
    everywhere = places(by)
    place = next((one for one in everywhere if one.id == text.lower()), None)
    if place is None:
        raise wrong("/hypervisor", "there is no such hypervisor; its id is meant")
    advice = advise(demand_of(spec) if isinstance(spec, VMSpec) else Demand(), [place])
    if advice.candidates:
        return advice.candidates[0]
    refusal = advice.refused[0]
    match refusal.code:
        case "out_of_reach" | "not_probed":
            raise Unreachable(refusal.reason, host=place.host_id)
        case "no_create":
            raise Unsupported(refusal.reason, feature=str(Feature.CREATE), hypervisor=place.id)
        case "maintenance":
            raise WrongState(refusal.reason, host=place.host_id)
        case "no_memory":
            return Candidate(place=place, score=0.0, reasons=(refusal.reason,))
    raise wrong("/hypervisor", refusal.reason)


def _plan_best(spec: VMSpec, known: Known, vm_id: uuid.UUID, by: Actor) -> Plan:
    """On the best that has everything. Where all lack something, what the best one lacks is what is told."""
    everywhere = [place for place in places(by) if spec.driver in (None, place.driver)]
    everywhere = _with_what_is_under_way(everywhere, known.under_way)
    advice = advise(demand_of(spec, known.images.values()), everywhere)
    passed_over = [_passed_over(one.place, one.code, one.reason) for one in advice.refused]
    known.look_at(one.place for one in advice.candidates)
    first: VmmError | None = None
    for candidate in advice.candidates:
        try:
            plan = _plan_at(candidate, spec, known, vm_id)
        except VmmError as error:
            first = first or error
            passed_over.insert(0, _passed_over(candidate.place, error.code, error.detail))
        else:
            placement = plan.placement.model_copy(update={"passed_over": passed_over[:PASSED_OVER_MAX]})
            return plan.model_copy(update={"placement": placement})
    known.check_alone()
    largest = max((place.memory_total_bytes for place in everywhere), default=0)
    if 0 < largest < spec.memory_bytes:
        raise wrong("/memory_bytes", f"no host has so much: the largest has {format_bytes(largest)} in all")
    raise first or _no_place(spec.driver, advice.refused)


def _with_what_is_under_way(everywhere: list[Place], guests: Iterable[UnderWay]) -> list[Place]:
    """Places with less room: twenty that are asked for in one second are not all put on the one host that was best before."""
    vcpus: defaultdict[str, int] = defaultdict(int)
    memory: defaultdict[str, int] = defaultdict(int)
    for guest in guests:
        vcpus[guest.host] += guest.vcpus
        memory[guest.host] += guest.memory_bytes
    return [
        dataclasses.replace(
            place,
            vcpus_promised=place.vcpus_promised + vcpus[place.host_id],
            memory_promised_bytes=place.memory_promised_bytes + memory[place.host_id],
            memory_free_bytes=None
            if place.memory_free_bytes is None
            else max(0, place.memory_free_bytes - memory[place.host_id]),
        )
        for place in everywhere
    ]


def _no_place(driver: str | None, refused: Sequence[Refusal]) -> NoPlace:
    if not refused:
        kind = f" of the kind {driver}" if driver else ""
        return NoPlace(f"There is no hypervisor{kind} yet. Add a host first.")
    told = [_passed_over(one.place, one.code, one.reason) for one in refused]
    best = "; ".join(f"{one['host']} ({one['driver']}): {one['reason']}" for one in told[:3])
    more = f" (and {len(told) - 3} more)" if len(told) > 3 else ""
    return NoPlace(f"No hypervisor can take it. {best}{more}", refused=told[:PASSED_OVER_MAX])


def _passed_over(place: Place, code: str, reason: str) -> dict[str, str]:
    return {"hypervisor": place.id, "host": place.host_name, "driver": place.driver, "code": code, "reason": reason}


def _plan_at(candidate: Candidate, spec: VMSpec, known: Known, vm_id: uuid.UUID) -> Plan:
    """At one place. Raises what it lacks."""
    place = candidate.place
    known.look_at([place])
    _check_size(spec, place)
    if place.id in known.taken:
        raise AlreadyExists(
            f"There is a guest {spec.name} on {place.host_name} already; take another name.", id=known.taken[place.id]
        )
    layout = Layout(spec, known, place, vm_id)
    disks = layout.disks()
    made_from = known.template
    kernel, initrd = layout.boot(spec.boot)
    box = spec.container
    return Plan(
        id=vm_id,
        template=made_from.template_id if made_from is not None else None,
        template_version=made_from.pk if made_from is not None else None,
        placement=Placement(
            hypervisor=uuid.UUID(place.id),
            host=uuid.UUID(place.host_id),
            host_name=place.host_name,
            driver=place.driver,
            score=candidate.score,
            reasons=list(candidate.reasons),
        ),
        disks=disks,
        interfaces=layout.interfaces(spec.interfaces),
        kernel=kernel,
        initrd=initrd,
        seed=layout.seed(disks) if spec.cloud_init is not None else None,
        container_image=(box.image or "") if box else "",
        root=(box.root or "") if box else "",
        init=box.init if box else "",
        os=spec.os or next((known.images[one.image_name].os_id for one in disks if one.image), ""),
        owner=known.owner,
        cpu_mode=spec.cpu.mode or "",
        nested=spec.cpu.nested,
        wait_for=spec.wait_for or ("running" if spec.start else ""),
        graphics="none" if box else spec.graphics,
        **{name: getattr(spec.boot, name) for name in ("cmdline", "firmware", "secure_boot", "tpm")},
        **{
            name: getattr(spec, name)
            for name in (
                "name", "accelerator", "vcpus", "memory_bytes", "title", "description", "tags", "project", "autostart", "start",
                "wait_timeout_seconds",
            )
        },
    )  # fmt: skip


def _check_size(spec: VMSpec, place: Place) -> None:
    if 0 < place.memory_total_bytes < spec.memory_bytes:
        raise wrong("/memory_bytes", f"{place.host_name} has {format_bytes(place.memory_total_bytes)} in all")
    if 0 < place.cpu_count < spec.vcpus:
        raise wrong("/vcpus", f"{place.host_name} has {place.cpu_count} CPUs")
