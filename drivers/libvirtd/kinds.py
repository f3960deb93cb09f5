"""The kinds of hypervisor behind libvirt: mostly data. What differs in behaviour is a small method, never an `if` elsewhere."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, ClassVar

import libvirt

from drivers.base import Driver
from drivers.errors import Timeout, Unreachable, Unsupported
from drivers.forms import (
    ACCOUNT,
    CA_CERTIFICATE,
    CERTIFICATE,
    CERTIFICATE_KEY,
    CLEAR_TEXT,
    HOST,
    HOST_KEY,
    PORT,
    SOCKET,
    SSH_KEY,
    VERIFY_BY_AUTHORITY,
    Field,
    Way,
)
from drivers.libvirtd import loop
from drivers.libvirtd.design import kvm, lxc, simulated
from drivers.libvirtd.errors import readable, translate
from drivers.libvirtd.events import EventTap
from drivers.libvirtd.guests import Profile
from drivers.libvirtd.hardware import options
from drivers.libvirtd.hardware.traits import Traits
from drivers.libvirtd.session import LibvirtSession
from drivers.libvirtd.unprivileged import QemuSession
from drivers.libvirtd.uri import prepared
from drivers.types import Feature, GuestKind, Proof, Technique, VirtualizationType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.base import Session
    from drivers.libvirtd.design.common import Design
    from drivers.libvirtd.guests import Definition
    from drivers.libvirtd.uri import Target
    from drivers.libvirtd.xml.capabilities import Capabilities
    from drivers.types import Endpoint

DIAL_SECONDS = 10.0

POWER = frozenset(
    {
        Feature.START,
        Feature.SHUTDOWN,
        Feature.REBOOT,
        Feature.FORCE_OFF,
        Feature.SUSPEND,
        Feature.RESUME,
        Feature.AUTOSTART,
        Feature.DEFINE,
        Feature.UNDEFINE,
        Feature.XML,
        Feature.EVENTS,
        Feature.METRICS_CPU,
        Feature.METRICS_MEMORY,
        Feature.METRICS_DISK,
        Feature.METRICS_NETWORK,
    }
)
MAKING = frozenset({Feature.CREATE, Feature.ADDRESSES})
HARDWARE = frozenset({Feature.HARDWARE})
PLUGGING = frozenset(
    {Feature.HOTPLUG_CPU, Feature.HOTPLUG_MEMORY, Feature.HOTPLUG_DISK, Feature.HOTPLUG_INTERFACE, Feature.HOST_DEVICES}
)
SAVING = frozenset({Feature.MANAGED_SAVE, Feature.DISCARD_MANAGED_SAVE})
SNAPSHOTS = frozenset({Feature.SNAPSHOTS_DISK, Feature.SNAPSHOTS_MEMORY})
HOLDINGS = frozenset(
    {
        Feature.STORAGE_POOLS,
        Feature.STORAGE_MANAGE,
        Feature.STORAGE_CONTENT,
        Feature.NETWORKS,
        Feature.NETWORKS_MANAGE,
    }
)
"""What the same libvirtd has beside each of its hypervisors, once for all of them; the probe asks whether it is there."""

LATER: dict[Feature, str] = {
    Feature.MIGRATION_LIVE: "This version does not migrate guests yet.",
}
SEALED: dict[Feature, str] = {
    Feature.HOTPLUG_DISK: "This version does not plug disks in yet.",
    Feature.HARDWARE: "This version does not change hardware here yet.",
    Feature.HOTPLUG_CPU: "This version does not change hardware here yet.",
    Feature.HOTPLUG_MEMORY: "This version does not change hardware here yet.",
    Feature.HOTPLUG_INTERFACE: "This version does not change hardware here yet.",
    Feature.HOST_DEVICES: "This version does not hand devices of the host to guests here yet.",
}
"""For the kinds whose hardware cannot be changed."""
UNMADE: dict[Feature, str] = {
    Feature.CREATE: "This version does not make guests here yet.",
    Feature.ADDRESSES: "This version does not ask for addresses here yet.",
    Feature.CLONE: "This version does not clone guests here yet.",
}
"""For the kinds that have no design."""
NO_RENAME = "libvirt renames no guests of this kind (only QEMU's); define it anew under the other name."

_LATER_SNAPSHOTS = "This version does not manage snapshots here yet."
NO_SNAPSHOTS: dict[Feature, str] = {
    Feature.SNAPSHOTS_DISK: _LATER_SNAPSHOTS,
    Feature.SNAPSHOTS_MEMORY: _LATER_SNAPSHOTS,
    Feature.SNAPSHOTS_LIVE: _LATER_SNAPSHOTS,
}
UNTRIED_HOLDINGS: dict[Feature, str] = {
    Feature.STORAGE_POOLS: "libvirt's storage was never tried beside this kind of hypervisor.",
    Feature.STORAGE_MANAGE: "libvirt's storage was never tried beside this kind of hypervisor.",
    Feature.STORAGE_CONTENT: "libvirt's storage was never tried beside this kind of hypervisor.",
    Feature.NETWORKS: "libvirt's networks were never tried beside this kind of hypervisor.",
    Feature.NETWORKS_MANAGE: "libvirt's networks were never tried beside this kind of hypervisor.",
}

_ABSENT = (libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_CONFIG_UNSUPPORTED)
"""What an open says where libvirt has not this driver: not installed, or not built in."""

SAVE_FLAGS = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA


_SASL = (
    Field(name="username", label="User name", hint="If the host asks for one (SASL)."),
    Field(name="password", label="Password", secret=True),
)


def libvirt_ways(scheme: str, *, path: str = "/system", local: bool = True) -> tuple[Way, ...]:
    """The ways that libvirt offers for a hypervisor with a daemon: SSH first, because it needs nothing set up there."""
    ways = (
        Way(
            name="ssh",
            label="SSH",
            scheme=f"{scheme}+ssh",
            path=path,
            port=22,
            fields=(HOST, ACCOUNT, PORT, SSH_KEY, HOST_KEY),
        ),
        Way(
            name="tls",
            label="TLS with certificates",
            scheme=f"{scheme}+tls",
            path=path,
            port=16514,
            fields=(HOST, PORT, CERTIFICATE, CERTIFICATE_KEY, CA_CERTIFICATE, VERIFY_BY_AUTHORITY, *_SASL),
        ),
        Way(
            name="tcp",
            label="TCP, not encrypted",
            scheme=f"{scheme}+tcp",
            path=path,
            port=16509,
            fields=(HOST, PORT, *_SASL),
            warning=CLEAR_TEXT,
        ),
    )
    here = (
        Way(name="local", label="This machine", scheme=scheme, path=path, local=True),
        Way(
            name="unix",
            label="A socket on this machine",
            scheme=f"{scheme}+unix",
            path=path,
            fields=(SOCKET,),
            local=True,
        ),
    )
    return (*ways, *here) if local else ways


class LibvirtDriver(Driver):
    """What all kinds behind libvirt share: how to open, and how to read."""

    transports: ClassVar[tuple[str, ...]] = ("", "unix", "tls", "ssh", "tcp")
    product: ClassVar[str]
    """The name before the version number."""
    profiles: ClassVar[Mapping[str, Profile]]
    """Domain type -> what it means, the best first."""
    undefine_flags: ClassVar[int] = 0
    """What goes with the definition; 0 where the driver takes no flags at all (LXC, measured)."""
    console_safe: ClassVar[int] = 0
    console_force: ClassVar[int] = 0
    version_is_kernel: ClassVar[bool] = False
    """LXC has no version of its own: libvirt answers the kernel's."""
    nests: ClassVar[bool] = False
    """Whether guests could be hypervisors themselves."""
    free_memory_unit: ClassVar[int] = 1
    """Bytes that `getFreeMemory` counts in."""
    passes_screens: ClassVar[bool] = True
    """Whether libvirt hands out a local guest's screen as a descriptor; else its address is dialled."""
    keeps_inside_images: ClassVar[bool] = True
    """Whether a snapshot is kept in the guest's disk images; else in the hypervisor's own memory."""
    is_real: ClassVar[bool] = True
    """False for a hypervisor that lives in our own process."""
    session_class: ClassVar[type[LibvirtSession]] = LibvirtSession
    design: ClassVar[Design | None] = None
    """How guests of this kind are made from a spec; None where they are not."""
    hardware: ClassVar[Traits | None] = None
    """How guests of this kind take their hardware; None where it is not changed."""
    address_sources: ClassVar[tuple[str, ...]] = ()
    """Who can be asked where a guest is, the most trusted first."""
    missing: ClassVar[str] = ""
    """What to say where libvirt has not this driver; "" where that would be a surprise."""

    def open(self, endpoint: Endpoint) -> Session:
        """Connect, and set the keepalive at once. Blocks without bound against a frozen host."""
        loop.ensure_running()
        try:
            with translate(uri=endpoint.uri), prepared(endpoint) as target:
                connection = self.connect(target)
                try:
                    return self.session_class(self, endpoint, connection)
                except BaseException:
                    connection.close()
                    raise
        except (Unreachable, Unsupported) as error:
            if self.missing and error.context.get("libvirt_code") in _ABSENT:
                raise Unsupported(self.missing, **error.context) from error
            raise

    def dial(self, endpoint: Endpoint) -> libvirt.virConnect:
        """One more connection, for a console or a transfer of its own, within `DIAL_SECONDS`.

        Raises:
            Timeout: The host did not answer in time; an open that succeeds late is closed again.
        """
        found: queue.SimpleQueue[libvirt.virConnect | BaseException] = queue.SimpleQueue()
        late = threading.Event()

        def work() -> None:
            try:
                with translate(uri=endpoint.uri), prepared(endpoint) as target:
                    connection = self.connect(target)
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                found.put(error)
                return
            if late.is_set():
                connection.close()
            else:
                found.put(connection)

        threading.Thread(target=work, name="dial", daemon=True).start()
        try:
            answer = found.get(timeout=DIAL_SECONDS)
        except queue.Empty:
            late.set()
            message = f"The host did not open another connection within {DIAL_SECONDS:.0f} s."
            raise Timeout(message) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def connect(self, target: Target) -> libvirt.virConnect:
        """Libvirt's own open."""
        return libvirt.open(target.uri) if target.auth is None else libvirt.openAuth(target.uri, target.auth, 0)

    def is_guest(self, domain: libvirt.virDomain) -> bool:
        """Whether this domain is a guest. A local question: no round trip."""
        return True

    def shutdown(self, domain: libvirt.virDomain) -> None:
        """Ask a guest to shut down."""
        domain.shutdown()

    def judgement(self, connection: libvirt.virConnect, xml: str) -> str:
        """What the host says of a definition that it is only shown, as a sentence; "" when nothing, or when it cannot be asked."""
        del connection, xml
        return ""

    def offered(self, capabilities: Capabilities) -> set[str]:
        """Which of the profiles this host has."""
        return {domain.type for guest in capabilities.guests for domain in guest.domains if domain.type}

    def profile(self, definition: Definition) -> Profile:
        """What this guest is in the contract's words; an unknown domain type counts as the kind's plainest."""
        known = self.profiles.get(definition.domain_type)
        return known or list(self.profiles.values())[-1]


