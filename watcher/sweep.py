"""Readings: the full listing of a hypervisor, the guests that events named, and their snapshots. Each ends in the inventory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from django.utils import timezone

from drivers.answers import Checked
from drivers.errors import NotFound, Timeout, Unreachable
from drivers.types import Feature, GuestInfo
from hosts.inventory import hypervisor_swept
from vms.inventory import Tally, vm_observe, vms_gone, vms_observe
from vms.models import VM
from vms.snapshots.inventory import snapshots_observe, snapshots_observe_all

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Mapping, Sequence

    from drivers.base import Session
    from drivers.types import GuestRef
    from hosts.models import Hypervisor

log = logging.getLogger(__name__)


def listing(session: Session) -> Sequence[GuestInfo]:
    """Every guest, read now.

    Raises:
        DriverError: From the session. TypeError: the answer is no listing.
    """
    infos = session.guests()
    check_infos(infos)
    return infos


def sweep(
    session: Session,
    hypervisor: Hypervisor,
    *,
    still_wanted: Callable[[], bool] = lambda: True,
    read: Callable[[Session], Sequence[GuestInfo]] = listing,
) -> Tally:
    """Read every guest and write down what differs; guests that are not listed are gone.

    Args:
        session: Where to read.
        hypervisor: Whose guests they are.
        still_wanted: Asked when the reading, which may take long, is over: nothing is written when it is not.
        read: How, for who wants to see the listing too.

    Raises:
        DriverError: From the session. TypeError: the listing is none.
    """
    seen_at = timezone.now()
    infos = read(session)
    if not still_wanted():
        return Tally()
    tally = vms_observe(hypervisor, infos, seen_at=seen_at, complete=True)
    hypervisor_swept(hypervisor)
    return tally


def sweep_snapshots(
    session: Session, hypervisor: Hypervisor, *, still_wanted: Callable[[], bool] = lambda: True
) -> None:
    """Which guests have snapshots, and which: nothing where the hypervisor keeps none.

    A failure is this reading's own: guests are followed all the same, and a page that shows snapshots asks itself.

    Raises:
        Unreachable, Timeout: From the session.
    """
    if not session.capabilities()[Feature.SNAPSHOTS_DISK].supported:
        return
    seen_at = timezone.now()
    try:
        by_guest = _checked(session).snapshots_of_all()
    except (Unreachable, Timeout):
        raise
    except Exception:
        log.warning("snapshots could not be read", exc_info=True, extra={"hypervisor": str(hypervisor.pk)})
        return
    if still_wanted():
        snapshots_observe_all(hypervisor, by_guest, seen_at=seen_at)


def read_snapshots(
    session: Session,
    hypervisor: Hypervisor,
    refs: Sequence[GuestRef],
    *,
    still_wanted: Callable[[], bool] = lambda: True,
) -> None:
    """The snapshots of these guests, after news that may be of them. Failures as in `sweep_snapshots`."""
    if not refs or not session.capabilities()[Feature.SNAPSHOTS_DISK].supported:
        return
    known = VM.objects.filter(hypervisor=hypervisor, gone_at=None, uuid__in=[ref.uuid.lower() for ref in refs])
    for vm in known:
        seen_at = timezone.now()
        try:
            infos = _checked(session).snapshots(vm.guest_ref)
        except (Unreachable, Timeout):
            raise
        except Exception:
            log.warning("snapshots could not be read", exc_info=True, extra={"vm": vm.name})
            continue
        if not still_wanted():
            return
        snapshots_observe(vm, infos, seen_at=seen_at)


def _checked(session: Session) -> Session:
    """Whose answers make sense, or are the hypervisor's fault."""
    return cast("Session", Checked(session))


def read_named(
    session: Session,
    hypervisor: Hypervisor,
    refs: Sequence[GuestRef],
    *,
    started: Mapping[str, dt.datetime],
    still_wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Read these guests once each and write down what they are; those that are not found are gone.

    Raises:
        DriverError: From the session. TypeError: the answer is none.
    """
    seen_at = timezone.now()
    infos, unread = _read(session, refs)
    if not still_wanted():
        return
    found = {info.uuid.lower() for info in infos}
    if len(infos) == 1:
        vm_observe(hypervisor, infos[0], seen_at=seen_at, started_at=started.get(infos[0].uuid), cause="defined")
    elif infos:
        vms_observe(hypervisor, infos, seen_at=seen_at, started=started, cause="defined")
    gone = [ref.uuid for ref in refs if ref.uuid.lower() not in found and ref.uuid not in unread]
    if gone:
        vms_gone(hypervisor, gone, seen_at=seen_at, cause="undefined")


def _read(session: Session, refs: Sequence[GuestRef]) -> tuple[list[GuestInfo], set[str]]:
    """The guests, and the identifiers of those whose reading failed: one odd guest must not hide the news of the others."""
    try:
        infos = list(session.guests_by_ref(refs))
        check_infos(infos)
    except (Unreachable, Timeout):
        raise
    except Exception:
        if len(refs) == 1:
            raise
        log.warning("a bulk reading failed, reading one by one", exc_info=True)
        return _read_singly(session, refs)
    return infos, set()


def _read_singly(session: Session, refs: Sequence[GuestRef]) -> tuple[list[GuestInfo], set[str]]:
    infos: list[GuestInfo] = []
    unread: set[str] = set()
    for ref in refs:
        try:
            info = session.guest_or_none(ref)
            if info is not None:
                check_infos([info])
                infos.append(info)
        except NotFound:
            continue
        except (Unreachable, Timeout):
            raise
        except Exception:  # it stays as it was last seen; the next sweep tries again
            log.warning("a guest could not be read", exc_info=True, extra={"vm": ref.name or ref.uuid})
            unread.add(ref.uuid)
    return infos, unread


def check_infos(infos: object) -> None:
    """Raises TypeError for what is no listing of guests: a driver that answers nonsense must not be taken for an empty host."""
    if not isinstance(infos, list | tuple):
        raise TypeError(f"The driver answered a {type(infos).__name__} instead of a list of guests.")
    for info in infos:
        if not isinstance(info, GuestInfo) or not isinstance(info.uuid, str) or not info.uuid:
            raise TypeError(f"The driver answered a {type(info).__name__} that is no guest.")
