"""A driver that somebody else wrote: installed, it is offered, a host of it is added, and its guests can be used."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.labs.local import ROOT
from tests.server import Server, environment
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = ROOT / "tests" / "sample_driver"
ASKED = """
import json
from pathlib import Path
from core.errors import BadInput
from drivers import catalog, registry
from drivers.uris import parse_uri
data, answers = Path("/nonexistent"), {}
for text in ("paper:///desk", "paper:///etc/passwd", "paper://host/desk", "paper:///desk?socket=/x", "qemu:///system"):
    try:
        answers[text] = parse_uri(text, data_dir=data).driver
    except BadInput as error:
        answers[text] = error.detail
print(json.dumps({"kinds": registry.kinds(), "uris": answers, "label": getattr(catalog.find("paper"), "label", None)}))
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """What an installer leaves of the sample driver: its package and its .dist-info."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site"
    shutil.copytree(SOURCE / "vmm_paper", site / "vmm_paper")
    info = site / f"vmm_paper-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups)
    )
    return site


def ask(site: Path | None) -> dict:
    """What a process of its own knows, with the driver installed or not."""
    env = environment({"PYTHONPATH": f"{site}:{ROOT}" if site else str(ROOT)})
    done = subprocess.run(
        [sys.executable, "-c", ASKED], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_driver_of_others_when_installed_then_its_scheme_is_allowed_and_nothing_else_of_it(installed: Path) -> None:
    known = ask(installed)
    assert known["kinds"][-1] == "paper"
    assert known["label"] == "Paper"
    uris = known["uris"]
    assert uris["paper:///desk"] == "paper"
    assert uris["qemu:///system"] == "qemu"  # it names this scheme too, and does not get it
    for refused in ("paper:///etc/passwd", "paper://host/desk", "paper:///desk?socket=/x"):
        assert "paper:///desk" in uris[refused] or "question mark" in uris[refused], uris[refused]


def test_a_driver_of_others_when_used_then_its_guest_appears_and_starts(installed: Path) -> None:
    with Server(PYTHONPATH=str(installed)) as server:
        offered = {one["kind"]: one for one in server.get("/drivers")["items"]}
        assert offered["paper"]["virtualization_types"] == ["hosted"]
        uri = server.get("/drivers/paper/uri?way=desk")["uri"]
        probed = server.api("POST", "/hosts/probe", json={"uri": uri}).json()
        assert probed["ok"], probed
        added = server.api("POST", "/hosts", json={"name": "desk", "uri": uri})
        assert added.status_code == 201, added.text
        (guest,) = wait_until(lambda: server.all("/vms?q=letter"), 20, "the letter is there")
        assert (guest["name"], guest["state"], guest["driver"]) == ("letter", "shutoff", "paper")
        server.api("POST", f"/vms/{guest['id']}/actions/start", json={})
        wait_until(lambda: server.get(f"/vms/{guest['id']}")["state"] == "running", 20, "it runs")


def test_a_driver_of_others_when_not_installed_then_its_scheme_is_refused() -> None:
    known = ask(None)
    assert "paper" not in known["kinds"]
    assert known["label"] is None
    assert known["uris"]["paper:///desk"].startswith("There is no such driver.")
