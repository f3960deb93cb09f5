"""Where a hypervisor is, who signs in there, and the machine behind it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from drivers.types.words import Technique, VirtualizationType


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How to sign in at an endpoint. Its repr shows nothing."""

    username: str = ""
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    host_key: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    ca_certificate: str = field(default="", repr=False)
    verify: bool | str = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where, how and as whom to reach one hypervisor.

    Attributes:
        driver: Registry kind (`qemu`, `lxc`, `test`, …).
        uri: The contract's URI, already checked by `drivers.uris.parse_uri`. Never carries a secret.
        credentials: As whom. None for local sockets.
    """

    driver: str
    uri: str
    credentials: Credentials | None = None

    @property
    def key(self) -> str:
        """Identity for pools and maps: changes when the URI or any credential does, and reveals neither."""
        secret = (
            "\0".join(str(getattr(self.credentials, name)) for name in Credentials.__slots__)
            if self.credentials
            else ""
        )
        return hashlib.sha256(f"{self.driver}\0{self.uri}\0{secret}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInfo:
    """The machine behind an endpoint, and the hypervisor on it.

    Attributes:
        host_uuid: Same for all hypervisors of one machine; "" where unknown.
        nested_virtualization: Whether guests can themselves run hardware-assisted guests; None where unknown.
        hypervisor_version: For people, e.g. `QEMU 7.2.22`.
        boot_id: Another one after each boot of the machine; "" where nobody tells.
        uptime_seconds: Since the machine came up, or a little less (see `HostStats`); None where nobody tells.
    """

    hostname: str
    host_uuid: str = ""
    cpu_count: int = 0
    cpu_model: str = ""
    cpu_architecture: str = ""
    memory_total_bytes: int = 0
    memory_free_bytes: int = 0
    kernel: str = ""
    nested_virtualization: bool | None = None
    hypervisor_version: str = ""
    library_version: str = ""
    virtualization_type: VirtualizationType = VirtualizationType.HYBRID
    techniques: tuple[Technique, ...] = ()
    boot_id: str = ""
    uptime_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStats:
    """Counters of the host. `cpu_busy_seconds`: all CPUs together, since boot; None unknown.

    `uptime_seconds`: since boot, or a little less where it is told by what CPUs have counted (time that was stolen from the machine,
    or slept, is not in it). It only grows until the machine boots anew. None unknown.
    """

    at: float
    cpu_count: int
    cpu_busy_seconds: float | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    uptime_seconds: float | None = None
