"""All verbs over one vSphere session. Every public method blocks the calling thread and raises only DriverErrors."""

from __future__ import annotations

import re
import threading
import time
import uuid as uuids
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pyVmomi import vim, vmodl

from drivers.base import Session
from drivers.errors import (
    AlreadyExists,
    DriverError,
    InvalidDefinition,
    NotFound,
    Timeout,
    Unreachable,
    Unsafe,
    Unsupported,
    WrongState,
)
from drivers.types import Feature, GuestInfo, GuestState, HostStats, Support
from drivers.vsphere import guests as reading
from drivers.vsphere import hosts, webmks
from drivers.vsphere.collector import PAGE, Found, of_objects, retrieve, through_view
from drivers.vsphere.design import NAME_MAX
from drivers.vsphere.errors import Garbled, translate
from drivers.vsphere.events import EventTap
from drivers.vsphere.making import MakingFacet
from drivers.vsphere.snapshots import SnapshotFacet
from drivers.vsphere.stats import BusyMeter, Recorder, Running
from drivers.vsphere.values import flag, items, number, text
from drivers.vsphere.wire import fault_error, moid, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from drivers.base import Console
    from drivers.types import Endpoint, GuestEvent, GuestRef, GuestStats, HostInfo
    from drivers.vsphere.kinds import VsphereDriver
    from drivers.vsphere.wire import Wire

TASK_SECONDS = 120.0
SLOW_TASK_SECONDS = 600.0
"""Suspending writes the guest's memory to disk, resuming reads it."""
PICTURE_BYTES = 32 * 1024 * 1024
LIBRARY = f"pyVmomi {version('pyvmomi')}"
_PNG = b"\x89PNG\r\n\x1a\n"
_QUICK = (
    *reading.NAMING,
    "runtime.powerState",
    "runtime.host",
    "config.hardware.numCPU",
    "summary.quickStats.hostMemoryUsage",
    "summary.quickStats.overallCpuUsage",
)


