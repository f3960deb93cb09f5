"""The facet of a session that tells of datastores and port groups, and makes and deletes empty disks by themselves.

A volume's name is its path within the datastore (`web/web.vmdk`); one that is made here lies in the datastore's root.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pyVmomi import vim

from drivers.errors import AlreadyExists, Busy, InvalidDefinition, NotFound
from drivers.findings import refusing
from drivers.storage import check_volume
from drivers.types import Feature, VolumeInfo
from drivers.vsphere import places
from drivers.vsphere.collector import PAGE, of_objects, retrieve
from drivers.vsphere.errors import Garbled, translate
from drivers.vsphere.facet import Facet
from drivers.vsphere.values import items, number, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from drivers.types import NetworkInfo, PoolInfo, VolumeSpec
    from drivers.vsphere.collector import Found

SEARCH_SECONDS: Final = 180.0
"""A datastore of some thousand folders is read within a minute."""
DISK_SECONDS: Final = 1800.0
"""What is reserved at once may be written at once."""
_OTHER_PARTS = re.compile(r"-(?:flat|delta|sesparse|ctk|rdmp?)\.vmdk$")
"""Files that VMware puts beside a disk's own, under its name."""
_PATTERNS: Final = ("*.vmdk", "*.iso")
_browser = vim.host.DatastoreBrowser


class HoldingsFacet(Facet):
    """Datastores, their disks and media, and port groups."""

    # -- pools ---------------------------------------------------------------------------------------------------------
    def pools(self) -> Sequence[PoolInfo]:
        """Datastores that any of our machines reaches: two calls."""
        self._require(Feature.STORAGE_POOLS)
        with translate():
            return [places.pool_info(each) for each in self._datastores()]

    def pool(self, name: str) -> PoolInfo:
        """One, read now. Raises NotFound."""
        return places.pool_info(self._datastore(name))

    def pool_refresh(self, name: str) -> None:
        """Have the machines count its space anew. What lies in it is looked for at each reading."""
        found = self._datastore(name)
        with translate(pool=name):
            found.object.RefreshDatastore()

    def _datastores(self) -> list[Found]:
        homes = [places.home(each) for each in self._retrieve_all(vim.HostSystem, ("datastore",))]
        objects = places.once(one for each in homes for one in each.datastores)
        return retrieve(self._wire, of_objects(objects, vim.Datastore, places.STORE_PATHS)) if objects else []

    def _datastore(self, name: str) -> Found:
        self._require(Feature.STORAGE_POOLS)
        with translate(pool=name):
            found = next((each for each in self._datastores() if text(each.get("name")) == name), None)
        if found is None:
            message = f"There is no datastore {name} here."
            raise NotFound(message, pool=name)
        return found

    # -- volumes -------------------------------------------------------------------------------------------------------
    def volumes(self, pool: str) -> Sequence[VolumeInfo]:
        """Disks and CD images, wherever they lie in it: one search, by the machine that has it."""
        found = self._datastore(pool)
        with translate(pool=pool):
            task = _browser_of(found).SearchDatastoreSubFolders_Task(f"[{pool}]", _search(*_PATTERNS))
            folders = items(self._result_of(task, SEARCH_SECONDS, what=pool))
        return [info for folder in folders for info in _volumes(pool, folder)]

    def volume(self, pool: str, name: str) -> VolumeInfo:
        """One, read now. Raises NotFound."""
        found = self._datastore(pool)
        folder, _, file = name.rpartition("/")
        pattern = _PATTERNS if any(one in file for one in "*?[]\\") else (file,)
        with translate(pool=pool, volume=name):
            task = _browser_of(found).SearchDatastore_Task(f"[{pool}] {folder}".rstrip(), _search(*pattern))
            there = self._result_of(task, SEARCH_SECONDS, what=name)
        info = next((one for one in _volumes(pool, there) if one.name == name), None)
        if info is None:
            message = f"There is no {name} in {pool}."
            raise NotFound(message, pool=pool, volume=name)
        return info

    def volume_create(self, pool: str, spec: VolumeSpec) -> VolumeInfo:
        """An empty disk: it grows as it is written, unless all of it is to be reserved."""
        info = self.pool(pool)
        with refusing():
            check_volume(spec, type_=info.type, formats=info.formats)
        if not spec.name.endswith(".vmdk") or _OTHER_PARTS.search(spec.name):
            message = "name: a disk's name ends with .vmdk here, and not as VMware's files beside it do (-flat.vmdk)."
            raise InvalidDefinition(message, pool=pool, field="name")
        wished = vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
            diskType="preallocated" if 0 < spec.capacity_bytes <= spec.allocation_bytes else "thin",
            adapterType="lsiLogic",
            capacityKb=-(-spec.capacity_bytes // 1024),
        )
        with translate(pool=pool, volume=spec.name):
            manager = self._wire.service("virtualDiskManager")
            task = manager.CreateVirtualDisk_Task(f"[{pool}] {spec.name}", self._datacenter(), wished)
            try:
                self._result_of(task, DISK_SECONDS, what=spec.name)
            except AlreadyExists as error:
                message = f"There is a {spec.name} in {pool} already."
                raise AlreadyExists(message, pool=pool, volume=spec.name) from error
        return self.volume(pool, spec.name)

    def volume_delete(self, pool: str, name: str) -> None:
        """A disk goes with the files that belong to it. Raises Busy for one of any machine's, template's or snapshot's here."""
        info = self.volume(pool, name)
        with translate(pool=pool, volume=name):
            owner = self._owner_of(pool, info.path)
            if owner:
                message = f"{name} belongs to {owner}, or to a snapshot of it."
                raise Busy(message, pool=pool, volume=name)
            if info.format == places.FORMAT:
                manager = self._wire.service("virtualDiskManager")
                task = manager.DeleteVirtualDisk_Task(info.path, self._datacenter())
            else:
                task = self._wire.service("fileManager").DeleteDatastoreFile_Task(info.path, self._datacenter())
            self._result_of(task, DISK_SECONDS, what=name)

    def _owner_of(self, pool: str, path: str) -> str:
        """Name of a machine of the whole server, templates too, that is made of this file; "" where there is none. Two calls."""
        found = retrieve(self._wire, of_objects([self._datastore(pool).object], vim.Datastore, ("vm",)))
        machines = [one for each in found for one in items(each.get("vm")) if isinstance(one, vim.VirtualMachine)]
        for start in range(0, len(machines), PAGE):
            spec = of_objects(machines[start : start + PAGE], vim.VirtualMachine, ("name", "layoutEx.file"))
            for each in retrieve(self._wire, spec):
                if any(text(getattr(file, "name", None)) == path for file in items(each.get("layoutEx.file"))):
                    return text(each.get("name")) or each.moid
        return ""

    def _datacenter(self) -> Any:
        """The datacenter that our part of the inventory is in: a lone ESXi has one."""
        at = self._scope
        for _step in range(32):
            if isinstance(at, vim.Datacenter):
                return at
            if isinstance(at, vim.Folder) and at._GetMoId() == self._wire.service("rootFolder")._GetMoId():  # noqa: SLF001
                found = retrieve(self._wire, of_objects([at], vim.Folder, ("childEntity",)))
                children = items(found[0].get("childEntity")) if found else []
                return next((one for one in children if isinstance(one, vim.Datacenter)), None)
            found = retrieve(self._wire, of_objects([at], type(at), ("parent",)))
            at = found[0].get("parent") if found else None
        message = "The hypervisor does not say in which datacenter this is."
        raise Garbled(message)

    # -- networks ------------------------------------------------------------------------------------------------------
    def networks(self) -> Sequence[NetworkInfo]:
        """Port groups that any of our machines has: three calls at most."""
        self._require(Feature.NETWORKS)
        with translate():
            return [places.network_info(each) for each in self._port_groups()]

    def _port_groups(self) -> list[Found]:
        """Those that guests can be on; of several of one name the first."""
        homes = [places.home(each) for each in self._retrieve_all(vim.HostSystem, ("network",))]
        objects = places.once(one for each in homes for one in each.networks)
        spread = [one for one in objects if isinstance(one, vim.dvs.DistributedVirtualPortgroup)]
        plain = [one for one in objects if one not in spread]
        read = (
            *((of_objects(plain, vim.Network, places.NETWORK_PATHS),) if plain else ()),
            *((of_objects(spread, vim.dvs.DistributedVirtualPortgroup, places.PORT_GROUP_PATHS),) if spread else ()),
        )
        found = retrieve(self._wire, *read) if read else []
        named = {text(each.get("name")): each for each in reversed(found) if not places.is_uplink(each)}
        return [each for each in found if named.get(text(each.get("name"))) is each]


