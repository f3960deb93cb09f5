"""Which kinds of hypervisor there are: one literal table, and whatever others installed under `vmmanager.drivers`.

Nothing is imported before it is asked for, so a missing client library costs only its own kind.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import entry_points

from drivers.base import Driver
from drivers.errors import Unsupported
from drivers.types import Support

BUILT_IN: dict[str, str] = {
    "qemu": "drivers.libvirtd.kinds:QemuDriver",
    "xen": "drivers.libvirtd.xen:XenDriver",
    "lxc": "drivers.libvirtd.kinds:LxcDriver",
    "docker": "drivers.dockerd:DockerDriver",
    "podman": "drivers.dockerd:PodmanDriver",
    "esx": "drivers.vsphere:EsxDriver",
    "vpx": "drivers.vsphere:VCenterDriver",
    "hyperv": "drivers.hyperv:HyperVDriver",
    "xapi": "drivers.xapi:XapiDriver",
    "openvz": "drivers.libvirtd.openvz:OpenVzDriver",
    "vz": "drivers.libvirtd.openvz:VirtuozzoDriver",
    "vmware": "drivers.libvirtd.hosted:VmwareDriver",
    "vbox": "drivers.libvirtd.hosted:VirtualBoxDriver",
    "bhyve": "drivers.libvirtd.others:BhyveDriver",
    "ch": "drivers.libvirtd.others:CloudHypervisorDriver",
    "test": "drivers.libvirtd.kinds:TestDriver",
    "fake": "drivers.fake:FakeDriver",
}
GROUP = "vmmanager.drivers"


@cache
def _paths() -> dict[str, str]:
    """Kind -> dotted path. Ours win over an entry point of the same name: nobody replaces a driver by installing one."""
    return {point.name: point.value for point in entry_points(group=GROUP)} | BUILT_IN


def kinds() -> tuple[str, ...]:
    """Every known kind, ours first."""
    return (*BUILT_IN, *(kind for kind in sorted(_paths()) if kind not in BUILT_IN))


@cache
def get(kind: str) -> Driver:
    """The driver of this kind; one object a process.

    Raises:
        Unsupported: Nobody knows the kind, or its library is missing.
    """
    path = _paths().get(kind)
    if path is None:
        message = f"There is no driver of the kind {kind!r}."
        raise Unsupported(message, driver=kind)
    module, _, name = path.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)()
    except ModuleNotFoundError as error:
        ours = (error.name or "").split(".")[0] == "drivers"
        message = (
            "This version has no driver of this kind."
            if ours
            else f"The Python package {error.name!r} is not installed."
        )
        raise Unsupported(message, driver=kind) from error
    except (ImportError, AttributeError) as error:
        message = f"The driver {kind!r} cannot be loaded: {error}."
        raise Unsupported(message, driver=kind) from error
    if not isinstance(made, Driver):
        message = f"The driver {kind!r} is none: {path} is no Driver."
        raise Unsupported(message, driver=kind)
    return made


def availability(kind: str) -> Support:
    """Whether the driver can be used in this installation, and if not, why."""
    try:
        get(kind)
    except Unsupported as error:
        return Support(supported=False, reason=error.detail)
    return Support(supported=True)
