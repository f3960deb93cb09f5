"""A plan: all that a worker needs to make a guest, settled once, so that it is the same however often it is interrupted."""

from __future__ import annotations

import uuid  # noqa: TC003 - pydantic reads the annotations
from typing import Literal

from pydantic import BaseModel, ConfigDict

from core.errors import BadInput


class Planned(BaseModel):
    """What every part of a plan is."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PlannedDisk(Planned):
    """One disk. `how`: an overlay, a copy, an empty volume, or the image itself, attached as it is.

    Attributes:
        volume: Its name in `pool`; "" where the image itself is attached and its copy has yet to be named.
        image: Id of the image that is behind it; `source`: or name of the volume that is, of `source_pool` (""; of `pool`).
    """

    how: Literal["linked", "full", "empty", "attach"]
    pool: str
    pool_id: uuid.UUID
    volume: str
    format: str
    size_bytes: int
    image: uuid.UUID | None = None
    image_name: str = ""
    source: str = ""
    source_pool: str = ""
    bus: str = ""
    device: Literal["disk", "cdrom"] = "disk"


class PlannedNic(Planned):
    """One interface."""

    network: str
    mac: str
    model: str = ""


class PlannedFile(Planned):
    """A volume that is something else than a disk: a kernel, a seed."""

    pool: str
    pool_id: uuid.UUID
    volume: str


class Placement(Planned):
    """Where, and why there."""

    hypervisor: uuid.UUID
    host: uuid.UUID
    host_name: str
    driver: str
    score: float | None = None
    reasons: list[str] = []
    passed_over: list[dict[str, str]] = []


class Plan(Planned):
    """All that is settled of a guest to be made. Secrets are not in it."""

    id: uuid.UUID
    name: str
    template: uuid.UUID | None = None
    template_version: uuid.UUID | None = None
    placement: Placement
    accelerator: str
    vcpus: int
    memory_bytes: int
    disks: list[PlannedDisk]
    interfaces: list[PlannedNic]
    kernel: PlannedFile | None
    initrd: PlannedFile | None
    seed: PlannedFile | None
    cmdline: str
    firmware: str
    secure_boot: bool
    tpm: bool
    graphics: str
    cpu_mode: str
    nested: bool
    container_image: str
    root: str
    init: str
    os: str
    title: str
    description: str
    tags: list[str]
    project: str
    owner: str
    autostart: bool
    start: bool
    wait_for: str
    wait_timeout_seconds: int


def wrong(where: str, detail: str) -> BadInput:
    """One bad value of a spec."""
    name = where.strip("/").replace("/", ".")
    return BadInput(f"{name}: {detail}", errors=[{"pointer": where, "detail": detail}])
