"""The two kinds of VMware server: a lone ESXi host, and a vCenter, of which one datacenter is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pyVmomi import vim

from drivers.base import Driver
from drivers.errors import AuthFailed, NotFound, Unsupported
from drivers.forms import CA_CERTIFICATE, HOST, PASSWORD, PORT, USERNAME, VERIFY, Field, Way
from drivers.tls import client_context
from drivers.types import Feature, Proof
from drivers.vsphere.collector import retrieve, through_view
from drivers.vsphere.errors import translate
from drivers.vsphere.session import VsphereSession
from drivers.vsphere.values import items, text
from drivers.vsphere.wire import Wire
from drivers.wires import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.base import Session
    from drivers.types import Endpoint

HTTPS_PORT = 443

_FEATURES = frozenset(
    {
        Feature.START,
        Feature.SHUTDOWN,
        Feature.REBOOT,
        Feature.RESET,
        Feature.FORCE_OFF,
        Feature.SUSPEND,
        Feature.RESUME,
        Feature.RENAME,
        Feature.UNDEFINE,
        Feature.CONSOLE_VNC,
        Feature.SCREENSHOT,
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
_VMX = "VMware keeps a guest's definition in a .vmx file of its own, not as XML; change it in VMware's own client."
_SAVES = "VMware's suspend is that already: it writes the guest's memory to disk and stops it."
_REASONS: dict[Feature, str] = {
    Feature.MANAGED_SAVE: _SAVES,
    Feature.DISCARD_MANAGED_SAVE: "A suspended guest's memory goes when it is forced off.",
    Feature.DEFINE: _VMX,
    Feature.XML: _VMX,
    Feature.CONSOLE_SERIAL: "vSphere passes a serial port on to a file or the network, not to its clients; use the screen.",
    Feature.CONSOLE_SHELL: "A machine has no shell of the host's giving; use its screen.",
    Feature.CONSOLE_SPICE: "vSphere has no SPICE; use the screen (vnc).",
    Feature.MIGRATION_LIVE: "This version does not migrate guests yet.",
    Feature.STORAGE_MANAGE: "Datastores are made and removed in VMware's own client; here they are shown, and hold new disks.",
    Feature.STORAGE_CONTENT: "This version writes nothing into datastores yet: put a CD image there with VMware's client, and name it.",
    Feature.NETWORKS_MANAGE: "Port groups are made and removed in VMware's own client; here guests are put on them.",
    Feature.HOTPLUG_DISK: "This version does not plug disks in yet.",
    Feature.HARDWARE: "This version does not change hardware here yet.",
    Feature.HOTPLUG_CPU: "This version does not change hardware here yet.",
    Feature.HOTPLUG_MEMORY: "This version does not change hardware here yet.",
    Feature.HOTPLUG_INTERFACE: "This version does not change hardware here yet.",
    Feature.HOST_DEVICES: "This version does not hand devices of the host to guests here yet.",
    Feature.CLONE: "This version does not clone guests here yet.",
}
_CREDENTIALS = (USERNAME, PASSWORD, CA_CERTIFICATE, VERIFY)


class VsphereDriver(Driver):
    """What both share: HTTPS, a session, and the check that the other side is what the URI says."""

    transports = ("",)
    proof = Proof.SIMULATOR
    is_vcenter: ClassVar[bool]
    macs = (0x005056000000, 0x0050563FFFFF)
    """What VMware leaves to whoever chooses addresses himself."""

    def open(self, endpoint: Endpoint) -> Session:
        """Connect, sign in, and look at what there is: some eight round trips, each with its deadline."""
        wire = self._connect(endpoint)
        try:
            with translate(host=wire.target.host):
                scope = self._scope(wire, endpoint)
                return VsphereSession(self, endpoint, wire, scope, lambda: self._connect(endpoint))
        except BaseException:
            wire.close()
            raise

    def _connect(self, endpoint: Endpoint) -> Wire:
        credentials = endpoint.credentials
        if credentials is None or not credentials.username or not credentials.password:
            message = "A VMware server asks for a user name and a password."
            raise AuthFailed(message)
        host, port = _address(endpoint.uri)
        target = Target(host=host, port=port, context=client_context(credentials), username=credentials.username)
        wire = Wire(target, lambda: credentials.password)
        try:
            with translate(host=host):
                wire.open()
                self._check_kind(wire)
                wire.login()
        except BaseException:
            wire.close()
            raise
        return wire

    def _check_kind(self, wire: Wire) -> None:
        """Before the password is sent: is this the kind of server that the URI says?"""
        host = wire.target.authority.removesuffix(f":{HTTPS_PORT}")
        kind = text(wire.content.about.apiType)
        if kind == "VirtualCenter" and not self.is_vcenter:
            message = f"This is a vCenter, not an ESXi host: use vpx://{host}/ with a datacenter's name behind it."
            raise Unsupported(message, host=host)
        if kind == "HostAgent" and self.is_vcenter:
            message = f"This is a lone ESXi host, not a vCenter: use esx://{host}."
            raise Unsupported(message, host=host)
        if kind not in ("VirtualCenter", "HostAgent"):
            message = "What answers there is neither an ESXi host nor a vCenter."
            raise Unsupported(message, host=host)

    def _scope(self, wire: Wire, endpoint: Endpoint) -> Any:
        """Whose guests these are."""
        return wire.service("rootFolder")

    def server_name(self, wire: Wire) -> str:
        """What the server calls itself, where that is not its only host's name; "" where it does not say."""
        return ""


