"""States of hosts and hypervisors: the contract's words and what people read."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class LinkState(models.TextChoices):
    """Whether we can reach it."""

    CONNECTING = "connecting", _("Connecting")
    ONLINE = "online", _("Online")
    OFFLINE = "offline", _("Offline")
    ERROR = "error", _("Error")


class VirtualizationTypeChoice(models.TextChoices):
    """Who owns the hardware, for people (values: `drivers.types.VirtualizationType`)."""

    BARE_METAL = "bare_metal", _("Bare metal")
    HYBRID = "hybrid", _("Hybrid")
    HOSTED = "hosted", _("Hosted")
    OS_LEVEL = "os_level", _("OS level")


class TechniqueChoice(models.TextChoices):
    """How guests run, for people (values: `drivers.types.Technique`)."""

    FULL_VIRTUALIZATION = "full_virtualization", _("full virtualization")
    PARAVIRTUALIZATION = "paravirtualization", _("paravirtualization")
    HARDWARE_ASSISTED = "hardware_assisted", _("hardware assisted")
    KERNEL_BASED = "kernel_based", _("kernel based")
    SHARED_KERNEL = "shared_kernel", _("shared kernel")
    EMULATION = "emulation", _("emulation")


class ProofChoice(models.TextChoices):
    """What a driver was proven on, for people (values: `drivers.types.Proof`): a few words, and `sentence`."""

    REAL = "real", _("proven on the real one")
    PARTLY = "partly", _("proven in part")
    SIMULATOR = "simulator", _("proven on a simulator")
    STAND_IN = "stand_in", _("proven on a stand-in")
    NONE = "none", _("not tried yet")

    @property
    def sentence(self) -> str:
        """The same, at length."""
        return str(_PROOFS[self.value])


_PROOFS = {
    "real": _("This driver is tested on the hypervisor itself."),
    "partly": _(
        "libvirt's own driver is tested, with stand-ins for the product's tools. The product itself was not there."
    ),
    "simulator": _("This driver is tested on a simulator that others maintain, not on the product itself."),
    "stand_in": _(
        "This driver is tested on a stand-in made from the product's documentation, not on the product itself."
    ),
    "none": _("This driver should work, but nobody has tried it yet. The host doctor says what it finds."),
}


DRIVERS = (
    "qemu",
    "xen",
    "lxc",
    "esx",
    "vpx",
    "hyperv",
    "xapi",
    "openvz",
    "vz",
    "vbox",
    "vmware",
    "bhyve",
    "ch",
    "test",
    "docker",
    "podman",
)
"""The contract's words for drivers, built in or not: what a filter may name."""
