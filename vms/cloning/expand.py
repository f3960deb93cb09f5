"""A spec that names a template, as one that says all of it: what the caller wrote wins, then what he chose, then what the source had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from core.errors import BadInput
from core.problems import pointer
from vms.cloning.parameters import Parameter, chosen, filled
from vms.cloning.selectors import versions_named
from vms.creation.plan import wrong
from vms.creation.spec import VMSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accounts.actor import Actor
    from vms.cloning.models import TemplateVersion
    from vms.cloning.parameters import Value


def expanded(spec: VMSpec, *, by: Actor) -> VMSpec:
    """The same guest without anything left to its template; `template` names the version, by id and number.

    Raises BadInput: there is no such template; a parameter is unknown, missing, or no value of its kind.
    """
    if spec.template is None:
        if spec.parameters:
            raise wrong("/parameters", "they are a template's: name one")
        return spec
    version = versions_named([spec.template], by=by).get(spec.template)
    if version is None:
        raise wrong("/template", f"there is no template {spec.template}, or it has no such version")
    if version.template.closing:
        raise wrong("/template", f"{version.template.name} is being deleted")
    parameters = [Parameter.model_validate(one) for one in version.parameters]
    values = chosen(parameters, spec.parameters)
    sets: dict[str, str] = {one.sets: one.name for one in parameters if one.sets is not None and one.name in values}
    written = spec.model_dump(mode="json", exclude_unset=True, exclude={"parameters"})
    ref = f"{version.template_id}@{version.number}"
    whole = {**_facts(version), **_chosen(values, sets), **written, "template": ref, "parameters": {}}
    whole["disks"] = _disks(written.get("disks", []), spec.template, ref, values, sets)
    whole["tags"] = [*written.get("tags", []), *_tags(values, sets)]
    seed = _cloud_init(version, written.get("cloud_init"), values, sets)
    if seed is not None:
        whole["cloud_init"] = seed
    try:
        return VMSpec.model_validate(whole)
    except ValidationError as error:
        raise _blamed(error, sets) from None


def _facts(version: TemplateVersion) -> dict[str, Any]:
    """What the source had."""
    facts = version.facts
    found = {name: facts[name] for name in ("vcpus", "memory_bytes", "os", "graphics") if facts.get(name)}
    if facts.get("firmware") == "uefi":
        found["boot"] = {"firmware": "uefi"}
    if facts.get("interfaces"):
        found["interfaces"] = [{name: value for name, value in nic.items() if value} for nic in facts["interfaces"]]
    return found


def _chosen(values: Mapping[str, Value], sets: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {name: values[sets[name]] for name in ("vcpus", "memory_bytes") if name in sets}
    if "network" in sets:
        network = values[sets["network"]]
        found["interfaces"] = [{"network": network}] if network else []
    return found


def _disks(
    written: list[dict[str, Any]], named: str, ref: str, values: Mapping[str, Value], sets: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The template's own first, unless the caller has said where they stand and how."""
    disks = [{**disk, "template": ref} if disk.get("template") == named else disk for disk in written]
    if not any(disk.get("template") == ref for disk in disks):
        disks.insert(0, {"template": ref})
    if "disk_bytes" in sets:
        first = next(disk for disk in disks if disk.get("template") == ref)
        first.setdefault("size_bytes", values[sets["disk_bytes"]])
    return disks


def _tags(values: Mapping[str, Value], sets: Mapping[str, str]) -> list[str]:
    return str(values[sets["tags"]]).replace(",", " ").split() if "tags" in sets else []


def _cloud_init(
    version: TemplateVersion, written: dict[str, Any] | None, values: Mapping[str, Value], sets: Mapping[str, str]
) -> dict[str, Any] | None:
    if not version.cloud_init and written is None:
        return None
    seed = dict(written or {})
    if version.user_data and "user_data" not in seed:
        seed["user_data"] = filled(version.user_data, values)
    if "hostname" in sets:
        seed.setdefault("hostname", values[sets["hostname"]])
    return seed


def _blamed(error: ValidationError, sets: Mapping[str, str]) -> BadInput:
    """A wrong value is told at the parameter that brought it."""
    fields = {"interfaces": "network", "disks": "disk_bytes", "cloud_init": "hostname"}
    errors = []
    for item in error.errors(include_url=False):
        first = str(item["loc"][0]) if item["loc"] else ""
        parameter = sets.get(fields.get(first, first))
        where = pointer(item["loc"]) if parameter is None else f"/parameters/{parameter}"
        errors.append({"pointer": where, "detail": item["msg"]})
    return BadInput(f"{errors[0]['pointer'][1:].replace('/', '.')}: {errors[0]['detail']}", errors=errors)
