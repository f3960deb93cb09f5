"""XAPI's records as our values. Nothing in them is believed: what is missing or of another type reads as empty, never as an error."""

from __future__ import annotations

import calendar
import hashlib
import json
import re
import time
import xmlrpc.client
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drivers.types import (
    DiskInfo,
    GraphicsInfo,
    GuestInfo,
    GuestState,
    HostInfo,
    NicInfo,
    Technique,
    VirtualizationType,
)
from drivers.xapi.errors import Garbled

if TYPE_CHECKING:
    from collections.abc import Mapping

Record = dict[str, Any]
Table = dict[str, Record]

NULL = "OpaqueRef:NULL"
FACT_PREFIX = "vmmanager.fact."
TITLE_KEY = "vmmanager.title"
"""Keys of a guest's other_config: what is ours to say of it."""
AUTOSTART = "auto_poweron"
"""Key of other_config. XAPI starts a guest that has it only where the pool has it too."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_MOST_BYTES = 1 << 56
_MOST_CPUS = 65536
_SHUTTING_DOWN = ("clean_shutdown", "shutdown")

STATES = {
    "Halted": GuestState.SHUTOFF,
    "Paused": GuestState.PAUSED,
    "Running": GuestState.RUNNING,
    "Suspended": GuestState.SHUTOFF,
}
REASONS = {"Running": "booted", "Suspended": "saved", "Paused": "user"}
"""Of a halted guest XAPI does not tell why: "" then."""
_HARDWARE = (Technique.HARDWARE_ASSISTED, Technique.FULL_VIRTUALIZATION)
TECHNIQUES = {
    "hvm": _HARDWARE,
    "pv": (Technique.PARAVIRTUALIZATION,),
    "pv_in_pvh": (Technique.PARAVIRTUALIZATION, Technique.HARDWARE_ASSISTED),
    "pvh": (Technique.PARAVIRTUALIZATION, Technique.HARDWARE_ASSISTED),
}


# -- reading ------------------------------------------------------------------------------------------------------------
def table(answer: object) -> Table:
    """What `get_all_records` answered. Raises Garbled when it is no table at all."""
    if not isinstance(answer, dict):
        message = "The hypervisor's answer is no table."
        raise Garbled(message)
    return {ref: row for ref, row in answer.items() if isinstance(ref, str) and isinstance(row, dict)}


def record(answer: object) -> Record:
    """What `get_record` answered. Raises Garbled."""
    if not isinstance(answer, dict):
        message = "The hypervisor's answer is no record."
        raise Garbled(message)
    return answer


def reference(answer: object) -> str:
    """What a call that names an object answered. Raises Garbled."""
    if not isinstance(answer, str) or not answer:
        message = "The hypervisor's answer names no object."
        raise Garbled(message)
    return answer


def text(row: Mapping[str, Any], name: str) -> str:
    """A text; "" where there is none."""
    value = row.get(name)
    return value if isinstance(value, str) else ""


def number(row: Mapping[str, Any], name: str, *, most: int = _MOST_BYTES) -> int:
    """XAPI's integers come as text. 0 where there is none, never more than `most`."""
    value = text(row, name)
    return min(most, max(0, int(value))) if _NUMBER.fullmatch(value) else 0


def flag(row: Mapping[str, Any], name: str) -> bool:
    """A boolean; False where there is none."""
    return row.get(name) is True


