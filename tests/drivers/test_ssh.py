"""What OpenSSH's client is told: nothing that a credential could turn into something else."""

from __future__ import annotations

import pytest

from drivers.errors import AuthFailed
from drivers.ssh import client_options
from drivers.types import Credentials


@pytest.mark.parametrize("name", ["-oProxyCommand=id", "virt\0", "virt\nroot", "\x1b[2J"])
def test_an_account_whose_name_is_none_when_signing_in_then_refused_before_anything_is_written(name, tmp_path):
    credentials = Credentials(username=name, private_key="geheim", host_key="ssh-ed25519 AAAA")
    with pytest.raises(AuthFailed) as caught:
        client_options("docker+ssh://hv-01", credentials, tmp_path)
    assert "geheim" not in caught.value.detail
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["virt", "EXAMPLE\\virt", "virt@example.org", ""])
def test_an_accounts_usual_names_when_signing_in_then_taken(name, tmp_path):
    options = client_options("docker+ssh://hv-01", Credentials(username=name, private_key="k"), tmp_path)
    assert options[-1] == "StrictHostKeyChecking=yes"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