class QemuDriver(LibvirtDriver):
    """QEMU, with KVM where the host has it."""

    kind = "qemu"
    label = "QEMU/KVM"
    product = "QEMU"
    schemes = ("qemu",)
    features = (
        POWER
        | HOLDINGS
        | SAVING
        | MAKING
        | SNAPSHOTS
        | HARDWARE
        | PLUGGING
        | {
            Feature.RENAME,
            Feature.CLONE,
            Feature.RESET,
            Feature.CONSOLE_SERIAL,
            Feature.CONSOLE_VNC,
            Feature.SCREENSHOT,
        }
    )
    reasons = {
        **LATER,
        Feature.SNAPSHOTS_LIVE: "libvirt cannot go back to a snapshot of a running QEMU guest's disks alone: keep its memory "
        "as well, or shut it down first.",
        Feature.CONSOLE_SHELL: "A machine has no shell of the host's giving; use its serial console.",
        Feature.CONSOLE_SPICE: "Browsers cannot show SPICE; give the guest a VNC screen.",
    }
    profiles = {
        "kvm": Profile(
            virtualization_type=VirtualizationType.HYBRID,
            techniques=(Technique.FULL_VIRTUALIZATION, Technique.HARDWARE_ASSISTED, Technique.KERNEL_BASED),
        ),
        "qemu": Profile(
            virtualization_type=VirtualizationType.HOSTED,
            techniques=(Technique.FULL_VIRTUALIZATION, Technique.EMULATION),
        ),
    }
    undefine_flags = SAVE_FLAGS | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    console_safe = libvirt.VIR_DOMAIN_CONSOLE_SAFE
    console_force = libvirt.VIR_DOMAIN_CONSOLE_FORCE
    nests = True
    design = staticmethod(kvm.design)
    hardware = Traits(
        offer=options.qemu,
        disk_driver="qemu",
        plugs=("virtio", "scsi", "usb"),
        changes_interfaces=True,
        retunes=True,
        resizes=True,
        small=("rng", "watchdog", "input"),
        screens_on_sockets=True,
    )
    address_sources = ("agent", "lease", "arp")
    session_class = QemuSession
    proof = Proof.REAL
    ways = (
        *libvirt_ways("qemu"),
        Way(name="session", label="This machine, this account only", scheme="qemu", path="/session", local=True),
    )

    def judgement(self, connection: libvirt.virConnect, xml: str) -> str:
        """What libvirt says when it makes QEMU's command line of it, without running that."""
        try:
            connection.domainXMLToNative("qemu-argv", xml, 0)
        except libvirt.libvirtError as error:
            said = readable(str(error.get_error_message() or error))
            return "" if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT else f"It could not be started so: {said}"
        return ""


