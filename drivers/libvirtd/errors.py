"""Libvirt's numbers become our errors: the only place that knows them. `with translate(...)` stands around every verb."""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import libvirt

from drivers import errors
from drivers.libvirtd.faults import HARDWARE, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


WIRE = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE})
XEN = frozenset({libvirt.VIR_FROM_LIBXL})
STORAGE = frozenset({libvirt.VIR_FROM_STORAGE})
SSH = frozenset({libvirt.VIR_FROM_SSH, libvirt.VIR_FROM_LIBSSH})
_SIDE_DAEMONS = ("virtstoraged-sock", "virtnetworkd-sock")

TABLE: tuple[Row, ...] = (
    # -- texts that overrule the number -----------------------------------------------------------------------------
    Row(
        None,
        errors.NoSpace,
        "ENOSPC arrives as SYSTEM_ERROR, OPERATION_FAILED or INTERNAL_ERROR, by driver; the test driver has its own words",
        text=("no space left on device", "disk quota exceeded", "not enough free space in pool"),
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_FAILED,
        errors.ConsoleBusy,
        "measured: the second openConsole without FORCE",
        text=("active console session exists",),
        say="Somebody else holds this console; take it over, or wait until it is free.",
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        errors.Busy,
        "measured: a running job holds the state change lock, each modifying call waits 30 s for it",
        text=("cannot acquire state change lock",),
        say="The guest is busy with another job (a migration, a backup, a hung disk); try again when it has ended.",
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_INVALID,
        errors.Busy,
        "measured: delete and wipe while libvirt copies or wipes the volume",
        domains=STORAGE,
        text=("is still in use", "is still being allocated"),
        say="The volume is in use: a copy or another job works on it; try again when it has ended.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.Busy,
        "measured: a pool is stopped while libvirt copies or wipes in it",
        domains=STORAGE,
        text=("has asynchronous jobs running",),
        say="The storage pool is busy: a volume in it is copied, made or wiped; try again when that has ended.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.Busy,
        "measured: qemu-img on a qcow2 volume that a guest has open",
        text=("another process using the image",),
        say="A guest that runs has this volume open; shut it down first.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.InvalidDefinition,
        "measured: qemu-img create of more than qcow2 can address",
        text=("image size is too large",),
        say="A volume of this format cannot be that large.",
    ),
    Row(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        errors.InvalidDefinition,
        "measured: a raw volume of 1 EiB on ext4",
        text=("file too large",),
        say="The host's file system cannot hold a file that large.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.AlreadyExists,
        "measured: a network is started whose subnet an interface of the host is in",
        text=("network is already in use by interface",),
        say="An interface of the host is in this network's subnet already: give the network another address.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.AlreadyExists,
        "measured: a network is defined with the bridge of another",
        domains=frozenset({libvirt.VIR_FROM_NETWORK}),
        text=("already in use",),
        say="Another network has this bridge: choose another name for it, or none.",
    ),
    Row(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        errors.AlreadyExists,
        "measured: a network is started whose bridge is an interface that the host has",
        text=("error creating bridge interface",),
        say="The host has an interface of the name of this network's bridge already: choose another name for it, or none.",
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_FAILED,
        errors.AlreadyExists,
        "measured: a network filter of another identifier and the same name",
        domains=frozenset({libvirt.VIR_FROM_NWFILTER}),
        text=("already exists with uuid",),
        say="There is a network filter of this name already.",
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_FAILED,
        errors.AlreadyExists,
        "measured: a second pool on the same directory, device or export",
        text=("storage source conflict",),
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_INVALID,
        errors.InvalidDefinition,
        "measured: a pool is built on a device that is not there",
        domains=STORAGE,
        text=("source device does not exist",),
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.Unsupported,
        "measured: zfs and rbd without their package",
        domains=STORAGE,
        text=("missing backend for pool type",),
        say="The host's libvirt has no part for this type of pool: install it there (on Debian: libvirt-daemon-driver-storage-…).",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.Unsupported,
        "measured: a network is started on a host without iptables",
        text=("failed to apply firewall rules",),
        say="The host cannot set the firewall rules that libvirt's networks need: iptables is not installed there, or does not work.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.Unsupported,
        "measured: LVM, iSCSI and NFS pools on a host without lvm2, open-iscsi, nfs-common",
        text=("cannot execute binary", "with status '127'", "unknown filesystem type"),
        say="The host lacks a program or a file system that this type of pool needs (lvm2, open-iscsi, nfs-common …): install it there.",
    ),
    *HARDWARE,
    Row(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        errors.InvalidDefinition,
        "measured: a pool of a directory that is not there",
        text=("cannot open directory",),
    ),
    Row(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        errors.Unsupported,
        "libvirt's daemons one by one (its documentation): virtqemud runs, virtstoraged does not",
        domains=WIRE,
        text=_SIDE_DAEMONS,
        say="The host's libvirt has no daemon for this: virtstoraged or virtnetworkd is not installed there, or does not run.",
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_FAILED,
        errors.AlreadyExists,
        "measured: also when the first one is still being taken, after waiting for it",
        text=("domain moment",),
        say="The guest has a snapshot of this name already.",
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_FAILED,
        errors.AlreadyExists,
        "qemu, lxc and test: defineXML of a name that another UUID has",
        text=(
            "already exists with uuid",
            "already exists",
        ),
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_FAILED,
        errors.AlreadyExists,
        "virDomainObjListAdd: the UUID is taken by another name",
        text=("is already defined with uuid",),
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_INVALID,
        errors.AlreadyExists,
        "measured: a rename to a name that another has, in qemu and test",
        text=("already exists",),
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.WrongState,
        "measured: suspend, resume and create of the test driver, most verbs of openvz and vmware say so by INTERNAL_ERROR",
        text=("already running", "not running", "not paused", "is not in running state", "is not in suspend state"),
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.Unsupported,
        "measured: vmwarews:/// without the product",
        text=("vmrun utility is missing",),
        say="vmrun is not in the PATH of this service: install VMware Workstation or Player on this machine.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.Unsupported,
        "measured: openvz:/// on a machine with another kernel",
        text=("openvz control file",),
        say="That machine is no OpenVZ node: it has no /proc/vz.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.NotFound,
        "measured: openvz, a container that its administrator has destroyed",
        text=("container(s) not found",),
        say="The hypervisor does not know this guest.",
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_DENIED,
        errors.WrongState,
        "measured: openvz, the start of a container that runs",
        text=("domain is not in shutoff state",),
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.NotFound,
        "openConsole of a guest that has no pty: the name of the device is null",
        text=("cannot find character device", "cannot find console device", "is not using a pty"),
        say="This guest has no serial console that can be opened; add <console type='pty'/> to its definition.",
    ),
    Row(
        libvirt.VIR_ERR_INVALID_ARG,
        errors.Unsupported,
        "a driver refuses a flag that it does not know",
        text=("unsupported flags",),
    ),
    Row(
        libvirt.VIR_ERR_INVALID_ARG,
        errors.NotFound,
        "measured: interfaceStats and blockStats of a device that went",
        text=("is not a known interface", "invalid path"),
    ),
    Row(
        libvirt.VIR_ERR_RPC,
        errors.ConsoleBusy,
        "measured: what a console's stream says when another client opens it with FORCE",
        domains=frozenset({libvirt.VIR_FROM_STREAMS}),
        text=("stream had i/o failure",),
        say="Somebody else took this console over.",
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_INVALID,
        errors.NotFound,
        "measured: screenshot of a guest without graphics",
        text=("no screens to take screenshot from",),
        say="This guest has no screen.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.AgentUnresponsive,
        "measured: libxl waited 60 s for a guest whose kernel was not up",
        domains=XEN,
        text=("failed to shutdown domain", "failed to reboot domain"),
        say="The guest's kernel did not answer the host: it still boots, hangs, or has no Xen drivers. Force it off?",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.DriverError,
        "measured: a PV guest whose kernel was not up yet; a full disk in dom0",
        domains=XEN,
        text=("failed to save domain",),
        say="Xen could not save the guest: its kernel must be up and take part, and the host's disk must have room. The "
        "host's /var/log/libvirt/libxl/libxl-driver.log says which.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.DriverError,
        "measured: too little memory for its kernel; libvirt says no more than that",
        domains=XEN,
        text=("libxenlight failed to create", "libxenlight failed to restore"),
        say="Xen could not make the guest (too little memory for its kernel, no room on the host, a file that is missing …). "
        "The host's /var/log/libvirt/libxl/libxl-driver.log says why.",
    ),
    # -- snapshots ----------------------------------------------------------------------------------------------------
    Row(
        libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT,
        errors.NotFound,
        "measured: lookup",
        say="The guest has no snapshot of this name.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.NotFound,
        "measured: libvirt still names what the images do not hold; QEMU ends over it",
        text=("does not exist in one or more devices",),
        say="The guest's disks do not hold this snapshot any more, and the guest is off now: start it, and delete the snapshot.",
    ),
    Row(
        None,
        errors.Unsupported,
        "measured: OPERATION_UNSUPPORTED of the whole tree where one below is an overlay",
        text=("external snapshot", "is not the same as disk image currently used"),
        say="There are overlay files in this, taken outside, which this host's libvirt neither goes back to nor deletes. Merge "
        "them there first (virsh blockcommit).",
    ),
    Row(
        libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
        errors.Unsupported,
        "libvirt 9.0's own words for a guest with UEFI",
        text=("pflash",),
        say="The guest boots by UEFI, whose settings lie in a file of their own, and this host's libvirt takes no snapshots of that.",
    ),
    Row(
        libvirt.VIR_ERR_SNAPSHOT_REVERT_RISKY,
        errors.Unsafe,
        "an old snapshot without the guest's definition",
    ),
    # -- authentication: libvirt calls a broken handshake AUTH_FAILED (measured), which is no wrong password ---------
    Row(
        libvirt.VIR_ERR_AUTH_FAILED,
        errors.AuthFailed,
        "the certificate was read and refused",
        text=("certificate",),
        say="The TLS certificates do not fit: the host's is not signed by the given CA, is for another name, or has expired; "
        "or the host does not accept ours.",
    ),
    Row(
        libvirt.VIR_ERR_AUTH_FAILED,
        errors.Unreachable,
        "measured: the relay before a dead daemon closes in the middle of the handshake",
        text=("tls handshake", "non-properly terminated", "the tls connection", "tls session"),
        say="The TLS handshake broke off: the host closed the connection. This does not say that the credentials are wrong.",
    ),
    Row(
        None,
        errors.AuthFailed,
        "measured: our own certificate and the CA do not belong together, with another code each time",
        domains=WIRE,
        text=("failed validation", "certificate is not", "certificate hasn't", "certificate has expired"),
        say="The TLS certificates do not fit together: the client's is not signed by the given CA, or has expired.",
    ),
    Row(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        errors.AuthFailed,
        "measured: pkipath names a folder without the CA, a file that cannot be read",
        domains=WIRE,
        text=("cannot read ca certificate", "cannot read certificate", "cannot read private key"),
        say="The TLS certificates cannot be read; give the CA's and the client's certificate and key.",
    ),
    Row(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        errors.Denied,
        "the local socket's mode keeps this account out",
        domains=WIRE,
        text=("permission denied",),
        say="This account may not use the hypervisor's socket; add it to the group `libvirt`, or run as root.",
    ),
    Row(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        errors.AuthFailed,
        "the ssh client's own words, on its stderr",
        domains=WIRE,
        text=("permission denied (", "host key verification failed", "no matching host key"),
    ),
    Row(libvirt.VIR_ERR_AUTH_FAILED, errors.AuthFailed, "SASL, polkit or ssh refused"),
    Row(libvirt.VIR_ERR_AUTH_CANCELLED, errors.AuthFailed, "credentials were asked for and none given"),
    Row(libvirt.VIR_ERR_AUTH_UNAVAILABLE, errors.AuthFailed, "no common mechanism (polkit without an agent)"),
    Row(
        None,
        errors.AuthFailed,
        "libssh and libssh2 report refused keys so",
        domains=SSH,
        text=("auth", "host key", "key"),
    ),
    Row(None, errors.Unreachable, "all else that ssh says is about the way there", domains=SSH),
    Row(libvirt.VIR_ERR_ACCESS_DENIED, errors.Denied, "the daemon's access driver"),
    Row(libvirt.VIR_ERR_OPERATION_DENIED, errors.Denied, "a read-only connection, or one without the right"),
    # -- the way to the host ----------------------------------------------------------------------------------------
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.Unreachable,
        "measured: keepalive time-out",
        domains=WIRE,
        text=("keepalive timeout",),
        say="The host stopped answering.",
    ),
    Row(
        libvirt.VIR_ERR_INTERNAL_ERROR,
        errors.Unreachable,
        "measured: the daemon died or the connection was closed",
        domains=WIRE,
        text=("client socket is closed",),
        say="The connection to the host is lost.",
    ),
    Row(libvirt.VIR_ERR_INTERNAL_ERROR, errors.Unreachable, "RPC faults", domains=WIRE),
    Row(libvirt.VIR_ERR_SYSTEM_ERROR, errors.Unreachable, "measured: connect refused, no route, reset", domains=WIRE),
    Row(libvirt.VIR_ERR_RPC, errors.Unreachable, "garbled or cut RPC", domains=WIRE),
    Row(
        libvirt.VIR_ERR_NO_CONNECT,
        errors.Unreachable,
        "measured: 'no connection driver available for lxc:///': the host lacks this hypervisor",
        say="No hypervisor of this kind answers there.",
    ),
    Row(libvirt.VIR_ERR_INVALID_CONN, errors.Unreachable, "the connection was closed under our hands"),
    # -- what is asked for --------------------------------------------------------------------------------------------
    Row(
        libvirt.VIR_ERR_NO_DOMAIN,
        errors.NotFound,
        "lookup, or gone in between",
        say="The hypervisor does not know this guest.",
    ),
    Row(
        libvirt.VIR_ERR_NO_STORAGE_POOL,
        errors.NotFound,
        "lookup",
        say="The host has no such storage pool.",
    ),
    Row(
        libvirt.VIR_ERR_NO_STORAGE_VOL,
        errors.NotFound,
        "lookup, or the file is gone",
        say="The storage pool has no such volume; refresh the pool if somebody else made it.",
    ),
    Row(libvirt.VIR_ERR_NO_NETWORK, errors.NotFound, "lookup", say="The host has no such network."),
    Row(libvirt.VIR_ERR_NO_NWFILTER, errors.NotFound, "lookup", say="The host has no such network filter."),
    Row(libvirt.VIR_ERR_NO_NODE_DEVICE, errors.NotFound, "it went between listing and reading"),
    Row(libvirt.VIR_ERR_NO_DOMAIN_METADATA, errors.NotFound, "no metadata under our namespace"),
    Row(libvirt.VIR_ERR_DEVICE_MISSING, errors.NotFound, "measured: detach of what is not there"),
    Row(libvirt.VIR_ERR_DOM_EXIST, errors.AlreadyExists, "define or create"),
    Row(libvirt.VIR_ERR_NETWORK_EXIST, errors.AlreadyExists, "define or create"),
    Row(libvirt.VIR_ERR_STORAGE_VOL_EXIST, errors.AlreadyExists, "create"),
    Row(
        libvirt.VIR_ERR_STORAGE_POOL_BUILT,
        errors.AlreadyExists,
        "measured: fs, disk and logical pools, build with NO_OVERWRITE on a device that is not empty",
        say="There is something on this device already: nothing was written to it.",
    ),
    Row(libvirt.VIR_ERR_OVERFLOW, errors.InvalidDefinition, "measured: a capacity of 8 EiB"),
    Row(libvirt.VIR_ERR_OPERATION_INVALID, errors.WrongState, "the state is re-read, never inferred from this"),
    Row(libvirt.VIR_ERR_NO_SUPPORT, errors.Unsupported, "the driver has no such function"),
    Row(libvirt.VIR_ERR_OPERATION_UNSUPPORTED, errors.Unsupported, "not for this guest"),
    Row(libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, errors.Unsupported, "not in this way"),
    Row(libvirt.VIR_ERR_CONFIG_UNSUPPORTED, errors.Unsupported, "not with this definition, or not built in"),
    Row(libvirt.VIR_ERR_XML_ERROR, errors.InvalidDefinition, "the document says something impossible"),
    Row(libvirt.VIR_ERR_XML_DETAIL, errors.InvalidDefinition, "the document is no XML"),
    Row(libvirt.VIR_ERR_XML_INVALID_SCHEMA, errors.InvalidDefinition, "VALIDATE found an unknown or misplaced element"),
    Row(libvirt.VIR_ERR_INVALID_ARG, errors.InvalidDefinition, "a value that the driver refuses"),
    # -- jobs -----------------------------------------------------------------------------------------------------------
    Row(libvirt.VIR_ERR_OPERATION_TIMEOUT, errors.Timeout, "the guest or its process did not do it in time"),
    Row(libvirt.VIR_ERR_AGENT_UNRESPONSIVE, errors.AgentUnresponsive, "measured: at once when the agent is off"),
    Row(libvirt.VIR_ERR_AGENT_UNSYNCED, errors.AgentUnresponsive, "the agent answers something else"),
    Row(libvirt.VIR_ERR_OPERATION_ABORTED, errors.Aborted, "somebody cancelled the job"),
    Row(libvirt.VIR_ERR_MIGRATE_UNSAFE, errors.Unsafe, "measured: no shared storage"),
    Row(libvirt.VIR_ERR_RESOURCE_BUSY, errors.Busy, "a device or a lock is taken"),
)

