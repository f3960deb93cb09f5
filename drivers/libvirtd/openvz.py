"""OpenVZ and Virtuozzo: containers that share the node's kernel, by libvirt's drivers on the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt

from drivers.errors import WrongState
from drivers.libvirtd.gathering import ChildDriver, GatheringSession
from drivers.libvirtd.guests import Profile
from drivers.libvirtd.kinds import (
    LATER,
    NO_RENAME,
    NO_SNAPSHOTS,
    POWER,
    SAVING,
    SEALED,
    UNMADE,
    UNTRIED_HOLDINGS,
    LibvirtDriver,
    libvirt_ways,
)
from drivers.polling import no_news
from drivers.types import Feature, GuestKind, Proof, Technique, VirtualizationType

if TYPE_CHECKING:
    from drivers.libvirtd.guests import Definition
    from drivers.types import GuestRef

_CONTAINER = Profile(
    virtualization_type=VirtualizationType.OS_LEVEL,
    techniques=(Technique.SHARED_KERNEL,),
    kind=GuestKind.CONTAINER,
)
_MACHINE = Profile(
    virtualization_type=VirtualizationType.HYBRID,
    techniques=(Technique.FULL_VIRTUALIZATION, Technique.HARDWARE_ASSISTED, Technique.KERNEL_BASED),
)
_NO_SCREEN = "A container has no screen."


class OpenVzSession(GatheringSession):
    """What libvirt's openvz driver accepts silently is refused here."""

    lists_all = True

    def resume(self, ref: GuestRef) -> None:
        """Let a paused container run; libvirt 9.0 answers yes for one that runs (measured)."""
        self._act(Feature.RESUME, ref, _resume)


def _resume(domain: libvirt.virDomain) -> None:
    if domain.state(0)[0] != libvirt.VIR_DOMAIN_PAUSED:
        message = "The guest is not paused."
        raise WrongState(message)
    domain.resume()


class OpenVzDriver(ChildDriver):
    """OpenVZ: libvirt's driver calls the node's own vzctl and vzlist."""

    kind = "openvz"
    label = "OpenVZ"
    product = "vzctl"
    schemes = ("openvz",)
    features = frozenset(
        {
            Feature.START,
            Feature.SHUTDOWN,
            Feature.REBOOT,
            Feature.FORCE_OFF,
            Feature.SUSPEND,
            Feature.RESUME,
            Feature.AUTOSTART,
            Feature.XML,
            Feature.METRICS_CPU,
            Feature.METRICS_NETWORK,
        }
    )
    reasons = {
        **LATER,
        Feature.RENAME: NO_RENAME,
        Feature.EVENTS: no_news(label),
        Feature.DEFINE: "libvirt cannot read back what it defines on OpenVZ, nor use templates; use vzctl create and vzctl set there.",
        Feature.UNDEFINE: "On OpenVZ a container's definition goes with all its files; use vzctl destroy on the node.",
        Feature.RESET: "A container has no reset button.",
        Feature.MANAGED_SAVE: "libvirt cannot save a container's memory; vzctl chkpnt on the node can.",
        Feature.DISCARD_MANAGED_SAVE: "libvirt cannot save a container's memory, so there is nothing to discard.",
        Feature.METRICS_MEMORY: "libvirt tells a container's limit on OpenVZ, not what it uses.",
        Feature.METRICS_DISK: "libvirt does not count disk traffic on OpenVZ.",
        Feature.CONSOLE_SERIAL: "libvirt opens no consoles on OpenVZ; use vzctl enter on the node.",
        Feature.CONSOLE_SHELL: "libvirt opens no shells on OpenVZ; use vzctl enter on the node.",
        Feature.CONSOLE_VNC: _NO_SCREEN,
        Feature.CONSOLE_SPICE: _NO_SCREEN,
        Feature.SCREENSHOT: _NO_SCREEN,
        Feature.SNAPSHOTS_DISK: "libvirt takes no snapshots on OpenVZ.",
        Feature.SNAPSHOTS_MEMORY: "libvirt takes no snapshots on OpenVZ.",
        Feature.SNAPSHOTS_LIVE: "libvirt takes no snapshots on OpenVZ.",
        Feature.STORAGE_POOLS: "libvirt manages no storage on OpenVZ.",
        Feature.STORAGE_MANAGE: "libvirt manages no storage on OpenVZ.",
        Feature.STORAGE_CONTENT: "libvirt manages no storage on OpenVZ.",
        Feature.NETWORKS: "libvirt manages no networks on OpenVZ.",
        Feature.NETWORKS_MANAGE: "libvirt manages no networks on OpenVZ.",
        Feature.CREATE: "libvirt makes no usable OpenVZ container; make it with `vzctl create`, and it appears here.",
        Feature.ADDRESSES: "libvirt does not tell the addresses of OpenVZ containers.",
        Feature.HOTPLUG_DISK: "A container has directories, not disks.",
        Feature.HARDWARE: "This version does not change hardware here yet.",
        Feature.HOTPLUG_CPU: "libvirt changes nothing of a running OpenVZ container.",
        Feature.HOTPLUG_MEMORY: "libvirt changes nothing of a running OpenVZ container.",
        Feature.HOTPLUG_INTERFACE: "libvirt changes nothing of a running OpenVZ container.",
        Feature.HOST_DEVICES: "libvirt hands no devices to OpenVZ containers.",
        Feature.CLONE: "libvirt cannot clone an OpenVZ container.",
    }
    profiles = {"openvz": _CONTAINER}
    session_class = OpenVzSession
    missing = "libvirt on that machine has no OpenVZ driver, or the machine is no OpenVZ node (it has no /proc/vz)."
    proof = Proof.PARTLY
    ways = libvirt_ways("openvz")


class VirtuozzoDriver(LibvirtDriver):
    """Virtuozzo 7 and later: the driver lives on the node, we connect to the node's libvirtd. Never tried on one."""

    kind = "vz"
    label = "Virtuozzo"
    product = "Virtuozzo"
    schemes = ("vz",)
    features = POWER | SAVING | {Feature.RESET}
    reasons = {
        **LATER,
        **SEALED,
        **UNMADE,
        Feature.RENAME: NO_RENAME,
        **NO_SNAPSHOTS,
        **UNTRIED_HOLDINGS,
        Feature.CONSOLE_SERIAL: "Never tried on a Virtuozzo node; use prlctl console on the node.",
        Feature.CONSOLE_SHELL: "libvirt opens no shells; use prlctl enter on the node.",
        Feature.CONSOLE_VNC: "Never tried on a Virtuozzo node.",
        Feature.CONSOLE_SPICE: "Browsers cannot show SPICE.",
        Feature.SCREENSHOT: "Never tried on a Virtuozzo node.",
    }
    profiles = {"vz": _CONTAINER}
    missing = "libvirt there has no Virtuozzo driver. It lives on the Virtuozzo node: connect to the node itself, vz+ssh://root@node/system."
    proof = Proof.NONE
    ways = libvirt_ways("vz", local=False)

    def profile(self, definition: Definition) -> Profile:
        """Containers say `exe`, machines `hvm`; both are domains of the type vz."""
        return _MACHINE if definition.os_type == "hvm" else _CONTAINER
