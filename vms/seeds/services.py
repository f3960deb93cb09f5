"""What callers may ask of seeds: permission, validation, submit. REST and pages come through here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounts import policy
from core.errors import VmmError
from operations import actions, engine
from vms.creation.spec import CloudInitIn
from vms.seeds.actions import ReadSeed, ReseedParams, ReseedVM, seed_of
from vms.services import check_cloud_init, read_now

if TYPE_CHECKING:
    from collections.abc import Collection

    from accounts.actor import Actor
    from operations.models import Operation
    from vms.models import VM


class ReseedIn(CloudInitIn):
    """Another seed."""

    rerun: bool = True
    """Whether it is another instance, for which cloud-init does everything again: accounts, packages, host keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedShown:
    """What stands in a seed, and where it lies."""

    instance_id: str
    hostname: str
    user_data: str
    network_config: str
    vendor_data: str
    digest: str
    volume: str
    pool: str


def seed_shown(*, vm: VM, by: Actor) -> SeedShown:
    """Read by a worker now. Blocks up to 25 s. Raises NoSeed, Unsupported, Unreachable, Timeout, BadInput, PermissionRefused."""
    policy.require(by, ReadSeed.verb, vm)
    seed_of(vm)
    return SeedShown(**json.loads(read_now(ReadSeed, vm, by)))


def vm_reseed(*, vm: VM, asked: ReseedIn, by: Actor, known: Collection[str] | None = None) -> Operation:
    """Queue the writing of another seed.

    Args:
        vm: Whose.
        asked: All that it shall hold.
        by: The caller.
        known: Digests of seeds that it was made from; None: whatever there is.

    Raises:
        BadInput, NoSeed, WrongState, Unsupported, Unreachable, PermissionRefused.
    """
    policy.require(by, ReseedVM.verb, vm)
    check_cloud_init(asked, where="")
    wanted = asked.model_dump(mode="json", exclude_none=True, exclude={"rerun"})
    params = ReseedParams(cloud_init=wanted, rerun=asked.rerun, bases=sorted(known or ()))
    return engine.submit(ReseedVM, target=vm, by=by, params=params)


def why_not(vm: VM, *, by: Actor) -> tuple[str, str]:
    """Why this caller cannot write another seed now, as a code and a sentence; twice "" where he can. Two queries."""
    try:
        policy.require(by, ReseedVM.verb, vm)
        actions.get(ReseedVM.kind).check(vm, ReseedParams(cloud_init={}), idle=True)
    except VmmError as error:
        return error.code, error.detail
    return "", ""