class LxcDriver(LibvirtDriver):
    """Linux containers, by libvirt's own container driver."""

    kind = "lxc"
    label = "LXC"
    product = "Linux"
    schemes = ("lxc",)
    features = (
        POWER
        | HOLDINGS
        | MAKING
        | HARDWARE
        | {Feature.CONSOLE_SERIAL, Feature.HOTPLUG_MEMORY, Feature.HOTPLUG_INTERFACE}
    )
    reasons = {
        **LATER,
        Feature.RENAME: NO_RENAME,
        Feature.CLONE: "A container's root is a directory of the host, and a clone would write into the same one. Copy it there, and make "
        "a container of the copy.",
        Feature.RESET: "A container has no reset button.",
        Feature.MANAGED_SAVE: "libvirt cannot save a container's memory.",
        Feature.DISCARD_MANAGED_SAVE: "libvirt cannot save a container's memory, so there is nothing to discard.",
        Feature.CONSOLE_SHELL: "libvirt gives a container one console and no shell beside it; use the serial console.",
        Feature.CONSOLE_VNC: "A container has no screen.",
        Feature.CONSOLE_SPICE: "A container has no screen.",
        Feature.SCREENSHOT: "A container has no screen.",
        Feature.MIGRATION_LIVE: "libvirt cannot migrate containers.",
        Feature.SNAPSHOTS_MEMORY: "libvirt cannot save a container's memory.",
        Feature.SNAPSHOTS_DISK: "libvirt takes no snapshots of containers.",
        Feature.SNAPSHOTS_LIVE: "libvirt takes no snapshots of containers.",
        Feature.HOTPLUG_CPU: "A container has all of the host's processors; their number is a figure in its definition.",
        Feature.HOTPLUG_DISK: "A container has directories where machines have disks.",
        Feature.HOST_DEVICES: "A container has the host's kernel, which drives the devices; none is handed over.",
    }
    profiles = {
        "lxc": Profile(
            virtualization_type=VirtualizationType.OS_LEVEL,
            techniques=(Technique.SHARED_KERNEL,),
            kind=GuestKind.CONTAINER,
        )
    }
    version_is_kernel = True
    design = staticmethod(lxc.design)
    hardware = Traits(offer=options.lxc, numbers_boot=False, boots=False, pins=False)
    address_sources = ("lease", "arp")
    proof = Proof.REAL
    ways = libvirt_ways("lxc")

    def shutdown(self, domain: libvirt.virDomain) -> None:
        """By initctl, and by a signal to its init besides.

        libvirt 9.0 asks over initctl, reports success, and never sends the signal, whether anybody reads initctl or not
        (measured): a container without a reader would run on for ever.
        """
        domain.shutdown()
        try:
            domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_SIGNAL)
        except libvirt.libvirtError:
            return  # it went down on the first call, or is about to


