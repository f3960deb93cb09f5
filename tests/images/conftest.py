from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from core.units import GIB
from drivers.fake import FakeDriver, FakeWorld
from images.models import Image
from operations.models import Operation
from storage.inventory import pools_observe
from storage.models import StoragePool
from tests.transfers.conftest import Sender, data_dir, sender
from tests.web.conftest import Place, place, workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Api

__all__ = ["Place", "Sender", "data_dir", "place", "sender", "workers"]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("images.copies.PAUSE_SECONDS", 0.02)
    monkeypatch.setattr("images.copies.TRY_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr("operations.actions.Retry.delay_seconds", lambda _self, _attempt: 0.02)


@dataclass
class Shelf:
    """A host with pools, somebody who uploads, and workers who carry out."""

    place: Place
    sender: Sender
    quiet: Callable[[], None]

    @property
    def api(self) -> Api:
        return self.sender.api

    @property
    def world(self) -> FakeWorld:
        return self.place.world

    def pool(self, name: str = "default", **options: Any) -> StoragePool:
        """One more, seen."""
        self.world.storage.add_pool(name, **options)
        self.observe()
        return StoragePool.objects.get(host=self.place.hypervisor.host, name=name)

    def observe(self) -> None:
        """As a sweep would."""
        session = FakeDriver().open(self.world.endpoint)
        listing = session.pools()
        pools_observe(self.place.hypervisor, listing, {one.name: session.volumes(one.name) for one in listing})
        session.close()

    def create(self, **body: Any) -> Operation:
        """`POST /images`, and its end."""
        answer = self.api.post("/images", body)
        assert answer.status_code == 202, answer.content
        self.quiet()
        return Operation.objects.get(pk=answer.json()["id"])

    def upload(self, path: Path, **body: Any) -> Operation:
        """An image of a file."""
        upload = self.sender.whole(path.read_bytes())
        return self.create(**{"name": path.stem, "upload": upload} | body)

    def made(self, path: Path, **body: Any) -> Image:
        """The image of a file."""
        operation = self.upload(path, **body)
        assert operation.state == "succeeded", operation.error
        return Image.objects.get(pk=operation.result["image"])

    def volumes(self, pool: str = "default") -> dict[str, bytes]:
        """What lies in a pool."""
        session = FakeDriver().open(self.world.endpoint)
        try:
            return {one.name: self.world.storage.content(pool, one.name) for one in session.volumes(pool)}
        finally:
            session.close()


@pytest.fixture
def shelf(place: Place, sender: Sender, workers: Callable[[], None]) -> Shelf:
    return Shelf(place, sender, workers)


@pytest.fixture
def pool(shelf: Shelf) -> StoragePool:
    """The pool `default`, with room."""
    return shelf.pool(capacity_bytes=10 * GIB)
