"""VMware Workstation, VMware Player and VirtualBox: libvirt's client-side drivers, each kept in a child process of its own.

These drivers run in whoever calls libvirt, and call the product's own tools (`vmrun`, the VirtualBox COM library). See
`drivers.isolated` for why they are not run in ours.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from drivers.forms import Way
from drivers.libvirtd import here
from drivers.libvirtd.gathering import ChildDriver, GatheringSession
from drivers.libvirtd.guests import Profile
from drivers.libvirtd.kinds import (
    LATER,
    NO_RENAME,
    NO_SNAPSHOTS,
    SEALED,
    UNMADE,
    UNTRIED_HOLDINGS,
    libvirt_ways,
)
from drivers.libvirtd.session_host import dotted
from drivers.libvirtd.uri import host_of, is_local
from drivers.polling import no_news
from drivers.types import Feature, HostInfo, HostStats, Proof, Support, Technique, VirtualizationType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.types import GuestStats

_HOSTED = Profile(
    virtualization_type=VirtualizationType.HOSTED,
    techniques=(Technique.FULL_VIRTUALIZATION, Technique.HARDWARE_ASSISTED),
)
_POWER = frozenset(
    {
        Feature.START,
        Feature.SHUTDOWN,
        Feature.REBOOT,
        Feature.FORCE_OFF,
        Feature.SUSPEND,
        Feature.RESUME,
        Feature.DEFINE,
        Feature.UNDEFINE,
        Feature.XML,
    }
)
_PLAYER = "VMware Player cannot pause a guest; VMware Workstation can."


class VmwareSession(GatheringSession):
    """All that libvirt's vmware driver lets us know of Workstation's guests.

    It lists what runs (`vmrun list`). A guest that stops stays known, as off, to the connection that saw it run or defined it: for
    as long as the child process lives.
    """

    lists_all = False

    # -- the machine ----------------------------------------------------------------------------------------------------
    def host_info(self) -> HostInfo:
        """Of this machine: libvirt's driver says nothing of it. Of another one, what the URI says."""
        connection = self._connection
        product = "VMware Player" if self._is_player else "VMware Workstation"
        facts = here.host_facts() if is_local(self.endpoint.uri) else {"hostname": host_of(self.endpoint.uri) or ""}
        return HostInfo(
            **facts,
            hypervisor_version=f"{product} {dotted(connection.getVersion())}",
            library_version=f"libvirt {dotted(connection.getLibVersion())}",
            virtualization_type=_HOSTED.virtualization_type,
            techniques=_HOSTED.techniques,
        )

    def host_stats(self) -> HostStats:
        """Of this machine."""
        return here.host_stats() if is_local(self.endpoint.uri) else HostStats(at=time.monotonic(), cpu_count=0)

    def stats(self) -> Sequence[GuestStats]:
        """None: `vmrun` tells no counters."""
        return []

    @property
    def _is_player(self) -> bool:
        return self.endpoint.uri.startswith("vmwareplayer")

    def _probe(self) -> Mapping[Feature, Support]:
        found = dict(super()._probe())
        if self._is_player:
            refused = Support(supported=False, reason=_PLAYER)
            found |= {Feature.SUSPEND: refused, Feature.RESUME: refused}
        return found


