"""YAML that anybody may have written: it is bounded, never executed, and every finding names its line."""

from __future__ import annotations

import time
from email import message_from_string

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudinit import Parts, check_network_config, check_user_data, seed_of
from cloudinit.document import BYTES_MAX, LIST_MAX, NODES_MAX

HEAD = "#cloud-config\n"


def nested(template: str) -> str:
    """A document of nine levels of aliases, each naming the one before nine times: 9⁹ values, if anybody made them."""
    levels = (f"l{level}: &l{level} {template % ', '.join([f'*l{level - 1}'] * 9)}\n" for level in range(1, 10))
    return f"{HEAD}l0: &l0 {{x: 1}}\n{''.join(levels)}"


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("packages: [nginx]", "first line", 1),
        (HEAD + "- a\n- b\n", "mapping", 2),
        (HEAD + "a: [1\nb: 2\n", "No YAML", 3),
        (HEAD + "a: \tb\n\tc: 1\n", "No YAML", 3),
        (HEAD + "a: \x01\n", "character", 2),
        (HEAD + "a: 1\n\0", "NUL", 3),
        (HEAD + "a: 1\n---\nb: 2\n", "one document", 3),
        (HEAD + "a: !!python/object/apply:os.system [ls]\n", "No YAML", 2),
        (HEAD + "a: &a\n - *a\n", "alias", 2),
        (HEAD + "a: *nothing\n", "No YAML", 2),
        (nested("[%s]"), "grow", 6),
        (nested("{<<: [%s]}"), "grow", 6),
        (HEAD + "a: " + "[" * 100_000, "nested", 2),
        (HEAD + "a: " + "{b: " * 10_000, "nested", 2),
        (HEAD + "a: [" + "1, " * NODES_MAX + "1]", "values", 2),
        (HEAD + "a: [" + "1, " * LIST_MAX + "1]", "entries", 2),
        (HEAD + "a: " + "x" * BYTES_MAX, "KiB", 0),
        (HEAD + "a: 0x" + "f" * 5000 + "\nb: 1" + "0" * 5000, "No YAML", 0),
    ],
)
def test_what_cannot_be_used_then_one_error_that_says_where(text: str, words: str, line: int) -> None:
    began = time.monotonic()
    report = check_user_data(text)
    assert time.monotonic() - began < 2
    (error,) = report.errors
    assert words in error.detail
    assert error.line == line
    assert report.value is None


@pytest.mark.parametrize(
    "text", ["", " \n", HEAD, HEAD + "# nothing yet\n", "#!/bin/sh\necho 1\n", "#include\nhttp://x/\n"]
)
def test_nothing_and_other_forms_then_taken_as_they_are(text: str) -> None:
    assert check_user_data(text).ok


def test_values_of_the_wrong_kind_then_errors_with_path_and_line() -> None:
    text = HEAD + "hostname: web\npackages: nginx\nusers:\n  - default\n  - name: ada\n    passwd: 5\n"
    found = [(one.path, one.line) for one in check_user_data(text).errors]
    assert found == [("/packages", 3), ("/users/1/passwd", 7)]


def test_keys_that_are_not_known_then_warnings_with_what_may_be_meant() -> None:
    report = check_user_data(HEAD + "pakages: [nginx]\nhostname: a\nhostname: b\n")
    assert report.ok
    assert [(one.path, one.line) for one in report.warnings] == [("/pakages", 2), ("/hostname", 4)]
    assert "packages" in report.warnings[0].detail


def test_aliases_within_reason_then_fine() -> None:
    text = HEAD + "x-keys: &keys [ssh-ed25519 AAAA]\nssh_authorized_keys: *keys\n"
    assert check_user_data(text).value["ssh_authorized_keys"] == ["ssh-ed25519 AAAA"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [("", 0)]),
        ("version: 3", [("/version", 1)]),
        ("[]", [("", 1)]),
        ("network:\n  version: 2\n  ethernets: [eth0]\n", [("/network/ethernets", 3)]),
        ("version: 2\nethernets:\n  eth0: dhcp\n", [("/ethernets/eth0", 3)]),
        ("version: 2\nethernets:\n  eth0:\n    dhcp4: always\n", [("/ethernets/eth0/dhcp4", 4)]),
        ("version: 2\nethernets:\n  eth0:\n    addresses:\n     - 10.0.0.1/33\n", [("/ethernets/eth0/addresses/0", 5)]),
        ("version: 2\nethernets:\n  eth0:\n    nameservers: [1.1.1.1]\n", [("/ethernets/eth0/nameservers", 4)]),
        (
            "version: 2\nethernets:\n  eth0:\n    gateway4: x\n    routes:\n    - {to: nowhere, via: 5}\n    - default\n",
            [
                ("/ethernets/eth0/gateway4", 4),
                ("/ethernets/eth0/routes/0/to", 6),
                ("/ethernets/eth0/routes/0/via", 6),
                ("/ethernets/eth0/routes/1", 7),
            ],
        ),
        ("version: 1\n", [("", 1)]),
        ("version: 1\nconfig: eth0\n", [("/config", 2)]),
        ("version: 1\nconfig:\n - type: physic\n   name: eth0\n", [("/config/0", 3)]),
        ("version: 2\na: &a [*a]", [("", 2)]),
    ],
)
def test_network_config_that_is_wrong_then_path_and_line(text: str, found: list[tuple[str, int]]) -> None:
    assert [(one.path, one.line) for one in check_network_config(text).errors] == found


