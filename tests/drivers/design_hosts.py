"""Hosts as their libvirt tells them, for the designs: what is in the answers is what QEMU 7.2 and Xen 4.17 hosts said."""

from __future__ import annotations

from drivers.libvirtd.design.common import Host
from drivers.libvirtd.xml.capabilities import Capabilities, DomainCapabilities

_MACHINES = {
    "x86_64": "<machine canonical='pc-i440fx-7.2'>pc</machine><machine canonical='pc-q35-7.2'>q35</machine>"
    "<machine>pc-q35-7.2</machine>",
    "aarch64": "<machine canonical='virt-7.2'>virt</machine>",
    "s390x": "<machine canonical='s390-ccw-virtio-7.2'>s390-ccw-virtio</machine>",
}


def _enum(name: str, *words: str) -> str:
    return f"<enum name='{name}'>" + "".join(f"<value>{word}</value>" for word in words) + "</enum>"


def qemu_host(
    *,
    arch: str = "x86_64",
    vendor: str = "Intel",
    kvm: bool = True,
    uefi: bool = False,
    secure: bool = False,
    tpm: bool = False,
    nests: bool | None = True,
    rng: bool = True,
    spice: bool = True,
) -> Host:
    """A QEMU host that has what is said."""
    types = "<domain type='qemu'/>" + ("<domain type='kvm'/>" if kvm else "")
    capabilities = Capabilities.parse(
        f"<capabilities><host><cpu><arch>{arch}</arch><model>Haswell</model><vendor>{vendor}</vendor></cpu></host>"
        f"<guest><os_type>hvm</os_type><arch name='i686'>{_MACHINES['x86_64']}{types}</arch></guest>"
        f"<guest><os_type>hvm</os_type><arch name='{arch}'>{_MACHINES[arch]}{types}</arch></guest></capabilities>"
    )

    def domains(kind: str, architecture: str, machine: str) -> DomainCapabilities:
        assert architecture == arch  # the machine's own, though i686 stands first
        q35 = "q35" in machine
        buses = ("virtio", "scsi", "usb") + (("sata",) if q35 else ("ide", "sata") if machine == "pc" else ())
        modes = {"host-passthrough": kind == "kvm", "maximum": True, "host-model": True}
        return DomainCapabilities.parse(
            f"<domainCapabilities><domain>{kind}</domain><arch>{arch}</arch><vcpu max='{288 if q35 else 255}'/><os>"
            + _enum("firmware", *(["efi"] if uefi else []))
            + "<loader>"
            + _enum("secure", "no", *(["yes"] if secure and q35 else []))
            + "</loader></os><cpu>"
            + "".join(f"<mode name='{mode}' supported='{'yes' if there else 'no'}'/>" for mode, there in modes.items())
            + "<mode name='custom' supported='yes'><model usable='yes'>qemu64</model><model usable='no'>EPYC-Rome</model></mode>"
            + f"</cpu><devices><disk>{_enum('bus', *buses)}</disk>"
            + f"<graphics>{_enum('type', 'vnc', *(['spice'] if spice else []))}</graphics>"
            + f"<video>{_enum('modelType', 'vga', 'virtio')}</video><rng supported='{'yes' if rng else 'no'}'/>"
            + f"<tpm>{_enum('model', 'tpm-tis', 'tpm-crb')}{_enum('backendModel', 'passthrough', *(['emulator'] if tpm else []))}</tpm>"
            + "</devices><features><hyperv supported='yes'/></features></domainCapabilities>"
        )

    return Host(capabilities=capabilities, domains=domains, nests=lambda: nests)


def xen_host(*, hvm: bool = True, ovmf: bool = True) -> Host:
    """A Xen host, whose processor can run HVM guests or not."""
    kinds = [("xen", "xenpv"), *([("hvm", "xenfv"), ("xenpvh", "xenpvh")] if hvm else [])]
    capabilities = Capabilities.parse(
        "<capabilities><host><cpu><arch>x86_64</arch></cpu></host>"
        + "".join(
            f"<guest><os_type>{os}</os_type><arch name='x86_64'><machine>{machine}</machine><domain type='xen'/></arch></guest>"
            for os, machine in kinds
        )
        + "</capabilities>"
    )

    def domains(kind: str, architecture: str, machine: str) -> DomainCapabilities:
        assert (kind, architecture) == ("xen", "x86_64")
        loaders = [*(["/usr/lib/xen/boot/ovmf.bin"] if ovmf else []), "/usr/lib/xen/boot/hvmloader"]
        told = "".join(f"<value>{path}</value>" for path in loaders) if machine == "xenfv" else ""
        return DomainCapabilities.parse(
            f"<domainCapabilities><vcpu max='{128 if machine == 'xenfv' else 512}'/><os><loader>{told}</loader></os><devices><disk>"
            f"{_enum('bus', 'ide', 'scsi', 'xen')}</disk></devices></domainCapabilities>"
        )

    return Host(capabilities=capabilities, domains=domains, nests=lambda: False)


def plain_host(os_type: str, domain_type: str) -> Host:
    """A host of containers, or the simulated one: it answers no question about domains."""
    capabilities = Capabilities.parse(
        "<capabilities><host><cpu><arch>x86_64</arch></cpu></host>"
        f"<guest><os_type>{os_type}</os_type><arch name='x86_64'><domain type='{domain_type}'/></arch></guest></capabilities>"
    )

    def domains(_kind: str, _architecture: str, _machine: str) -> DomainCapabilities:
        raise AssertionError("libvirt's lxc and test drivers have no domain capabilities")

    return Host(capabilities=capabilities, domains=domains, nests=lambda: None)
