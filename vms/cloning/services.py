"""What callers may ask of clones: permission, validation, submit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from accounts import policy
from core.errors import BadInput
from core.problems import pointer
from operations import engine
from operations.choices import OPEN
from operations.models import Operation
from vms.cloning.actions import CloneParams, CloneVM
from vms.cloning.plan import KIND, CloneIn, check_under_way, plan_clones

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accounts.actor import Actor
    from vms.models import VM


def clone_asked(raw: Mapping[str, Any] | None) -> CloneIn:
    """What a caller wrote. Raises BadInput with a pointer to each wrong value."""
    try:
        return CloneIn.model_validate(raw or {})
    except ValidationError as error:
        errors = [{"pointer": pointer(item["loc"]), "detail": item["msg"]} for item in error.errors(include_url=False)]
        raise BadInput(f"Clone: {errors[0]['pointer']}: {errors[0]['detail']}", errors=errors) from None


def vm_clone(*, vm: VM, asked: CloneIn, by: Actor, on_conflict: Literal["wait", "fail"] = "wait") -> Operation:
    """Queue the making of clones, or return the equal operation that is under way. Its target is the source.

    Raises:
        PermissionRefused, Unsupported, Unreachable, WrongState: Of the source. NeedsTemplate: `linked`. NotCopyable, BadInput,
        AlreadyExists, InProgress.
    """
    policy.require(by, CloneVM.verb, vm)
    plain = asked.model_dump(mode="json", exclude={"cloud_init"})
    same = Operation.objects.filter(kind=KIND, target=vm.ref, state__in=OPEN, cancel_requested=False).order_by("-id")
    if asked.cloud_init is None and on_conflict == "wait":
        for operation in same:
            if operation.params["asked"] == plain and not operation.secret_params:
                return operation
    action = CloneVM()
    action.check(vm, CloneParams(start=asked.start), idle=False)  # before what it would be is looked at
    clones = plan_clones(vm, asked, by=by)
    check_under_way(vm, [clone.name for clone in clones])
    params = CloneParams(
        hypervisor=vm.hypervisor_id,
        asked=plain,
        clones=clones,
        start=asked.start,
        title=asked.title,
        description=vm.description if asked.description is None else asked.description,
        tags=list(vm.tags),
        project=vm.project,
        owner=by.user.get_username() if by.user is not None else "",
        cloud_init=None if asked.cloud_init is None else asked.cloud_init.model_dump(mode="json", exclude_none=True),
    )
    return engine.submit(CloneVM, target=vm, by=by, params=params, on_conflict=on_conflict)
