"""What the dialogs of the Hardware tab are made of: fields, forms, and the desk with all that is known of the guest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.utils.translation import gettext as _

from core.errors import Missing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accounts.actor import Actor
    from drivers.types import Device, HardwareOptions
    from vms.hardware.selectors import Known
    from vms.models import VM

CHOICES_MAX: Final = 300
GIB: Final = 1 << 30
MIB: Final = 1 << 20


@dataclass(slots=True, kw_only=True)
class Field:
    """One thing that is asked.

    Attributes:
        name: Where it stands in the body: `limits.read_bytes_per_second`.
        kind: `text number gib mib select check lines order device radio`: how it is drawn, and what it becomes.
        options: Of a choice: values with their labels.
        late: Why it counts at the next start only; "" where at once.
        when: Shown only while the form's choice (`radio`) is one of these.
        keep: It is sent although it was not touched.
    """

    name: str
    label: str
    kind: str = "text"
    value: Any = ""
    options: list[tuple[str, str]] = field(default_factory=list)
    hint: str = ""
    late: str = ""
    when: str = ""
    more: bool = False
    keep: bool = False

    @property
    def id(self) -> str:
        """Of its input."""
        return f"hw-{self.name.replace('.', '-').replace('@', '-')}"

    @property
    def text(self) -> str:
        """What stands in its input: bytes as GiB or MiB, without more digits than they have."""
        if self.kind in ("gib", "mib"):
            unit = GIB if self.kind == "gib" else MIB
            return (
                f"{self.value / unit:.4f}".rstrip("0").rstrip(".") if self.value else "0" if self.kind == "mib" else ""
            )
        return str(self.value)


@dataclass(slots=True, kw_only=True)
class Form:
    """A dialog."""

    title: str
    action: str
    method: str
    path: str
    root: str = ""
    text: str = ""
    fields: list[Field] = field(default_factory=list)
    late: str = ""
    danger: bool = False
    typed: str = ""
    runs: bool = False
    digest: str = ""

    @property
    def shown(self) -> list[Field]:
        """Those that stand there at once."""
        return [one for one in self.fields if not one.more]

    @property
    def hidden(self) -> list[Field]:
        """Those that stand below "advanced"."""
        return [one for one in self.fields if one.more]

    @property
    def chooses(self) -> bool:
        """Whether there is anything to be chosen between at once and later."""
        return self.runs and not self.late and not (self.fields and all(one.late for one in self.fields))

    @property
    def waits(self) -> bool:
        """Whether some of it counts at the next start only."""
        return bool(self.late) or any(one.late for one in self.fields)


@dataclass(frozen=True, slots=True)
class Desk:
    """What forms are made of."""

    vm: VM
    found: Known
    by: Actor
    key: str

    @property
    def options(self) -> HardwareOptions:
        """What its hypervisor takes."""
        return self.found.options

    @property
    def runs(self) -> bool:
        """Whether there is anything to be changed at once."""
        return self.found.found.live is not None

    @property
    def path(self) -> str:
        """Below /api/v1."""
        return f"/vms/{self.vm.pk}"

    @property
    def device(self) -> Device:
        """The one that is meant. Raises Missing."""
        found = self.found.devices.get(self.key)
        if found is None:
            raise Missing(_("The guest does not have this device any more."))
        return found

    def late(self, word: str) -> str:
        """Why a change of this kind waits for the next start; "" where it does not, or where the guest is off."""
        if not self.runs:
            return ""
        return self.options.live.get(word, _("A running guest does not take it."))

    def form(self, **values: Any) -> Form:
        """With what all have."""
        return Form(runs=self.runs, digest=self.found.digest, **values)


def choice(values: Iterable[str], present: str = "", usual: str = "") -> list[tuple[str, str]]:
    """What there is to choose, with what it is now; "" first, where that may be left to the hypervisor."""
    found = [("", usual)] if usual else []
    known = list(values)
    if present and present not in known:
        known.insert(0, present)
    return [*found, *((one, one) for one in known)]
