"""One Hyper-V host: what each verb of the house is in its management classes."""
# ruff: noqa: D102 - what the verbs do stands in `drivers.base`

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from drivers.base import Session
from drivers.errors import AgentUnresponsive, DriverError, NotFound, Timeout, Unreachable, WrongState
from drivers.hyperv import guests, host, stats
from drivers.hyperv.embedded import Thing, instance
from drivers.hyperv.errors import SHUTTING_DOWN_ALREADY, STARTED, deaf, returned
from drivers.hyperv.holdings import folder_of
from drivers.hyperv.making import MakingFacet
from drivers.hyperv.picture import pixels_of, png
from drivers.hyperv.states import OFF, PAUSED, RUNNING, SAVED, state_of
from drivers.hyperv.wire import Reference, guid, select
from drivers.types import Feature, GuestState, Support

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from drivers.hyperv.driver import HyperVDriver
    from drivers.hyperv.wire import Row, Wire
    from drivers.types import Endpoint, GuestInfo, GuestRef, GuestStats, HostInfo, HostStats

log = logging.getLogger(__name__)

PULSE_SECONDS = 8.0
"""A host that nobody has heard for so long is asked whether it is there."""
PULSE_ANSWER_SECONDS = 6.0
REASON = "Asked for by VM Manager"
SERVICE = Reference("Msvm_VirtualSystemManagementService", {"CreationClassName": "Msvm_VirtualSystemManagementService"})
_ENABLE, _DISABLE, _SAVE, _PAUSE, _RESET = 2, 3, 6, 9, 11
_OFF = frozenset({OFF, 32782})
_FEW = 3
"""Up to so many guests are read one by one; beyond, all at once is less."""
PICTURE_PIXELS = 170_000
"""A method's answer is one message: so many pixels of two bytes, in base64, fit into its 500 KiB. Hyper-V scales to the size asked for."""