_TOOL = re.compile(r"^Child process \(.*?\) unexpected exit status \d+: ")
"""The command line of a tool that libvirt called, paths and all: what the tool said stands behind it."""
_PREFIXES = (
    "Requested operation is not valid: ",
    "internal error: ",
    "operation failed: ",
    "unsupported configuration: ",
    "invalid argument: ",
    "Operation not supported: ",
    "authentication failed: ",
)


def driver_error(error: libvirt.libvirtError, **context: object) -> errors.DriverError:
    """The one of our errors that this is. Libvirt's own text stays in `context["libvirt_message"]`."""
    code, domain = error.get_error_code(), error.get_error_domain()
    message = str(error.get_error_message() or error)
    lowered = message.lower()
    for row in TABLE:
        if row.fits(code, domain, lowered):
            break
    else:
        row = Row(None, errors.DriverError, "anything else")
    return row.error(
        row.say or readable(message), libvirt_code=code, libvirt_domain=domain, libvirt_message=message, **context
    )


def is_end_of_terminal(error: libvirt.libvirtError) -> bool:
    """Whether this is how a console's stream says that the guest has gone (measured: a Xen guest while one types at it)."""
    return (error.get_error_code(), error.get_error_domain()) == (
        libvirt.VIR_ERR_SYSTEM_ERROR,
        libvirt.VIR_FROM_STREAMS,
    ) and "input/output error" in str(error).lower()