@pytest.mark.parametrize(
    "text",
    [
        "version: 2\nethernets:\n  eth0: {dhcp4: true, addresses: [192.0.2.1/24, {2001:db8::1/64: {label: x}}]}\n",
        "network: {version: 2, bridges: {br0: {interfaces: [eth0], routes: [{to: default, via: 192.0.2.1}]}}}",
        "version: 1\nconfig: [{type: physical, name: eth0, subnets: [{type: dhcp}]}]",
    ],
)
def test_network_config_as_it_is_written_then_fine(text: str) -> None:
    assert check_network_config(text).ok


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_text_then_a_report_and_no_surprise(text: str) -> None:
    for report in (check_user_data(HEAD + text), check_network_config(text)):
        assert report.ok or all(one.detail and one.line >= 0 for one in report.errors)


# -- the seed's files ---------------------------------------------------------------------------------------------------
def user_data(**parts: object) -> str:
    return seed_of(Parts(instance_id="i-1", hostname="web-01", **parts)).user_data  # type: ignore[arg-type]


def test_nothing_asked_for_then_an_empty_document_and_the_name_in_the_meta_data() -> None:
    seed = seed_of(Parts(instance_id="i-1", hostname="web-01"))
    assert yaml.safe_load(seed.meta_data) == {"instance-id": "i-1", "local-hostname": "web-01"}
    assert yaml.safe_load(seed.user_data) == {}
    assert set(seed.files()) == {"meta-data", "user-data", "vendor-data"}


def test_document_to_which_nothing_is_added_then_as_it_was_written() -> None:
    text = HEAD + "# mine\npackages: [nginx]\n"
    assert user_data(user_data=text) == text
    assert user_data(user_data=text, packages=["nginx"]) != text


def test_parts_are_merged_and_what_the_user_wrote_wins() -> None:
    text = HEAD + "packages: [nginx]\npackage_update: false\nssh_authorized_keys: [a]\npassword: x\n"
    found = user_data(user_data=text, packages=["nginx", "git"], ssh_keys=["a", "b"], password_hash="$6$s$h")
    assert found.startswith(HEAD)
    assert yaml.safe_load(found) == {
        "packages": ["nginx", "git"],
        "package_update": False,
        "ssh_authorized_keys": ["a", "b"],
        "password": "x",
    }


def test_user_with_password_and_keys_then_an_account() -> None:
    (account,) = yaml.safe_load(user_data(user="ada", password_hash="$6$s$h", ssh_keys=["k"]))["users"]
    assert (account["name"], account["passwd"], account["lock_passwd"], account["ssh_authorized_keys"]) == (
        "ada",
        "$6$s$h",
        False,
        ["k"],
    )
    kept = yaml.safe_load(user_data(user="ada", user_data=HEAD + "users: [default, {name: ada}]\n"))
    assert kept["users"] == ["default", {"name": "ada"}]


def test_password_of_the_images_own_user_then_not_asked_to_be_changed() -> None:
    assert yaml.safe_load(user_data(password_hash="$6$s$h")) == {"password": "$6$s$h", "chpasswd": {"expire": False}}


def test_script_then_it_stays_one_and_what_is_added_is_a_second_part() -> None:
    script = "#!/bin/sh\necho hello\n"
    assert user_data(user_data=script) == script
    message = message_from_string(user_data(user_data=script, ssh_keys=["k"]))
    kinds = {
        part.get_content_type(): part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()
    }
    assert kinds["text/x-shellscript"] == script.encode()
    assert yaml.safe_load(kinds["text/cloud-config"]) == {"ssh_authorized_keys": ["k"]}


def test_network_config_of_ones_own_then_that_else_dhcp_by_address() -> None:
    made = seed_of(Parts(instance_id="i", hostname="h", macs=["52:54:00:00:00:01", "52:54:00:00:00:02"])).network_config
    assert check_network_config(made).ok
    devices = yaml.safe_load(made)["ethernets"]
    assert [
        (one["match"]["macaddress"], one["set-name"], one["dhcp4"], one.get("optional")) for one in devices.values()
    ] == [
        ("52:54:00:00:00:01", "eth0", True, None),
        ("52:54:00:00:00:02", "eth1", True, True),
    ]
    assert seed_of(Parts(instance_id="i", hostname="h", macs=["52:54:00:00:00:01"])).network_config == ""
    own = "network: {version: 2, ethernets: {eth0: {dhcp4: true}}}"
    seed = seed_of(Parts(instance_id="i", hostname="h", network_config=own))
    assert yaml.safe_load(seed.network_config) == {"version": 2, "ethernets": {"eth0": {"dhcp4": True}}}
