"""The revisions of definitions: the only writer of `Revision`. A new one and its event are one transaction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db import transaction

from core.errors import Missing
from events import log as event_log
from vms.choices import RevisionSource
from vms.definitions.diff import Difference, difference
from vms.models import VM, Revision

if TYPE_CHECKING:
    import uuid
    from typing import Any

TOLD_CHARACTERS: Final = 4_000
"""How much of a difference an event carries; all of it is the revision's."""
_UNCHANGED: Final = Difference(text="", added=0, removed=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Who made a definition what it is, and why.

    Attributes:
        operation: What of ours did it; None for somebody outside.
        restored: The number of the revision that it brought back.
    """

    source: RevisionSource
    actor: str = ""
    comment: str = ""
    operation: uuid.UUID | None = None
    restored: int | None = None


def digest_of(xml: str) -> str:
    """What identifies a definition: its ETag, without quotes."""
    return hashlib.sha256(xml.encode(errors="surrogatepass")).hexdigest()


def newest(vm_id: uuid.UUID) -> Revision | None:
    """The last one that is known."""
    return Revision.objects.filter(vm=vm_id).order_by("-number").first()


def text_of(vm_id: uuid.UUID, digest: str) -> str | None:
    """The definition of this digest, if it is kept."""
    return Revision.objects.filter(vm=vm_id, digest=digest).order_by("-number").values_list("xml", flat=True).first()


def record(vm: VM, xml: str, cause: Cause) -> tuple[Revision, str]:
    """Keep what the guest's definition is now, and tell of the change. What is the newest already is not kept twice.

    Returns:
        The revision, and the digest that the inventory has of the guest at this moment: whoever sees another definition while
        this is written waits for it, and finds it written.

    Raises:
        Missing: The guest's row is gone.
    """
    digest = digest_of(xml)
    with transaction.atomic():
        row = VM.objects.select_for_update().filter(pk=vm.pk).first()
        if row is None:
            raise Missing("This guest is no longer known.")
        last = newest(row.pk)
        if last is not None and last.digest == digest:
            return last, row.xml_digest
        if last is None and cause.source == RevisionSource.OUTSIDE:
            cause = Cause(source=RevisionSource.FIRST_SIGHT)  # what there is nothing before may have been so for ever
        change = difference(last.xml, xml) if last else _UNCHANGED
        revision = Revision.objects.create(
            vm=row,
            number=last.number + 1 if last else 1,
            xml=xml,
            digest=digest,
            source=cause.source,
            actor=cause.actor[:150],
            comment=cause.comment[:500],
            operation=cause.operation,
            restored=cause.restored,
            added=change.added,
            removed=change.removed,
        )
        Revision.objects.filter(vm=row, number__lte=revision.number - settings.ENV.revisions_keep).delete()
        if last is not None:
            _tell(row, revision, difference(last.xml, xml, context=1, characters=TOLD_CHARACTERS))
    return revision, row.xml_digest


def _tell(vm: VM, revision: Revision, change: Difference) -> None:
    data: dict[str, Any] = {
        "revision": revision.number,
        "source": str(revision.source),
        "added": change.added,
        "removed": change.removed,
        "diff": change.text,
        "diff_cut": change.cut,
    }
    if revision.comment:
        data["comment"] = revision.comment
    if revision.restored:
        data["restored"] = revision.restored
    event_log.append(
        [
            event_log.NewEvent(
                type="vm.definition_changed",
                object=vm.ref,
                object_name=vm.name,
                actor=revision.actor,
                operation=revision.operation,
                data=data,
            )
        ]
    )
