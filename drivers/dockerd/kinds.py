"""Docker and Podman: the same protocol, each with what it can do and the ways to get there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.base import Driver
from drivers.dockerd.session import DockerSession
from drivers.forms import (
    ACCOUNT,
    CA_CERTIFICATE,
    CERTIFICATE,
    CERTIFICATE_KEY,
    HOST,
    HOST_KEY,
    PORT,
    SSH_KEY,
    VERIFY,
    Field,
    Way,
)
from drivers.types import Feature, Proof

if TYPE_CHECKING:
    from drivers.base import Session
    from drivers.types import Endpoint

COMMON = frozenset(
    {
        Feature.START,
        Feature.SHUTDOWN,
        Feature.REBOOT,
        Feature.FORCE_OFF,
        Feature.SUSPEND,
        Feature.RESUME,
        Feature.RENAME,
        Feature.UNDEFINE,
        Feature.CONSOLE_SERIAL,
        Feature.CONSOLE_SHELL,
        Feature.METRICS_CPU,
        Feature.METRICS_MEMORY,
        Feature.METRICS_DISK,
        Feature.METRICS_NETWORK,
        Feature.EVENTS,
        Feature.CREATE,
        Feature.ADDRESSES,
        Feature.NETWORKS,
    }
)
_NO_MEMORY = "An engine saves no container's memory (checkpoints are an experiment that needs CRIU)."
_NO_WAY_BACK = "An engine makes a new image of a container (commit), and cannot set the container back to one."
_NO_SCREEN = "A container has no screen."
REASONS = {
    Feature.RESET: "A container has no reset button.",
    Feature.MANAGED_SAVE: _NO_MEMORY,
    Feature.DISCARD_MANAGED_SAVE: _NO_MEMORY,
    Feature.DEFINE: "A container is made from an image, not from an XML definition.",
    Feature.XML: "A container has no XML definition.",
    Feature.CONSOLE_VNC: _NO_SCREEN,
    Feature.CONSOLE_SPICE: _NO_SCREEN,
    Feature.SCREENSHOT: _NO_SCREEN,
    Feature.SNAPSHOTS_DISK: _NO_WAY_BACK,
    Feature.SNAPSHOTS_MEMORY: _NO_MEMORY,
    Feature.SNAPSHOTS_LIVE: _NO_WAY_BACK,
    Feature.MIGRATION_LIVE: "An engine cannot move a running container to another host.",
    Feature.STORAGE_POOLS: "This version does not manage volumes yet.",
    Feature.STORAGE_MANAGE: "This version does not manage volumes yet.",
    Feature.STORAGE_CONTENT: "This version does not manage volumes yet.",
    Feature.NETWORKS_MANAGE: "An engine's networks are made and removed there; here containers are put on them.",
    Feature.HOTPLUG_DISK: "What is mounted into a container is settled when it is made.",
    Feature.HARDWARE: "This version does not change hardware here yet.",
    Feature.HOTPLUG_CPU: "This version does not change the limits of a running container yet.",
    Feature.HOTPLUG_MEMORY: "This version does not change the limits of a running container yet.",
    Feature.HOTPLUG_INTERFACE: "This version does not connect running containers to networks yet.",
    Feature.HOST_DEVICES: "What devices a container sees is settled when it is made.",
    Feature.CLONE: "This version does not clone guests here yet.",
}


def _ways(kind: str, socket: str) -> tuple[Way, ...]:
    return (
        Way(name="ssh", label="SSH", scheme=f"{kind}+ssh", port=22, fields=(HOST, ACCOUNT, PORT, SSH_KEY, HOST_KEY)),
        Way(
            name="tls",
            label="TLS with certificates",
            scheme=f"{kind}+tcp",
            port=2376,
            fields=(HOST, PORT, CERTIFICATE, CERTIFICATE_KEY, CA_CERTIFICATE, VERIFY),
        ),
        Way(
            name="unix",
            label="A socket on this machine",
            scheme=f"{kind}+unix",
            fields=(Field(name="socket", label="Socket", placeholder=socket, required=True),),
            local=True,
        ),
    )


class DockerDriver(Driver):
    """Docker Engine 20.10 and newer."""

    kind = "docker"
    label = "Docker"
    schemes = ("docker",)
    transports = ("unix", "tcp", "ssh")
    features = COMMON | {Feature.AUTOSTART}
    macs = None
    reasons = REASONS
    ways = _ways("docker", "/var/run/docker.sock")
    proof = Proof.REAL

    def open(self, endpoint: Endpoint) -> Session:
        """Connect; every step of it has a deadline."""
        return DockerSession(self, endpoint)


class PodmanDriver(Driver):
    """Podman's service, version 3 and newer."""

    kind = "podman"
    label = "Podman"
    schemes = ("podman",)
    transports = ("unix", "tcp", "ssh")
    features = COMMON
    macs = None
    reasons = REASONS | {
        Feature.AUTOSTART: "Podman runs no daemon that could start containers with the host, and its API of this version "
        "cannot change a restart policy; use a systemd unit (Quadlet) there.",
    }
    ways = _ways("podman", "/run/podman/podman.sock")
    proof = Proof.REAL

    def open(self, endpoint: Endpoint) -> Session:
        """Connect; every step of it has a deadline."""
        return DockerSession(self, endpoint)