class HyperVSession(MakingFacet, Session):
    """One host. There is no connection to lose: it counts as lost when the host, asked again, does not answer."""

    def __init__(self, driver: HyperVDriver, endpoint: Endpoint, wire: Wire) -> None:
        self.endpoint = endpoint
        self._wire = wire
        self._info = host.read(wire)
        self._folder = folder_of(wire)
        self._support = self._probe(driver)
        self._lost = ""
        self._on_close: list[Callable[[str], None]] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        threading.Thread(target=self._pulse, name="hyperv-pulse", daemon=True).start()

    # -- facts ------------------------------------------------------------------------------------------------------
    def host_info(self) -> HostInfo:
        return host.read(self._wire)

    def capabilities(self) -> Mapping[Feature, Support]:
        return self._support

    def guests(self) -> Sequence[GuestInfo]:
        return guests.read_all(self._wire, self._folder)

    def guest(self, ref: GuestRef) -> GuestInfo:
        info = self.guest_or_none(ref)
        if info is None:
            raise _unknown(ref)
        return info

    def guest_or_none(self, ref: GuestRef) -> GuestInfo | None:
        name = guid(ref.uuid)
        return None if name is None else guests.read_one(self._wire, name, self._folder)

    def guest_state(self, ref: GuestRef) -> tuple[GuestState, str]:
        return state_of(self._system(ref)[1])

    def guests_by_ref(self, refs: Sequence[GuestRef]) -> Sequence[GuestInfo]:
        if len(refs) <= _FEW:
            return super().guests_by_ref(refs)
        found = {info.uuid: info for info in self.guests()}
        return [found[ref.uuid] for ref in refs if ref.uuid in found]

    # -- power ------------------------------------------------------------------------------------------------------
    def start(self, ref: GuestRef) -> None:
        self._change(ref, _ENABLE, _OFF | SAVED, "start")

    def shutdown(self, ref: GuestRef) -> None:
        self._ask_inside(ref, "InitiateShutdown")

    def reboot(self, ref: GuestRef) -> None:
        if not self._support[Feature.REBOOT].supported:
            raise self.unsupported(Feature.REBOOT)
        self._ask_inside(ref, "InitiateReboot")

    def reset(self, ref: GuestRef) -> None:
        self._change(ref, _RESET, PAUSED | {RUNNING}, "reset")

    def force_off(self, ref: GuestRef) -> None:
        name, enabled = self._system(ref)
        if enabled in _OFF | SAVED:
            raise _wrong(ref, enabled, "force-off")
        self._request(name, _DISABLE, "force-off")

    def suspend(self, ref: GuestRef) -> None:
        self._change(ref, _PAUSE, {RUNNING}, "suspend")

    def resume(self, ref: GuestRef) -> None:
        self._change(ref, _ENABLE, PAUSED, "resume")

    def managed_save(self, ref: GuestRef) -> None:
        self._change(ref, _SAVE, PAUSED | {RUNNING}, "managed-save")

    def discard_managed_save(self, ref: GuestRef) -> None:
        """There is no method of its own: to be off is to be without memory, so a saved guest is told to be off."""
        name, enabled = self._system(ref)
        if enabled in SAVED:
            self._request(name, _DISABLE, "discard-managed-save")

    def set_autostart(self, ref: GuestRef, *, enabled: bool) -> None:
        """Nothing happens where it is so already: `start if it ran before` (3) stays what it is when unset."""
        name, _ = self._system(ref)
        row = guests.settings_row(self._wire, name)
        if row is None:
            raise _unknown(ref)
        if (row.number("AutomaticStartupAction") == guests.ALWAYS_START) is enabled:
            return
        action = guests.ALWAYS_START if enabled else 2
        changed = Thing(
            "Msvm_VirtualSystemSettingData",
            {
                "InstanceID": ("string", row.text("InstanceID")),
                "AutomaticStartupAction": ("uint16", str(action)),
            },
        )
        self._managed("ModifySystemSettings", "autostart", SystemSettings=instance(changed))

    def undefine(self, ref: GuestRef) -> None:
        name, enabled = self._system(ref)
        if enabled not in _OFF | SAVED:
            raise _wrong(ref, enabled, "undefine")
        self._managed("DestroySystem", "undefine", AffectedSystem=_system_reference(name))

    # -- watching ---------------------------------------------------------------------------------------------------
    def stats(self) -> Sequence[GuestStats]:
        return stats.read(self._wire, frozenset(each for each, support in self._support.items() if support.supported))

    def host_stats(self) -> HostStats:
        return stats.read_host(self._wire, self._info.cpu_count)

    # -- the screen -------------------------------------------------------------------------------------------------
    def screenshot(self, ref: GuestRef) -> bytes:
        name, enabled = self._system(ref)
        if enabled != RUNNING and enabled not in PAUSED:
            raise _wrong(ref, enabled, "screenshot")
        settings = guests.settings_row(self._wire, name)
        if settings is None:
            raise _unknown(ref)
        width, height = self._resolution(name)
        answer = self._wire.invoke(
            SERVICE,
            "GetVirtualSystemThumbnailImage",
            TargetSystem=Reference("Msvm_VirtualSystemSettingData", {"InstanceID": settings.text("InstanceID")}),
            WidthPixels=width,
            HeightPixels=height,
        )
        if answer.value != 0:
            raise returned(answer.value, "screenshot")
        return png(pixels_of(answer.out.texts("ImageData")), width, height)

    # -- life -------------------------------------------------------------------------------------------------------
    def alive(self) -> bool:
        return not self._lost and not self._wire.closed

    def on_close(self, callback: Callable[[str], None]) -> None:
        with self._lock:
            if not self._lost:
                self._on_close.append(callback)
                return
        callback(self._lost)

    def close(self) -> None:
        self._wire.close()
        self._wake.set()

    # -- how --------------------------------------------------------------------------------------------------------
    def _probe(self, driver: HyperVDriver) -> Mapping[Feature, Support]:
        """The driver's best, without what this host turns out not to have."""
        reasons = {**driver.reasons, **stats.missing(self._wire)}
        if host.build_of(self._info) < host.REBOOT_BUILD:
            reasons[Feature.REBOOT] = "Hyper-V before Windows Server 2016 cannot ask a guest to reboot."
        return {
            feature: Support(supported=feature not in reasons, reason=reasons.get(feature, "")) for feature in Feature
        }

    def _system(self, ref: GuestRef) -> tuple[str, int | None]:
        """The guest's GUID as Hyper-V writes it, and its EnabledState. Raises NotFound."""
        name = guid(ref.uuid)
        row = None if name is None else guests.system_row(self._wire, name)
        if name is None or row is None:
            raise _unknown(ref)
        return name, row.number("EnabledState")

    def _change(self, ref: GuestRef, wanted: int, allowed: Collection[int], action: str) -> None:
        name, enabled = self._system(ref)
        if enabled not in allowed:
            raise _wrong(ref, enabled, action)
        self._request(name, wanted, action)

    def _request(self, name: str, wanted: int, action: str) -> None:
        answer = self._wire.invoke(_system_reference(name), "RequestStateChange", RequestedState=wanted)
        if answer.value not in (0, STARTED):
            raise returned(answer.value, action)
        self._wire.finish(answer)

    def _managed(self, method: str, action: str, **arguments: str | list[str] | Reference) -> None:
        answer = self._wire.invoke(SERVICE, method, **arguments)
        if answer.value not in (0, STARTED):
            raise returned(answer.value, action)
        self._wire.finish(answer)

    def _ask_inside(self, ref: GuestRef, method: str) -> None:
        """Ask the integration services in the guest. `RequestStateChange(4)` is of the first version of Hyper-V only."""
        name, enabled = self._system(ref)
        if enabled != RUNNING:
            raise _wrong(ref, enabled, method)
        query = select("DeviceID, EnabledState", "Msvm_ShutdownComponent", SystemName=name)
        component = next(iter(self._wire.query(query)), None)
        if component is None or component.number("EnabledState") == 3:
            raise AgentUnresponsive("The guest has no integration service for shutting down, or it is switched off.")
        keys = {
            "CreationClassName": "Msvm_ShutdownComponent",
            "DeviceID": component.text("DeviceID"),
            "SystemCreationClassName": "Msvm_ComputerSystem",
            "SystemName": name,
        }
        answer = self._wire.invoke(Reference("Msvm_ShutdownComponent", keys), method, Force=False, Reason=REASON)
        if answer.value not in (0, STARTED, SHUTTING_DOWN_ALREADY):
            raise deaf(answer.value)

    def _resolution(self, name: str) -> tuple[int, int]:
        """To be asked for: the guest's own, or as much of it as fits into a message."""
        columns = "CurrentHorizontalResolution, CurrentVerticalResolution"
        heads = self._wire.query(select(columns, "Msvm_VideoHead", SystemName=name))
        # A guest of the first generation has two heads, of which one shows something.
        width, height = max(((w, h) for w, h in map(_size, heads) if w and h), default=(640, 480))
        scale = min(1.0, math.sqrt(PICTURE_PIXELS / (width * height)))
        return max(1, int(width * scale)), max(1, int(height * scale))

    def _pulse(self) -> None:
        """Notice within fifteen seconds that the host is gone."""
        while not self._wake.wait(max(0.1, PULSE_SECONDS - (time.monotonic() - self._wire.heard_at))):
            if time.monotonic() - self._wire.heard_at < PULSE_SECONDS:
                continue
            try:
                self._wire.query(select("Name", SERVICE.class_name), seconds=PULSE_ANSWER_SECONDS)
            except (Unreachable, Timeout) as error:
                self._gone(error.detail)
                return
            except DriverError as error:
                log.info("%s answers its pulse with an error: %s", self._wire.host, error.detail)
                self._wire.heard_at = time.monotonic()  # it is there

    def _gone(self, reason: str) -> None:
        with self._lock:
            if self._wire.closed:
                return
            self._lost = reason
            callbacks, self._on_close = self._on_close, []
        self._wire.close()
        for callback in callbacks:
            callback(reason)


def _system_reference(name: str) -> Reference:
    return Reference("Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": name})


def _size(head: Row) -> tuple[int, int]:
    return head.number("CurrentHorizontalResolution") or 0, head.number("CurrentVerticalResolution") or 0


def _unknown(ref: GuestRef) -> NotFound:
    return NotFound(f"Hyper-V knows no guest {ref.name or ref.uuid}.", guest=ref.uuid)


def _wrong(ref: GuestRef, enabled: int | None, action: str) -> WrongState:
    state, _ = state_of(enabled)
    word = "saved" if enabled in SAVED else str(state)
    return WrongState(f"{ref.name or 'The guest'} is {word}.", guest=ref.uuid, state=str(state), action=action)
