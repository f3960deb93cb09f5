"""What a process takes for itself at its start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import resource
import django
django.setup()
from vmmanager.roles import DESCRIPTORS, raise_descriptor_limit
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
hard = DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
resource.setrlimit(resource.RLIMIT_NOFILE, (256, min(hard, {most})))
raise_descriptor_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(DESCRIPTORS, hard, {most}))
"""


def test_a_process_when_it_starts_then_has_the_descriptors_that_it_may_have(tmp_path):
    for most in (512, 2**20):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(most=most)],
            cwd=ROOT,
            env={"DJANGO_SETTINGS_MODULE": "vmmanager.settings", "VMM_DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "True"
