"""The application's version, said once in `pyproject.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

__all__ = ["version"]


@cache
def version() -> str:
    """Of the installed package, or of the checkout that it runs from."""
    try:
        return metadata.version("vmmanager")
    except metadata.PackageNotFoundError:
        project = Path(__file__).resolve().parent.parent / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
