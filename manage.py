#!/usr/bin/env python3
"""Entry to the commands: `manage.py serve`, `web`, `worker`, `watcher`, `beat`, `create_token`, `set_password` and Django's own."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

from vmmanager.environment import Unusable

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vmmanager.settings")
    try:
        execute_from_command_line(sys.argv)
    except Unusable as error:
        sys.exit(str(error))