class VmwareDriver(ChildDriver):
    """VMware Workstation and Player on this machine, by libvirt's driver, which calls `vmrun`."""

    kind = "vmware"
    label = "VMware Workstation/Player"
    product = "VMware"
    schemes = ("vmwarews", "vmwareplayer")
    features = _POWER
    reasons = {
        **LATER,
        **SEALED,
        Feature.RENAME: NO_RENAME,
        Feature.EVENTS: no_news(label),
        Feature.RESET: "libvirt has no reset button for VMware Workstation; force the guest off and start it.",
        Feature.MANAGED_SAVE: "libvirt cannot save the memory of a guest of VMware Workstation.",
        Feature.DISCARD_MANAGED_SAVE: "libvirt cannot save the memory of a guest of VMware Workstation.",
        Feature.AUTOSTART: "libvirt cannot make VMware Workstation start a guest by itself.",
        Feature.CONSOLE_SERIAL: "libvirt opens no consoles of VMware Workstation; its own window has the screen.",
        Feature.CONSOLE_SHELL: "A machine has no shell of the host's giving.",
        Feature.CONSOLE_VNC: "Screens of VMware Workstation are not brought to the browser; its own window has the screen.",
        Feature.CONSOLE_SPICE: "VMware Workstation has no SPICE.",
        Feature.SCREENSHOT: "libvirt takes no pictures of guests of VMware Workstation.",
        Feature.METRICS_CPU: "VMware's vmrun tells no counters.",
        Feature.METRICS_MEMORY: "VMware's vmrun tells no counters.",
        Feature.METRICS_DISK: "VMware's vmrun tells no counters.",
        Feature.METRICS_NETWORK: "VMware's vmrun tells no counters.",
        Feature.SNAPSHOTS_DISK: "libvirt takes no snapshots of guests of VMware Workstation.",
        Feature.SNAPSHOTS_MEMORY: "libvirt takes no snapshots of guests of VMware Workstation.",
        Feature.SNAPSHOTS_LIVE: "libvirt takes no snapshots of guests of VMware Workstation.",
        Feature.MIGRATION_LIVE: "VMware Workstation cannot migrate guests.",
        Feature.STORAGE_POOLS: "libvirt manages no storage of VMware Workstation.",
        Feature.STORAGE_MANAGE: "libvirt manages no storage of VMware Workstation.",
        Feature.STORAGE_CONTENT: "libvirt manages no storage of VMware Workstation.",
        Feature.NETWORKS: "libvirt manages no networks of VMware Workstation.",
        Feature.NETWORKS_MANAGE: "libvirt manages no networks of VMware Workstation.",
        Feature.CREATE: "VMware Workstation's disks are made by its own tools: make one there, and define the guest from XML beside it.",
        Feature.ADDRESSES: "libvirt does not tell the addresses of VMware Workstation's guests.",
        Feature.HOTPLUG_DISK: "libvirt plugs nothing into guests of VMware Workstation.",
        Feature.HARDWARE: "This version does not change hardware here yet.",
        Feature.HOTPLUG_CPU: "libvirt plugs nothing into guests of VMware Workstation.",
        Feature.HOTPLUG_MEMORY: "libvirt plugs nothing into guests of VMware Workstation.",
        Feature.HOTPLUG_INTERFACE: "libvirt plugs nothing into guests of VMware Workstation.",
        Feature.HOST_DEVICES: "libvirt hands no devices to guests of VMware Workstation.",
        Feature.CLONE: "This version does not clone guests here yet.",
    }
    profiles = {"vmware": _HOSTED}
    session_class = VmwareSession
    missing = "libvirt here has no driver for VMware Workstation: Debian's libvirt0 has, this build does not."
    proof = Proof.PARTLY
    ways = (
        Way(name="workstation", label="Workstation, this machine", scheme="vmwarews", path="/session", local=True),
        Way(name="player", label="Player, this machine", scheme="vmwareplayer", path="/session", local=True),
    )


class VirtualBoxDriver(ChildDriver):
    """VirtualBox, by libvirt's driver. Never tried: Debian has no VirtualBox."""

    kind = "vbox"
    label = "VirtualBox"
    product = "VirtualBox"
    schemes = ("vbox",)
    features = _POWER | {Feature.MANAGED_SAVE, Feature.SCREENSHOT}
    reasons = {
        **LATER,
        **SEALED,
        **UNMADE,
        Feature.RENAME: NO_RENAME,
        **NO_SNAPSHOTS,
        **UNTRIED_HOLDINGS,
        Feature.EVENTS: no_news(label),
        Feature.RESET: "libvirt has no reset button for VirtualBox; force the guest off and start it.",
        Feature.DISCARD_MANAGED_SAVE: "libvirt cannot discard what VirtualBox saved.",
        Feature.AUTOSTART: "libvirt cannot make VirtualBox start a guest by itself.",
        Feature.CONSOLE_SERIAL: "libvirt opens no consoles of VirtualBox.",
        Feature.CONSOLE_SHELL: "A machine has no shell of the host's giving.",
        Feature.CONSOLE_VNC: "VirtualBox shows its guests by RDP, which browsers do not speak.",
        Feature.CONSOLE_SPICE: "VirtualBox has no SPICE.",
        Feature.METRICS_CPU: "libvirt tells no counters of VirtualBox.",
        Feature.METRICS_MEMORY: "libvirt tells no counters of VirtualBox.",
        Feature.METRICS_DISK: "libvirt tells no counters of VirtualBox.",
        Feature.METRICS_NETWORK: "libvirt tells no counters of VirtualBox.",
        Feature.MIGRATION_LIVE: "libvirt cannot migrate guests of VirtualBox.",
    }
    profiles = {"vbox": _HOSTED}
    missing = (
        "libvirt there has no VirtualBox driver, or VirtualBox is not installed. On Debian: libvirt-daemon-driver-vbox, and VirtualBox "
        "from Oracle."
    )
    proof = Proof.NONE
    ways = libvirt_ways("vbox", path="/session")
