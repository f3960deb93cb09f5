"""The production shape as it is written down. No container engine is asked: what is checked is what ours would be told."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from tests.labs.local import ROOT
from vmmanager.environment import Environment

ROLES = {"web", "worker", "watcher", "beat"}
OWN = ROLES | {"migrate"}
VARIABLE = re.compile(r"\$\{(\w+)[^}]*\}")
OFFERED = {
    "VMM_PUBLIC_URL": "https://vmm.example.org",
    "VMM_DATABASE_PASSWORD": "secret",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text()
    return yaml.safe_load(VARIABLE.sub(lambda found: OFFERED[found[1]], text))


def test_services_are_the_roles_their_stores_and_a_proxy(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == OWN | {"key", "postgres", "redis", "proxy"}


@pytest.mark.parametrize("name", sorted(OWN))
def test_service_runs_a_command_there_is(compose: dict[str, Any], name: str) -> None:
    assert compose["services"][name]["command"][0] in get_commands()


@pytest.mark.parametrize("name", sorted(ROLES))
def test_role_has_a_command_of_its_own_name(compose: dict[str, Any], name: str) -> None:
    assert compose["services"][name]["command"] == [name]


@pytest.mark.parametrize("name", sorted(OWN))
def test_service_sets_only_what_settings_know_and_they_accept_it(compose: dict[str, Any], name: str) -> None:
    variables = compose["services"][name]["environment"]
    values = {key.removeprefix("VMM_").lower(): value for key, value in variables.items()}
    assert set(values) <= set(Environment.model_fields)
    environment = Environment(**values)
    assert not environment.embedded
    assert environment.secure


@pytest.mark.parametrize("name", sorted(OWN))
def test_service_waits_for_services_there_are_that_can_say_they_are_ready(compose: dict[str, Any], name: str) -> None:
    services = compose["services"]
    for needed, how in services[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert needed == "web" or "test" in services[needed]["healthcheck"]
        else:
            assert services[needed]["command"] == ["migrate", "--no-input"]


def test_store_addresses_name_services(compose: dict[str, Any]) -> None:
    environment = compose["services"]["web"]["environment"]
    hosts = {re.search(r"[@/]([a-z]+):\d+", environment[name])[1] for name in ("VMM_DATABASE_URL", "VMM_REDIS_URL")}
    assert hosts <= set(compose["services"])
    database = compose["services"]["postgres"]["environment"]
    assert environment["VMM_DATABASE_URL"] == (
        f"postgresql://{database['POSTGRES_USER']}:{database['POSTGRES_PASSWORD']}@postgres:5432/{database['POSTGRES_DB']}"
    )


def test_only_the_proxy_is_reachable_and_it_reaches_no_store(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    inside = {name for name, network in compose["networks"].items() if (network or {}).get("internal")}
    assert inside
    assert not inside & set(services["proxy"]["networks"])
    assert all(set(services[name]["networks"]) <= inside for name in ("postgres", "redis"))


def test_key_is_written_by_hand_alone(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["key"]["profiles"] == ["setup"]
    writers = [name for name, service in services.items() if "key:/var/lib/vmmanager-key" in service.get("volumes", [])]
    assert writers == ["key"]
    compile(services["key"]["command"][0], "key", "exec")


def test_every_variable_it_asks_for_is_in_the_example() -> None:
    asked = set(VARIABLE.findall((ROOT / "docker-compose.yml").read_text()))
    offered = set(re.findall(r"^(\w+)=", (ROOT / "deploy" / "env.example").read_text(), re.MULTILINE))
    assert asked == offered == set(OFFERED)


def test_proxy_sends_to_the_port_that_web_binds(compose: dict[str, Any]) -> None:
    caddyfile = (ROOT / "deploy" / "Caddyfile").read_text()
    port = compose["services"]["web"]["environment"]["VMM_BIND"].rpartition(":")[2]
    assert re.search(rf"name web\s+port {port}\b", caddyfile)
    assert "header_up X-Forwarded-For {remote_host}" in caddyfile


def test_image_installs_by_hash_and_runs_as_nobody_special() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert any("--require-hashes" in line and "requirements.lock" in line for line in lines)
    assert [line for line in lines if line.startswith("USER ")] == ["USER vmmanager"]
    assert any("/healthz" in line for line in lines)


def test_image_holds_every_package_of_ours() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert packages <= kept
    assert {"manage.py", "requirements.lock", "templates", "static"} <= kept