class EsxDriver(VsphereDriver):
    """One ESXi host that is spoken to itself."""

    kind = "esx"
    label = "VMware ESXi"
    schemes = ("esx",)
    is_vcenter = False
    features = _FEATURES | {Feature.AUTOSTART}
    reasons: ClassVar[Mapping[Feature, str]] = _REASONS
    ways = (Way(name="https", label="HTTPS", scheme="esx", port=HTTPS_PORT, fields=(HOST, PORT, *_CREDENTIALS)),)


class VCenterDriver(VsphereDriver):
    """One datacenter of a vCenter, or one cluster or host in it."""

    kind = "vpx"
    label = "VMware vCenter"
    schemes = ("vpx",)
    is_vcenter = True
    features = _FEATURES
    reasons: ClassVar[Mapping[Feature, str]] = _REASONS | {
        Feature.AUTOSTART: "What starts with a host is that host's setting, and vCenter's cluster overrules it.",
    }
    ways = (
        Way(
            name="https",
            label="HTTPS",
            scheme="vpx",
            port=HTTPS_PORT,
            fields=(
                HOST,
                PORT,
                Field(
                    name="path",
                    label="Datacenter",
                    hint="As vCenter's inventory shows it; with its folders in front, and a cluster behind it, if there are.",
                    placeholder="Datacenter1",
                    required=True,
                ),
                *_CREDENTIALS,
            ),
        ),
    )

    def _scope(self, wire: Wire, endpoint: Endpoint) -> Any:
        """What the path names: folders, the datacenter, and then perhaps a cluster and a host. Raises NotFound."""
        names = [part.replace("%20", " ") for part in endpoint.uri.partition("://")[2].split("/")[1:] if part]
        path: list[str] = []
        at: Any = wire.service("rootFolder")
        seen_datacenter = False
        for name in names:
            path += ["host", name] if isinstance(at, vim.Datacenter) else [name]
            at = wire.service("searchIndex").FindByInventoryPath("/".join(path))
            if not isinstance(at, vim.Folder | vim.Datacenter | vim.ComputeResource | vim.HostSystem):
                raise self._nothing_there(wire, name)
            seen_datacenter = seen_datacenter or isinstance(at, vim.Datacenter)
        if not seen_datacenter:
            raise self._nothing_there(wire, names[-1])
        return at

    def server_name(self, wire: Wire) -> str:
        """The name that vCenter's settings give it, if the account may read them."""
        try:
            options = wire.service("setting").QueryOptions("VirtualCenter.InstanceName")
        except (vim.fault.InvalidName, vim.fault.NoPermission):
            return ""
        return next((text(getattr(each, "value", None)) for each in items(options)), "")

    def _nothing_there(self, wire: Wire, name: str) -> NotFound:
        """The refusal names the datacenters that there are."""
        view = wire.service("viewManager").CreateContainerView(wire.service("rootFolder"), [vim.Datacenter], True)  # noqa: FBT003
        found = retrieve(wire, through_view(view, vim.Datacenter, ["name"]))
        known = ", ".join(sorted(text(each.get("name")) for each in found)[:10]) or "none that this account may see"
        return NotFound(
            f"There is no datacenter, cluster or host {name!r} at that place. The datacenters are: {known}."
        )


def _address(uri: str) -> tuple[str, int]:
    """Host and port of a checked URI."""
    place = uri.partition("://")[2].partition("/")[0]
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        return host, int(rest[1:]) if rest[1:] else HTTPS_PORT
    host, _, port = place.partition(":")
    return host, int(port) if port else HTTPS_PORT
