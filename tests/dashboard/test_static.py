"""What the strict policy and the hashed names ask of templates and modules, held by reading them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.html"))
MODULES = sorted((settings.BASE_DIR / "static/js").glob("*.js"))


def test_templates_when_read_then_nothing_inline() -> None:
    for path in TEMPLATES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\sstyle=|<style\b|\son[a-z]+=[\"']|javascript:|data:image", text), path
        for tag in re.findall(r"<script\b[^>]*>", text):
            assert "src=" in tag, (path, tag)


def test_modules_when_read_then_no_markup_that_the_policy_refuses() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\seval\(|new Function|style=\"|\son(click|input|change|submit)=\"", text), path
        assert text.startswith("// @ts-check\n"), path


def test_icons_when_named_then_in_the_sprite() -> None:
    sprite = (settings.BASE_DIR / "static/img/icons.svg").read_text(encoding="utf-8")
    known = set(re.findall(r'<symbol id="([\w-]+)"', sprite))
    used: dict[str, Path] = {}
    for path in TEMPLATES:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"{%\s*icon [\"']([\w-]+)[\"']|\bicon=[\"']([\w-]+)[\"']", text):
            used["".join(name)] = path
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"\bicon\(\"([\w-]+)\"|\bicon: \"([\w-]+)\"", text):
            used["".join(name)] = path
    assert len(used) > 20
    assert {name: str(path) for name, path in used.items() if name not in known} == {}


def test_modules_when_importing_each_other_then_without_a_circle() -> None:
    """Hashed names are made leaf first: a circle has no leaf, and collectstatic would fail."""
    imports = {
        path.name: set(
            re.findall(
                r"(?:from|import\()\s*\"\./([\w-]+\.js)\"",
                re.sub(r"/\*\*.*?\*/", "", path.read_text(), flags=re.DOTALL),
            )
        )
        for path in MODULES
    }
    while leaves := {name for name, wants in imports.items() if not wants & imports.keys()}:
        for name in leaves:
            del imports[name]
    assert imports == {}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_collectstatic_when_hashed_then_every_import_names_a_file(tmp_path: Path) -> None:
    storages = {**settings.STORAGES, "staticfiles": {"BACKEND": "core.staticfiles.HashedStorage"}}
    with override_settings(STATIC_ROOT=str(tmp_path), STORAGES=storages):
        call_command("collectstatic", interactive=False, verbosity=0)
    names = json.loads((tmp_path / "staticfiles.json").read_text())["paths"]
    for name in (name for name in names if name.startswith("js/")):
        text = (tmp_path / names[name]).read_text(encoding="utf-8")
        for target in re.findall(r"(?:from|await import\()\s*\"(\.[^\"]+)\"", text):
            assert re.search(r"\.[0-9a-f]{12}\.js$", target), (name, target)
            assert (tmp_path / "js" / target).resolve().exists(), (name, target)
