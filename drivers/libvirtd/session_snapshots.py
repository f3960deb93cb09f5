"""The facet of a session that keeps snapshots: libvirt's internal ones, inside the guest's own qcow2 images.

Measured with libvirt 9.0 and QEMU 7.2, and the reason for each refusal below:

- A running guest's snapshot holds its memory or is an overlay (`external`), and to an overlay this libvirt cannot go back.
- It says yes to a name with a quotation mark while QEMU keeps nothing; going back to that kills the guest.
- A name of few digits is taken for the number of another snapshot: the guest goes back to the wrong one, and nobody says so.
- Going back to a snapshot with memory leaves the guest's managed save where it is, to be resumed over other disks later.
- A guest whose memory is saved would be kept in the middle of what it did, without that memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt

from drivers.errors import InvalidDefinition, Unsupported, WrongState
from drivers.libvirtd.errors import translate
from drivers.libvirtd.facet import Facet
from drivers.libvirtd.xml.domain import Domain
from drivers.libvirtd.xml.snapshot import DomainSnapshot
from drivers.snapshots import why_no_name
from drivers.types import Feature, GuestState, SnapshotInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.libvirtd.xml.devices import Disk
    from drivers.types import GuestRef, SnapshotSpec

OVERLAYS_SINCE = 9_009_000
"""From this libvirt on overlays can be gone back to and deleted, as its documentation says."""
_NUMBER_MAX = 8
"""Digits that the number of a snapshot inside an image may have. virsh's own names are the time in seconds: ten."""
_STATES = {"running": GuestState.RUNNING, "paused": GuestState.PAUSED}
_ACTIVE = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_PAUSED)
_NETWORKED = frozenset({"rbd", "sheepdog"})
"""Storage that keeps snapshots itself."""


class SnapshotFacet(Facet):
    """Snapshots over the session's connection."""

    def snapshots(self, ref: GuestRef) -> Sequence[SnapshotInfo]:
        """One call, and two short ones a snapshot."""
        self._require(Feature.SNAPSHOTS_DISK)
        with translate(guest=ref.name or ref.uuid):
            return self._read_tree(self._domain(ref))

    def snapshots_of_all(self) -> Mapping[str, Sequence[SnapshotInfo]]:
        """One call that names the guests which have any, then as `snapshots`."""
        self._require(Feature.SNAPSHOTS_DISK)
        with translate():
            those = self._connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT)
            return {domain.UUIDString(): self._read_tree(domain) for domain in those if self._driver.is_guest(domain)}

    def snapshot_create(self, ref: GuestRef, spec: SnapshotSpec) -> None:
        """Into the disks' own images; a running guest stands still until its memory is written (0.5 s for 128 MiB, measured)."""
        self._require(Feature.SNAPSHOTS_MEMORY if spec.memory else Feature.SNAPSHOTS_DISK)
        why = why_no_name(spec.name)
        if why:
            raise InvalidDefinition(why, guest=ref.name or ref.uuid)
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.SNAPSHOTS_DISK)):
            domain = self._domain(ref)
            state = domain.state(0)[0]
            alive = state in _ACTIVE
            if alive:
                self._require(Feature.SNAPSHOTS_MEMORY if spec.memory else Feature.SNAPSHOTS_LIVE)
            elif state != libvirt.VIR_DOMAIN_SHUTOFF:
                message = "A snapshot is taken of a guest that runs, is paused or is off; this one is none of these."
                raise WrongState(message, guest=ref.name or ref.uuid)
            _refuse_what_would_not_come_back(domain)
            if self._driver.keeps_inside_images:
                _refuse_other_images(Domain.parse(domain.XMLDesc(0)))
            wanted = DomainSnapshot(name=spec.name, description=spec.description or None)
            wanted.memory = "internal" if alive else "no"
            domain.snapshotCreateXML(wanted.to_xml(), 0)

    def snapshot_revert(self, ref: GuestRef, name: str) -> None:
        """QEMU is started anew for it, whatever the guest did (2.5 s, measured); a managed save goes first."""
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.SNAPSHOTS_DISK)):
            domain, snapshot, info = self._find_snapshot(ref, name)
            if info.no_revert:
                raise Unsupported(info.no_revert, feature=str(Feature.SNAPSHOTS_DISK), guest=ref.name or ref.uuid)
            if domain.hasManagedSaveImage(0):
                domain.managedSaveRemove(0)
            domain.revertToSnapshot(snapshot, 0)

    def snapshot_delete(self, ref: GuestRef, name: str, *, children: bool = False) -> None:
        """The guest may run."""
        with translate(guest=ref.name or ref.uuid, feature=str(Feature.SNAPSHOTS_DISK)):
            _, snapshot, info = self._find_snapshot(ref, name)
            if info.no_delete:
                raise Unsupported(info.no_delete, feature=str(Feature.SNAPSHOTS_DISK), guest=ref.name or ref.uuid)
            snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN if children else 0)

    def _find_snapshot(
        self, ref: GuestRef, name: str
    ) -> tuple[libvirt.virDomain, libvirt.virDomainSnapshot, SnapshotInfo]:
        self._require(Feature.SNAPSHOTS_DISK)
        domain = self._domain(ref)
        snapshot = domain.snapshotLookupByName(name)
        return domain, snapshot, self._snapshot_info(snapshot, self._overlays_work())

    def _read_tree(self, domain: libvirt.virDomain) -> list[SnapshotInfo]:
        found, overlays = [], None
        for snapshot in domain.listAllSnapshots(0):
            overlays = self._overlays_work() if overlays is None else overlays
            found.append(self._snapshot_info(snapshot, overlays))
        return found

    def _overlays_work(self) -> bool:
        return self._connection.getLibVersion() >= OVERLAYS_SINCE

    def _snapshot_info(self, snapshot: libvirt.virDomainSnapshot, overlays: bool) -> SnapshotInfo:  # noqa: FBT001
        return snapshot_info(snapshot.getXMLDesc(0), current=bool(snapshot.isCurrent(0)), overlays_work=overlays)


