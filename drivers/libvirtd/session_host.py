"""The facet of a session that speaks of the machine: host facts, and what this connection can do."""

from __future__ import annotations

import platform
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import libvirt

from drivers.errors import InvalidDefinition, Unsupported
from drivers.libvirtd import here, stats
from drivers.libvirtd.errors import driver_error, is_absent_daemon, translate
from drivers.libvirtd.facet import Facet
from drivers.libvirtd.uri import is_local
from drivers.libvirtd.xml.capabilities import Capabilities, DomainCapabilities, HostCpu, SysInfo
from drivers.libvirtd.xml.element import to_str
from drivers.types import Feature, HostInfo, Support, Technique, VirtualizationType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from drivers.libvirtd.events import EventTap

_MIB = 1024 * 1024
_NESTED = ("vmx", "svm")
NOBODYS_UUID = "00000000-0000-4000-8000-000000000000"
# libvirt names the nearest model it knows: `pentium` for a Xen host that hides one old feature (measured). Better none.
_SMALLER_CPUS = frozenset(
    {"486", "pentium", "pentium2", "pentium3", "pentiumpro", "coreduo", "n270", "athlon", "kvm32", "qemu32"}
)


class HostFacet(Facet):
    """Host facts and capabilities over the session's connection."""

    _tap: EventTap
    _support: Mapping[Feature, Support] | None

    def host_info(self) -> HostInfo:
        """The machine and the hypervisor: about ten calls."""
        with translate():
            connection = self._connection
            capabilities = Capabilities.parse(connection.getCapabilities())
            node = connection.getInfo()
            total, free = stats.host_memory(connection, free_unit=self._driver.free_memory_unit)
            version, library = connection.getVersion(), connection.getLibVersion()
            techniques = self._techniques(capabilities)
            cpu = capabilities.host_cpu
            firmware = self._firmware()
            return HostInfo(
                hostname=connection.getHostname(),
                host_uuid=(capabilities.host_uuid or true_uuid(firmware)).strip().lower(),
                cpu_count=node[2],
                cpu_model=self._cpu_model(cpu, firmware),
                cpu_architecture=(cpu.arch if cpu else None) or node[0],
                memory_total_bytes=total or node[1] * _MIB,
                memory_free_bytes=free or 0,
                kernel=self._kernel(version),
                nested_virtualization=self._nested(capabilities),
                hypervisor_version=f"{self._driver.product} {dotted(version)}",
                library_version=f"libvirt {dotted(library)}",
                virtualization_type=self._virtualization_type(capabilities),
                techniques=techniques,
                boot_id=here.boot_id() if self._is_here else "",
                uptime_seconds=stats.host_stats(connection, free_unit=self._driver.free_memory_unit).uptime_seconds,
            )

    @property
    def _is_here(self) -> bool:
        """Whether the machine is our own: what libvirt does not tell of it, Linux does."""
        return is_local(self.endpoint.uri) and self._driver.is_real

    def capabilities(self) -> Mapping[Feature, Support]:
        """The kind's best, less what this connection refuses when tried. Probed once, kept for the session's life."""
        if self._support is None:
            self._support = self._probe()
        return self._support

    def _probe(self) -> Mapping[Feature, Support]:
        found: dict[Feature, Support] = {}
        driver = self._driver
        tries: dict[Feature, Callable[[], object]] = {
            Feature.EVENTS: self._tap.probe,
            **self._holdings(),
            **self._readings(),
        }
        for feature in Feature:
            if feature not in driver.features:
                found[feature] = Support(supported=False, reason=driver.reasons[feature])
                continue
            found[feature] = Support(supported=True)
            if feature in tries:
                try:
                    with translate():
                        self._only_if_offered(tries[feature])
                except _NotOffered as refusal:
                    found[feature] = Support(supported=False, reason=str(refusal))
        return found

    def _holdings(self) -> dict[Feature, Callable[[], object]]:
        """Whether the daemon has storage and networks at all: asked for something that nobody has.

        A lookup takes no pool's lock: a listing would wait for one whose storage hangs (`patience`).
        """
        connection = self._connection
        asks = {
            connection.storagePoolLookupByUUIDString: (
                Feature.STORAGE_POOLS,
                Feature.STORAGE_MANAGE,
                Feature.STORAGE_CONTENT,
            ),
            connection.networkLookupByUUIDString: (Feature.NETWORKS, Feature.NETWORKS_MANAGE),
        }
        return {
            feature: partial(_asked, partial(lookup, NOBODYS_UUID))
            for lookup, features in asks.items()
            for feature in features
        }

    def _readings(self) -> dict[Feature, Callable[[], object]]:
        """Questions about any guest, where there is one: they do no harm, and a driver without such a function says so."""
        first = next((one for one in self._connection.listAllDomains(0) if self._driver.is_guest(one)), None)
        if first is None:
            return {}
        return {
            Feature.AUTOSTART: lambda: _asked(first.autostart),
            Feature.MANAGED_SAVE: lambda: _asked(first.hasManagedSaveImage),
            Feature.XML: lambda: _asked(first.XMLDesc),
            Feature.METRICS_CPU: lambda: _asked(first.info),
        }

    @staticmethod
    def _only_if_offered(call: Callable[[], object]) -> None:
        try:
            call()
        except libvirt.libvirtError as error:
            why = driver_error(error)
            if not isinstance(why, Unsupported):
                raise
            raise _NotOffered(why.detail) from error

    # -- pieces of host_info ------------------------------------------------------------------------------------------
    def _best(self, capabilities: Capabilities) -> str | None:
        """The best technique that this host has: the profiles are listed best first."""
        there = self._driver.offered(capabilities)
        return next((name for name in self._driver.profiles if name in there), None)

    def _virtualization_type(self, capabilities: Capabilities) -> VirtualizationType:
        best = self._best(capabilities)
        return self._driver.profiles[best or next(iter(self._driver.profiles))].virtualization_type

    def _techniques(self, capabilities: Capabilities) -> tuple[Technique, ...]:
        """All that guests here may use, the best first."""
        there = self._driver.offered(capabilities) or set(self._driver.profiles)
        found: list[Technique] = []
        for name, profile in self._driver.profiles.items():
            if name in there:
                found += [technique for technique in profile.techniques if technique not in found]
        return tuple(found)

    def _firmware(self) -> SysInfo | None:
        try:
            return SysInfo.parse(self._connection.getSysinfo(0))
        except (libvirt.libvirtError, InvalidDefinition):
            return None  # no SMBIOS (measured: CONFIG_UNSUPPORTED in a small VM), or no dmidecode

    def _cpu_model(self, cpu: HostCpu | None, firmware: SysInfo | None) -> str:
        """What stands on the chip if the firmware tells, else libvirt's name for the nearest model it knows."""
        sold_as = firmware.processor_version if firmware else None
        if sold_as and sold_as.strip():
            return sold_as.strip()
        if self._is_here:
            named = _own_cpu_name()
            if named:
                return named
        return nearest_model(cpu)

    def _kernel(self, version: int) -> str:
        if self._driver.version_is_kernel:
            return dotted(version)
        # libvirt does not tell a host's kernel; behind a local socket it is our own.
        return platform.release() if self._is_here else ""

    def _nested(self, capabilities: Capabilities) -> bool | None:
        """Whether a guest's CPU here can have vmx or svm: asked of libvirt, which asks QEMU, which asks KVM.

        The model's own name may stand for the feature (EPYC has svm in it), so it is spelt out by the baseline call.
        """
        if not self._driver.nests:
            return False
        if "kvm" not in self._driver.offered(capabilities):
            return False  # emulated guests may see the feature, but nothing of theirs is hardware-assisted
        cpu = capabilities.host_cpu
        arch = cpu.arch if cpu else None
        try:
            offered = DomainCapabilities.parse(self._connection.getDomainCapabilities(None, arch, None, "kvm", 0))
            mode = offered.host_model
            if mode is None or mode.supported != "yes":
                return None
            mode.node.tag = "cpu"
            for name in list(mode.node.attrib):
                del mode.node.attrib[name]
            spelt_out = self._connection.baselineHypervisorCPU(
                None, arch, None, "kvm", [to_str(mode.node)], libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES
            )
            features = HostCpu.parse(spelt_out).features
        except (libvirt.libvirtError, InvalidDefinition):
            return None
        return any(feature.name in _NESTED and feature.policy != "disable" for feature in features)


def _asked(reading: Callable[[], object]) -> None:
    """Whatever a guest answers for itself (it is off, it is gone) says nothing of the others."""
    try:
        reading()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT or is_absent_daemon(error):
            raise


class _NotOffered(Exception):
    """The connection has not this function; the text is the reason."""


def nearest_model(cpu: HostCpu | None) -> str:
    """Libvirt's name for the host's CPU, "" where it cannot be true."""
    if cpu is None or (cpu.arch == "x86_64" and cpu.model in _SMALLER_CPUS):
        return ""
    return cpu.model or ""


def true_uuid(firmware: SysInfo | None) -> str:
    """The machine's own UUID where libvirt's capabilities have none (libxl, measured): others take the host's from there.

    Boards without one have the same digit everywhere, as libvirt itself knows.
    """
    found = (firmware.uuid if firmware else None) or ""
    return found if len(set(found) - {"-"}) > 1 else ""


def _own_cpu_name() -> str:
    """This machine's CPU as Linux calls it: where there is no SMBIOS, libvirt knows only a family (`kvm64`)."""
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return ""


def dotted(version: int) -> str:
    """Libvirt's version number as text."""
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
