# ruff: noqa: A001, N801, N802, N803 - libvirt's own names
"""What we call of libvirt-python, typed by us. A test compares every name here with the real module."""

from collections.abc import Callable
from typing import Any, TypeAlias

VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES: int
VIR_CONNECT_CLOSE_REASON_CLIENT: int
VIR_CONNECT_CLOSE_REASON_EOF: int
VIR_CONNECT_CLOSE_REASON_ERROR: int
VIR_CONNECT_CLOSE_REASON_KEEPALIVE: int
VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE: int
VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT: int
VIR_CONNECT_LIST_DOMAINS_ACTIVE: int
VIR_CONNECT_LIST_DOMAINS_AUTOSTART: int
VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE: int
VIR_CONNECT_LIST_DOMAINS_PERSISTENT: int
VIR_CONNECT_LIST_NETWORKS_ACTIVE: int
VIR_CONNECT_LIST_NETWORKS_AUTOSTART: int
VIR_CONNECT_LIST_NETWORKS_PERSISTENT: int
VIR_CONNECT_LIST_STORAGE_POOLS_AUTOSTART: int
VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT: int
VIR_CRED_AUTHNAME: int
VIR_CRED_NOECHOPROMPT: int
VIR_CRED_PASSPHRASE: int
VIR_CRED_USERNAME: int
VIR_DOMAIN_BLOCKED: int
VIR_DOMAIN_BLOCKED_UNKNOWN: int
VIR_DOMAIN_CONSOLE_FORCE: int
VIR_DOMAIN_CONSOLE_SAFE: int
VIR_DOMAIN_CRASHED: int
VIR_DOMAIN_CRASHED_PANICKED: int
VIR_DOMAIN_CRASHED_UNKNOWN: int
VIR_DOMAIN_DEFINE_VALIDATE: int
VIR_DOMAIN_EVENT_CRASHED: int
VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED: int
VIR_DOMAIN_EVENT_CRASHED_PANICKED: int
VIR_DOMAIN_EVENT_DEFINED: int
VIR_DOMAIN_EVENT_DEFINED_ADDED: int
VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT: int
VIR_DOMAIN_EVENT_DEFINED_RENAMED: int
VIR_DOMAIN_EVENT_DEFINED_UPDATED: int
VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE: int
VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE: int
VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2: int
VIR_DOMAIN_EVENT_ID_CONTROL_ERROR: int
VIR_DOMAIN_EVENT_ID_DEVICE_ADDED: int
VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED: int
VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: int
VIR_DOMAIN_EVENT_ID_DISK_CHANGE: int
VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON: int
VIR_DOMAIN_EVENT_ID_JOB_COMPLETED: int
VIR_DOMAIN_EVENT_ID_LIFECYCLE: int
VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE: int
VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE: int
VIR_DOMAIN_EVENT_ID_METADATA_CHANGE: int
VIR_DOMAIN_EVENT_ID_REBOOT: int
VIR_DOMAIN_EVENT_ID_TRAY_CHANGE: int
VIR_DOMAIN_EVENT_ID_TUNABLE: int
VIR_DOMAIN_EVENT_ID_WATCHDOG: int
VIR_DOMAIN_EVENT_PMSUSPENDED: int
VIR_DOMAIN_EVENT_PMSUSPENDED_DISK: int
VIR_DOMAIN_EVENT_PMSUSPENDED_MEMORY: int
VIR_DOMAIN_EVENT_RESUMED: int
VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT: int
VIR_DOMAIN_EVENT_RESUMED_MIGRATED: int
VIR_DOMAIN_EVENT_RESUMED_POSTCOPY: int
VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED: int
VIR_DOMAIN_EVENT_RESUMED_UNPAUSED: int
VIR_DOMAIN_EVENT_SHUTDOWN: int
VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED: int
VIR_DOMAIN_EVENT_SHUTDOWN_GUEST: int
VIR_DOMAIN_EVENT_SHUTDOWN_HOST: int
VIR_DOMAIN_EVENT_STARTED: int
VIR_DOMAIN_EVENT_STARTED_BOOTED: int
VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT: int
VIR_DOMAIN_EVENT_STARTED_MIGRATED: int
VIR_DOMAIN_EVENT_STARTED_RESTORED: int
VIR_DOMAIN_EVENT_STARTED_WAKEUP: int
VIR_DOMAIN_EVENT_STOPPED: int
VIR_DOMAIN_EVENT_STOPPED_CRASHED: int
VIR_DOMAIN_EVENT_STOPPED_DESTROYED: int
VIR_DOMAIN_EVENT_STOPPED_FAILED: int
VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: int
VIR_DOMAIN_EVENT_STOPPED_MIGRATED: int
VIR_DOMAIN_EVENT_STOPPED_SAVED: int
VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: int
VIR_DOMAIN_EVENT_SUSPENDED: int
VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR: int
VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT: int
VIR_DOMAIN_EVENT_SUSPENDED_IOERROR: int
VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED: int
VIR_DOMAIN_EVENT_SUSPENDED_PAUSED: int
VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY: int
VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED: int
VIR_DOMAIN_EVENT_SUSPENDED_RESTORED: int
VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG: int
VIR_DOMAIN_EVENT_UNDEFINED: int
VIR_DOMAIN_EVENT_UNDEFINED_REMOVED: int
VIR_DOMAIN_EVENT_UNDEFINED_RENAMED: int
VIR_DOMAIN_JOB_NONE: int
VIR_DOMAIN_NOSTATE: int
VIR_DOMAIN_NOSTATE_UNKNOWN: int
VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH: int
VIR_DOMAIN_PAUSED: int
VIR_DOMAIN_PAUSED_CRASHED: int
VIR_DOMAIN_PAUSED_DUMP: int
VIR_DOMAIN_PAUSED_FROM_SNAPSHOT: int
VIR_DOMAIN_PAUSED_IOERROR: int
VIR_DOMAIN_PAUSED_MIGRATION: int
VIR_DOMAIN_PAUSED_POSTCOPY: int
VIR_DOMAIN_PAUSED_POSTCOPY_FAILED: int
VIR_DOMAIN_PAUSED_SAVE: int
VIR_DOMAIN_PAUSED_SHUTTING_DOWN: int
VIR_DOMAIN_PAUSED_SNAPSHOT: int
VIR_DOMAIN_PAUSED_STARTING_UP: int
VIR_DOMAIN_PAUSED_UNKNOWN: int
VIR_DOMAIN_PAUSED_USER: int
VIR_DOMAIN_PAUSED_WATCHDOG: int
VIR_DOMAIN_PMSUSPENDED: int
VIR_DOMAIN_PMSUSPENDED_UNKNOWN: int
VIR_DOMAIN_RUNNING: int
VIR_DOMAIN_RUNNING_BOOTED: int
VIR_DOMAIN_RUNNING_CRASHED: int
VIR_DOMAIN_RUNNING_FROM_SNAPSHOT: int
VIR_DOMAIN_RUNNING_MIGRATED: int
VIR_DOMAIN_RUNNING_MIGRATION_CANCELED: int
VIR_DOMAIN_RUNNING_POSTCOPY: int
VIR_DOMAIN_RUNNING_POSTCOPY_FAILED: int
VIR_DOMAIN_RUNNING_RESTORED: int
VIR_DOMAIN_RUNNING_SAVE_CANCELED: int
VIR_DOMAIN_RUNNING_UNKNOWN: int
VIR_DOMAIN_RUNNING_UNPAUSED: int
VIR_DOMAIN_RUNNING_WAKEUP: int
VIR_DOMAIN_SHUTDOWN: int
VIR_DOMAIN_SHUTDOWN_SIGNAL: int
VIR_DOMAIN_SHUTDOWN_UNKNOWN: int
VIR_DOMAIN_SHUTDOWN_USER: int
VIR_DOMAIN_SHUTOFF: int
VIR_DOMAIN_SHUTOFF_CRASHED: int
VIR_DOMAIN_SHUTOFF_DAEMON: int
VIR_DOMAIN_SHUTOFF_DESTROYED: int
VIR_DOMAIN_SHUTOFF_FAILED: int
VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT: int
VIR_DOMAIN_SHUTOFF_MIGRATED: int
VIR_DOMAIN_SHUTOFF_SAVED: int
VIR_DOMAIN_SHUTOFF_SHUTDOWN: int
VIR_DOMAIN_SHUTOFF_UNKNOWN: int
VIR_DOMAIN_STATS_BALLOON: int
VIR_DOMAIN_STATS_BLOCK: int
VIR_DOMAIN_STATS_CPU_TOTAL: int
VIR_DOMAIN_STATS_INTERFACE: int
VIR_DOMAIN_STATS_STATE: int
VIR_DOMAIN_STATS_VCPU: int
VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA: int
VIR_DOMAIN_UNDEFINE_MANAGED_SAVE: int
VIR_DOMAIN_UNDEFINE_NVRAM: int
VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA: int
VIR_DOMAIN_XML_INACTIVE: int
VIR_ERR_ACCESS_DENIED: int
VIR_ERR_AGENT_UNRESPONSIVE: int
VIR_ERR_AGENT_UNSYNCED: int
VIR_ERR_ARGUMENT_UNSUPPORTED: int
VIR_ERR_AUTH_CANCELLED: int
VIR_ERR_AUTH_FAILED: int
VIR_ERR_AUTH_UNAVAILABLE: int
VIR_ERR_CONFIG_UNSUPPORTED: int
VIR_ERR_DEVICE_MISSING: int
VIR_ERR_DOM_EXIST: int
VIR_ERR_INTERNAL_ERROR: int
VIR_ERR_INVALID_ARG: int
VIR_ERR_INVALID_CONN: int
VIR_ERR_MIGRATE_UNSAFE: int
VIR_ERR_NETWORK_EXIST: int
VIR_ERR_NO_CONNECT: int
VIR_ERR_NO_DOMAIN: int
VIR_ERR_NO_DOMAIN_METADATA: int
VIR_ERR_NO_DOMAIN_SNAPSHOT: int
VIR_ERR_NO_NETWORK: int
VIR_ERR_NO_STORAGE_POOL: int
VIR_ERR_NO_STORAGE_VOL: int
VIR_ERR_NO_SUPPORT: int
VIR_ERR_OPERATION_ABORTED: int
VIR_ERR_OPERATION_DENIED: int
VIR_ERR_OPERATION_FAILED: int
VIR_ERR_OPERATION_INVALID: int
VIR_ERR_OPERATION_TIMEOUT: int
VIR_ERR_OPERATION_UNSUPPORTED: int
VIR_ERR_OVERFLOW: int
VIR_ERR_RESOURCE_BUSY: int
VIR_ERR_RPC: int
VIR_ERR_STORAGE_POOL_BUILT: int
VIR_ERR_STORAGE_VOL_EXIST: int
VIR_ERR_SYSTEM_ERROR: int
VIR_ERR_XML_DETAIL: int
VIR_ERR_XML_ERROR: int
VIR_ERR_XML_INVALID_SCHEMA: int
VIR_FROM_LIBSSH: int
VIR_FROM_LIBXL: int
VIR_FROM_REMOTE: int
VIR_FROM_RPC: int
VIR_FROM_SSH: int
VIR_FROM_STORAGE: int
VIR_FROM_STREAMS: int
VIR_NODE_CPU_STATS_ALL_CPUS: int
VIR_NODE_MEMORY_STATS_ALL_CELLS: int
VIR_STORAGE_POOL_BUILDING: int
VIR_STORAGE_POOL_BUILD_NEW: int
VIR_STORAGE_POOL_BUILD_NO_OVERWRITE: int
VIR_STORAGE_POOL_DEGRADED: int
VIR_STORAGE_POOL_INACCESSIBLE: int
VIR_STORAGE_POOL_INACTIVE: int
VIR_STORAGE_POOL_RUNNING: int
VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA: int
VIR_STREAM_EVENT_ERROR: int
VIR_STREAM_EVENT_HANGUP: int
VIR_STREAM_EVENT_READABLE: int
VIR_STREAM_NONBLOCK: int

