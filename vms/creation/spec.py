"""A VM spec as a caller writes it: its shape and the bounds of each value. What it means on which host, `vms.creation.plan` finds out.

Strict: what is not known is refused, and nothing is coerced. Names are narrow on purpose: what passes here means nothing to a
file system, to XML or to a terminal. No value is ever a path of ours; the one path that there is (a container's root) lies on the
host, and needs the scope that raw XML needs.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WrapValidator, model_validator

from core.errors import BadInput
from core.fields import check_tags
from core.units import KIB, MIB, TIB

NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""Of a guest: also a host name inside it, and part of its volumes' names."""
DISKS_MAX, INTERFACES_MAX = 16, 16
VCPUS_MAX: Final = 1024
MEMORY_BYTES_MIN, MEMORY_BYTES_MAX = MIB, 64 * TIB
DISK_BYTES_MIN, DISK_BYTES_MAX = MIB, 1024 * TIB
DOCUMENT_MAX: Final = 256 * KIB
XML_MAX: Final = 1024 * KIB
DEFAULT_VCPUS, DEFAULT_MEMORY_BYTES = 1, 1024 * MIB
WAIT_SECONDS: Final = 300
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_PORT = re.compile(r"port:([1-9][0-9]{0,4})")


def _printable(text: str) -> str:
    if _UNPRINTABLE.search(text):
        raise ValueError("no control characters, and no line breaks")
    return text


def _lines(text: str) -> str:
    if _UNPRINTABLE.search(text.replace("\n", "").replace("\r", "").replace("\t", "")):
        raise ValueError("no control characters")
    return text


def _tags(values: list[str]) -> list[str]:
    try:
        return check_tags(values)
    except BadInput as error:
        raise ValueError(error.detail) from None


def _host_path(text: str) -> str:
    parts = _printable(text).split("/")
    if parts[0] or any(part in ("", ".", "..") for part in parts[1:]):
        raise ValueError("a path from the root on, written out: no empty part, no . and no ..")
    return text


def _wait_for(text: str) -> str:
    port = _PORT.fullmatch(text)
    if text.startswith("port:") and not (port and int(port[1]) < 65536):
        raise ValueError("port:N with N from 1 to 65535")
    return _printable(text)


Reference = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_printable)]
"""An id, or a name as it stands on the host."""
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
Line = Annotated[str, StringConstraints(max_length=255), AfterValidator(_printable)]
Text = Annotated[str, StringConstraints(max_length=10_000), AfterValidator(_lines)]
Document = Annotated[str, StringConstraints(max_length=DOCUMENT_MAX)]
SshKey = Annotated[str, StringConstraints(min_length=1, max_length=10_000), AfterValidator(_printable)]
Mac = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$")]
Tags = Annotated[list[Annotated[str, StringConstraints(max_length=100)]], Field(max_length=50), AfterValidator(_tags)]
Bus = Literal["virtio", "scsi", "sata", "ide", "usb", "xen"]


