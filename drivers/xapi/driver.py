"""XenServer and XCP-ng: what the driver is called, what it can do at best, how to open it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from drivers import tls
from drivers.base import Driver
from drivers.errors import AuthFailed, Unreachable
from drivers.forms import CA_CERTIFICATE, HOST, PASSWORD, PORT, USERNAME, VERIFY, Way
from drivers.types import Endpoint, Feature, Proof
from drivers.wires import Target
from drivers.xapi.pool import HTTPS_PORT
from drivers.xapi.session import XapiSession
from drivers.xapi.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Mapping

_FEATURES = frozenset(
    {
        Feature.START,
        Feature.SHUTDOWN,
        Feature.REBOOT,
        Feature.RESET,
        Feature.FORCE_OFF,
        Feature.SUSPEND,
        Feature.RESUME,
        Feature.MANAGED_SAVE,
        Feature.DISCARD_MANAGED_SAVE,
        Feature.AUTOSTART,
        Feature.RENAME,
        Feature.UNDEFINE,
        Feature.CONSOLE_VNC,
        Feature.METRICS_CPU,
        Feature.METRICS_MEMORY,
        Feature.METRICS_DISK,
        Feature.METRICS_NETWORK,
        Feature.EVENTS,
        Feature.SNAPSHOTS_DISK,
        Feature.SNAPSHOTS_MEMORY,
        Feature.SNAPSHOTS_LIVE,
        Feature.CREATE,
        Feature.ADDRESSES,
        Feature.STORAGE_POOLS,
        Feature.NETWORKS,
    }
)
_NOT_YET = "XenServer can do this, but not through here yet."


class XapiDriver(Driver):
    """A XenServer or XCP-ng host or pool, through its XAPI (`xapi://host`)."""

    kind = "xapi"
    label = "XenServer / XCP-ng"
    schemes = ("xapi",)
    transports = ("",)
    macs = (0x00163E000000, 0x00163E7FFFFF)
    """What Xen's project leaves to whoever chooses addresses himself."""
    features: ClassVar[frozenset[Feature]] = _FEATURES
    reasons: ClassVar[Mapping[Feature, str]] = {
        Feature.DEFINE: "XenServer makes guests from templates, not from XML.",
        Feature.XML: "XenServer keeps guests as records, not as XML.",
        Feature.CONSOLE_SERIAL: "XenServer offers a guest's screen; a serial line reaches only the host's own xl console.",
        Feature.CONSOLE_SHELL: "A guest of XenServer is a machine: a shell in it needs the guest's own login.",
        Feature.CONSOLE_SPICE: "XenServer offers screens by VNC only.",
        Feature.SCREENSHOT: "XenServer has no call for a picture of the screen; open the console instead.",
        Feature.MIGRATION_LIVE: _NOT_YET,
        Feature.STORAGE_MANAGE: "Storage repositories are made and removed at the XenServer; here they are shown, and hold new disks.",
        Feature.STORAGE_CONTENT: "This version writes nothing into disks there yet: put a CD image into an ISO repository, and name it.",
        Feature.NETWORKS_MANAGE: "Networks are made and removed at the XenServer; here guests are put on them.",
        Feature.HOTPLUG_DISK: _NOT_YET,
        Feature.HARDWARE: _NOT_YET,
        Feature.HOTPLUG_CPU: _NOT_YET,
        Feature.HOTPLUG_MEMORY: _NOT_YET,
        Feature.HOTPLUG_INTERFACE: _NOT_YET,
        Feature.HOST_DEVICES: _NOT_YET,
        Feature.CLONE: _NOT_YET,
    }
    ways: ClassVar[tuple[Way, ...]] = (
        Way(
            name="https",
            label="XAPI over HTTPS",
            scheme="xapi",
            port=HTTPS_PORT,
            fields=(HOST, PORT, USERNAME, PASSWORD, VERIFY, CA_CERTIFICATE),
        ),
    )
    proof = Proof.STAND_IN

    def open(self, endpoint: Endpoint) -> XapiSession:
        """Sign in. Raises AuthFailed, Unreachable (also at a mere member of a pool), TlsFailed, Timeout."""
        where = urlsplit(endpoint.uri)
        credentials = endpoint.credentials
        if where.scheme != "xapi" or not where.hostname:
            raise Unreachable(f"{endpoint.uri} is not the address of a XenServer.")
        if credentials is None or not credentials.username:
            message = "XenServer wants a user name and a password."
            raise AuthFailed(message)
        context = tls.client_context(credentials)
        port = where.port or HTTPS_PORT
        target = Target(host=where.hostname, port=port, context=context, username=credentials.username)
        secret = credentials.password
        wire = Wire(target, lambda: secret)
        return XapiSession.open(endpoint, wire, lambda: Wire(target, lambda: secret), self)
