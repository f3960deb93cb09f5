"""Real hypervisors as pytest fixtures (a plug-in: see tests/conftest.py). What they make is gone when the test is.

Tests that use them carry the marker `real`. Where the hypervisor cannot be had they skip, under CI=true they fail:
`require` is that rule, for tests of their own as well.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.labs import local
from tests.labs.hosts import LabHosts, lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class GuestFactory(Protocol):
    """Defines a guest; `start=True` starts it, `ready=True` also waits for its shell. Options: see the lab's script."""

    def __call__(self, *options: str, name: str = "", start: bool = False, ready: bool = False) -> local.Guest: ...


class QemuGuestFactory(Protocol):
    """As `GuestFactory`; `kind` is "linux" (a shell, obeys shutdown), "bootsector" (16 MiB, obeys nothing) or "qcow2" (the same in
    an image that can hold snapshots)."""

    def __call__(
        self, *options: str, name: str = "", start: bool = False, ready: bool = False, kind: str = "linux"
    ) -> local.Guest: ...


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def require(have: Callable[[], object], what: str) -> None:
    """Run `have`; where it cannot be had the test skips, and fails under CI=true."""
    try:
        have()
    except (local.LabError, OSError, subprocess.SubprocessError) as error:
        message = f"{what}: {error}"
        if in_ci():
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


def require_libvirtd(uri: str = local.QEMU_URI) -> None:
    """Have libvirtd answer on `uri`, starting this machine's own where nothing does."""
    require(lambda: local.ensure_libvirtd(uri), f"no libvirtd on {uri}")


@pytest.fixture(scope="session")
def tiny_kernel() -> local.TinyKernel:
    """Kernel and RAM disk of the tiny guest, built once a machine."""
    require(local.build_tiny_kernel, "no tiny guest")
    return local.build_tiny_kernel()


@pytest.fixture(scope="session")
def tiny_disk() -> local.TinyKernel:
    """As `tiny_kernel`, with the bootable disk."""
    require(lambda: local.build_tiny_kernel(disk=True), "no tiny guest with a disk")
    return local.build_tiny_kernel(disk=True)


@pytest.fixture
def qemu_guest() -> Iterator[QemuGuestFactory]:
    """Defines guests on qemu:///system: `qemu_guest("--mem", "256", start=True)`."""
    require_libvirtd(local.QEMU_URI)
    made: list[local.Guest] = []

    def make(
        *options: str, name: str = "", start: bool = False, ready: bool = False, kind: str = "linux"
    ) -> local.Guest:
        if kind == "linux":
            guest = local.make_qemu_guest(*options, name=name)
        else:
            image = kind if kind == "qcow2" else "raw"
            guest = local.make_bootsector_guest(*options, name=name, image=image)
        return _begin(made, guest, start=start, ready=ready)

    yield make
    _remove(made)


@pytest.fixture(scope="module")
def linux_guest() -> Iterator[local.Guest]:
    """A Linux guest at its shell, with a VNC screen: booted once for all tests of a module, which leave it running."""
    require_libvirtd(local.QEMU_URI)
    made: list[local.Guest] = []
    try:
        yield _begin(made, local.make_qemu_guest("--vnc", "tcp"), start=True, ready=True)
    finally:
        _remove(made)


@pytest.fixture
def lxc_guest() -> Iterator[GuestFactory]:
    """Defines busybox containers on lxc:///system."""
    require_libvirtd(local.LXC_URI)
    made: list[local.Guest] = []

    def make(*options: str, name: str = "", start: bool = False, ready: bool = False) -> local.Guest:
        return _begin(made, local.make_lxc_guest(*options, name=name), start=start, ready=ready)

    yield make
    _remove(made)


@pytest.fixture
def made_guest() -> Iterator[Callable[[str], local.Guest]]:
    """A name, a UUID and a directory for a guest that the product makes: `made_guest(local.QEMU_URI)`. Gone after the test."""
    made: list[local.Guest] = []

    def reserve(uri: str) -> local.Guest:
        require_libvirtd(uri)
        name = local.unique_name("made")
        guest = local.Guest(uri=uri, name=name, uuid=str(uuid.uuid4()), directory=local.guest_directory(name))
        made.append(guest)
        return guest

    yield reserve
    _remove(made)


@pytest.fixture
def dhcp_network() -> Iterator[str]:
    """The name of a network of libvirt's own that gives out addresses."""
    require_libvirtd(local.QEMU_URI)
    with local.dhcp_network() as name:
        yield name


@pytest.fixture
def pool_home() -> Iterator[Path]:
    """A directory of this machine where pools may have their targets."""
    with local.pool_home() as home:
        yield home


@pytest.fixture(scope="module")
def lab_network() -> Iterator[str]:
    """The name of a virtual network of this machine's libvirtd, which is off."""
    require_libvirtd(local.QEMU_URI)
    with local.network() as name:
        yield name


@pytest.fixture(scope="session")
def lab_hosts() -> Iterator[LabHosts]:
    """Two separate libvirtd hosts with TLS, up for the whole session; a test that breaks one calls `restore()`."""
    hosts = lab()
    try:
        require(lambda: hosts.up(2), "no lab of several hosts")
        yield hosts
    finally:
        hosts.down()


def _begin(made: list[local.Guest], guest: local.Guest, *, start: bool, ready: bool) -> local.Guest:
    made.append(guest)
    if start or ready:
        guest.start()
    if ready:
        guest.wait_ready()
    return guest


def _remove(made: list[local.Guest]) -> None:
    errors: list[Exception] = []
    for guest in made:
        try:
            guest.remove()
        except local.LabError as error:
            errors.append(error)
    if errors:
        raise ExceptionGroup("guests were left behind", errors)
