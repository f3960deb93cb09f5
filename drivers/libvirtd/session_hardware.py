"""The facet of a session that speaks of hardware: reading it, and changing what is defined, what runs, or both.

A definition is changed in place, through libvirt's own check of it, with the passwords that are in it. Where both are to be changed the
definition comes first: it can be put back exactly, when the guest that runs then refuses.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import libvirt

from drivers.errors import Unsupported, WrongState
from drivers.libvirtd.design import kvm
from drivers.libvirtd.errors import translate
from drivers.libvirtd.facet import Facet
from drivers.libvirtd.hardware import check, edit, host, read, running
from drivers.libvirtd.hardware.change import Change
from drivers.libvirtd.xml.capabilities import Capabilities, DomainCapabilities
from drivers.libvirtd.xml.domain import Domain
from drivers.types import (
    CpuHardware,
    DiskHardware,
    Feature,
    GuestHardware,
    HostDeviceHardware,
    MemoryHardware,
    NicHardware,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drivers.libvirtd.hardware.traits import Traits
    from drivers.types import Device, GuestRef, HardwareOptions, HostDevice, HostNode

INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE
NODE_DEVICES = libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV | libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_USB_DEV
_PLUGGED = {
    CpuHardware: Feature.HOTPLUG_CPU,
    MemoryHardware: Feature.HOTPLUG_MEMORY,
    DiskHardware: Feature.HOTPLUG_DISK,
    NicHardware: Feature.HOTPLUG_INTERFACE,
    HostDeviceHardware: Feature.HOST_DEVICES,
}
_PLUGGED_KEYS = {
    "cpu": Feature.HOTPLUG_CPU,
    "memory": Feature.HOTPLUG_MEMORY,
    "disk": Feature.HOTPLUG_DISK,
    "nic": Feature.HOTPLUG_INTERFACE,
    "pci": Feature.HOST_DEVICES,
    "usb": Feature.HOST_DEVICES,
}


class HardwareFacet(Facet):
    """Hardware over the session's connection."""

    # -- reading ------------------------------------------------------------------------------------------------------------
    def hardware(self, ref: GuestRef) -> GuestHardware:
        """Three to five short calls."""
        self._require(Feature.HARDWARE)
        with translate(guest=ref.name or ref.uuid):
            domain = self._domain(ref)
            everywhere = self._cpus()
            now = read.hardware(running.document(domain), everywhere=everywhere) if domain.isActive() else None
            if not domain.isPersistent():
                return GuestHardware(defined=None, live=now)
            defined = read.hardware(Domain.parse(domain.XMLDesc(INACTIVE)), everywhere=everywhere)
            return GuestHardware(defined=defined, live=read.settled(now, defined) if now else None)

    def hardware_options(self, ref: GuestRef) -> HardwareOptions:
        """The definition, and a question to the host about its machine."""
        self._require(Feature.HARDWARE)
        with translate(guest=ref.name or ref.uuid):
            domain = self._domain(ref)
            described = Domain.parse(domain.XMLDesc(0))
            options = self._options(described)
            return dataclasses.replace(options, live=self._changeable(described))

    def _options(self, described: Domain) -> HardwareOptions:
        def offered() -> DomainCapabilities:
            os = described.os
            emulator = described.node.findtext("devices/emulator")
            return DomainCapabilities.parse(
                self._connection.getDomainCapabilities(
                    emulator, os.arch if os else None, os.machine if os else None, described.type, 0
                )
            )

        return self._traits().offer(described, offered)

    def _changeable(self, described: Domain) -> dict[str, str]:
        """What of it can be changed while it runs, or why not; for a guest that is off, as it would be."""
        traits, features, reasons = self._traits(), self._driver.features, self._driver.reasons

        def why(feature: Feature, otherwise: str = "") -> str:
            return otherwise if feature in features else reasons[feature]

        memory = read.memory(described)
        disk = DiskHardware(target="", bus=next(iter(traits.plugs), ""))
        nic = NicHardware()
        sealed = "This hypervisor cannot change {} of a guest that runs; change it for the next start."
        return {
            "cpu": why(Feature.HOTPLUG_CPU),
            "memory": why(
                Feature.HOTPLUG_MEMORY,
                "" if memory.balloon else "The guest has no balloon; give it one for its next start.",
            ),
            "disk.attach": why(Feature.HOTPLUG_DISK, running.why_not_plugged(disk, traits, described)),
            "disk.detach": why(Feature.HOTPLUG_DISK),
            "disk.media": why(Feature.HOTPLUG_DISK),
            "disk.resize": why(Feature.HOTPLUG_DISK, "" if traits.resizes else sealed.format("the size of a disk")),
            "disk.limits": why(Feature.HOTPLUG_DISK, "" if traits.retunes else sealed.format("what a disk is held to")),
            "nic.attach": why(Feature.HOTPLUG_INTERFACE, running.why_not_plugged(nic, traits, described)),
            "nic.detach": why(Feature.HOTPLUG_INTERFACE),
            "nic.link": why(
                Feature.HOTPLUG_INTERFACE, "" if traits.changes_interfaces else sealed.format("an interface")
            ),
            "nic.bandwidth": why(
                Feature.HOTPLUG_INTERFACE, "" if traits.changes_interfaces else sealed.format("an interface")
            ),
            "host-device": why(Feature.HOST_DEVICES),
        }

    def host_devices(self) -> Sequence[HostDevice]:
        """One listing, and a document each: they are few, and on the host's own bus."""
        self._require(Feature.HOST_DEVICES)
        documents = []
        with translate(feature=str(Feature.HOST_DEVICES)):
            for device in self._connection.listAllDevices(NODE_DEVICES):
                # What was unplugged meanwhile is left out.
                with contextlib.suppress(libvirt.libvirtError):
                    documents.append(device.XMLDesc(0))
        return host.devices(documents)

    def host_nodes(self) -> Sequence[HostNode]:
        """The capabilities, and what is free by node."""
        self._require(Feature.HARDWARE)
        with translate():
            connection = self._connection
            capabilities = Capabilities.parse(connection.getCapabilities())
            info = connection.getInfo()
            try:
                free = connection.getCellsFreeMemory(0, info[4])
            except libvirt.libvirtError:
                free = []  # a driver without such figures
        return host.nodes(capabilities, cpus=info[2], memory_bytes=info[1] << 20, free=free)

    # -- changing -----------------------------------------------------------------------------------------------------------
    def attach(self, ref: GuestRef, device: Device, *, live: bool, defined: bool) -> None:
        """Plugging in takes tens of milliseconds."""
        self._require_plugs(_PLUGGED.get(type(device)), live=live)
        wished = check.tidied(device)
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.HARDWARE)):
            change = self._begin(ref, live=live, defined=defined)
            traits = self._traits()
            options = self._options(change.documents[0])
            wished = edit.named(wished, change.documents, options, buses=traits.plugs if live else ())
            change.carry_out(
                lambda document: edit.attach(document, wished, traits, options),
                lambda domain: running.attach(domain, wished, traits, options),
            )

    def detach(self, ref: GuestRef, key: str, *, live: bool, defined: bool) -> None:
        """A guest that lets go at once takes 0.3 s (measured); one that does not is waited for, 10 s."""
        self._require_plugs(_PLUGGED_KEYS.get(key.partition("/")[0]), live=live)
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.HARDWARE)):
            change = self._begin(ref, live=live, defined=defined)
            traits = self._traits()
            change.carry_out(
                lambda document: edit.detach(document, key),
                lambda domain: running.detach(domain, key, traits),
            )

    def update(self, ref: GuestRef, device: Device, *, live: bool, defined: bool) -> None:
        """What cannot be changed while it runs is refused by its field's name, before anything is."""
        self._require_plugs(_PLUGGED.get(type(device)), live=live)
        wished = check.tidied(device)
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.HARDWARE)):
            change = self._begin(ref, live=live, defined=defined)
            traits, everywhere = self._traits(), self._cpus()
            options = self._options(change.documents[0])
            pending = change.defined_device(wished.key) if live else None
            change.carry_out(
                lambda document: self._edit(document, wished, options),
                lambda domain: running.change(domain, wished, traits, everywhere=everywhere, defined=pending),
            )

    def disk_resize(self, ref: GuestRef, target: str, *, capacity_bytes: int) -> None:
        """The image or device grows with it, as far as QEMU can make it grow."""
        self._require(Feature.HARDWARE)
        self._require(Feature.HOTPLUG_DISK)
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.HOTPLUG_DISK)):
            domain = self._domain(ref)
            if not domain.isActive():
                message = "The guest is off: its disk's volume can be resized in its pool."
                raise WrongState(message, guest=ref.name or ref.uuid)
            if not self._traits().resizes:
                message = "This hypervisor cannot change the size of a disk of a guest that runs; shut it down first."
                raise Unsupported(message, feature=str(Feature.HOTPLUG_DISK))
            running.resize(domain, target, capacity_bytes)

    def _edit(self, document: Domain, wished: Device, options: HardwareOptions) -> bool:
        """Change the definition; a processor that becomes the host's is made fit for a guest."""
        mode = document.cpu.mode if document.cpu is not None else None
        changed = edit.change(document, wished, self._traits(), options)
        cpu, os = document.cpu, document.os
        x86 = os is not None and os.arch in ("x86_64", "i686")
        if cpu is not None and cpu.mode not in (mode, None) and x86 and document.type == "kvm":
            known = Capabilities.parse(self._connection.getCapabilities()).host_cpu
            kvm.hide_what_is_feigned(cpu, (known.vendor if known else None) or "")
        return changed

    # -- parts --------------------------------------------------------------------------------------------------------------
    def _traits(self) -> Traits:
        traits = self._driver.hardware
        if traits is None:
            raise Unsupported(self._driver.reasons[Feature.HARDWARE], feature=str(Feature.HARDWARE))
        return traits

    def _require_plugs(self, feature: Feature | None, *, live: bool) -> None:
        self._require(Feature.HARDWARE)
        if feature is not None and (live or feature is Feature.HOST_DEVICES):
            self._require(feature)

    def _cpus(self) -> frozenset[int]:
        """The host's CPUs, by number."""
        return frozenset(range(self._connection.getInfo()[2]))

    def _begin(self, ref: GuestRef, *, live: bool, defined: bool) -> Change:
        domain = self._domain(ref)
        if live and not domain.isActive():
            message = "The guest is off: change it for its next start."
            raise WrongState(message, guest=ref.name or ref.uuid)
        if defined and not domain.isPersistent():
            message = "The guest is gone when it stops: there is no definition to change."
            raise WrongState(message, guest=ref.name or ref.uuid)
        return Change(connection=self._home(ref.uuid), domain=domain, live=live, defined=defined)
