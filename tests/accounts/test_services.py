from __future__ import annotations

import datetime as dt
import stat
import threading
import uuid

import pytest
from axes.models import AccessAttempt
from django.contrib.sessions.models import Session
from django.db import connections
from django.utils import timezone

from accounts import retention, services
from accounts.actor import SYSTEM, Actor
from accounts.choices import Role, Scope
from accounts.models import ApiToken, User
from core.errors import BadInput, Conflict, Missing, PermissionRefused, Stale, TooMany
from events.models import Event
from tests.factories import PASSWORD, TokenFactory, UserFactory

pytestmark = pytest.mark.django_db

NEW = "an even longer passphrase"


def by(user, **token):
    return Actor.of_token(TokenFactory(user=user, **token)) if token else Actor.of_user(user)


def audited(what):
    return list(Event.objects.filter(type=f"audit.{what}"))


# -- first start
def test_the_first_administrator_gets_a_password_in_a_file_of_his_own(tmp_path):
    path = services.ensure_first_admin(tmp_path)
    assert path == tmp_path / "initial-password"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    user = User.objects.get()
    assert (user.username, user.role) == ("admin", Role.ADMINISTRATOR)
    assert user.check_password(path.read_text().strip())
    assert [file.name for file in tmp_path.iterdir()] == ["initial-password"]


def test_a_second_start_makes_nobody_and_changes_nothing(tmp_path):
    path = services.ensure_first_admin(tmp_path)
    before = (path.read_text(), User.objects.get().password)
    assert services.ensure_first_admin(tmp_path, "other password") == path
    assert (path.read_text(), User.objects.get().password) == before


def test_a_given_password_is_taken_and_written_nowhere(tmp_path):
    assert services.ensure_first_admin(tmp_path, "short") is None
    assert User.objects.get().check_password("short")
    assert list(tmp_path.iterdir()) == []
    assert "short" not in str([event.data for event in Event.objects.all()])