def snapshot_info(xml: str, *, current: bool, overlays_work: bool) -> SnapshotInfo:
    """What libvirt's document says. Raises InvalidDefinition for what is none."""
    document = DomainSnapshot.parse(xml)
    name = document.name or ""
    memory = document.memory in ("internal", "external")
    external = document.memory == "external" or any(disk.snapshot == "external" for disk in document.disks)
    return SnapshotInfo(
        name=name,
        description=document.description or "",
        parent=document.parent or "",
        created_at=float(document.created_at or 0),
        state=_STATES.get(document.state or "", GuestState.SHUTOFF) if memory else GuestState.SHUTOFF,
        memory=memory,
        kind="external" if external else "internal",
        current=current,
        disks=tuple(disk.name or "" for disk in document.disks if disk.snapshot != "no"),
        no_revert=_why_no_revert(name, external=external and not overlays_work),
        no_delete=_NO_OVERLAYS if external and not overlays_work else "",
    )


_NO_OVERLAYS = (
    "It was taken outside, as overlay files, which this host's libvirt neither goes back to nor deletes. "
    "Merge them there (virsh blockcommit), then forget it (virsh snapshot-delete --metadata)."
)


def _why_no_revert(name: str, *, external: bool) -> str:
    if external:
        return _NO_OVERLAYS
    if name.isdigit() and len(name) <= _NUMBER_MAX:
        return "Its name is a number, and QEMU could take it for another snapshot's number and go back to that one instead."
    if '"' in name or "\\" in name:
        return (
            "QEMU does not find a snapshot by a name with a quotation mark or a backslash: it was probably never taken."
        )
    return ""


def _refuse_what_would_not_come_back(domain: libvirt.virDomain) -> None:
    if not domain.isPersistent():
        message = "The guest is transient: it goes when it stops, and its snapshots with it."
        raise WrongState(message)
    if domain.hasManagedSaveImage(0):
        message = (
            "The guest's memory is saved, and a snapshot of its disks would not hold it. "
            "Start it, or discard the saved memory, and then take the snapshot."
        )
        raise WrongState(message)


def _refuse_other_images(definition: Domain) -> None:
    """QEMU keeps internal snapshots in qcow2 images alone; a disk that is read-only or empty stays out."""
    written = [disk for disk in definition.disks if not disk.readonly and _has_source(disk)]
    for disk in written:
        if disk.format not in (None, "qcow2") and disk.protocol not in _NETWORKED:
            message = (
                f"Disk {disk.target} is a {disk.format} image, and QEMU keeps snapshots inside qcow2 images only. "
                "Convert it to qcow2, or take it out of the guest first."
            )
            raise Unsupported(message, feature=str(Feature.SNAPSHOTS_DISK), disk=disk.target or "")
    if not written:
        message = "The guest has no disk that could hold a snapshot."
        raise Unsupported(message, feature=str(Feature.SNAPSHOTS_DISK))


def _has_source(disk: Disk) -> bool:
    return bool(disk.file or disk.dev or disk.volume or disk.protocol)
