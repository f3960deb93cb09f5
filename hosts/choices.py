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
