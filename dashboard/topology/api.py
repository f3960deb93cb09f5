"""REST: the topology as nodes and edges, the same that the picture shows. Thin: parse, read, make JSON."""

from collections import deque
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field

from accounts.access import access
from accounts.actor import actor_of
from core.rest import Output, answer
from core.search import LENGTH_MAX
from dashboard.topology.focus import Focus, focus_on
from dashboard.topology.graph import Box, Guest, Lane, Place, read

router = Router(tags=["topology"])

WHOLE_MAX = 200
"""Without a focus guests are nodes while there are no more of them; else hypervisors have their number by state."""
GUESTS_MAX = 2000
DEPTH = 2
NodeType = Literal["host", "hypervisor", "vm", "network", "bridge", "storage-pool", "path"]
EdgeKind = Literal["has", "runs", "on_network", "disk_in", "same_storage"]


class TopologyQuery(BaseModel):
    """What to look at."""

    focus: Annotated[
        str,
        Field(
            max_length=400,
            description="`host/<id>`, `hypervisor/<id>`, `network/<id>`, `storage-pool/<id>`, `vm/<id>`.",
        ),
    ] = ""
    depth: Annotated[int, Field(ge=1, le=6, description="How many edges away from the focus.")] = DEPTH
    q: Annotated[str, Field(max_length=LENGTH_MAX, description="Which guests, as in `GET /vms`.")] = ""


class NodeOut(Output):
    """A thing. What does not belong to its type is null."""

    id: str = Field(
        description="As edges and `focus` name it. A `bridge` or a `path` is only named by guests: it has no row."
    )
    type: NodeType
    name: str
    state: str | None
    stale: bool = Field(description="Its host is out of reach: the last known state stands.")
    virtualization_type: Literal["bare_metal", "hosted", "hybrid", "os_level"] | None
    shared_kernel: bool | None = Field(description="Of a hypervisor: its guests stand and fall with the host's kernel.")
    guests: dict[str, int] | None = Field(description="Of a hypervisor: how many it has by state, of those asked for.")
    used_ratio: float | None = Field(description="Of a pool.")


class EdgeOut(Output):
    """What joins two."""

    source: str
    target: str
    kind: EdgeKind
    labels: list[str] = Field(description="MAC addresses of interfaces, targets of disks.")


class TopologyOut(Output):
    """What hangs together."""

    nodes: list[NodeOut]
    edges: list[EdgeOut]
    truncated: bool = Field(description="There are guests that are no nodes; hypervisors count them.")


Edge = tuple[str, str, EdgeKind, list[str]]


@router.get("/topology", response=TopologyOut, operation_id="get_topology", summary="What hangs together")
@access("view")
def topology(request: HttpRequest, query: Query[TopologyQuery]) -> HttpResponse:
    """Hosts, hypervisors, guests, networks and pools, and what joins them: all, or those near `focus`."""
    by = actor_of(request)
    focus = focus_on(query.focus, by=by)
    lanes = read(
        by,
        hosts=focus.hosts if focus else None,
        q=query.q,
        open_up_to=10**9 if focus else WHOLE_MAX,
        guests_max=GUESTS_MAX,
        found_only=bool(query.q) and focus is None,
    )
    nodes = {node["id"]: node for lane in lanes for node in _nodes(lane)}
    edges = [edge for lane in lanes for edge in _edges(lane) if edge[0] in nodes and edge[1] in nodes]
    if focus:
        near = _near(focus, edges, query.depth)
        nodes = {ref: node for ref, node in nodes.items() if ref in near}
        edges = [edge for edge in edges if edge[0] in near and edge[1] in near]
    return answer(
        {
            "nodes": list(nodes.values()),
            "edges": [dict(zip(("source", "target", "kind", "labels"), edge, strict=True)) for edge in edges],
            "truncated": any(lane.hidden for lane in lanes),
        }
    )


def _near(focus: Focus, edges: Iterable[Edge], depth: int) -> set[str]:
    """Nodes that are at most so many edges away."""
    beside: dict[str, list[str]] = {}
    for source, target, *_rest in edges:
        beside.setdefault(source, []).append(target)
        beside.setdefault(target, []).append(source)
    away = dict.fromkeys(focus.refs, 0)
    order = deque(away)
    while order:
        one = order.popleft()
        for other in beside.get(one, ()) if away[one] < depth else ():
            if other not in away:
                away[other] = away[one] + 1
                order.append(other)
    return set(away)


def _nodes(lane: Lane) -> Iterable[dict[str, Any]]:
    host = lane.host
    yield _node(host.ref, "host", host.name, host.state, stale=host.state != "online")
    for box in lane.boxes:
        yield _hypervisor(box)
        yield from (_guest(guest, box) for guest in box.guests)
    yield from (_place(place) for place in (*lane.networks, *lane.pools))


def _node(ref: str, type_: NodeType, name: str, state: str | None, *, stale: bool, **more: Any) -> dict[str, Any]:
    rest = {"virtualization_type": None, "shared_kernel": None, "guests": None, "used_ratio": None}
    return {"id": ref, "type": type_, "name": name, "state": state, "stale": stale, **rest, **more}


def _hypervisor(box: Box) -> dict[str, Any]:
    one = box.hypervisor
    return _node(
        _ref(box),
        "hypervisor",
        one.driver,
        one.state,
        stale=not one.online,
        virtualization_type=one.virtualization_type or None,
        shared_kernel=box.shares_kernel,
        guests=box.counts,
    )


def _guest(guest: Guest, box: Box) -> dict[str, Any]:
    return _node(guest.ref, "vm", guest.name, guest.state, stale=not box.hypervisor.online)


def _place(place: Place) -> dict[str, Any]:
    row = place.row
    if place.type == "network":
        return _node(place.ref, "network", place.name, "active" if row.active else "inactive", stale=row.stale)
    if place.type == "storage-pool":
        return _node(place.ref, "storage-pool", place.name, row.state, stale=row.stale, used_ratio=row.used_ratio)
    return _node(place.ref, "bridge" if place.type == "bridge" else "path", place.name, None, stale=False)


def _edges(lane: Lane) -> Iterable[Edge]:
    host = lane.host.ref
    for place in (*lane.networks, *lane.pools):
        yield host, place.ref, "has", []
        if place.twins and place.twins[0].ref != place.ref:
            yield place.twins[0].ref, place.ref, "same_storage", []
    for box in lane.boxes:
        yield host, _ref(box), "has", []
        for guest in box.guests:
            yield _ref(box), guest.ref, "runs", []
            for join in guest.networks.values():
                yield guest.ref, join.place.ref, "on_network", join.labels
            for join in guest.pools.values():
                yield guest.ref, join.place.ref, "disk_in", join.labels


def _ref(box: Box) -> str:
    return f"hypervisor/{box.hypervisor.pk}"
