"""The hosts of a pool: which one we are connected to, how the others are reached, what our account may do.

Orders go to the master alone; counters and screens must be fetched from the host that a guest runs on.
"""

from __future__ import annotations

import ipaddress
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from drivers import reach, tls
from drivers.errors import Denied, TlsFailed, Unreachable, Unsupported
from drivers.types import Credentials
from drivers.wires import Target
from drivers.xapi import records
from drivers.xapi.records import text

if TYPE_CHECKING:
    import ssl

    from drivers.types import Endpoint
    from drivers.xapi.wire import Wire

HTTPS_PORT = 443
REMEMBERED_SECONDS = 30.0
_FINGERPRINT = re.compile(r"(?:[0-9A-Fa-f]{2}:?){32}")


class Members:
    """What one login knows of its pool. Several threads may ask at once."""

    def __init__(self, wire: Wire, endpoint: Endpoint) -> None:
        self._wire = wire
        self._credentials = endpoint.credentials or Credentials()
        self._port = urlsplit(endpoint.uri).port or HTTPS_PORT
        self._living: tuple[str, ...] = ()
        self._read_at = 0.0
        self.here = ""
        """The host that we are connected to: only masters let anybody sign in."""

    def learn(self) -> None:
        """Read which host this is. Raises DriverError."""
        pool = records.pool_of(records.table(self._wire.call("pool.get_all_records")))
        self.here = text(pool, "master")

    def permissions(self) -> frozenset[str] | None:
        """What our role allows, in XAPI's words; None: everything, or not told. Raises DriverError."""
        try:
            if self._wire.about_me("is_local_superuser") is not False:
                return None
            told = self._wire.about_me("rbac_permissions")
        except (Denied, Unsupported):
            return None
        return frozenset(each.lower() for each in told if isinstance(each, str)) if isinstance(told, list) else None

    def hosts(self) -> tuple[str, ...]:
        """The hosts that live, ours first. Read anew every half minute. Raises DriverError."""
        if not self._living or time.monotonic() - self._read_at > REMEMBERED_SECONDS:
            metrics = records.table(self._wire.call("host_metrics.get_all_records"))
            table = records.table(self._wire.call("host.get_all_records"))
            living = [ref for ref, row in table.items() if records.flag(metrics.get(text(row, "metrics"), {}), "live")]
            self._living = (self.here, *(ref for ref in living if ref != self.here))
            self._read_at = time.monotonic()
        return self._living

    def target(self, host: str) -> Target | None:
        """How to reach a host of the pool; None where it is the one that we are connected to.

        The address is the master's word, and so is the certificate where ours is pinned: the master is the one we trust. It
        may name any machine but not those that no host can be (`drivers.reach.forbidden`) or, from afar, this one.

        Raises:
            Unreachable: There is no such host, or no address that we go to.
            TlsFailed: A certificate is pinned, and the master does not know the other's.
        """
        if host == self.here:
            return None
        row = records.record(self._wire.call("host.get_record", host)) if host.startswith("OpaqueRef:") else {}
        address = text(row, "address")
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            message = "The host of this guest has no address; it may be moving, or just starting."
            raise Unreachable(message) from None
        why = reach.forbidden(address)
        if why is None and reach.is_loopback(address) and not reach.is_loopback(self._wire.target.host):
            why = f"{address} is this machine, not the host of this guest."
        if why:
            raise Unreachable(why)
        return Target(host=str(ip), port=self._port, context=self._context(host), username=self._wire.target.username)

    def _context(self, host: str) -> ssl.SSLContext:
        if not isinstance(self._credentials.verify, str):
            return self._wire.target.context
        for row in records.table(self._wire.call("Certificate.get_all_records")).values():
            told = text(row, "fingerprint_sha256") or text(row, "fingerprint")
            if text(row, "host") == host and text(row, "type") in ("", "host") and _FINGERPRINT.fullmatch(told):
                return tls.client_context(replace(self._credentials, verify=told.replace(":", "")))
        message = (
            "The certificate of the pool's master is pinned, and the master does not know the one of this guest's host."
        )
        raise TlsFailed(message)
