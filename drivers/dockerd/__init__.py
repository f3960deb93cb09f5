"""Docker and Podman, through the Docker Engine API."""

from drivers.dockerd.kinds import DockerDriver, PodmanDriver

__all__ = ["DockerDriver", "PodmanDriver"]