def test_without_a_place_for_the_password_there_is_no_user_either(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        services.ensure_first_admin(tmp_path / "file")
    assert not User.objects.exists()


def test_the_file_goes_with_the_password_in_it(tmp_path, settings, django_capture_on_commit_callbacks):
    settings.DATA_DIR = tmp_path
    path = services.ensure_first_admin(tmp_path)
    other = UserFactory(role=Role.ADMINISTRATOR)
    with django_capture_on_commit_callbacks(execute=True):
        services.password_change(by(other), old=PASSWORD, new=NEW)
    assert path.exists(), "somebody else's password"
    admin = User.objects.get(username="admin")
    with django_capture_on_commit_callbacks(execute=True):
        services.password_change(by(admin), old=path.read_text().strip(), new=NEW)
    assert not path.exists()


# -- tokens
def test_a_token_is_kept_as_a_hash_and_audited_without_it(operator):
    token, secret = services.token_create(by(operator), name="  ci ", scope="write")
    token.refresh_from_db()
    assert secret.startswith("vmm_")
    assert len(secret) == 47
    assert (token.name, token.digest, token.hint) == ("ci", ApiToken.digest_of(secret), secret[:8])
    (event,) = audited("token_created")
    assert (event.object, event.actor, event.data["scope"]) == (f"token/{token.pk}", "olga", "write")
    assert secret not in str(event.data)
    assert secret not in str(vars(token))


@pytest.mark.parametrize(("role", "scope"), [("viewer", "write"), ("viewer", "admin"), ("operator", "admin")])
def test_nobody_makes_a_token_wider_than_himself(role, scope, request):
    with pytest.raises(PermissionRefused):
        services.token_create(by(request.getfixturevalue(role)), name="x", scope=scope)
    assert not ApiToken.objects.exists()


def test_a_token_makes_no_wider_and_no_longer_one(admin):
    end = timezone.now() + dt.timedelta(hours=1)
    narrow = by(admin, scope="write", expires_at=end)
    with pytest.raises(PermissionRefused):
        services.token_create(narrow, name="x", scope="admin")
    with pytest.raises(PermissionRefused):
        services.token_create(narrow, name="x", scope="read", expires_at=end + dt.timedelta(seconds=1))
    assert services.token_create(narrow, name="x", scope="write", expires_at=end)[0].expires_at == end
    assert services.token_create(narrow, name="x")[0].expires_at == end, "never is later than any time"


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\nb", "a\0b", "\x1b[31m", "a\u2028b", "\ud800"])
def test_an_unusable_name_is_bad_input(operator, name):
    with pytest.raises(BadInput) as refused:
        services.token_create(by(operator), name=name)
    assert refused.value.errors[0]["pointer"] == "/name"


@pytest.mark.parametrize(
    "values",
    [
        {"scope": "root"},
        {"scope": ""},
        {"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)},
        {"expires_at": dt.datetime(2999, 1, 1)},  # noqa: DTZ001 - that it has no zone is the point
    ],
)
def test_an_unusable_scope_or_time_is_bad_input(operator, values):
    with pytest.raises(BadInput):
        services.token_create(by(operator), name="x", **values)


def test_a_form_that_is_sent_twice_makes_one_token(operator):
    chosen = uuid.uuid4()
    services.token_create(by(operator), name="x", token_id=chosen)
    with pytest.raises(services.AlreadyExists):
        services.token_create(by(operator), name="x", token_id=chosen)
    assert len(audited("token_created")) == ApiToken.objects.count() == 1


def test_tokens_have_a_limit(operator, monkeypatch):
    monkeypatch.setattr(services, "TOKENS_MAX", 2)
    TokenFactory.create_batch(2, user=operator)
    with pytest.raises(Conflict):
        services.token_create(by(operator), name="x")


def test_everybody_sees_his_own_tokens_and_an_administrator_all(admin, viewer):
    own, other = TokenFactory(user=viewer, scope="read"), TokenFactory(user=admin, scope="read")
    assert list(services.token_list(by(viewer))) == [own]
    assert set(services.token_list(by(admin))) == {own, other}
    assert set(services.token_list(Actor.of_token(other))) == {other}, (
        "a token of scope read of his is no administrator"
    )
    with pytest.raises(Missing):
        services.token_get(by(viewer), other.pk)
    with pytest.raises(Missing):
        services.token_revoke(by(viewer), other.pk)
    services.token_revoke(by(admin), own.pk)
    assert list(ApiToken.objects.all()) == [other]


def test_a_narrow_token_revokes_no_wider_one(admin):
    wide, narrow = TokenFactory(user=admin, scope="admin"), TokenFactory(user=admin, scope="read")
    with pytest.raises(PermissionRefused):
        services.token_revoke(Actor.of_token(narrow), wide.pk)
    services.token_revoke(Actor.of_token(narrow), narrow.pk)
    (event,) = audited("token_revoked")
    assert (event.object, event.data["user_id"]) == (f"token/{narrow.pk}", str(admin.pk))


def test_revoking_twice_is_missing_and_audited_once(viewer):
    token = TokenFactory(user=viewer, scope="read")
    services.token_revoke(by(viewer), token.pk, version=token.version)
    with pytest.raises(Missing):
        services.token_revoke(by(viewer), token.pk)
    assert len(audited("token_revoked")) == 1


def test_a_stale_etag_revokes_nothing(viewer):
    token = TokenFactory(user=viewer, scope="read")
    with pytest.raises(Stale):
        services.token_revoke(by(viewer), token.pk, version=99)
    assert ApiToken.objects.exists()


def test_what_is_over_is_removed_and_nothing_else(viewer, client_for):
    now = timezone.now()
    kept = [TokenFactory(user=viewer), TokenFactory(user=viewer, expires_at=now - dt.timedelta(days=29))]
    TokenFactory(user=viewer, expires_at=now - dt.timedelta(days=31))
    browser, over = client_for(viewer), client_for(viewer)
    Session.objects.filter(pk=over.session.session_key).update(expire_date=now)
    for name, hours in (("new", 23), ("old", 25)):
        AccessAttempt.objects.create(username=name, user_agent="", failures_since_start=1)
        AccessAttempt.objects.filter(username=name).update(attempt_time=now - dt.timedelta(hours=hours))
    assert retention.trim(now + dt.timedelta(seconds=1)) == 3
    assert set(ApiToken.objects.all()) == set(kept)
    assert Session.objects.get().pk == browser.session.session_key
    assert AccessAttempt.objects.get().username == "new"
    assert audited("token_revoked")[0].data["reason"] == "expired"
    assert retention.trim(now) == 0


# -- passwords
def test_a_password_is_changed_by_who_knows_it(viewer):
    services.password_change(by(viewer), old=PASSWORD, new=NEW)
    viewer.refresh_from_db()
    assert viewer.check_password(NEW)
    (event,) = audited("password_changed")
    assert event.object == f"user/{viewer.pk}"


@pytest.mark.parametrize(
    "new", ["short", "password123", "x" * 1001, "nul\0nul\0nul\0", "\ud800" * 12, "", "user-name-vera"]
)
def test_a_weak_password_is_refused_with_its_reason(viewer, new):
    viewer.username = "user-name-vera"
    with pytest.raises(BadInput) as refused:
        services.password_change(by(viewer), old=PASSWORD, new=new)
    assert refused.value.errors[0]["pointer"] == "/new_password"
    assert not audited("password_changed")


def test_the_old_password_cannot_be_guessed_in_an_open_browser(viewer):
    for _ in range(8):
        with pytest.raises(BadInput):
            services.password_change(by(viewer), old="wrong", new=NEW)
    with pytest.raises(TooMany):
        services.password_change(by(viewer), old=PASSWORD, new=NEW)
    viewer.refresh_from_db()
    assert viewer.check_password(PASSWORD)


def test_a_token_takes_no_account_over(admin):
    with pytest.raises(PermissionRefused):
        services.password_change(by(admin, scope="admin"), old=PASSWORD, new=NEW)


def test_setting_somebody_elses_password_takes_an_administrator(admin, operator, viewer):
    with pytest.raises(PermissionRefused):
        services.password_set(by(operator), viewer, NEW)
    services.password_set(by(admin), viewer, NEW)
    viewer.delete()
    with pytest.raises(Missing):
        services.password_set(SYSTEM, User(pk=uuid.uuid4(), username="x"), NEW)


# -- users
def test_an_administrator_makes_users(admin):
    user = services.user_create(by(admin), username="bob", password=NEW, role="operator")
    assert (user.scope, user.check_password(NEW)) == (Scope.WRITE, True)
    robot = services.user_create(by(admin), username="robot", password=None)
    assert not robot.has_usable_password()
    assert [event.object_name for event in audited("user_created")][-2:] == ["robot", "bob"]


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"username": ""}, "/name"),
        ({"username": "a b"}, "/name"),
        ({"username": "x" * 151}, "/name"),
        ({"username": "system"}, "/name"),
        ({"username": "Watcher"}, "/name"),
        ({"username": "nul\0"}, "/name"),
        ({"username": "<script>"}, "/name"),
        ({"role": "root"}, "/role"),
        ({"password": "weak"}, "/password"),
    ],
)
def test_an_unusable_user_is_bad_input(admin, values, pointer):
    with pytest.raises(BadInput) as refused:
        services.user_create(by(admin), **{"username": "bob", "password": NEW, **values})
    assert refused.value.errors[0]["pointer"] == pointer
    assert User.objects.count() == 1


