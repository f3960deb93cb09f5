"""libvirt's own Linux containers: a directory as root file system, a console, networks of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers import specs
from drivers.libvirtd.design import common
from drivers.libvirtd.xml.devices import CharDevice, Filesystem
from drivers.libvirtd.xml.domain import Clock, Features, InitArgument, Os

if TYPE_CHECKING:
    from drivers.libvirtd.design.common import Host
    from drivers.libvirtd.xml.domain import Domain
    from drivers.types import GuestSpec

INIT: Final = "/sbin/init"
_NO_MACHINE: Final = {
    "accelerator": "a container runs on the host's own kernel; leave it auto.",
    "machine": "a container has no machine of its own.",
    "firmware": "a container has no firmware.",
    "secure_boot": "a container has no firmware.",
    "tpm": "a container has no TPM.",
    "cpu_mode": "a container has the host's processors.",
    "nested": "a container has the host's processors, and no say over them.",
    "kernel": "a container runs on the host's own kernel.",
    "initrd": "a container runs on the host's own kernel.",
    "cmdline": "a container runs on the host's own kernel.",
    "boot_order": "a container boots from nothing; it has an init.",
    "disks": "a container has a root directory where machines have disks; give root.",
    "image": "libvirt's containers have a root directory, and no image; give root.",
}


def design(spec: GuestSpec, host: Host) -> Domain:
    """The container that libvirt would run for `spec`. Its vCPUs are a figure only: libvirt gives it the host's CPUs.

    What a machine could have and its spec does not ask for (a screen, an agent) is left out without a word.

    Raises:
        InvalidDefinition: Without a root directory, …
        Unsupported: What only machines have is asked for, or the host runs no containers.
    """
    specs.check(spec)
    specs.refuse_wishes(spec, _NO_MACHINE)
    if not spec.root:
        raise specs.refusal("root", "a container needs the directory on the host that holds its root file system.")
    common.check_paths(spec)
    guest = next(iter(host.guests("exe")), None)
    if guest is None:
        raise specs.lacking("root", "libvirt on this host runs no containers.")
    domain = common.begin(spec, "lxc")
    domain.os = os = Os(type="exe", arch=guest.arch)
    os.init, *arguments = _init(spec)
    for argument in arguments:
        os.init_arguments.add(InitArgument(text=argument))
    # Without a network of its own a container that has no interface would share the host's.
    domain.features = Features(privnet=True)
    domain.clock = Clock(offset="utc")
    domain.filesystems.add(Filesystem(type="mount", accessmode="passthrough", source_dir=spec.root, target="/"))
    common.add_interfaces(spec, domain, model=None)
    domain.consoles.add(CharDevice(type="pty", target_type="lxc", target_port=0))
    return domain


def _init(spec: GuestSpec) -> list[str]:
    words = specs.command(spec) or [INIT]
    if not words[0].startswith("/"):
        raise specs.refusal("init", "its first word is a path inside the container and begins with a slash.")
    return words
