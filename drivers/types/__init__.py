"""What drivers take and give: frozen values, base units (bytes, seconds), no behaviour beyond tiny properties.

Everybody imports from here; the files beside are for who reads. The words of `GuestState`, `VirtualizationType`, `Technique` and
`Feature` are those of the public contract, to the letter.
"""

from __future__ import annotations

from drivers.types.guests import (
    AddressInfo,
    DiskInfo,
    Finding,
    GraphicsInfo,
    GuestEvent,
    GuestEventKind,
    GuestInfo,
    GuestRef,
    GuestStats,
    NicInfo,
)
from drivers.types.hardware import (
    BootHardware,
    CloneSpec,
    CpuHardware,
    Device,
    DiskHardware,
    DisplayHardware,
    GuestHardware,
    Hardware,
    HardwareOptions,
    HostDevice,
    HostDeviceHardware,
    HostNode,
    IoLimits,
    MemoryHardware,
    NicHardware,
    NumaNode,
    SimpleHardware,
)
from drivers.types.networks import (
    DhcpHost,
    FilterInfo,
    HostInterface,
    LeaseInfo,
    NetworkInfo,
    NetworkSpec,
    PortGroup,
)
from drivers.types.news import (
    Holding,
    HoldingEvent,
    News,
)
from drivers.types.places import (
    Credentials,
    Endpoint,
    HostInfo,
    HostStats,
)
from drivers.types.snapshots import (
    SnapshotInfo,
    SnapshotSpec,
)
from drivers.types.specs import (
    DiskSpec,
    GuestSpec,
    NicSpec,
)
from drivers.types.storage import (
    PoolInfo,
    PoolSpec,
    StorageState,
    VolumeInfo,
    VolumeSpec,
)
from drivers.types.words import (
    INSTEAD,
    Feature,
    GuestKind,
    GuestState,
    Proof,
    Support,
    Technique,
    VirtualizationType,
)

__all__ = [
    "INSTEAD",
    "AddressInfo",
    "BootHardware",
    "CloneSpec",
    "CpuHardware",
    "Credentials",
    "Device",
    "DhcpHost",
    "DiskHardware",
    "DiskInfo",
    "DiskSpec",
    "DisplayHardware",
    "Endpoint",
    "Feature",
    "FilterInfo",
    "Finding",
    "GraphicsInfo",
    "GuestEvent",
    "GuestEventKind",
    "GuestHardware",
    "GuestInfo",
    "GuestKind",
    "GuestRef",
    "GuestSpec",
    "GuestState",
    "GuestStats",
    "Hardware",
    "HardwareOptions",
    "Holding",
    "HoldingEvent",
    "HostDevice",
    "HostDeviceHardware",
    "HostInfo",
    "HostInterface",
    "HostNode",
    "HostStats",
    "IoLimits",
    "LeaseInfo",
    "MemoryHardware",
    "NetworkInfo",
    "NetworkSpec",
    "News",
    "NicHardware",
    "NicInfo",
    "NicSpec",
    "NumaNode",
    "PoolInfo",
    "PoolSpec",
    "PortGroup",
    "Proof",
    "SimpleHardware",
    "SnapshotInfo",
    "SnapshotSpec",
    "StorageState",
    "Support",
    "Technique",
    "VirtualizationType",
    "VolumeInfo",
    "VolumeSpec",
]