# -- pieces ------------------------------------------------------------------------------------------------------------
def _browser_of(found: Found) -> Any:
    browser = found.get("browser")
    if not isinstance(browser, _browser):
        message = "The hypervisor does not say who can look into this datastore."
        raise Garbled(message)
    return browser


def _search(*patterns: str) -> Any:
    size = _browser.VmDiskQuery.Details(capacityKb=True, diskType=False, hardwareVersion=False)
    return _browser.SearchSpec(
        query=[_browser.VmDiskQuery(details=size), _browser.IsoImageQuery()],
        details=_browser.FileInfo.Details(fileType=True, fileSize=True, modification=False, fileOwner=False),
        matchPattern=list(patterns),
    )


def _volumes(pool: str, results: Any) -> Iterator[VolumeInfo]:
    """What a search found in one folder. Folders that begin with a dot are the hypervisor's own."""
    if not isinstance(results, _browser.SearchResults):
        message = "The hypervisor's list of a datastore cannot be read."
        raise Garbled(message)
    folder = text(results.folderPath).partition("]")[2].strip(" /")
    for each in items(results.file):
        name = "/".join(part for part in (folder, text(getattr(each, "path", None))) if part)
        size = number(getattr(each, "fileSize", None)) or 0
        path = f"[{pool}] {name}"
        if name.startswith(".") or not name:
            continue
        if isinstance(each, _browser.VmDiskInfo) and not _OTHER_PARTS.search(name):
            capacity = (number(each.capacityKb) or 0) * 1024
            yield VolumeInfo(
                name=name, pool=pool, path=path, format=places.FORMAT, capacity_bytes=capacity, allocation_bytes=size
            )
        elif isinstance(each, _browser.IsoImageInfo):
            yield VolumeInfo(name=name, pool=pool, path=path, format="iso", capacity_bytes=size, allocation_bytes=size)
