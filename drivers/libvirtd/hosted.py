"""VMware Workstation, VMware Player and VirtualBox: libvirt's client-side drivers, each kept in a child process of its own.

These drivers run in whoever calls libvirt, and call the product's own tools (`vmrun`, the VirtualBox COM library). See
`drivers.isolated` for why they are not run in ours.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import libvirt

from drivers import isolated
from drivers.errors import NotFound, Unsupported
from drivers.forms import Way
from drivers.libvirtd import here
from drivers.libvirtd.guests import Profile
from drivers.libvirtd.kinds import LATER, LibvirtDriver, libvirt_ways
from drivers.libvirtd.session import LibvirtSession
from drivers.libvirtd.session_host import dotted
from drivers.libvirtd.uri import host_of, is_local
from drivers.polling import no_news
from drivers.types import Feature, HostInfo, HostStats, Proof, Support, Technique, VirtualizationType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.base import Session
    from drivers.libvirtd.kinds import LibvirtDriver as AnyLibvirtDriver
    from drivers.types import Endpoint, GuestInfo, GuestRef, GuestStats

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


class ClientSideDriver(LibvirtDriver):
    """A driver that lives in the caller's process: opened in a child, so that the caller's is not ours."""

    def open(self, endpoint: Endpoint) -> Session:
        """Open in the endpoint's child process; blocks at most `isolated.OPEN_SECONDS`."""
        return isolated.open_session(f"{type(self).__module__}:{type(self).__qualname__}", endpoint)

    def open_here(self, endpoint: Endpoint) -> Session:
        """Open in this very process: for the child alone."""
        return super().open(endpoint)


class VmwareSession(LibvirtSession):
    """All that libvirt's vmware driver lets us know of Workstation's guests.

    A connection of that driver lists what ran when it was opened and what was defined on it, never what somebody started since
    (measured). So each listing opens one more, and the connections that first saw a guest are kept for it: a guest that stops then
    stays known, as off, for as long as the child process lives. It also alone remembers that a guest is paused.
    """

    def __init__(self, driver: AnyLibvirtDriver, endpoint: Endpoint, connection: libvirt.virConnect) -> None:
        super().__init__(driver, endpoint, connection)
        self._looking = threading.Lock()
        self._homes: dict[str, libvirt.virConnect] = {}
        self._adopt(connection)

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

    def _require(self, feature: Feature) -> None:
        super()._require(feature)
        support = self.capabilities()[feature]
        if not support.supported:
            raise Unsupported(support.reason, feature=str(feature))

    # -- guests ---------------------------------------------------------------------------------------------------------
    def define(self, xml: str) -> GuestInfo:
        """Write the guest's .vmx beside its first disk, and know it from now on."""
        info = super().define(xml)
        with self._looking:
            self._homes[info.uuid] = self._connection
        return info

    def close(self) -> None:
        """Give all connections up. Never raises."""
        with self._looking:
            extra = {id(home): home for home in self._homes.values() if home is not self._held}
            self._homes = {}
        for home in extra.values():
            _close(home)
        super().close()

    def _domain(self, ref: GuestRef) -> libvirt.virDomain:
        if ref.uuid not in self._homes:
            self._look()
        home = self._homes.get(ref.uuid)
        if home is None:
            raise NotFound("The hypervisor does not know this guest.", guest=ref.name or ref.uuid)
        return home.lookupByUUIDString(ref.uuid)

    def _domains(self) -> list[tuple[libvirt.virDomain, str, int, int]]:
        self._look()
        found = []
        for uuid, home in list(self._homes.items()):
            try:
                domain = home.lookupByUUIDString(uuid)
                state, reason = domain.state(0)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
                with self._looking:
                    self._homes.pop(uuid, None)  # undefined, or ended after it was
                continue
            found.append((domain, uuid, state, reason))
        return found

    def _marked(self, flag: int) -> set[str]:
        return set(self._homes) if flag == libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT else set()

    def _look(self) -> None:
        """See what runs now."""
        fresh = self._driver.dial(self.endpoint)
        if not self._adopt(fresh):
            _close(fresh)

    def _adopt(self, connection: libvirt.virConnect) -> bool:
        """Keep guests that nobody knew with the connection that saw them; False when there were none."""
        with self._looking:
            new = {domain.UUIDString() for domain in connection.listAllDomains(0)} - self._homes.keys()
            self._homes |= dict.fromkeys(new, connection)
        return bool(new)


def _close(connection: libvirt.virConnect) -> None:
    try:
        connection.close()
    except (libvirt.libvirtError, SystemError):
        return  # it is gone, which is what was wanted


class VmwareDriver(ClientSideDriver):
    """VMware Workstation and Player on this machine, by libvirt's driver, which calls `vmrun`."""

    kind = "vmware"
    label = "VMware Workstation/Player"
    product = "VMware"
    schemes = ("vmwarews", "vmwareplayer")
    transports = ("", "unix", "tls", "ssh", "tcp")
    features = _POWER
    reasons = {
        **LATER,
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
        Feature.MIGRATION_LIVE: "VMware Workstation cannot migrate guests.",
        Feature.STORAGE_POOLS: "libvirt manages no storage of VMware Workstation.",
        Feature.NETWORKS: "libvirt manages no networks of VMware Workstation.",
        Feature.HOTPLUG_DISK: "libvirt plugs nothing into guests of VMware Workstation.",
    }
    profiles = {"vmware": _HOSTED}
    session_class = VmwareSession
    missing = "libvirt here has no driver for VMware Workstation: Debian's libvirt0 has, this build does not."
    proof = Proof.PARTLY
    ways = (
        Way(name="workstation", label="Workstation, this machine", scheme="vmwarews", path="/session", local=True),
        Way(name="player", label="Player, this machine", scheme="vmwareplayer", path="/session", local=True),
    )


class VirtualBoxDriver(ClientSideDriver):
    """VirtualBox, by libvirt's driver. Never tried: Debian has no VirtualBox."""

    kind = "vbox"
    label = "VirtualBox"
    product = "VirtualBox"
    schemes = ("vbox",)
    transports = ("", "unix", "tls", "ssh", "tcp")
    features = _POWER | {Feature.MANAGED_SAVE, Feature.SCREENSHOT}
    reasons = {
        **LATER,
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
