"""cloud-init as a library: user data from parts, checked before it is used, and the seed that a guest reads it from.

Plain Python, no Django and no hypervisor. What comes in was written by anybody: it is bounded before it is parsed, parsed by a
loader that makes nothing but plain values, and every finding names the line where it stands.
"""

from __future__ import annotations

from cloudinit.checks import check_user_data
from cloudinit.document import Unreadable
from cloudinit.findings import Finding, Report
from cloudinit.network import check_network_config
from cloudinit.parts import Parts, Seed, seed_of
from cloudinit.seed import LABEL, contents, iso

__all__ = [
    "LABEL",
    "Finding",
    "Parts",
    "Report",
    "Seed",
    "Unreadable",
    "check_network_config",
    "check_user_data",
    "contents",
    "iso",
    "seed_of",
]
