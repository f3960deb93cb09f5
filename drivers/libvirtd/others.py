"""Kinds that libvirt knows and nobody here has: their URIs are understood, and opening one says what is missing."""

from __future__ import annotations

from drivers.libvirtd.guests import Profile
from drivers.libvirtd.kinds import (
    LATER,
    NO_RENAME,
    NO_SNAPSHOTS,
    POWER,
    SEALED,
    UNMADE,
    UNTRIED_HOLDINGS,
    LibvirtDriver,
    libvirt_ways,
)
from drivers.types import Feature, Proof, Technique, VirtualizationType

_KERNEL_BASED = Profile(
    virtualization_type=VirtualizationType.HYBRID,
    techniques=(Technique.FULL_VIRTUALIZATION, Technique.HARDWARE_ASSISTED, Technique.KERNEL_BASED),
)
_UNTRIED = "Never tried on this kind of hypervisor."


class BhyveDriver(LibvirtDriver):
    """FreeBSD's hypervisor. libvirt's driver runs on FreeBSD alone. Never tried."""

    kind = "bhyve"
    label = "bhyve"
    product = "bhyve"
    schemes = ("bhyve",)
    features = (POWER - {Feature.SUSPEND, Feature.RESUME}) | {Feature.CONSOLE_SERIAL, Feature.CONSOLE_VNC}
    reasons = {
        **LATER,
        **SEALED,
        **UNMADE,
        Feature.RENAME: NO_RENAME,
        **NO_SNAPSHOTS,
        **UNTRIED_HOLDINGS,
        Feature.SUSPEND: "libvirt cannot pause a guest of bhyve.",
        Feature.RESUME: "libvirt cannot pause a guest of bhyve, so there is nothing to resume.",
        Feature.RESET: "libvirt has no reset button for bhyve.",
        Feature.MANAGED_SAVE: "libvirt cannot save the memory of a guest of bhyve.",
        Feature.DISCARD_MANAGED_SAVE: "libvirt cannot save the memory of a guest of bhyve.",
        Feature.CONSOLE_SHELL: "A machine has no shell of the host's giving; use its serial console.",
        Feature.CONSOLE_SPICE: "bhyve has no SPICE.",
        Feature.SCREENSHOT: _UNTRIED,
    }
    profiles = {"bhyve": _KERNEL_BASED}
    missing = (
        "libvirt there has no bhyve driver: it runs on FreeBSD alone. Connect to the FreeBSD host itself, "
        "bhyve+ssh://root@host/system."
    )
    proof = Proof.NONE
    ways = libvirt_ways("bhyve", local=False)


class CloudHypervisorDriver(LibvirtDriver):
    """Cloud Hypervisor on KVM, by libvirt's ch driver, which Debian does not build. Never tried."""

    kind = "ch"
    label = "Cloud Hypervisor"
    product = "Cloud Hypervisor"
    schemes = ("ch",)
    features = (POWER - {Feature.AUTOSTART, Feature.EVENTS}) | {Feature.CONSOLE_SERIAL}
    reasons = {
        **LATER,
        **SEALED,
        **UNMADE,
        Feature.RENAME: NO_RENAME,
        **NO_SNAPSHOTS,
        **UNTRIED_HOLDINGS,
        Feature.AUTOSTART: _UNTRIED,
        Feature.EVENTS: _UNTRIED,
        Feature.RESET: "libvirt has no reset button for Cloud Hypervisor.",
        Feature.MANAGED_SAVE: _UNTRIED,
        Feature.DISCARD_MANAGED_SAVE: _UNTRIED,
        Feature.CONSOLE_SHELL: "A machine has no shell of the host's giving; use its serial console.",
        Feature.CONSOLE_VNC: "Cloud Hypervisor has no screen.",
        Feature.CONSOLE_SPICE: "Cloud Hypervisor has no screen.",
        Feature.SCREENSHOT: "Cloud Hypervisor has no screen.",
    }
    profiles = {"ch": _KERNEL_BASED}
    missing = (
        "libvirt there has no Cloud Hypervisor driver: Debian builds libvirt without it. It needs libvirt 7.5 or newer built with "
        "-Ddriver_ch=enabled, and cloud-hypervisor."
    )
    proof = Proof.NONE
    ways = libvirt_ways("ch")
