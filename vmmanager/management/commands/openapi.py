"""`manage.py openapi`: writes docs/openapi.json, the committed description of the REST API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from vmmanager.api import api
from vmmanager.openapi import breaking_changes

if TYPE_CHECKING:
    from argparse import ArgumentParser

PATH = Path(settings.BASE_DIR) / "docs" / "openapi.json"


def rendered() -> str:
    """The document as it is committed."""
    return json.dumps(api.get_openapi_schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


class Command(BaseCommand):
    """Writes docs/openapi.json, or says what is wrong with it."""

    help = "Write docs/openapi.json. --check: fail when it is not current, and say what the present code would break."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true")

    def handle(self, *args: Any, check: bool, **options: Any) -> None:
        del args, options
        text = rendered()
        if not check:
            PATH.write_text(text, encoding="utf-8")
            return
        committed = PATH.read_text(encoding="utf-8") if PATH.exists() else "{}"
        if committed == text:
            return
        broken = breaking_changes(json.loads(committed), json.loads(text)) if committed != "{}" else []
        for sentence in broken:
            self.stderr.write(f"breaks: {sentence}")
        raise CommandError("docs/openapi.json is not current: run manage.py openapi and look at the difference.")
