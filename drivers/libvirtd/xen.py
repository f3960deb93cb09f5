"""Xen, by libvirt's libxl driver in dom0. What is said of it here was measured on Xen 4.17 with libvirt 9.0."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

import libvirt

from drivers.errors import WrongState
from drivers.libvirtd.design import xen
from drivers.libvirtd.errors import (
    gone_is_nothing,
    translate,
)
from drivers.libvirtd.guests import (
    Profile,
)
from drivers.libvirtd.hardware import options
from drivers.libvirtd.hardware.traits import Traits
from drivers.libvirtd.kinds import (
    HARDWARE,
    HOLDINGS,
    LATER,
    MAKING,
    NO_RENAME,
    POWER,
    SAVING,
    LibvirtDriver,
    libvirt_ways,
)
from drivers.libvirtd.session import LibvirtSession
from drivers.libvirtd.stats import NANOSECONDS
from drivers.types import Feature, GuestState, Proof, Technique, VirtualizationType

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.libvirtd.guests import Definition
    from drivers.libvirtd.xml.capabilities import Capabilities
    from drivers.types import GuestRef, HostStats

DOMAIN_0 = "00000000-0000-0000-0000-000000000000"
"""The machine's own domain: it is the host, no guest."""
_TAKES_PART = frozenset({Feature.SHUTDOWN, Feature.REBOOT, Feature.MANAGED_SAVE})
"""What the guest's own kernel does when it is asked to."""
CHANGING = "changing"
"""State reason: the guest has shut down and the hypervisor is not done with it: it is ending it, or starting it again."""


class XenSession(LibvirtSession):
    """Where libxl says less than happens."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._counting = threading.Lock()
        self._spent: dict[tuple[str, int], int] = {}
        self._spent_before = 0

    def host_stats(self) -> HostStats:
        """What libvirt tells, and the CPU time: one call a running domain.

        libxl has no counters of the host (NO_SUPPORT, measured). But all that runs there are domains, Domain-0 among them:
        their CPU time together is the host's, and that of a domain which is gone stays counted.
        """
        told = super().host_stats()
        with translate(), self._counting:
            running = {}
            for domain in self._connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                key = (domain.UUIDString(), domain.ID())
                running[key] = self._spent.get(key, 0)
                with gone_is_nothing():
                    running[key] = max(running[key], domain.info()[4])
            self._spent_before += sum(spent for key, spent in self._spent.items() if key not in running)
            self._spent = running
            busy = (self._spent_before + sum(running.values())) / NANOSECONDS
        return dataclasses.replace(told, at=time.monotonic(), cpu_busy_seconds=busy)

    def _act(self, feature: Feature, ref: GuestRef, verb: Callable[[libvirt.virDomain], object]) -> None:
        """As always, but a guest that is not awake is not asked: libxl would wait 60 s for its answer (measured)."""
        super()._act(feature, ref, _of_the_awake(verb) if feature in _TAKES_PART else verb)

    def _observed(self, domain: libvirt.virDomain, state: int, reason: int) -> tuple[GuestState, str]:
        """Tell a guest that is off from one in the middle of a reboot: one call more a guest that has shut down.

        A reboot is a stop and a start here, and in between the guest reads as shut off (1 s with nothing, 45 s with a disk and
        a network card); but then a job is under way on it, whoever asked for the reboot (all measured).
        """
        if (state, reason) == (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN):
            if domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
                return GuestState.SHUTTING_DOWN, CHANGING
            state, reason = domain.state(0)  # the job may have ended between the two questions, and the guest run again
        return super()._observed(domain, state, reason)


def _of_the_awake(verb: Callable[[libvirt.virDomain], object]) -> Callable[[libvirt.virDomain], object]:
    def checked(domain: libvirt.virDomain) -> object:
        if domain.state(0)[0] in {libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED}:
            message = "A Xen guest does this itself, and this one is paused; resume it first, or force it off."
            raise WrongState(message)
        return verb(domain)

    return checked


class XenDriver(LibvirtDriver):
    """Xen with libvirtd in dom0."""

    kind = "xen"
    label = "Xen"
    product = "Xen"
    schemes = ("xen",)
    features = (
        POWER
        | HOLDINGS
        | SAVING
        | MAKING
        | HARDWARE
        | {Feature.CLONE, Feature.CONSOLE_SERIAL, Feature.CONSOLE_VNC}
        | {Feature.HOTPLUG_CPU, Feature.HOTPLUG_MEMORY, Feature.HOTPLUG_DISK, Feature.HOTPLUG_INTERFACE}
    )
    reasons = {
        **LATER,
        Feature.RENAME: NO_RENAME,
        Feature.RESET: "libvirt has no reset button for Xen guests; force it off and start it.",
        Feature.CONSOLE_SHELL: "A machine has no shell of the host's giving; use its serial console.",
        Feature.CONSOLE_SPICE: "Browsers cannot show SPICE; give the guest a VNC screen.",
        Feature.SCREENSHOT: "libvirt takes no screenshots of Xen guests; look at the VNC screen.",
        Feature.SNAPSHOTS_DISK: "libvirt takes no snapshots of Xen guests.",
        Feature.SNAPSHOTS_MEMORY: "libvirt takes no snapshots of Xen guests.",
        Feature.SNAPSHOTS_LIVE: "libvirt takes no snapshots of Xen guests.",
        Feature.HOST_DEVICES: "Never tried on Xen: hand devices over with xl pci-attach there.",
    }
    # All are domains of the type `xen`: what they are stands in the type of their operating system.
    profiles = {
        "xenpvh": Profile(
            virtualization_type=VirtualizationType.BARE_METAL,
            techniques=(Technique.PARAVIRTUALIZATION, Technique.HARDWARE_ASSISTED),
        ),
        "hvm": Profile(
            virtualization_type=VirtualizationType.BARE_METAL,
            techniques=(Technique.FULL_VIRTUALIZATION, Technique.HARDWARE_ASSISTED),
        ),
        "xen": Profile(virtualization_type=VirtualizationType.BARE_METAL, techniques=(Technique.PARAVIRTUALIZATION,)),
    }
    session_class = XenSession
    missing = (
        "libvirt on that machine has no Xen driver, or the machine was not booted with Xen (look at xl info there)."
    )
    undefine_flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    console_force = libvirt.VIR_DOMAIN_CONSOLE_FORCE
    passes_screens = False
    design = staticmethod(xen.design)
    # Pins cannot be set while it runs: libxl does not tell the map of the host's CPUs, which the client's library asks for (measured).
    hardware = Traits(
        offer=options.xen, disk_driver="qemu", block_driver="phy", plugs=("xen",), numbers_boot=False, pins=False
    )
    address_sources = ("lease",)
    proof = Proof.REAL
    ways = libvirt_ways("xen")

    def is_guest(self, domain: libvirt.virDomain) -> bool:
        """Domain-0 is the host."""
        return domain.UUIDString() != DOMAIN_0

    def profile(self, definition: Definition) -> Profile:
        """`linux` is what libvirt calls PV in a guest's definition, and `xen` in the host's capabilities."""
        return self.profiles.get(definition.os_type) or self.profiles["xen"]

    def offered(self, capabilities: Capabilities) -> set[str]:
        """The kinds of guests: `hvm` and `xenpvh` only where the CPU has what they need."""
        return {guest.os_type for guest in capabilities.guests if guest.os_type}
