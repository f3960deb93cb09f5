"""Waiting until a guest is of use: it runs, has an address, answers on a port, or has written a text on its serial console.

Runs in an operation's thread. Addresses are what the guest's hypervisor says; a port is tried from this machine, which may not have
a way there. Nothing is sent to a port, and of what it says only the first bytes of an SSH greeting are looked at.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

from drivers.errors import ConsoleBusy, Timeout, WrongState
from drivers.types import GuestState
from events import bell
from operations.actions import Cancelled
from vms.addresses import flattened, reachable, why_none
from vms.inventory import vm_observe, vms_addresses

if TYPE_CHECKING:
    from drivers.base import Console
    from operations.actions import Context
    from vms.addresses import Address, Told
    from vms.models import VM

LOOK_SECONDS: Final = 2.0
KNOCK_SECONDS: Final = 0.25
"""How often a port is tried. Asking for addresses takes the hypervisor's time, and a port only the guest's."""
CONNECT_SECONDS: Final = 3.0
SSH_PORT: Final = 22
HEARD_MAX: Final = 64 * 1024
"""Characters of console output in which a text is looked for."""
_UP: Final = frozenset({GuestState.RUNNING, GuestState.PAUSED, GuestState.SHUTTING_DOWN, GuestState.PMSUSPENDED})


class NotReady(Timeout):
    """The guest was made, but is not ready."""

    code = "not_ready"
    retryable = False


class Wait:
    """One guest that is waited for.

    Args:
        ctx: Of the operation that waits.
        vm: With its hypervisor and host.
        wait_for: `running`, `address`, `ssh`, `port:N`, or a text on the serial console.
        timeout_seconds: From now.
    """

    def __init__(self, ctx: Context, vm: VM, wait_for: str, timeout_seconds: float) -> None:
        self._ctx = ctx
        self._vm = vm
        self._for = wait_for
        self._seconds = timeout_seconds
        self._until = time.monotonic() + timeout_seconds
        self._heard = ""

    def ready(self) -> list[Address]:
        """Return when it is, with the addresses that were seen. Raises NotReady, Cancelled, DriverError."""
        match self._for:
            case "" | "running":
                return []
            case "address":
                return self._addressed(0)
            case "ssh":
                return self._addressed(SSH_PORT)
        if self._for.startswith("port:"):
            return self._addressed(int(self._for.removeprefix("port:")))
        self._listen()
        return []

    # -- addresses and ports -------------------------------------------------------------------------------------------
    def _addressed(self, port: int) -> list[Address]:
        while True:
            self._check_up()
            told = self._told()
            addresses = flattened(told)
            usable = [one["address"] for one in addresses if reachable(one["address"])]
            if not usable:
                self._pause(f"no address yet: {why_none(told)}")
            elif why := self._knock(usable, port):
                self._check(why)
            else:
                return addresses

    def _told(self) -> Told:
        with self._ctx.session(self._vm.hypervisor.endpoint()) as session:
            told = session.addresses(self._vm.guest_ref)
        vms_addresses(self._vm.hypervisor, {self._vm.uuid: told})
        return told

    def _knock(self, usable: list[str], port: int) -> str:
        """Try them for a while: "" as soon as somebody answers, or why nobody does."""
        until = time.monotonic() + min(LOOK_SECONDS, max(0.0, self._left))
        while (why := self._no_answer(usable, port)) and time.monotonic() < until:
            bell.wait_until(self._ctx.cancelled, timeout_seconds=KNOCK_SECONDS)
            if self._ctx.cancelled():
                break
        return why

    def _no_answer(self, usable: list[str], port: int) -> str:
        """Why nobody answers on any of them; "" where somebody does, or no port is waited for."""
        if not port:
            return ""
        refusals = []
        for address in usable:
            refusal = no_answer(address, port, ssh=self._for == "ssh")
            if not refusal:
                return ""
            refusals.append(f"{address}: {refusal}")
        return f"port {port} does not answer yet: {'; '.join(refusals)}."

    # -- the console ---------------------------------------------------------------------------------------------------
    def _listen(self) -> None:
        """Until the text was written. The console stays open meanwhile: what is written while nobody listens is lost."""
        while True:
            try:
                console = self._console()
            except (ConsoleBusy, WrongState) as error:
                why = f"its serial console cannot be read: {error.detail}"
            else:
                try:
                    why = self._read(console)
                finally:
                    console.close()
            if not why:
                return
            self._check_up()
            self._pause(why)

    def _console(self) -> Console:
        with self._ctx.session(self._vm.hypervisor.endpoint(), channel="console") as session:
            return session.open_console(self._vm.guest_ref, "serial")

    def _read(self, console: Console) -> str:
        """Until the text came ("") or the console ended (why it did not). Raises NotReady, Cancelled."""
        while True:
            data = console.read(timeout_seconds=0.5)
            if data:
                self._heard = (self._heard + data.decode("utf-8", "replace"))[-HEARD_MAX:]
            if self._for in self._heard:
                return ""
            last = self._heard.strip().splitlines()[-1:]
            why = f"{self._for!r} was not written on its serial console; last came: {last[0][-200:] if last else 'nothing'}"
            if data == b"":
                return why
            self._check(why)

    # -- time ----------------------------------------------------------------------------------------------------------
    def _pause(self, why: str) -> None:
        self._check(why)
        bell.wait_until(self._ctx.cancelled, timeout_seconds=min(LOOK_SECONDS, max(0.05, self._left)))

    def _check(self, why: str) -> None:
        """Say how it stands. Raises NotReady when the time is up, Cancelled."""
        if self._ctx.cancelled():
            raise Cancelled(f"No longer waiting; {self._vm.name} stays as it is.")
        if self._left <= 0:
            raise NotReady(
                f"{self._vm.name} runs, but was not ready within {self._seconds:.0f} s: {why}", vm=str(self._vm.pk)
            )
        self._ctx.progress(None, f"Waiting, {self._left:.0f} s left: {why}")

    @property
    def _left(self) -> float:
        return self._until - time.monotonic()

    def _check_up(self) -> None:
        with self._ctx.session(self._vm.hypervisor.endpoint()) as session:
            info = session.guest(self._vm.guest_ref)
        if info.state not in _UP:
            vm_observe(self._vm.hypervisor, info)
            reason = f", {info.state_reason}" if info.state_reason else ""
            raise NotReady(
                f"{self._vm.name} stopped while it was waited for ({info.state}{reason}); its console may say why.",
                vm=str(self._vm.pk),
            )


def no_answer(address: str, port: int, *, ssh: bool) -> str:
    """Whether somebody listens there (and greets as SSH servers do): "" or why not. Blocks for a few seconds at most."""
    try:
        with socket.create_connection((address, port), timeout=CONNECT_SECONDS) as connection:
            if ssh and not connection.recv(4).startswith(b"SSH-"):
                return "no SSH server"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return error.strerror or "no way there"
    return ""