RawError: TypeAlias = tuple[int, int, str, int, str, str | None, str | None, int, int]
Auth: TypeAlias = list[Any]
"""[the kinds of question, the callback, its opaque value]"""

class libvirtError(Exception):
    err: RawError | None
    def __init__(self, defmsg: str) -> None: ...
    def get_error_code(self) -> int | None: ...
    def get_error_domain(self) -> int | None: ...
    def get_error_message(self) -> str | None: ...

class virStream:
    _conn: virConnect | None
    def __del__(self) -> None: ...
    def abort(self) -> int: ...
    def finish(self) -> int: ...
    def recv(self, nbytes: int) -> bytes | int: ...
    def send(self, data: bytes) -> int: ...
    def eventAddCallback(self, events: int, cb: Callable[..., None], opaque: object) -> None: ...
    def eventUpdateCallback(self, events: int) -> int: ...
    def eventRemoveCallback(self) -> int: ...

class virDomain:
    def ID(self) -> int: ...
    def UUIDString(self) -> str: ...
    def XMLDesc(self, flags: int = 0) -> str: ...
    def autostart(self) -> int: ...
    def blockStats(self, path: str) -> tuple[int, int, int, int, int]: ...
    def createWithFlags(self, flags: int = 0) -> int: ...
    def destroyFlags(self, flags: int = 0) -> int: ...
    def hasManagedSaveImage(self, flags: int = 0) -> int: ...
    def info(self) -> tuple[int, int, int, int, int]: ...
    def interfaceStats(self, device: str) -> tuple[int, int, int, int, int, int, int, int]: ...
    def isActive(self) -> int: ...
    def jobInfo(self) -> list[int]: ...
    def isPersistent(self) -> int: ...
    def managedSave(self, flags: int = 0) -> int: ...
    def managedSaveRemove(self, flags: int = 0) -> int: ...
    def memoryStats(self) -> dict[str, int]: ...
    def name(self) -> str: ...
    def openConsole(self, dev_name: str | None, st: virStream, flags: int = 0) -> int: ...
    def openGraphicsFD(self, idx: int, flags: int = 0) -> int: ...
    def pMWakeup(self, flags: int = 0) -> int: ...
    def reboot(self, flags: int = 0) -> int: ...
    def reset(self, flags: int = 0) -> int: ...
    def resume(self) -> int: ...
    def screenshot(self, stream: virStream, screen: int, flags: int = 0) -> str: ...
    def setAutostart(self, autostart: int) -> int: ...
    def shutdown(self) -> int: ...
    def shutdownFlags(self, flags: int = 0) -> int: ...
    def state(self, flags: int = 0) -> tuple[int, int]: ...
    def suspend(self) -> int: ...
    def undefine(self) -> int: ...
    def undefineFlags(self, flags: int = 0) -> int: ...

