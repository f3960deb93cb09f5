"""The words that drivers speak: those of the public contract, to the letter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class GuestState(StrEnum):
    """The state of a guest as the hypervisor sees it."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTTING_DOWN = "shutting_down"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    PMSUSPENDED = "pmsuspended"
    UNKNOWN = "unknown"


class GuestKind(StrEnum):
    """Whether a guest has its own kernel (machine) or shares the host's (container)."""

    MACHINE = "machine"
    CONTAINER = "container"


class VirtualizationType(StrEnum):
    """Who owns the hardware."""

    BARE_METAL = "bare_metal"
    HOSTED = "hosted"
    HYBRID = "hybrid"
    OS_LEVEL = "os_level"


class Technique(StrEnum):
    """How guests run."""

    FULL_VIRTUALIZATION = "full_virtualization"
    PARAVIRTUALIZATION = "paravirtualization"
    HARDWARE_ASSISTED = "hardware_assisted"
    KERNEL_BASED = "kernel_based"
    SHARED_KERNEL = "shared_kernel"
    EMULATION = "emulation"


class Feature(StrEnum):
    """Everything a hypervisor may or may not be able to do: the actions of the API, and what lies beside them."""

    START = "start"
    SHUTDOWN = "shutdown"
    REBOOT = "reboot"
    RESET = "reset"
    FORCE_OFF = "force-off"
    SUSPEND = "suspend"
    RESUME = "resume"
    MANAGED_SAVE = "managed-save"
    DISCARD_MANAGED_SAVE = "discard-managed-save"
    AUTOSTART = "autostart"
    DEFINE = "define"
    RENAME = "rename"
    UNDEFINE = "undefine"
    XML = "xml"
    CONSOLE_SERIAL = "console.serial"
    CONSOLE_SHELL = "console.shell"
    CONSOLE_VNC = "console.vnc"
    CONSOLE_SPICE = "console.spice"
    SCREENSHOT = "screenshot"
    METRICS_CPU = "metrics.cpu"
    METRICS_MEMORY = "metrics.memory"
    METRICS_DISK = "metrics.disk"
    METRICS_NETWORK = "metrics.network"
    EVENTS = "events"
    SNAPSHOTS_DISK = "snapshots.disk"
    SNAPSHOTS_MEMORY = "snapshots.memory"
    SNAPSHOTS_LIVE = "snapshots.live"
    MIGRATION_LIVE = "migration.live"
    CREATE = "create"
    ADDRESSES = "addresses"
    STORAGE_POOLS = "storage.pools"
    """Pools and their volumes are told, empty volumes are made and deleted."""
    STORAGE_MANAGE = "storage.manage"
    """Pools are made, started, stopped and removed."""
    STORAGE_CONTENT = "storage.content"
    """What is in a volume is written, read, copied, wiped; overlays are made; it grows."""
    NETWORKS = "networks"
    """Networks are told."""
    NETWORKS_MANAGE = "networks.manage"
    """Networks are made, started, stopped and removed."""
    HARDWARE = "hardware"
    HOTPLUG_CPU = "hotplug.cpu"
    HOTPLUG_MEMORY = "hotplug.memory"
    HOTPLUG_DISK = "hotplug.disk"
    HOTPLUG_INTERFACE = "hotplug.interface"
    HOST_DEVICES = "host-devices"
    CLONE = "clone"


INSTEAD: dict[Feature, tuple[tuple[Feature, ...], ...]] = {
    Feature.START: (),
    Feature.SHUTDOWN: ((Feature.FORCE_OFF,),),
    Feature.REBOOT: ((Feature.SHUTDOWN, Feature.START), (Feature.RESET,), (Feature.FORCE_OFF, Feature.START)),
    Feature.RESET: ((Feature.REBOOT,), (Feature.FORCE_OFF, Feature.START)),
    Feature.FORCE_OFF: ((Feature.SHUTDOWN,),),
    Feature.SUSPEND: ((Feature.MANAGED_SAVE,),),
    Feature.RESUME: ((Feature.FORCE_OFF, Feature.START),),
    Feature.MANAGED_SAVE: ((Feature.SUSPEND,), (Feature.SHUTDOWN,)),
    Feature.DISCARD_MANAGED_SAVE: (),
    Feature.AUTOSTART: (),
    Feature.DEFINE: (),
    Feature.RENAME: (),
    Feature.UNDEFINE: (),
    Feature.XML: (),
    Feature.CONSOLE_SERIAL: ((Feature.CONSOLE_SHELL,), (Feature.CONSOLE_VNC,), (Feature.CONSOLE_SPICE,)),
    Feature.CONSOLE_SHELL: ((Feature.CONSOLE_SERIAL,), (Feature.CONSOLE_VNC,), (Feature.CONSOLE_SPICE,)),
    Feature.CONSOLE_VNC: ((Feature.CONSOLE_SPICE,), (Feature.CONSOLE_SERIAL,), (Feature.CONSOLE_SHELL,)),
    Feature.CONSOLE_SPICE: ((Feature.CONSOLE_VNC,), (Feature.CONSOLE_SERIAL,), (Feature.CONSOLE_SHELL,)),
    Feature.SCREENSHOT: ((Feature.CONSOLE_VNC,), (Feature.CONSOLE_SPICE,)),
    Feature.METRICS_CPU: (),
    Feature.METRICS_MEMORY: (),
    Feature.METRICS_DISK: (),
    Feature.METRICS_NETWORK: (),
    Feature.EVENTS: (),
    Feature.SNAPSHOTS_DISK: (),
    Feature.SNAPSHOTS_MEMORY: ((Feature.SNAPSHOTS_DISK,), (Feature.MANAGED_SAVE,)),
    Feature.SNAPSHOTS_LIVE: ((Feature.SNAPSHOTS_MEMORY,), (Feature.SHUTDOWN, Feature.SNAPSHOTS_DISK)),
    Feature.MIGRATION_LIVE: (),
    Feature.CREATE: ((Feature.DEFINE,),),
    Feature.ADDRESSES: (),
    Feature.STORAGE_POOLS: (),
    Feature.STORAGE_MANAGE: (),
    Feature.STORAGE_CONTENT: (),
    Feature.NETWORKS: (),
    Feature.NETWORKS_MANAGE: (),
    Feature.HARDWARE: ((Feature.DEFINE,),),
    Feature.HOTPLUG_CPU: ((Feature.HARDWARE,),),
    Feature.HOTPLUG_MEMORY: ((Feature.HARDWARE,),),
    Feature.HOTPLUG_DISK: ((Feature.HARDWARE,),),
    Feature.HOTPLUG_INTERFACE: ((Feature.HARDWARE,),),
    Feature.HOST_DEVICES: (),
    Feature.CLONE: (),
}
"""What does about the same job where a feature lacks, best first; each way is one step or several, in their order."""


class Proof(StrEnum):
    """What a driver has been proven on, said wherever the driver is offered."""

    REAL = "real"
    """The hypervisor itself."""
    PARTLY = "partly"
    """libvirt's real driver, with a stand-in for the product's own tools behind it."""
    SIMULATOR = "simulator"
    """A simulator that others maintain."""
    STAND_IN = "stand_in"
    """A stand-in of our own, made from the product's documentation."""
    NONE = "none"
    """Nothing: it should work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """Whether a feature works here, and if not, why (a sentence for a person)."""

    supported: bool
    reason: str = ""
