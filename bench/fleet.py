"""Hosts of libvirt's test driver with as many guests as wanted, in the data directory of a server; added over REST."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING

from tests.server import Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

HOSTS = 10
RUNNING, SHUT_OFF = 1, 5
SAMPLING = {"VMM_SAMPLE_SECONDS": "5"}


def _domain(number: int, *, running: bool) -> str:
    mac = f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return f"""
  <domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>
    <test:runstate>{RUNNING if running else SHUT_OFF}</test:runstate>
    <name>guest-{number:05d}</name>
    <uuid>{uuid.uuid4()}</uuid>
    <memory unit='MiB'>512</memory>
    <vcpu>2</vcpu>
    <os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>
    <devices>
      <disk type='file' device='disk'>
        <driver name='qemu' type='qcow2'/><source file='/srv/guests/{number:05d}.qcow2'/><target dev='vda' bus='virtio'/>
      </disk>
      <interface type='network'><mac address='{mac}'/><source network='default'/><model type='virtio'/></interface>
      <console type='pty'/>
      <graphics type='vnc' autoport='yes'/>
    </devices>
  </domain>"""


def write_hosts(directory: Path, guests: int, *, running_every: int = 10) -> list[Path]:
    """Ten files of a host each, `guests` in all.

    Args:
        directory: Where: inside the server's data directory, or it refuses them.
        guests: A multiple of ten.
        running_every: Each how-manieth guest runs; 0: none.
    """
    directory.mkdir(parents=True, exist_ok=True)
    each, paths = guests // HOSTS, []
    for host in range(HOSTS):
        numbers = range(host * each, (host + 1) * each)
        body = "".join(
            _domain(number, running=bool(running_every) and number % running_every == 0) for number in numbers
        )
        path = directory / f"host-{host}.xml"
        path.write_text(f"<node>{body}\n</node>\n", encoding="utf-8")
        paths.append(path)
    return paths


def add_hosts(server: Server, paths: Sequence[Path]) -> None:
    """`POST /hosts` for each, one after another."""
    for path in paths:
        answer = server.api("POST", "/hosts", json={"name": path.stem, "uri": f"test://{path}"})
        if answer.status_code != 201:
            raise RuntimeError(f"POST /hosts: {answer.status_code} {answer.text[:1000]}")


def wait_for_guests(server: Server, guests: int, *, seconds: float = 300.0) -> float:
    """Until the API lists so many; when that was first seen (monotonic)."""
    wait_until(lambda: server.get("/vms?limit=1")["total"] >= guests, seconds, f"{guests} guests listed", interval=0.05)
    return time.monotonic()


@contextlib.contextmanager
def fleet_server(guests: int, *, running_every: int = 10) -> Iterator[Server]:
    """A server that follows ten such hosts, all guests listed and every hypervisor swept."""
    with Server(**SAMPLING) as server:
        add_hosts(server, write_hosts(server.data_dir / "hosts", guests, running_every=running_every))
        wait_for_guests(server, guests)
        wait_until(
            lambda: all(host["state"] == "online" for host in server.all("/hosts")), 60, "hosts online", interval=0.2
        )
        yield server
