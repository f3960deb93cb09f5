"""What every driver that clones guests promises. A part of `tests.drivers.conformance`."""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING

import pytest

from drivers.errors import AlreadyExists, InvalidDefinition
from drivers.types import CloneSpec, Feature, GuestState

if TYPE_CHECKING:
    from tests.drivers.conformance import Lab


class CloneConformance:
    """Needs the `lab` fixture of whoever derives from it."""

    def test_a_clone_is_another_guest_of_the_same_make(self, lab: Lab) -> None:
        if not lab.has(Feature.CLONE):
            return
        source = lab.session.guest(lab.make())
        macs = {nic.mac: f"52:54:00:00:0c:{number:02x}" for number, nic in enumerate(source.interfaces)}
        spec = CloneSpec(
            name=f"{source.name}-clone",
            uuid=str(uuid.uuid4()),
            macs=macs,
            title="The <other>",
            metadata={"project": "blue & <green>"},
            disks={disk.target: (disk.source or "", disk.format or "raw") for disk in source.disks},
        )
        made = lab.session.clone(source.ref, spec)
        try:
            assert (made.name, made.uuid, made.state) == (spec.name, spec.uuid, GuestState.SHUTOFF)
            assert (made.vcpus, made.memory_bytes, made.kind) == (source.vcpus, source.memory_bytes, source.kind)
            assert (made.title, made.metadata) == ("The <other>", {"project": "blue & <green>"})
            assert [nic.mac for nic in made.interfaces] == [macs[nic.mac] for nic in source.interfaces]
            assert [disk.source for disk in made.disks] == [disk.source for disk in source.disks]
            assert lab.session.clone(source.ref, spec) == made  # made by an attempt that did not live to say so
            with pytest.raises(AlreadyExists):
                lab.session.clone(source.ref, dataclasses.replace(spec, uuid=str(uuid.uuid4())))
            assert lab.session.guest(source.ref) == source
        finally:
            lab.session.undefine(made.ref)
        lab.works(Feature.CLONE)

    @pytest.mark.parametrize("name", ["a/b", " ", "a\nb"])
    def test_a_clone_has_a_name_that_can_be(self, lab: Lab, name: str) -> None:
        if not lab.has(Feature.CLONE):
            return
        with pytest.raises(InvalidDefinition):
            lab.session.clone(lab.make(), CloneSpec(name=name, uuid=str(uuid.uuid4())))
