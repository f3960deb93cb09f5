"""Hyper-V as a kind: how it is reached and what it can do at best."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from drivers.base import Driver
from drivers.errors import AuthFailed, TlsFailed, Unreachable
from drivers.forms import CA_CERTIFICATE, HOST, PASSWORD, PORT, VERIFY, Field, Way
from drivers.hyperv.session import HyperVSession
from drivers.hyperv.transport import bounded_context
from drivers.hyperv.wire import Wire
from drivers.polling import no_news
from drivers.types import Feature, Proof

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.types import Endpoint

HTTPS_PORT, HTTP_PORT = 5986, 5985

_RDP = "Hyper-V shows screens by RDP on its port 2179 only, which a browser cannot speak."
_LATER = "This version does not do that on Hyper-V yet."
_REASONS: dict[Feature, str] = {
    Feature.DEFINE: "Hyper-V has no definition in one piece: a guest is many settings objects, changed one by one.",
    Feature.XML: "Hyper-V has no definition in one piece that could be shown or edited.",
    Feature.CONSOLE_SERIAL: "Hyper-V leads a guest's serial ports to named pipes on the host, which WinRM does not carry.",
    Feature.CONSOLE_SHELL: "A virtual machine has no shell that Hyper-V could open.",
    Feature.CONSOLE_VNC: _RDP,
    Feature.CONSOLE_SPICE: _RDP,
    Feature.EVENTS: no_news("Hyper-V"),
    Feature.SNAPSHOTS_DISK: "This version does not manage Hyper-V's checkpoints yet.",
    Feature.SNAPSHOTS_MEMORY: "This version does not manage Hyper-V's checkpoints yet.",
    Feature.SNAPSHOTS_LIVE: "This version does not manage Hyper-V's checkpoints yet.",
    Feature.MIGRATION_LIVE: _LATER,
    Feature.STORAGE_MANAGE: "Hyper-V has one folder for new disks, which is set on the host; it is shown here, and holds new disks.",
    Feature.STORAGE_CONTENT: "WinRM carries no files: put a CD image into Hyper-V's folder of disks on the host, and name it.",
    Feature.NETWORKS_MANAGE: "Switches are made and removed on the host; here guests are put on them.",
    Feature.HOTPLUG_DISK: _LATER,
    Feature.HARDWARE: _LATER,
    Feature.HOTPLUG_CPU: _LATER,
    Feature.HOTPLUG_MEMORY: _LATER,
    Feature.HOTPLUG_INTERFACE: _LATER,
    Feature.HOST_DEVICES: _LATER,
    Feature.CLONE: _LATER,
}
_USERNAME = Field(
    name="username",
    label="User name",
    hint="Of the host (virt) or of the domain (EXAMPLE\\virt), in the host's group Hyper-V Administrators.",
    required=True,
)


class HyperVDriver(Driver):
    """Hyper-V of Windows Server and Windows, by WinRM over HTTPS (`hyperv://host`)."""

    kind = "hyperv"
    label = "Hyper-V"
    schemes = ("hyperv",)
    transports = ("",)
    macs = (0x00155D000000, 0x00155DFFFFFF)
    """Microsoft's own, which Hyper-V takes its from."""
    reasons: ClassVar[Mapping[Feature, str]] = _REASONS
    features: ClassVar[frozenset[Feature]] = frozenset(Feature) - frozenset(_REASONS)
    ways = (
        Way(
            name="winrm",
            label="WinRM over HTTPS",
            scheme="hyperv",
            port=HTTPS_PORT,
            fields=(HOST, PORT, _USERNAME, PASSWORD, CA_CERTIFICATE, VERIFY),
            warning="Never tried on a real Hyper-V: made from Microsoft's documentation, proven on a stand-in of ours. "
            "WinRM's usual listener (HTTP, port 5985) is not used: the host needs an HTTPS listener.",
        ),
    )
    proof = Proof.STAND_IN

    def open(self, endpoint: Endpoint) -> HyperVSession:
        """Sign in and look at the host: some ten messages, each with its deadline."""
        where = urlsplit(endpoint.uri)
        if where.scheme != "hyperv" or not where.hostname:
            raise Unreachable(f"{endpoint.uri} is no Hyper-V host.")
        credentials = endpoint.credentials
        if credentials is None or not credentials.username:
            raise AuthFailed(f"WinRM on {where.hostname} needs a user name and a password.", host=where.hostname)
        if where.port == HTTP_PORT:
            message = (
                f"Port {HTTP_PORT} is WinRM without TLS; this version speaks HTTPS only, usually on port {HTTPS_PORT}."
            )
            raise TlsFailed(message, host=where.hostname)
        wire = Wire(where.hostname, where.port or HTTPS_PORT, bounded_context(credentials), credentials)
        try:
            return HyperVSession(self, endpoint, wire)
        except BaseException:
            wire.close()
            raise
