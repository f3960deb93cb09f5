from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from core.rest import OFFSET_STREAM

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import Api


@pytest.fixture(autouse=True)
def data_dir(settings: SettingsWrapper, tmp_path: Path) -> Path:
    """Files of a test lie in its own directory."""
    settings.DATA_DIR = tmp_path
    return tmp_path


@dataclass
class Sender:
    """A program that uploads."""

    api: Api

    def begin(self, content: bytes = b"x" * 1000, **more: Any) -> Any:
        return self.api.post("/uploads", {"filename": "disk.img", "size_bytes": len(content), **more})

    def send(self, upload: str, content: bytes, offset: int | str, kind: str = OFFSET_STREAM, **headers: str) -> Any:
        sent = {"Authorization": f"Bearer {self.api.secret}", "Upload-Offset": str(offset), **headers}
        return self.api.client.generic("PATCH", f"/api/v1/uploads/{upload}", content, kind, headers=sent)

    def whole(self, content: bytes, **more: Any) -> str:
        """The id of a complete upload."""
        begun = self.begin(content, **more)
        assert begun.status_code == 201, begun.content
        sent = self.send(begun.json()["id"], content, 0)
        assert sent.json()["state"] == "complete", sent.content
        return str(begun.json()["id"])


@pytest.fixture
def sender(api: Api) -> Sender:
    return Sender(api)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