class virStoragePool:
    def UUIDString(self) -> str: ...
    def XMLDesc(self, flags: int = 0) -> str: ...
    def autostart(self) -> int: ...
    def build(self, flags: int = 0) -> int: ...
    def create(self, flags: int = 0) -> int: ...
    def createXML(self, xmlDesc: str, flags: int = 0) -> virStorageVol: ...
    def createXMLFrom(self, xmlDesc: str, clonevol: virStorageVol, flags: int = 0) -> virStorageVol: ...
    def destroy(self) -> int: ...
    def info(self) -> tuple[int, int, int, int]: ...
    def isActive(self) -> int: ...
    def isPersistent(self) -> int: ...
    def listAllVolumes(self, flags: int = 0) -> list[virStorageVol]: ...
    def name(self) -> str: ...
    def refresh(self, flags: int = 0) -> int: ...
    def setAutostart(self, autostart: int) -> int: ...
    def storageVolLookupByName(self, name: str) -> virStorageVol: ...
    def undefine(self) -> int: ...

class virStorageVol:
    def XMLDesc(self, flags: int = 0) -> str: ...
    def delete(self, flags: int = 0) -> int: ...
    def download(self, stream: virStream, offset: int, length: int, flags: int = 0) -> int: ...
    def info(self) -> tuple[int, int, int]: ...
    def key(self) -> str: ...
    def name(self) -> str: ...
    def resize(self, capacity: int, flags: int = 0) -> int: ...
    def upload(self, stream: virStream, offset: int, length: int, flags: int = 0) -> int: ...
    def wipe(self, flags: int = 0) -> int: ...