class Part(BaseModel):
    """What every part of a spec is: strict, and what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DiskIn(Part):
    """A disk: empty, or from an image."""

    size_bytes: int | None = Field(
        None,
        ge=DISK_BYTES_MIN,
        le=DISK_BYTES_MAX,
        description="Without an image it must be said; with one at least the image's.",
    )
    pool: Reference | None = Field(
        None, description="Id or name; left out: the one with most room of those that hold qcow2."
    )
    image: Reference | None = Field(None, description="Id or name of an image, or the name of a volume in `pool`.")
    template: Reference | None = Field(
        None, description="Id or name of a template, with `@version` where not its current one is meant: all its disks."
    )
    clone: Literal["linked", "full"] = Field(
        "linked", description="An overlay of the image or the template's disk, or a copy of its own."
    )
    format: Literal["qcow2", "raw"] | None = None
    bus: Bus | None = Field(None, description="Left out: what suits the guest best.")

    @model_validator(mode="after")
    def _whole(self) -> DiskIn:
        if self.image is None and self.template is None and self.size_bytes is None:
            raise ValueError("size_bytes, an image or a template")
        if self.image is not None and self.template is not None:
            raise ValueError("either an image or a template")
        if (self.image or self.template) is not None and self.clone == "linked" and self.format == "raw":
            raise ValueError("a linked disk is qcow2; take clone: full for a raw one")
        return self


class InterfaceIn(Part):
    """A network interface."""

    network: Reference = Field(description="Id or name, on that host.")
    model: Word | None = Field(None, description="Left out: what suits the guest best.")
    mac: Mac | None = Field(None, description="Left out: a new one.")


class BootIn(Part):
    """How it boots: by firmware, or a kernel straight."""

    kernel: Reference | None = Field(None, description="Name of a volume in `pool`, never a path.")
    initrd: Reference | None = Field(None, description="Likewise.")
    cmdline: Annotated[str, StringConstraints(max_length=2048), AfterValidator(_printable)] = ""
    pool: Reference | None = Field(
        None, description="Where kernel and initrd lie; left out: where the first disk goes."
    )
    firmware: Literal["bios", "uefi"] = "bios"
    secure_boot: bool = False
    tpm: bool = False

    @model_validator(mode="after")
    def _whole(self) -> BootIn:
        if self.kernel is None and (self.initrd is not None or self.cmdline):
            raise ValueError("initrd and cmdline need a kernel")
        if self.secure_boot and self.firmware != "uefi":
            raise ValueError("secure_boot needs firmware: uefi")
        return self


class CpuIn(Part):
    """Its processor."""

    mode: Word | None = Field(None, description="`host-passthrough`, `host-model`, `maximum`, or a model's name.")
    nested: bool = Field(default=False, description="It runs a hypervisor itself.")


class CloudInitIn(Part):
    """What cloud-init in the guest finds at its first boot. `user_data` is merged with the rest."""

    user_data: Document | None = Field(None, description="A `#cloud-config` document.")
    network_config: Document | None = Field(None, description="Version 2; left out: DHCP on every interface.")
    ssh_keys: Annotated[list[SshKey], Field(max_length=100)] = []
    hostname: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$")] | None = Field(
        None, description="Left out: the guest's name."
    )
    user: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] | None = Field(
        None, description="Left out: the image's own."
    )
    password_hash: (
        Annotated[str, StringConstraints(pattern=r"^\$(1|5|6|y|gy|7|2[aby])\$[./A-Za-z0-9$=,-]{8,200}$")] | None
    ) = Field(
        None, description="As in /etc/shadow: what `mkpasswd` or `openssl passwd -6` prints. Never a password itself."
    )
    packages: Annotated[list[Word], Field(max_length=500)] = []


class ContainerIn(Part):
    """What a container runs. Its place must be named, since not every engine takes either."""

    image: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$")] | None = Field(
        None, description="As an engine names it: `docker.io/library/alpine:3.22`."
    )
    root: Annotated[str, StringConstraints(min_length=2, max_length=1024), AfterValidator(_host_path)] | None = Field(
        None, description="Directory on the host with its files (LXC). Needs the scope `admin`."
    )
    init: Annotated[str, StringConstraints(max_length=1024), AfterValidator(_printable)] = ""

    @model_validator(mode="after")
    def _one(self) -> ContainerIn:
        if (self.image is None) == (self.root is None):
            raise ValueError("either image or root")
        return self


class Placed(Part):
    """Where a guest shall be, and what shall be done when it is there."""

    hypervisor: Reference | None = Field(None, description="Id of the hypervisor.")
    driver: Word | None = Field(None, description="Any hypervisor of this kind: `qemu`, `xen`, …")
    placement: Literal["auto"] | None = Field(
        None, description="The best of all; so it is when none of the three is said."
    )
    start: bool = True
    wait_for: Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_wait_for)] | None = Field(
        None,
        description="When the operation has ended well: `running` (the default), `address`, `ssh`, `port:N`, or a text that the "
        "guest writes on its serial console.",
    )
    wait_timeout_seconds: int = Field(WAIT_SECONDS, ge=1, le=3600, description="How long it is waited for.")

    @model_validator(mode="after")
    def _place(self) -> Placed:
        if sum(value is not None for value in (self.hypervisor, self.driver, self.placement)) > 1:
            raise ValueError("only one of hypervisor, driver and placement")
        if self.wait_for is not None and not self.start:
            raise ValueError("wait_for needs start: a guest that is off is not ready")
        return self


class VMSpec(Placed):
    """A guest to be made."""

    name: Annotated[str, StringConstraints(pattern=NAME)] = Field(examples=["web-01"])
    template: Reference | None = Field(
        None, description="Id or name of a template (`web@3`: that version). What is left out below is as it says."
    )
    parameters: Annotated[dict[str, str | int | bool], Field(max_length=100)] = Field(
        {}, description="Those that the template's version declares, by name."
    )
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    vcpus: int = Field(DEFAULT_VCPUS, ge=1, le=VCPUS_MAX)
    memory_bytes: int = Field(DEFAULT_MEMORY_BYTES, ge=MEMORY_BYTES_MIN, le=MEMORY_BYTES_MAX)
    disks: Annotated[list[DiskIn], Field(max_length=DISKS_MAX)] = []
    interfaces: Annotated[list[InterfaceIn], Field(max_length=INTERFACES_MAX)] | None = Field(
        None,
        description="Left out: one on the network `default`, where that is active, or on the only one of a hypervisor whose networks are "
        "not made from here.",
    )
    boot: BootIn = BootIn()
    cloud_init: CloudInitIn | None = None
    graphics: Literal["vnc", "spice", "none"] = "vnc"
    cpu: CpuIn = CpuIn()
    container: ContainerIn | None = None
    os: Line = Field("", description="libosinfo's identifier; left out: the image's.")
    title: Line = ""
    description: Text = ""
    tags: Tags = []
    project: Annotated[str, StringConstraints(max_length=100), AfterValidator(_printable)] = ""
    autostart: bool = Field(default=False, description="Start with the host.")
    ttl_seconds: int | None = Field(None, ge=1, description="Not yet: guests that go by themselves are leases.")

    @model_validator(mode="after")
    def _whole(self) -> VMSpec:
        if self.container is not None and (
            self.disks or self.cloud_init or self.boot != BootIn() or self.template is not None
        ):
            raise ValueError("a container has no disks, no boot, no cloud_init and no template")
        if self.container is not None and self.hypervisor is None and self.driver is None:
            raise ValueError("a container's hypervisor or driver must be named")
        return self


class XmlSpec(Placed):
    """A definition as it is. Needs the scope `admin`."""

    xml: Annotated[str, StringConstraints(min_length=1, max_length=XML_MAX)]


def _either(raw: Any, _handler: Any) -> VMSpec | XmlSpec:
    """By what it holds, so that errors name fields of the one that is meant."""
    if isinstance(raw, VMSpec | XmlSpec):
        return raw
    return (XmlSpec if isinstance(raw, dict) and "xml" in raw else VMSpec).model_validate(raw)


NewVM = Annotated[VMSpec | XmlSpec, WrapValidator(_either)]
"""A request's body."""