def is_absent_daemon(error: libvirt.libvirtError) -> bool:
    """Whether a part of libvirt that runs as a daemon of its own is not there."""
    return any(socket in str(error) for socket in _SIDE_DAEMONS)


def readable(message: str) -> str:
    """Libvirt's message as a sentence: without its category in front, with a capital letter and a full stop."""
    text = " ".join(message.split())
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    text = _TOOL.sub("", text)
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


@contextmanager
def translate(**context: object) -> Iterator[None]:
    """Turn what libvirt-python raises into DriverErrors. `context` (guest, uri …) goes along; never a secret."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise driver_error(error, **context) from error
    except (SystemError, UnicodeDecodeError) as error:
        _garbage(error, context)


@contextmanager
def gone_is_nothing() -> Iterator[None]:
    """In a listing, what went away meanwhile is left out."""
    try:
        yield
    except libvirt.libvirtError as error:
        if not isinstance(driver_error(error), (errors.NotFound, errors.WrongState)):
            raise


def _garbage(error: Exception, context: dict[str, object]) -> NoReturn:
    # Measured with the openvz driver: bytes that are no UTF-8 in an error message make the binding raise SystemError.
    message = "The hypervisor's library answered something unreadable."
    raise errors.DriverError(message, binding_error=type(error).__name__, **context) from error