class VsphereSession(SnapshotFacet, MakingFacet, Session):
    """One live connection to an ESXi, or to one datacenter of a vCenter.

    Args:
        wire: Signed in.
        scope: Whose guests and hosts these are: a folder, a datacenter, a cluster or a host.
        connect: Opens another signed-in wire to the same server, for the events.
    """

    def __init__(
        self, driver: VsphereDriver, endpoint: Endpoint, wire: Wire, scope: Any, connect: Callable[[], Wire]
    ) -> None:
        self.endpoint = endpoint
        self._driver = driver
        self._wire = wire
        self._scope = scope
        self._life = threading.Lock()  # for what is over in no time: nobody waits for the host inside
        self._view_lock = threading.Lock()
        self._views: dict[type, Any] = {}
        self._names: dict[str, str] = {}
        self._objects: dict[str, Any] = {}
        self._hardware: dict[str, reading.Hardware] = {}
        self._lost: str | None = None
        self._on_lost: list[Callable[[str], None]] = []
        self._recorder = Recorder()
        self._meter = BusyMeter()
        wire.renewed = self._views.clear
        with translate():
            self._address = driver.server_name(wire) or wire.target.host
            self._machines = self._read_machines()
            self._support = self._probe()
        self._tap = EventTap(connect=connect, look=self._look, name_of=self._name_of, lost=self._lose)

    # -- facts ----------------------------------------------------------------------------------------------------------
    def host_info(self) -> HostInfo:
        """The machine, or the sums of the datacenter's: one call."""
        with translate():
            self._machines = self._read_machines()
        return hosts.host_info(
            self._machines,
            self._wire.content.about,
            is_vcenter=self._driver.is_vcenter,
            address=self._address,
            library=LIBRARY,
        )

    def capabilities(self) -> Mapping[Feature, Support]:
        """What was found out when the session was opened."""
        return self._support

    def _probe(self) -> dict[Feature, Support]:
        support = {feature: Support(supported=True) for feature in self._driver.features}
        support |= {feature: Support(supported=False, reason=why) for feature, why in self._driver.reasons.items()}
        if not any(each.takes_screenshots for each in self._machines):
            support[Feature.SCREENSHOT] = Support(supported=False, reason="This host takes no pictures of screens.")
        if Feature.AUTOSTART in self._driver.features and self._autostart_manager() is None:
            support[Feature.AUTOSTART] = Support(
                supported=False, reason="This host does not show its autostart settings."
            )
        if not self._samples_there():
            why = "This host keeps no performance samples, or the account may not read them."
            support |= {
                each: Support(supported=False, reason=why) for each in (Feature.METRICS_DISK, Feature.METRICS_NETWORK)
            }
        return support

    def _samples_there(self) -> bool:
        manager = self._wire.content.perfManager
        connected = next((each for each in self._machines if each.connected), None)
        if manager is None or connected is None:
            return False
        try:
            summary = manager.QueryPerfProviderSummary(connected.object)
        except vmodl.MethodFault:
            return False
        return flag(getattr(summary, "currentSupported", None)) is True

    def _read_machines(self) -> list[hosts.Machine]:
        return [hosts.machine(each) for each in self._retrieve_all(vim.HostSystem, hosts.PATHS)]

    # -- guests ---------------------------------------------------------------------------------------------------------
    def guests(self) -> Sequence[GuestInfo]:
        """All guests: one call, one more for each further 2,000, and one for the devices of those that were changed."""
        with translate():
            paths = reading.LIGHT if self._hardware else reading.WHOLE
            found = self._retrieve_all(vim.VirtualMachine, paths, *self._autostart_spec())
            return self._infos(found)

    def guest(self, ref: GuestRef) -> GuestInfo:
        """One guest, read now: one call where it is known already."""
        info = self.guest_or_none(ref)
        if info is None:
            raise _unknown(ref)
        return info

    def guest_or_none(self, ref: GuestRef) -> GuestInfo | None:
        """Like `guest`, None when it is gone."""
        found = self.guests_by_ref([ref])
        return found[0] if found else None

    def guests_by_ref(self, refs: Sequence[GuestRef]) -> Sequence[GuestInfo]:
        """Several guests read now, in the order of `refs`: one call where all of them are known already."""
        with translate():
            objects = [each for ref in refs if (each := self._object(ref.uuid)) is not None]
            if not objects:
                return []
            spec = of_objects(objects, vim.VirtualMachine, reading.WHOLE)
            found = self._infos(retrieve(self._wire, spec, *self._autostart_spec()), sweep=False)
        by_uuid = {info.uuid: info for info in found}
        return [by_uuid[ref.uuid] for ref in refs if ref.uuid in by_uuid]

    def guest_state(self, ref: GuestRef) -> tuple[GuestState, str]:
        """Four properties of one guest."""
        return reading.state_of(self._now(ref))

    def _infos(self, found: Sequence[Found], *, sweep: bool = True) -> list[GuestInfo]:
        starting = self._autostarting(found)
        machines = [
            each for each in found if isinstance(each.object, vim.VirtualMachine) and not reading.is_template(each)
        ]
        names = self._remember(machines) if sweep else self._names
        hardware = self._hardware_of([each for each in machines if each.moid in names])
        return [
            reading.guest_info(
                each, known_as=names[each.moid], hardware=hardware[each.moid], autostarts=each.moid in starting
            )
            for each in machines
            if each.moid in hardware
        ]

    def _hardware_of(self, machines: Sequence[Found]) -> dict[str, reading.Hardware]:
        """The devices of these machines, which are most of what there is to read: only of those that were changed since.

        One more call where there are any, none else. What went in the meantime is left out.
        """
        known, stale = self._hardware, []
        hardware: dict[str, reading.Hardware] = {}
        for each in machines:
            last = known.get(each.moid)
            if reading.has_devices(each):
                hardware[each.moid] = reading.hardware(each)
            elif last is not None and last.mark and last.mark == reading.mark_of(each):
                hardware[each.moid] = last
            else:
                stale.append(each.object)
        for start in range(0, len(stale), PAGE):
            spec = of_objects(stale[start : start + PAGE], vim.VirtualMachine, (*reading.MARK, *reading.DEVICES))
            hardware |= {each.moid: reading.hardware(each) for each in retrieve(self._wire, spec)}
        self._hardware = known | hardware
        return hardware

    def _remember(self, machines: Sequence[Found]) -> dict[str, str]:
        """Who is who, after a look at all of them. A machine whose disks are out of reach tells no UUID: it keeps its old one."""
        names = reading.identities(machines)
        present = {each.moid: each for each in machines}
        for key, name in self._names.items():
            if key in present and key not in names and name not in names.values():
                names[key] = name
        self._names = names
        self._objects = {names[key]: each.object for key, each in present.items() if key in names}
        self._hardware = {key: each for key, each in self._hardware.items() if key in names}
        return names

    def _name_of(self, key: str) -> str:
        return self._names.get(key, "")

    def _object(self, uuid: str) -> Any:
        """The managed object of a guest, None for a stranger: a call or two when it was not seen before."""
        known = self._objects.get(uuid)
        if known is not None:
            return known
        try:
            made_here = uuids.UUID(uuid).version == 5
        except ValueError:
            return None
        if not made_here:
            area = self._scope if isinstance(self._scope, vim.Datacenter) else None
            if self._wire.service("searchIndex").FindByUuid(area, uuid, True, True) is None:  # noqa: FBT003 - the API's order
                return None
        # Somewhere on this server; in our part of it?
        self._remember(self._retrieve_all(vim.VirtualMachine, reading.NAMING))
        return self._objects.get(uuid)

    def _now(self, ref: GuestRef) -> Found:
        """Name and power of one guest, read now. Raises NotFound."""
        with translate(guest=ref.name or ref.uuid):
            for _attempt in range(2):
                machine = self._object(ref.uuid)
                if machine is None:
                    break
                spec = of_objects([machine], vim.VirtualMachine, (*reading.NAMING, *reading.POWER))
                found = retrieve(self._wire, spec)
                if found and not reading.is_template(found[0]):
                    return found[0]
                # Gone, or registered anew under another managed object id.
                self._objects.pop(ref.uuid, None)
        raise _unknown(ref)

    def _retrieve_all(self, kind: type, paths: Sequence[str], *more: Any) -> list[Found]:
        """These properties of all objects of a kind in our part of the inventory, and what `more` names."""
        try:
            found = retrieve(self._wire, through_view(self._view(kind), kind, paths), *more)
        except vmodl.fault.ManagedObjectNotFound:
            # A view dies with its session, and with a machine that goes while it is walked.
            self._views.pop(kind, None)
            found = retrieve(self._wire, through_view(self._view(kind), kind, paths), *more)
        return found if more else [each for each in found if isinstance(each.object, kind)]

    def _view(self, kind: type) -> Any:
        with self._view_lock:
            view = self._views.get(kind)
            if view is None:
                view = self._views[kind] = self._make_view(self._wire, kind)
            return view

    def _make_view(self, wire: Wire, kind: type) -> Any:
        scope = type(self._scope)(moid(self._scope), wire)  # the same object, asked over that wire
        view = wire.service("viewManager").CreateContainerView(scope, [kind], True)  # noqa: FBT003 - the API's order
        if not isinstance(view, vim.view.ContainerView):
            message = "The hypervisor gives no view of its inventory."
            raise Garbled(message)
        return view

    def _look(self, wire: Wire) -> Any:
        return self._make_view(wire, vim.VirtualMachine)

    # -- power ----------------------------------------------------------------------------------------------------------
    def start(self, ref: GuestRef) -> None:
        """Power on a guest that is off."""
        self._act(Feature.START, ref, "PowerOnVM_Task", ("poweredOff",))

    def shutdown(self, ref: GuestRef) -> None:
        """Ask VMware Tools inside. Raises AgentUnresponsive where they do not run."""
        self._act(Feature.SHUTDOWN, ref, "ShutdownGuest", ("poweredOn",))

    def reboot(self, ref: GuestRef) -> None:
        """Ask VMware Tools inside. Raises AgentUnresponsive where they do not run."""
        self._act(Feature.REBOOT, ref, "RebootGuest", ("poweredOn",))

    def reset(self, ref: GuestRef) -> None:
        """Press the reset button."""
        self._act(Feature.RESET, ref, "ResetVM_Task", ("poweredOn",))

    def force_off(self, ref: GuestRef) -> None:
        """Pull the plug; a suspended guest loses its saved memory."""
        self._act(Feature.FORCE_OFF, ref, "PowerOffVM_Task", ("poweredOn", "suspended"))

    def suspend(self, ref: GuestRef) -> None:
        """Write memory to disk and stop, which is what VMware calls suspended. Takes as long as writing does."""
        self._act(Feature.SUSPEND, ref, "SuspendVM_Task", ("poweredOn",), seconds=SLOW_TASK_SECONDS)

    def resume(self, ref: GuestRef) -> None:
        """Go on from suspended."""
        self._act(Feature.RESUME, ref, "PowerOnVM_Task", ("suspended",), seconds=SLOW_TASK_SECONDS)

    def undefine(self, ref: GuestRef) -> None:
        """Take a stopped guest out of the inventory; all of its files stay."""
        self._act(Feature.UNDEFINE, ref, "UnregisterVM", ("poweredOff",))

    def rename(self, ref: GuestRef, name: str) -> None:
        """Its name in the inventory; files and folders keep theirs, as in VMware's own client.

        A vCenter takes one name in several folders; we do not, as nobody could tell such guests apart.
        """
        if not name.strip() or not name.isprintable() or len(name) > NAME_MAX:
            message = f"A name has 1 to {NAME_MAX} characters that can be printed."
            raise InvalidDefinition(message, guest=ref.name or ref.uuid)
        if text(self._now(ref).get("name")) == name:
            return
        with translate(guest=ref.name or ref.uuid):
            others = self._retrieve_all(vim.VirtualMachine, ("name",))
        if any(text(one.get("name")) == name for one in others):
            message = f"A guest called {name} exists already."
            raise AlreadyExists(message, guest=ref.name or ref.uuid)
        self._act(Feature.RENAME, ref, "Rename_Task", ("poweredOff",), name)

    def _act(
        self,
        feature: Feature,
        ref: GuestRef,
        verb: str,
        states: Sequence[str],
        *arguments: str,
        seconds: float = TASK_SECONDS,
    ) -> None:
        """Do it if the power state is one of `states`, and wait for the task's end.

        vSphere checks the state too, but powers a suspended machine on as if it were off.
        """
        self._require(feature)
        found = self._now(ref)
        power = text(found.get("runtime.powerState"))
        if power not in states:
            raise _wrong(ref, power, states)
        with translate(guest=ref.name or ref.uuid, feature=str(feature)):
            answer = getattr(found.object, verb)(*arguments)
            if isinstance(answer, vim.Task):
                self._wait_for(answer, seconds, ref)
            elif verb.endswith("_Task"):
                message = "The hypervisor did not say how it goes on with this."
                raise Garbled(message)

    def _wait_for(self, task: Any, seconds: float, ref: GuestRef) -> None:
        """The task's end. Asked again with growing pauses: most are over within a second. Raises its fault as ours."""
        until = time.monotonic() + seconds
        pause = 0.02
        while True:
            found = retrieve(self._wire, of_objects([task], vim.Task, ("info.state", "info.error")))
            state = text(found[0].get("info.state")) if found else "error"
            if state == "success":
                return
            if state == "error":
                raise fault_error(found[0].get("info.error") if found else ValueError(), guest=ref.name or ref.uuid)
            if time.monotonic() > until:
                message = f"The task did not end within {seconds:.0f} s; it goes on in the hypervisor."
                raise Timeout(message, guest=ref.name or ref.uuid)
            threading.Event().wait(pause)
            pause = min(1.0, pause * 1.6)

    def _require(self, feature: Feature) -> None:
        if not self._support[feature].supported:
            raise self.unsupported(feature)

    # -- start with the host --------------------------------------------------------------------------------------------
    def set_autostart(self, ref: GuestRef, *, enabled: bool) -> None:
        """Start with the host, or not. Raises Unsafe where turning it on would start others, too."""
        self._require(Feature.AUTOSTART)
        machine = self._now(ref).object
        manager = self._autostart_manager()
        with translate(guest=ref.name or ref.uuid):
            found = retrieve(self._wire, *self._autostart_spec())
            others = self._listed(found) - {moid(machine)}
            spec = vim.host.AutoStartManager.Config(powerInfo=[_power_info(machine, enabled=enabled)])
            if enabled and not self._general(found):
                if others:
                    message = (
                        "Starting guests with the host is off on this ESXi, and turning it on would start "
                        f"{len(others)} others with it that are in its list."
                    )
                    raise Unsafe(message, guest=ref.name or ref.uuid)
                spec.defaults = vim.host.AutoStartManager.SystemDefaults(enabled=True)
            manager.ReconfigureAutostart(spec)

    def _autostart_manager(self) -> Any:
        """One ESXi's list of what starts with it; vCenter's hosts have one each, which vCenter overrules."""
        if self._driver.is_vcenter:
            return None
        managers = [each.autostart for each in self._machines if isinstance(each.autostart, vim.host.AutoStartManager)]
        return managers[0] if managers else None

    def _autostart_spec(self) -> tuple[Any, ...]:
        manager = self._autostart_manager()
        return () if manager is None else (of_objects([manager], vim.host.AutoStartManager, ("config",)),)

    def _autostarting(self, found: Sequence[Found]) -> set[str]:
        return self._listed(found) if self._general(found) else set()

    def _general(self, found: Sequence[Found]) -> bool:
        """Whether the host starts anything at all."""
        return any(
            flag(getattr(getattr(each.get("config"), "defaults", None), "enabled", None)) is True for each in found
        )

    def _listed(self, found: Sequence[Found]) -> set[str]:
        """Managed object ids of those that start once the host starts anything."""
        return {
            moid(info.key)
            for each in found
            for info in items(getattr(each.get("config"), "powerInfo", None))
            if isinstance(info, vim.host.AutoStartManager.AutoPowerInfo)
            and text(info.startAction).lower() == "poweron"
            and isinstance(info.key, vim.VirtualMachine)
        }

    # -- watching -------------------------------------------------------------------------------------------------------
    def stats(self) -> Sequence[GuestStats]:
        """Counters of all running guests: two calls, and one more for each further 250."""
        with translate():
            found = self._retrieve_all(vim.VirtualMachine, _QUICK)
            names = self._remember(found)
            speeds = {moid(each.object): each.mhz for each in self._machines}
            running = [
                self._running(each, names[each.moid], speeds) for each in found if each.moid in names and _runs(each)
            ]
            return self._recorder.read(self._wire, running, sampled=self._support[Feature.METRICS_DISK].supported)

    def _running(self, found: Found, known_as: str, speeds: Mapping[str, int]) -> Running:
        memory = number(found.get("summary.quickStats.hostMemoryUsage"))
        host = found.get("runtime.host")
        return Running(
            object=found.object,
            moid=found.moid,
            uuid=known_as,
            vcpus=number(found.get("config.hardware.numCPU")) or 1,
            memory_bytes=None if memory is None else memory * 2**20,
            cpu_mhz=number(found.get("summary.quickStats.overallCpuUsage")),
            core_mhz=speeds.get(moid(host), 0) if isinstance(host, vim.HostSystem) else 0,
        )

    def host_stats(self) -> HostStats:
        """Load and memory of the machine, or of all of the datacenter's: one call."""
        with translate():
            self._machines = self._read_machines()
        here = [each for each in self._machines if each.connected]
        now = time.monotonic()
        total = sum(each.memory_bytes for each in here)
        return HostStats(
            at=now,
            cpu_count=sum(each.threads for each in here),
            cpu_busy_seconds=self._meter.read(sum(each.busy_ratio * each.threads for each in here), now),
            memory_total_bytes=total,
            memory_free_bytes=total - sum(each.memory_used_bytes for each in here),
        )

    def subscribe(self, sink: Callable[[GuestEvent], None]) -> None:
        """Send news to `sink`, from the events' thread. Blocks until that listens."""
        self._require_open()
        self._tap.add(sink)

    # -- screens --------------------------------------------------------------------------------------------------------
    def open_console(self, ref: GuestRef, kind: str, *, take_over: bool = False) -> Console:
        """The screen as RFB. vSphere lets any number of people look at once: nothing has to be taken over."""
        feature = Feature(f"console.{kind}")
        self._require(feature)
        found = self._now(ref)
        power = text(found.get("runtime.powerState"))
        if power != "poweredOn":
            raise _wrong(ref, power, ("poweredOn",))
        with translate(guest=ref.name or ref.uuid):
            ticket = found.object.AcquireTicket("webmks")
        return webmks.open_console(self._ticket(ticket), self._wire.target.context, home=self._wire.target.host)

    def _ticket(self, ticket: Any) -> webmks.Ticket:
        key = text(getattr(ticket, "ticket", None))
        if not re.fullmatch(r"[A-Za-z0-9_.~=+-]{1,512}", key):
            message = "The hypervisor's ticket for the console cannot be read."
            raise Garbled(message)
        port = number(getattr(ticket, "port", None)) or 443
        if port > 65535:
            message = "The hypervisor's ticket for the console names no port."
            raise Garbled(message)
        prints = [getattr(ticket, "sslThumbprint", None)]
        prints += [getattr(each, "thumbprint", None) for each in items(getattr(ticket, "certThumbprintList", None))]
        return webmks.Ticket(
            host=text(getattr(ticket, "host", None)) or self._wire.target.host,
            port=port,
            path=f"/ticket/{key}",
            thumbprints=tuple(each.replace(":", "").lower() for each in map(text, prints) if each),
        )

    def screenshot(self, ref: GuestRef) -> bytes:
        """The screen as PNG, as the host draws it for `/screen`."""
        self._require(Feature.SCREENSHOT)
        found = self._now(ref)
        power = text(found.get("runtime.powerState"))
        if power != "poweredOn":
            raise _wrong(ref, power, ("poweredOn",))
        status, picture = self._wire.get(f"/screen?id={quoted(found.moid)}", limit=PICTURE_BYTES)
        if status != 200 or not picture.startswith(_PNG):
            message = f"The host gave no picture of the screen (HTTP {status})."
            raise Unsupported(message, feature=str(Feature.SCREENSHOT), guest=ref.name or ref.uuid)
        return picture

    # -- life -----------------------------------------------------------------------------------------------------------
    def alive(self) -> bool:
        """Whether it was neither closed nor lost. No round trip."""
        return self._lost is None and not self._wire.closed

    def on_close(self, callback: Callable[[str], None]) -> None:
        """Call `callback(reason)` once when the events' own session, which always waits for an answer, is lost."""
        with self._life:
            lost = self._lost
            if lost is None:
                self._on_lost.append(callback)
        if lost is not None:
            callback(lost)
        else:
            self._tap.start()

    def _lose(self, reason: str) -> None:
        with self._life:
            if self._lost is not None or self._wire.closed:
                return
            self._lost = reason
            callbacks, self._on_lost = self._on_lost, []
        self._wire.abandon()
        for callback in callbacks:
            callback(reason)

    def _require_open(self) -> None:
        if not self.alive():
            raise Unreachable(f"The connection was lost: {self._lost}." if self._lost else "The connection is closed.")

    def close(self) -> None:
        """Sign out, twice. A few seconds on a frozen host."""
        with self._life:
            self._on_lost = []
        self._tap.close()
        self._wire.close()


def _runs(found: Found) -> bool:
    return text(found.get("runtime.powerState")) == "poweredOn"


def _power_info(machine: Any, *, enabled: bool) -> Any:
    """-1 and the rest: as the host's defaults say."""
    return vim.host.AutoStartManager.AutoPowerInfo(
        key=machine,
        startOrder=-1,
        startDelay=-1,
        waitForHeartbeat="systemDefault",
        startAction="PowerOn" if enabled else "None",
        stopDelay=-1,
        stopAction="SystemDefault",
    )


def _unknown(ref: GuestRef) -> NotFound:
    message = "The hypervisor does not know this guest."
    return NotFound(message, guest=ref.name or ref.uuid)


def _wrong(ref: GuestRef, power: str, states: Sequence[str]) -> DriverError:
    words = {"poweredOn": "running", "poweredOff": "off", "suspended": "suspended"}
    is_now = words.get(power, "in an unknown state")
    message = f"The guest is {is_now}; this needs one that is {' or '.join(words[state] for state in states)}."
    return WrongState(message, guest=ref.name or ref.uuid)