def mapping(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A map; empty where there is none."""
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def references(row: Mapping[str, Any], name: str) -> list[str]:
    """A set of references; empty where there is none."""
    value = row.get(name)
    return [ref for ref in value if isinstance(ref, str)] if isinstance(value, list) else []


def seconds_of(moment: object) -> int:
    """XAPI's date (`20261121T12:00:00Z`, UTC) as seconds since 1970. Raises Garbled."""
    try:
        if isinstance(moment, xmlrpc.client.DateTime):
            plain = moment.value.replace("-", "").partition(".")[0].removesuffix("Z")
            return calendar.timegm(time.strptime(plain, "%Y%m%dT%H:%M:%S"))
    except (ValueError, TypeError, AttributeError) as error:
        message = "The hypervisor's clock cannot be read."
        raise Garbled(message) from error
    message = "The hypervisor's clock cannot be read."
    raise Garbled(message)


@dataclass(frozen=True, slots=True)
class Event:
    """One object that changed: class in lower case, `add`, `mod` or `del`, and its record as it is now (empty for `del`)."""

    kind: str
    operation: str
    ref: str
    snapshot: Record


def events(batch: object) -> list[Event]:
    """What `event.from` answered; what has not even a reference is left out. Raises Garbled."""
    found = batch.get("events") if isinstance(batch, dict) else None
    if not isinstance(found, list):
        message = "The hypervisor's news cannot be read."
        raise Garbled(message)
    return [
        Event(text(event, "class").lower(), text(event, "operation"), text(event, "ref"), mapping(event, "snapshot"))
        for event in found
        if isinstance(event, dict) and text(event, "ref")
    ]


# -- guests -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What lies around guests and makes them whole."""

    vbds: Table = field(default_factory=dict)
    vdis: Table = field(default_factory=dict)
    places: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """A disk's reference → its pool and its name there."""
    vifs: Table = field(default_factory=dict)
    networks: Table = field(default_factory=dict)
    metrics: Table = field(default_factory=dict)
    guest_metrics: Table = field(default_factory=dict)
    autostart: bool = False
    """Whether the pool starts guests at all."""


def uuid_of(vm: Mapping[str, Any]) -> str:
    """The guest's UUID; "" where it has none that can be one."""
    uuid = text(vm, "uuid").lower()
    return uuid if _UUID.fullmatch(uuid) else ""


def is_guest(vm: Mapping[str, Any]) -> bool:
    """Control domains, templates and snapshots are records of the same table, and no guests."""
    return bool(uuid_of(vm)) and not any(
        flag(vm, mark) for mark in ("is_control_domain", "is_a_template", "is_a_snapshot", "is_default_template")
    )


def state_of(vm: Mapping[str, Any]) -> tuple[GuestState, str]:
    """State and reason. A guest that was asked to shut down is shutting down until it has, or until XAPI gives up (20 minutes)."""
    power = text(vm, "power_state")
    state = STATES.get(power, GuestState.UNKNOWN)
    if state is GuestState.RUNNING and any(
        each in _SHUTTING_DOWN for each in mapping(vm, "current_operations").values()
    ):
        return GuestState.SHUTTING_DOWN, "user"
    return state, REASONS.get(power, "")


def domain_type(vm: Mapping[str, Any]) -> str:
    """`hvm`, `pv`, `pv_in_pvh` or `pvh`. Before 7.5 there was no such field, and a boot policy meant HVM."""
    told = text(vm, "domain_type")
    return told if told in TECHNIQUES else "hvm" if text(vm, "HVM_boot_policy") else "pv"


def guest_info(vm: Mapping[str, Any], around: Around) -> GuestInfo:
    """One guest, from its record and what lies around it."""
    state, reason = state_of(vm)
    metrics = around.metrics.get(text(vm, "metrics"), {})
    on = text(vm, "power_state") in ("Running", "Paused")
    most = number(vm, "memory_static_max")
    target = (number(vm, "memory_target") if on else 0) or number(vm, "memory_dynamic_max") or most
    kind = domain_type(vm)
    disks, interfaces, boot = _disks(vm, around), _interfaces(vm, around), _boot(vm, kind)
    rows = (disks, interfaces, sorted(boot.items()))
    system = mapping(around.guest_metrics.get(text(vm, "guest_metrics"), {}), "os_version")
    return GuestInfo(
        uuid=uuid_of(vm),
        name=text(vm, "name_label"),
        state=state,
        state_reason=reason,
        virtualization_type=VirtualizationType.BARE_METAL,
        techniques=TECHNIQUES[kind],
        domain_type=kind,
        vcpus=(number(metrics, "VCPUs_number", most=_MOST_CPUS) if on else 0)
        or number(vm, "VCPUs_at_startup", most=_MOST_CPUS)
        or 1,
        memory_bytes=target,
        max_memory_bytes=max(most, target),
        autostart=around.autostart and wants_autostart(vm),
        has_managed_save=text(vm, "power_state") == "Suspended",
        title=text(mapping(vm, "other_config"), TITLE_KEY),
        description=text(vm, "name_description"),
        disks=disks,
        interfaces=interfaces,
        graphics=(GraphicsInfo(type="vnc"),),
        consoles=("vnc",),
        os=text(system, "name"),
        boot=boot,
        metadata=facts(mapping(vm, "other_config")),
        xml_digest=hashlib.sha256(json.dumps([repr(row) for row in rows]).encode()).hexdigest(),
    )


def facts(other_config: Mapping[str, Any]) -> dict[str, str]:
    """Our own facts among a guest's other configuration."""
    return {
        key.removeprefix(FACT_PREFIX): value
        for key, value in other_config.items()
        if key.startswith(FACT_PREFIX) and isinstance(value, str)
    }


def wants_autostart(row: Mapping[str, Any]) -> bool:
    """Whether a guest or pool has the mark."""
    return mapping(row, "other_config").get(AUTOSTART) == "true"


def _disks(vm: Mapping[str, Any], around: Around) -> tuple[DiskInfo, ...]:
    found = []
    for ref in references(vm, "VBDs"):
        vbd = around.vbds.get(ref, {})
        vdi = around.vdis.get(text(vbd, "VDI"), {})
        pool, name = around.places.get(text(vbd, "VDI"), ("", ""))
        if not vbd:
            continue
        found.append(
            DiskInfo(
                target=text(vbd, "device") or text(vbd, "userdevice"),
                device="cdrom" if text(vbd, "type") == "CD" else "disk",
                bus="xen",
                source=name or text(vdi, "uuid") or None,
                pool=pool or None,
                size_bytes=number(vdi, "virtual_size") or None,
                readonly=text(vbd, "mode") == "RO",
            )
        )
    return tuple(sorted(found, key=lambda disk: (disk.target, disk.source or "")))


def _interfaces(vm: Mapping[str, Any], around: Around) -> tuple[NicInfo, ...]:
    found = []
    for ref in references(vm, "VIFs"):
        vif = around.vifs.get(ref, {})
        network = around.networks.get(text(vif, "network"), {})
        if vif:
            name = text(network, "name_label") or text(network, "bridge") or None
            place = number(vif, "device")
            found.append((place, NicInfo(mac=text(vif, "MAC").lower(), model="netfront", network=name)))
    return tuple(nic for _, nic in sorted(found, key=lambda each: (each[0], each[1].mac)))


def _boot(vm: Mapping[str, Any], kind: str) -> dict[str, str]:
    parameters = mapping(vm, "HVM_boot_params")
    facts = {"type": kind, "kernel": text(vm, "PV_kernel"), "loader": text(vm, "PV_bootloader")}
    if kind == "hvm":
        order = {"c": "hd", "d": "cdrom", "n": "network"}
        facts["devices"] = ",".join(order[sign] for sign in text(parameters, "order") if sign in order)
        facts["firmware"] = text(parameters, "firmware") or "bios"
    return {name: value for name, value in facts.items() if value}


# -- the host -----------------------------------------------------------------------------------------------------------
def pool_of(pools: Table) -> Record:
    """The only row there is. Raises Garbled."""
    if not pools:
        message = "The hypervisor has no pool: it is not ready."
        raise Garbled(message)
    return next(iter(pools.values()))


def host_info(pool: Mapping[str, Any], hosts: Table, metrics: Table) -> HostInfo:
    """A pool as one machine: sums, and what the master says of itself. Raises Garbled where there is no host."""
    master = hosts.get(text(pool, "master")) or next(iter(hosts.values()), None)
    if master is None:
        message = "The hypervisor has no host: it is not ready."
        raise Garbled(message)
    alone = len(hosts) == 1
    cpus = [mapping(host, "cpu_info") for host in hosts.values()]
    rooms = [metrics.get(text(host, "metrics"), {}) for host in hosts.values()]
    software = mapping(master, "software_version")
    total = sum(number(room, "memory_total") for room in rooms)
    product = f"{text(software, 'product_brand') or 'XenServer'} {text(software, 'product_version')}".strip()
    return HostInfo(
        hostname=text(master, "hostname") if alone else text(pool, "name_label") or text(master, "hostname"),
        # The XAPI's own: among the firmware's strings it keeps, the system's UUID is not.
        host_uuid=text(master if alone else pool, "uuid").lower(),
        cpu_count=sum(number(cpu, "cpu_count", most=_MOST_CPUS) for cpu in cpus),
        cpu_model=" ".join(text(mapping(master, "cpu_info"), "modelname").split()),
        cpu_architecture="x86_64",
        memory_total_bytes=total,
        memory_free_bytes=min(total, sum(number(room, "memory_free") for room in rooms)),
        kernel=text(software, "linux"),
        hypervisor_version=product + (f", Xen {xen}" if (xen := text(software, "xen")) else ""),
        library_version=f"XAPI {xapi}" if (xapi := text(software, "xapi")) else "",
        virtualization_type=VirtualizationType.BARE_METAL,
        techniques=(*_HARDWARE, Technique.PARAVIRTUALIZATION),
    )
