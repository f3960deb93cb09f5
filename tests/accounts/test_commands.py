from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import ApiToken
from events.models import Event

pytestmark = pytest.mark.django_db


def test_create_token_prints_the_token_alone(operator, capsys):
    call_command("create_token", "--user", "olga", "--name", "ci", "--scope", "write", "--expires-in", "60")
    out = capsys.readouterr().out
    token = ApiToken.objects.get()
    assert out.count("\n") == 1
    assert ApiToken.digest_of(out.strip()) == token.digest
    assert (token.user, token.name, token.scope) == (operator, "ci", "write")
    assert 50 < (token.expires_at - timezone.now()).total_seconds() <= 60
    assert Event.objects.filter(type="audit.token_created", actor="system").exists()


def test_create_token_is_narrow_and_lasting_unless_told(operator, capsys):
    call_command("create_token", "--user", "olga", "--name", "ci")
    assert capsys.readouterr().err == ""
    assert ApiToken.objects.get().scope == "read"
    assert ApiToken.objects.get().expires_at is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--user", "nobody", "--name", "x"],
        ["--user", "olga", "--name", ""],
        ["--user", "olga", "--name", "x" * 101],
        ["--user", "olga", "--name", "x", "--scope", "admin"],
        ["--user", "olga", "--name", "x", "--scope", "root"],
        ["--user", "olga", "--name", "x", "--expires-in", "0"],
        ["--user", "olga", "--name", "x", "--expires-in", "-5"],
        ["--user", "olga", "--name", "x", "--expires-in", "99999999999999999999"],
        ["--user", "olga"],
    ],
)
def test_create_token_refuses_with_a_sentence(operator, arguments, capsys):
    with pytest.raises(CommandError, match=r"\w"):
        call_command("create_token", *arguments)
    assert capsys.readouterr().out == ""
    assert not ApiToken.objects.exists()


def test_create_token_for_an_inactive_user_is_refused(operator):
    operator.is_active = False
    operator.save()
    with pytest.raises(CommandError, match="not active"):
        call_command("create_token", "--user", "olga", "--name", "x")


def test_set_password_reads_a_pipe(operator, client_for, monkeypatch):
    browser = client_for(operator)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a brand new passphrase\n"))
    call_command("set_password", "olga", stderr=io.StringIO())
    operator.refresh_from_db()
    assert operator.check_password("a brand new passphrase")
    assert browser.get("/settings").status_code == 302, "its sessions have ended"
    assert Event.objects.filter(type="audit.password_changed", object=f"user/{operator.pk}").exists()


@pytest.mark.parametrize("given", ["", "\n", "short\n", "password1234\n"])
def test_set_password_refuses_weak_ones(operator, given, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    with pytest.raises(CommandError):
        call_command("set_password", "olga")


def test_set_password_asks_twice_on_a_terminal(operator, monkeypatch):
    answers = iter(
        ["a brand new passphrase", "a brand new pasphrase", "b brand new passphrase", "b brand new passphrase"]
    )
    monkeypatch.setattr("getpass.getpass", lambda *_: next(answers))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with pytest.raises(CommandError, match="differ"):
        call_command("set_password", "olga")
    call_command("set_password", "olga", stderr=io.StringIO())
    operator.refresh_from_db()
    assert operator.check_password("b brand new passphrase")


def test_the_commands_end_with_1_and_a_sentence_on_standard_error(tmp_path):
    environment = {**os.environ, "VMM_DATA_DIR": str(tmp_path / "var")}
    manage = [sys.executable, "manage.py"]

    def run(*arguments, **more):
        return subprocess.run(
            [*manage, *arguments],
            check=False,
            env=environment,
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            timeout=120,
            **more,
        )

    assert run("migrate", "-v0").returncode == 0
    for arguments in (["create_token", "--user", "nobody", "--name", "x"], ["set_password", "nobody"]):
        ended = run(*arguments, input="a long passphrase\n")
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.strip() == "CommandError: There is no user 'nobody'."
