"""A line of the table that makes our errors of libvirt's, and the lines about hardware; `errors.TABLE` has all the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import libvirt

from drivers import errors


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. The first line that fits wins.

    Attributes:
        code: libvirt's error code; None fits any.
        error: What it becomes.
        why: The evidence for this line.
        domains: Parts of libvirt it must come from; empty fits any.
        text: Lower-case words, one of which the message must contain; empty fits any.
        say: The sentence for a person; "" takes libvirt's own.
    """

    code: int | None
    error: type[errors.DriverError]
    why: str
    domains: frozenset[int] = frozenset()
    text: tuple[str, ...] = ()
    say: str = ""

    def fits(self, code: int | None, domain: int | None, message: str) -> bool:
        """Whether this line is about that error. `message` is lower case."""
        return (
            (self.code is None or self.code == code)
            and (not self.domains or domain in self.domains)
            and (not self.text or any(part in message for part in self.text))
        )


HARDWARE: Final[tuple[Row, ...]] = (
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.DriverError,
        "measured: a disk in a file is plugged into a PV guest that runs without a device model; libvirt says no more than that",
        domains=frozenset({libvirt.VIR_FROM_LIBXL}),
        text=("failed to attach disk",),
        say="Xen could not plug the disk in: a disk in a file needs a device model in dom0, a block device is served without. The host's "
        "/var/log/libvirt/libxl/libxl-driver.log says why.",
    ),
    Row(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        errors.InvalidDefinition,
        "measured: an interface is plugged into a bridge that the host has not, of a container",
        text=("unable to add bridge",),
        say="The host has no bridge of this name.",
    ),
    Row(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        errors.InvalidDefinition,
        "measured: a disk is plugged in whose file is not there, or may not be read",
        text=("cannot access storage file",),
    ),
    Row(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        errors.Unsupported,
        "measured: a USB device is plugged in on a host without USB",
        text=("/sys/bus/usb/devices",),
        say="The host has no USB: there is nothing to hand over.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.Unsupported,
        "measured: the fourth USB device of a guest",
        text=("no free usb ports",),
        say="All USB ports of the guest are taken: take one of its USB devices away first, or add a USB controller to its definition.",
    ),
    Row(
        None,
        errors.Unsupported,
        "measured, in other places as INTERNAL_ERROR: a PCI guest with all its slots taken",
        text=("no more available pci slots", "no more available pci addresses"),
        say="All PCI slots of the guest are taken, and none can be added while it runs: give it the device for its next start.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.Unsupported,
        "measured: an interface is to be held to a bandwidth on a kernel without sch_htb and sch_sfq",
        text=("qdisc",),
        say="The host's kernel cannot hold an interface to a bandwidth: it lacks the traffic shapers sch_htb, sch_sfq or sch_ingress.",
    ),
    Row(
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        errors.Unsupported,
        "measured: at the start, and at plugging in, on a host without IOMMU",
        text=("passthrough of host pci devices",),
        say="The host can hand no PCI devices to guests: switch its IOMMU on (VT-d or AMD-Vi in its firmware, intel_iommu=on for Intel's "
        "in the kernel's command line), and see that it has the module vfio-pci.",
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        errors.Timeout,
        "measured: a guest whose system takes no part in it",
        text=("unplug request timed out",),
        say="The guest does not let go of the vCPUs: its system is not up, or cannot give up processors. Change it for the next start.",
    ),
    Row(
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        errors.Unsupported,
        "measured: vCPUs that the guest was started with are to go",
        text=("hotpluggable vcpus",),
        say="Only vCPUs that were plugged in while the guest ran can be taken away while it runs: change it for the next start.",
    ),
)