@pytest.mark.parametrize("name", ["bob", "BOB", "Bob", "\uff42\uff4f\uff42"])
def test_a_name_is_taken_whatever_its_case_or_width(admin, name):
    services.user_create(by(admin), username="bob", password=None)
    with pytest.raises(services.AlreadyExists):
        services.user_create(by(admin), username=name, password=None)


@pytest.mark.parametrize("call", ["user_list", "user_create", "user_update", "user_delete"])
def test_nobody_else_touches_users(operator, viewer, call):
    values = {"user_create": {"username": "x", "password": None}, "user_update": {"role": "administrator"}}.get(
        call, {}
    )
    target = [viewer.pk] if call in ("user_update", "user_delete") else []
    with pytest.raises(PermissionRefused):
        getattr(services, call)(by(operator), *target, **values)
    with pytest.raises(PermissionRefused):
        getattr(services, call)(by(UserFactory(role="administrator"), scope="write"), *target, **values)


def test_a_change_of_role_is_told(admin, viewer):
    changed = services.user_update(by(admin), viewer.pk, role="operator", version=viewer.version)
    assert (changed.role, changed.version) == ("operator", 2)
    (event,) = audited("user_changed")
    assert (event.object, event.data["role"], event.data["active"]) == (f"user/{viewer.pk}", "operator", True)
    with pytest.raises(Stale):
        services.user_update(by(admin), viewer.pk, role="viewer", version=viewer.version)
    services.user_update(by(admin), viewer.pk, role="operator")
    assert len(audited("user_changed")) == 1, "nothing changed, nothing told"