class virNetwork:
    def DHCPLeases(self, mac: str | None = None, flags: int = 0) -> list[dict[str, Any]]: ...
    def UUIDString(self) -> str: ...
    def XMLDesc(self, flags: int = 0) -> str: ...
    def isActive(self) -> int: ...
    def name(self) -> str: ...

class virConnect:
    def baselineHypervisorCPU(
        self,
        emulator: str | None,
        arch: str | None,
        machine: str | None,
        virttype: str | None,
        xmlCPUs: list[str],
        flags: int = 0,
    ) -> str: ...
    def close(self) -> int: ...
    def defineXMLFlags(self, xml: str, flags: int = 0) -> virDomain: ...
    def domainEventDeregisterAny(self, callbackID: int) -> int: ...
    def domainEventRegisterAny(
        self, dom: virDomain | None, eventID: int, cb: Callable[..., None], opaque: object
    ) -> int: ...
    def getAllDomainStats(self, stats: int = 0, flags: int = 0) -> list[tuple[virDomain, dict[str, Any]]]: ...
    def getCPUStats(self, cpuNum: int, flags: int = 0) -> dict[str, int]: ...
    def getCapabilities(self) -> str: ...
    def getDomainCapabilities(
        self,
        emulatorbin: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virttype: str | None = None,
        flags: int = 0,
    ) -> str: ...
    def getFreeMemory(self) -> int: ...
    def getHostname(self) -> str: ...
    def getInfo(self) -> tuple[str, int, int, int, int, int, int, int]: ...
    def getLibVersion(self) -> int: ...
    def getMemoryStats(self, cellNum: int, flags: int = 0) -> dict[str, int]: ...
    def getSysinfo(self, flags: int = 0) -> str: ...
    def getVersion(self) -> int: ...
    def isAlive(self) -> int: ...
    def listAllDomains(self, flags: int = 0) -> list[virDomain]: ...
    def listAllNetworks(self, flags: int = 0) -> list[virNetwork]: ...
    def listAllStoragePools(self, flags: int = 0) -> list[virStoragePool]: ...
    def lookupByUUIDString(self, uuidstr: str) -> virDomain: ...
    def networkLookupByName(self, name: str) -> virNetwork: ...
    def networkLookupByUUIDString(self, uuidstr: str) -> virNetwork: ...
    def newStream(self, flags: int = 0) -> virStream: ...
    def registerCloseCallback(self, cb: Callable[..., None], opaque: object) -> int: ...
    def setKeepAlive(self, interval: int, count: int) -> int: ...
    def storagePoolDefineXML(self, xml: str, flags: int = 0) -> virStoragePool: ...
    def storagePoolLookupByName(self, name: str) -> virStoragePool: ...
    def storagePoolLookupByUUIDString(self, uuidstr: str) -> virStoragePool: ...
    def unregisterCloseCallback(self) -> int: ...

def open(name: str | None = None) -> virConnect: ...
def openAuth(uri: str, auth: Auth, flags: int = 0) -> virConnect: ...
def registerErrorHandler(f: Callable[[Any, RawError], None], ctx: object) -> int: ...
def virEventRegisterDefaultImpl() -> int: ...
def virEventRunDefaultImpl() -> int: ...