class TestDriver(LibvirtDriver):
    """libvirt's test driver: a made-up host inside our own process. For demonstrations and tests; it runs nothing.

    Each libvirt open of it is a world of its own, so all sessions of a process share one connection a URI, for as long as
    the process lives: a guest that one session starts is running for the next.
    """

    __test__ = False  # pytest: not a test class

    kind = "test"
    label = "Test driver (simulated)"
    product = "Test"
    schemes = ("test",)
    transports = ("",)
    features = (
        POWER
        | HOLDINGS
        | SAVING
        | MAKING
        | SNAPSHOTS
        | HARDWARE
        | {Feature.HOTPLUG_CPU, Feature.HOTPLUG_MEMORY}
        | {Feature.RENAME, Feature.CLONE, Feature.RESET, Feature.SCREENSHOT}
    )
    reasons = {
        **LATER,
        Feature.SNAPSHOTS_LIVE: "A simulated guest that runs is kept with its memory only: shut it down first.",
        Feature.CONSOLE_SERIAL: "A simulated guest has no console.",
        Feature.CONSOLE_SHELL: "A simulated guest has no shell.",
        Feature.CONSOLE_VNC: "A simulated guest has no screen that moves; it has a still picture.",
        Feature.CONSOLE_SPICE: "A simulated guest has no screen that moves; it has a still picture.",
        Feature.MIGRATION_LIVE: "A simulated host has nowhere to migrate to.",
        Feature.HOTPLUG_DISK: "libvirt's test driver plugs nothing into a guest that runs; change it for the next start.",
        Feature.HOTPLUG_INTERFACE: "libvirt's test driver plugs nothing into a guest that runs; change it for the next start.",
        Feature.HOST_DEVICES: "A simulated host has no devices to hand over.",
    }
    # It neither emulates nor virtualizes; of the contract's words these promise the least.
    profiles = {
        "test": Profile(virtualization_type=VirtualizationType.HOSTED, techniques=(Technique.EMULATION,)),
    }
    undefine_flags = SAVE_FLAGS
    keeps_inside_images = False
    is_real = False
    design = staticmethod(simulated.design)
    hardware = Traits(offer=options.simulated, pins=False)
    address_sources = ("agent", "lease", "arp")
    free_memory_unit = 1024  # libvirt 9.0 answers KiB here where bytes are promised (measured)
    proof = Proof.REAL
    ways = (Way(name="default", label="Its default world", scheme="test", path="/default", local=True),)

    _worlds: ClassVar[dict[str, tuple[libvirt.virConnect, EventTap]]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def open(self, endpoint: Endpoint) -> Session:
        """Join the process's world of this URI, made at the first open."""
        loop.ensure_running()
        with translate(uri=endpoint.uri), self._lock:
            world = self._worlds.get(endpoint.uri)
            if world is None:
                connection = libvirt.open(endpoint.uri)
                world = self._worlds[endpoint.uri] = connection, EventTap(connection)
        return LibvirtSession(self, endpoint, world[0], shared_tap=world[1])
