"""Docker and Podman themselves: the conformance suite on both engines, and what only they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drivers import registry
from drivers.types import GuestRef
from tests.drivers.conformance import Conformance, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.labs.engines import Engine

pytestmark = [pytest.mark.lab]


def lab_of(engine: Engine) -> Iterator[Lab]:
    def make() -> GuestRef:
        container = engine.make()
        return GuestRef(uuid=container.id, name=container.name)

    driver = registry.get(engine.kind)
    session = driver.open(engine.endpoint)
    yield Lab(
        driver=driver,
        endpoint=engine.endpoint,
        session=session,
        make=make,
        make_shell=make,
        make_screen=make,
        boot_seconds=10,
        killed="exited(137)",
        console_is_shared=True,
    )
    session.close()
    engine.clear()


@pytest.fixture
def docker(docker_engine: Engine) -> Iterator[Lab]:
    yield from lab_of(docker_engine)


@pytest.fixture
def podman(podman_engine: Engine) -> Iterator[Lab]:
    yield from lab_of(podman_engine)


class TestDocker(Conformance):
    @pytest.fixture
    def lab(self, docker: Lab) -> Lab:
        return docker


class TestPodman(Conformance):
    @pytest.fixture
    def lab(self, podman: Lab) -> Lab:
        return podman
