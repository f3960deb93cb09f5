"""For libvirt's drivers that keep what they know per connection (openvz, vmware): one session of several connections, in one child.

A connection of such a driver lists what there was when it was opened, and what was defined on it; it alone remembers that a guest is
paused (all measured). So all sessions on one host share a child process (`drivers.isolated`), and the session in it opens a connection
for each listing: what is new is known by that one, what is paused stays with the one that paused it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

import libvirt

from drivers import isolated
from drivers.errors import NotFound
from drivers.libvirtd import stats
from drivers.libvirtd.errors import gone_is_nothing
from drivers.libvirtd.kinds import LibvirtDriver
from drivers.libvirtd.session import LibvirtSession
from drivers.libvirtd.states import guest_state
from drivers.types import GuestState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.base import Session
    from drivers.types import Endpoint, GuestInfo, GuestRef, GuestStats


class ChildDriver(LibvirtDriver):
    """A driver whose sessions live in a child process, one for each endpoint."""

    def open(self, endpoint: Endpoint) -> Session:
        """Open in the endpoint's child process; blocks at most `isolated.OPEN_SECONDS`."""
        return isolated.open_session(f"{type(self).__module__}:{type(self).__qualname__}", endpoint)

    def open_here(self, endpoint: Endpoint) -> Session:
        """Open in this very process: for the child alone."""
        return super().open(endpoint)


class GatheringSession(LibvirtSession):
    """All connections to one host, as one session."""

    lists_all: ClassVar[bool]
    """Whether a fresh connection lists every guest there is; else a guest that it does not list may be one that is off."""

    def __init__(self, driver: LibvirtDriver, endpoint: Endpoint, connection: libvirt.virConnect) -> None:
        super().__init__(driver, endpoint, connection)
        self._looking = threading.Lock()
        self._homes: dict[str, libvirt.virConnect] = {}
        self._paused: set[str] = set()
        self._learn(connection)

    def define(self, xml: str) -> GuestInfo:
        """Make or change a guest, which is known from now on."""
        info = super().define(xml)
        with self._looking:
            self._homes.setdefault(info.uuid, self._connection)
        return info

    def suspend(self, ref: GuestRef) -> None:
        """Freeze in memory; only this connection will know."""
        super().suspend(ref)
        with self._looking:
            self._paused.add(ref.uuid)

    def close(self) -> None:
        """Give all connections up. Never raises."""
        with self._looking:
            others = {id(home): home for home in self._homes.values() if home is not self._held}
            self._homes = {}
        for home in others.values():
            _close(home)
        super().close()

    # -- who knows whom -------------------------------------------------------------------------------------------------
    def _home(self, uuid: str) -> libvirt.virConnect:
        own = self._connection  # says so when the session is closed
        if uuid and uuid not in self._homes:
            self._look()
        return self._homes.get(uuid, own)

    def _domain(self, ref: GuestRef) -> libvirt.virDomain:
        home = self._home(ref.uuid)
        if ref.uuid not in self._homes:
            raise NotFound("The hypervisor does not know this guest.", guest=ref.name or ref.uuid)
        return home.lookupByUUIDString(ref.uuid)

    def _domains(self) -> list[tuple[libvirt.virDomain, str, int, int]]:
        self._look()
        found = []
        for uuid, home in list(self._homes.items()):
            try:
                domain = home.lookupByUUIDString(uuid)
                state, reason = domain.state(0)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
                with self._looking:
                    self._homes.pop(uuid, None)
                continue
            found.append((domain, uuid, state, reason))
        return found

    def _marked(self, flag: int) -> set[str]:
        if (
            flag == libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART
        ):  # openvz lists what was so when the connection was opened
            return {uuid for uuid, home in list(self._homes.items()) if home.lookupByUUIDString(uuid).autostart()}
        homes = {id(home): home for home in self._homes.values()}
        return {domain.UUIDString() for home in homes.values() for domain in home.listAllDomains(flag)}

    def _stats_one_by_one(self, connection: libvirt.virConnect) -> Iterator[GuestStats]:
        del connection
        for domain, *_ in self._domains():
            with gone_is_nothing():
                if domain.isActive():
                    yield stats.only(self._driver.features, stats.one_by_one(domain))

    def _look(self) -> None:
        """See what there is now."""
        self._connection.isAlive()
        fresh = self._driver.dial(self.endpoint)
        try:
            useless = self._learn(fresh)
        except BaseException:
            useless = [fresh]
            raise
        finally:
            for connection in useless:
                _close(connection)

    def _learn(self, connection: libvirt.virConnect) -> list[libvirt.virConnect]:
        """Remember which guests this connection knows; answers the connections that nobody needs any more."""
        listed = {domain.UUIDString() for domain in connection.listAllDomains(0)}
        with self._looking:
            before = {id(home): home for home in (*self._homes.values(), connection)}
            self._paused = {uuid for uuid in self._paused if self._still_paused(uuid)}
            kept = set(self._homes) if not self.lists_all else self._paused & listed
            homes = {uuid: home for uuid, home in self._homes.items() if uuid in kept}
            self._homes = homes | dict.fromkeys(listed - kept, connection)
            needed = {id(home) for home in (*self._homes.values(), self._held)}
        return [home for key, home in before.items() if key not in needed]

    def _still_paused(self, uuid: str) -> bool:
        home = self._homes.get(uuid)
        if home is None:
            return False
        try:
            state, reason = home.lookupByUUIDString(uuid).state(0)
        except libvirt.libvirtError:
            return False
        return guest_state(state, reason)[0] is GuestState.PAUSED


def _close(connection: libvirt.virConnect) -> None:
    try:
        connection.close()
    except (libvirt.libvirtError, SystemError):
        return  # it is gone, which is what was wanted