def test_nobody_changes_or_removes_himself(admin):
    UserFactory(role=Role.ADMINISTRATOR)
    for change in ({"role": "viewer"}, {"active": False}, {"password": NEW}):
        with pytest.raises(Conflict):
            services.user_update(by(admin), admin.pk, **change)
    with pytest.raises(Conflict):
        services.user_delete(by(admin), admin.pk)


def test_the_last_administrator_stays(admin):
    UserFactory(role=Role.ADMINISTRATOR, is_active=False)
    for change in ({"role": "viewer"}, {"active": False}):
        with pytest.raises(Conflict, match="last administrator"):
            services.user_update(SYSTEM, admin.pk, **change)
    with pytest.raises(Conflict, match="last administrator"):
        services.user_delete(SYSTEM, admin.pk)


def test_a_removed_user_is_gone_with_his_tokens_and_told(admin, viewer):
    TokenFactory(user=viewer)
    services.user_delete(by(admin), viewer.pk)
    assert not ApiToken.objects.exists()
    (event,) = audited("user_changed")
    assert (event.object_name, event.data["removed"]) == ("vera", True)
    with pytest.raises(Missing):
        services.user_delete(by(admin), viewer.pk)


# -- at once
def together(*calls):
    """Run `calls` in threads that start at one moment; their results or errors."""
    barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(index, call):
        barrier.wait(10)
        try:
            results[index] = call()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[index] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


@pytest.mark.django_db(transaction=True)
def test_two_administrators_cannot_remove_each_other_at_once():
    one, two = UserFactory(role=Role.ADMINISTRATOR), UserFactory(role=Role.ADMINISTRATOR)
    results = together(
        lambda: services.user_delete(by(one), two.pk), lambda: services.user_update(by(two), one.pk, role="viewer")
    )
    assert User.objects.filter(role=Role.ADMINISTRATOR, is_active=True).count() == 1
    assert [type(result) for result in results if result is not None and not isinstance(result, User)] == [Conflict]


@pytest.mark.django_db(transaction=True)
def test_two_starts_at_once_make_one_administrator_whose_password_is_in_the_file(tmp_path):
    results = together(*[lambda: services.ensure_first_admin(tmp_path)] * 3)
    assert set(results) == {tmp_path / "initial-password"}
    assert User.objects.get().check_password((tmp_path / "initial-password").read_text().strip())


@pytest.mark.django_db(transaction=True)
def test_a_token_that_two_revoke_is_revoked_once():
    user = UserFactory()
    token = TokenFactory(user=user, scope="read")
    results = together(*[lambda: services.token_revoke(by(user), token.pk)] * 2)
    assert sorted(str(type(result).__name__) for result in results) == ["Missing", "NoneType"]
    assert len(audited("token_revoked")) == 1
