"""What callers may ask of hosts: add, change, remove, refresh, probe. Nothing here talks to a hypervisor; watcher and workers do."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from accounts import audit, policy
from core.errors import BadInput, Conflict, Missing, Stale
from core.fields import check_tags
from core.filters import uuid_of
from drivers import registry
from drivers.errors import AlreadyExists
from drivers.types import Credentials
from drivers.uris import ParsedUri, parse_uri
from events import bell
from hosts.actions import IdentifyHost, ProbeHost, ProbeParams, ProbeTarget
from hosts.choices import LinkState
from hosts.inventory import host_settle
from hosts.models import Host, Hypervisor
from operations import engine
from operations.choices import OPEN, State
from operations.models import Operation

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

    from accounts.actor import Actor

HYPERVISORS_MAX = 16
IDENTIFY_SECONDS = 4.0
"""How long adding a host waits for its endpoints to say which machine they are on."""
CLAIM_SECONDS = 0.5
DEMO_NAME = "demo"
DEMO_URI = "test:///default"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHypervisor:
    """One endpoint to be added. `credentials` in the contract's shape, or None."""

    uri: str
    credentials: Mapping[str, Any] | None = None


def check_endpoint(new: NewHypervisor) -> tuple[ParsedUri, Credentials | None]:
    """The endpoint, checked and normalised. Raises BadInput."""
    parsed = parse_uri(new.uri, data_dir=settings.DATA_DIR)
    available = registry.availability(parsed.driver)
    if not available.supported:
        raise BadInput(available.reason, errors=[{"pointer": "/uri", "detail": "driver not available"}])
    return parsed, Credentials(**new.credentials) if new.credentials else None


def host_get(host_id: uuid.UUID, *, by: Actor) -> Host:
    """One host that the caller may see. Raises Missing."""
    host = policy.visible(by, Host.objects.all()).filter(pk=host_id).first()
    if host is None:
        raise Missing("There is no such host, or you may not see it.")
    return host


def host_find(text: str, *, by: Actor, pointer: str = "/host") -> Host:
    """One host that the caller may see, by its id (`host/<id>` too) or its name in any case. Raises BadInput."""
    known = uuid_of(text.removeprefix("host/"))
    rows = policy.visible(by, Host.objects.all())
    host = (rows.filter(pk=known) if known else rows.filter(name__iexact=text)).first()
    if host is None:
        raise BadInput("host: there is no such host.", errors=[{"pointer": pointer, "detail": "there is no such host"}])
    return host


def hypervisor_get(hypervisor_id: uuid.UUID, *, by: Actor) -> Hypervisor:
    """One hypervisor that the caller may see, with its host. Raises Missing."""
    found = policy.visible(by, Hypervisor.objects.select_related("host")).filter(pk=hypervisor_id).first()
    if found is None:
        raise Missing("There is no such hypervisor, or you may not see it.")
    return found


def host_add(
    *,
    name: str,
    hypervisors: Sequence[NewHypervisor],
    by: Actor,
    tags: Sequence[str] = (),
    demo: bool = False,
    identify: bool = True,
) -> Host:
    """Add a machine with its hypervisors; the watcher connects at once and the host is `connecting` until it has.

    Raises:
        BadInput: A URI that is not allowed. AlreadyExists: the name, or one of the endpoints, is there already (`host` in
        the context names the first one).
    """
    policy.require(by, "host.manage")
    name = _check_name(name)
    if not 1 <= len(hypervisors) <= HYPERVISORS_MAX:
        raise BadInput(
            f"A host has 1 to {HYPERVISORS_MAX} hypervisors.", errors=[{"pointer": "/hypervisors", "detail": "1 to 16"}]
        )
    checked = [check_endpoint(new) for new in hypervisors]
    tags = check_tags(tags)
    _refuse_second(name, [parsed.text for parsed, _ in checked])
    if identify:
        _refuse_twin(checked, by=by)
    now = timezone.now()
    try:
        with transaction.atomic():
            host = Host.objects.create(name=name, tags=tags, demo=demo, state=LinkState.CONNECTING, state_since=now)
            for parsed, credentials in checked:
                _create_hypervisor(host, parsed, credentials)
            audit.record(
                by, "host_added", object=host.ref, object_name=host.name, uris=[parsed.text for parsed, _ in checked]
            )
    except IntegrityError:
        _refuse_second(name, [parsed.text for parsed, _ in checked])
        raise Conflict("Another change came in between; try again.") from None
    return host


def _check_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > 100 or not name.isprintable():
        raise BadInput(
            "A host needs a name of 1 to 100 characters.",
            errors=[{"pointer": "/name", "detail": "1 to 100 characters"}],
        )
    return name


def _refuse_twin(checked: Sequence[tuple[ParsedUri, Credentials | None]], *, by: Actor) -> None:
    """Raises AlreadyExists when an endpoint answers quickly that it is on a machine that is here already.

    One that does not answer in time is added all the same: the watcher finds a twin later, and says so on its page.
    """
    asked = [
        engine.submit(
            IdentifyHost,
            target=ProbeTarget.new(parsed.text),
            by=by,
            params=ProbeParams(uri=parsed.text, credentials=dataclasses.asdict(credentials) if credentials else None),
        )
        for parsed, credentials in checked
        if parsed.driver != "test"  # its machine is imaginary, and the same for all
    ]
    begun = time.monotonic()

    def answered() -> bool:
        states = set(Operation.objects.filter(pk__in=[one.pk for one in asked]).values_list("state", flat=True))
        # Still queued after a moment: there is no worker free, and adding a host does not wait for one.
        return not states & set(OPEN) or (State.QUEUED in states and time.monotonic() - begun > CLAIM_SECONDS)

    if asked:
        bell.wait_until(answered, timeout_seconds=IDENTIFY_SECONDS, recheck_seconds=CLAIM_SECONDS)
    for result in Operation.objects.filter(pk__in=[one.pk for one in asked], state=State.SUCCEEDED).values_list(
        "result", flat=True
    ):
        twin = Host.objects.filter(host_uuid=(result or {}).get("host_uuid", "")).exclude(host_uuid="").first()
        if twin is not None:
            raise AlreadyExists(f"This machine is here already, as host {twin.name}.", id=str(twin.pk), host=twin.name)


def _create_hypervisor(host: Host, parsed: ParsedUri, credentials: Credentials | None) -> Hypervisor:
    return Hypervisor.objects.create(
        host=host,
        driver=parsed.driver,
        uri=parsed.text,
        credentials=dataclasses.asdict(credentials) if credentials else None,
        state=LinkState.CONNECTING,
        state_since=timezone.now(),
    )


def _refuse_second(name: str, uris: Sequence[str]) -> None:
    """Raises AlreadyExists naming the host that has this name or one of these endpoints."""
    same_name = Host.objects.filter(name__iexact=name).first()
    if same_name is not None:
        raise AlreadyExists(
            f"A host named {same_name.name} is there already.", id=str(same_name.pk), host=same_name.name
        )
    same_uri = Hypervisor.objects.select_related("host").filter(uri__in=uris).first()
    if same_uri is not None:
        raise AlreadyExists(
            f"{same_uri.uri} is there already, on host {same_uri.host.name}.",
            id=str(same_uri.host_id),
            host=same_uri.host.name,
        )


def host_add_demo(*, by: Actor) -> Host:
    """A host on libvirt's test driver, labelled as one: for a look around where no hypervisor is."""
    return host_add(name=DEMO_NAME, hypervisors=[NewHypervisor(uri=DEMO_URI)], by=by, demo=True)


def hypervisor_add(*, host: Host, new: NewHypervisor, by: Actor) -> Hypervisor:
    """Add one more hypervisor to a host. Raises BadInput, AlreadyExists."""
    policy.require(by, "host.manage", host)
    parsed, credentials = check_endpoint(new)
    same = Hypervisor.objects.select_related("host").filter(uri=parsed.text).first()
    if same is not None:
        raise AlreadyExists(
            f"{same.uri} is there already, on host {same.host.name}.", id=str(same.host_id), host=same.host.name
        )
    with transaction.atomic():
        hypervisor = _create_hypervisor(host, parsed, credentials)
        audit.record(by, "host_added", object=host.ref, object_name=host.name, uris=[parsed.text])
    return hypervisor


def host_update(*, host: Host, by: Actor, changes: Mapping[str, Any], if_version: int | None = None) -> Host:
    """Change name, tags or maintenance. Raises Stale, BadInput, AlreadyExists."""
    policy.require(by, "host.manage", host)
    values = {key: value for key, value in changes.items() if key in ("name", "tags", "maintenance")}
    if "tags" in values:
        values["tags"] = check_tags(values["tags"])
    if "name" in values:
        values["name"] = _check_name(values["name"])
        same = Host.objects.filter(name__iexact=values["name"]).exclude(pk=host.pk).first()
        if same is not None:
            raise AlreadyExists(f"A host named {same.name} is there already.", id=str(same.pk), host=same.name)
    if "maintenance" in values and values["maintenance"] != host.maintenance:
        values["maintenance_by"] = by.name[:150] if values["maintenance"] else ""
    with transaction.atomic():
        rows = Host.objects.filter(pk=host.pk)
        if if_version is not None:
            rows = rows.filter(version=if_version)
        if rows.update(version=F("version") + 1, updated_at=timezone.now(), **values) != 1:
            raise Stale(f"{host.name} changed since you read it. Read it again and repeat your change.")
        host.refresh_from_db()
        audit.record(
            by,
            "host_changed",
            object=host.ref,
            object_name=host.name,
            changed=sorted(values.keys() - {"maintenance_by"}),
            maintenance=host.maintenance,
        )
    return host


def hypervisor_update(
    *,
    hypervisor: Hypervisor,
    by: Actor,
    credentials: Mapping[str, Any] | None,
    uri: str | None = None,
    slots: int | None = None,
    if_version: int | None = None,
) -> Hypervisor:
    """Another address, new credentials or slots; the watcher connects anew at once.

    Raises:
        BadInput: The URI is not allowed, is of another kind, or leads elsewhere while the credentials are to stay: what was
            given for one place is not sent to another. AlreadyExists: it is there already. Stale.
    """
    policy.require(by, "host.manage", hypervisor.host)
    values: dict[str, Any] = {}
    if uri is not None:
        parsed = _check_move(hypervisor, uri, anew=credentials is not None)
        if parsed.text != hypervisor.uri:
            values["uri"] = parsed.text
            if if_version is None and credentials is None:
                # Judged by the credentials that were read: nobody may have given it others for the old address since.
                if_version = hypervisor.version
    if credentials is not None:
        values["credentials"] = dataclasses.asdict(Credentials(**credentials))
    if slots is not None:
        values["slots"] = slots
    with transaction.atomic():
        rows = Hypervisor.objects.filter(pk=hypervisor.pk)
        if if_version is not None:
            rows = rows.filter(version=if_version)
        if rows.update(version=F("version") + 1, updated_at=timezone.now(), **values) != 1:
            raise Stale("This hypervisor changed since you read it. Read it again and repeat your change.")
        hypervisor.refresh_from_db()
        audit.record(
            by, "hypervisor_changed", object=hypervisor.ref, object_name=str(hypervisor), changed=sorted(values)
        )
    return hypervisor


def _check_move(hypervisor: Hypervisor, uri: str, *, anew: bool) -> ParsedUri:
    """Where a hypervisor is to be from now on. `anew`: its credentials are given again."""
    parsed, _ = check_endpoint(NewHypervisor(uri=uri))
    if parsed.driver != hypervisor.driver:
        detail = f"This is a hypervisor of the kind {hypervisor.driver}; add one of the kind {parsed.driver} beside it."
        raise BadInput(detail, errors=[{"pointer": "/uri", "detail": detail}])
    here = parse_uri(hypervisor.uri, data_dir=settings.DATA_DIR)
    moved = any(
        getattr(here, part) != getattr(parsed, part)
        for part in ("scheme", "transport", "user", "host", "port", "socket")
    )
    if moved and hypervisor.credentials and not anew:
        detail = "The credentials were given for the address that it had: give them anew."
        raise BadInput(detail, errors=[{"pointer": "/credentials", "detail": detail}])
    same = Hypervisor.objects.select_related("host").filter(uri=parsed.text).exclude(pk=hypervisor.pk).first()
    if same is not None:
        raise AlreadyExists(
            f"{same.uri} is there already, on host {same.host.name}.", id=str(same.host_id), host=same.host.name
        )
    return parsed


def host_delete(*, host: Host, by: Actor, if_version: int | None = None) -> None:
    """Forget a host. Its guests are not touched; only our rows go. Raises Stale."""
    policy.require(by, "host.manage", host)
    with transaction.atomic():
        _check_version(Host, host, if_version)
        audit.record(
            by, "host_removed", object=host.ref, object_name=host.name, uris=[h.uri for h in host.hypervisors.all()]
        )
        host.delete()


def hypervisor_delete(*, hypervisor: Hypervisor, by: Actor, if_version: int | None = None) -> None:
    """Forget one hypervisor of a host; its guests are not touched. Raises Stale."""
    policy.require(by, "host.manage", hypervisor.host)
    with transaction.atomic():
        _check_version(Hypervisor, hypervisor, if_version)
        audit.record(
            by,
            "hypervisor_removed",
            object=hypervisor.ref,
            object_name=str(hypervisor),
            host=str(hypervisor.host_id),
            uri=hypervisor.uri,
        )
        hypervisor.delete()
        host_settle(hypervisor.host)


def _check_version(model: type[Host] | type[Hypervisor], row: Host | Hypervisor, if_version: int | None) -> None:
    if if_version is not None and not model.objects.filter(pk=row.pk, version=if_version).exists():
        raise Stale("It changed since you read it. Read it again and repeat your change.")


def host_refresh(*, host: Host, by: Actor) -> None:
    """Ask the watcher for a full listing now, and for a new attempt where a hypervisor is out of reach."""
    policy.require(by, "host.manage", host)
    audit.record(by, "host_refresh", object=host.ref, object_name=host.name)


def host_probe(*, new: NewHypervisor, by: Actor) -> Operation:
    """Let a worker try an endpoint step by step; the operation's result holds the steps. No host is saved."""
    policy.require(by, "host.probe")
    parsed, credentials = check_endpoint(new)
    audit.record(by, "host_probed", object_name=parsed.text, uri=parsed.text)
    return engine.submit(
        ProbeHost,
        target=ProbeTarget.new(parsed.text),
        by=by,
        params=ProbeParams(uri=parsed.text, credentials=dataclasses.asdict(credentials) if credentials else None),
    )


def hypervisor_probe(*, hypervisor: Hypervisor, by: Actor) -> Operation:
    """The same for a saved hypervisor, with the credentials that it has: they are read by the worker, and leave the row nowhere."""
    policy.require(by, "host.probe", hypervisor.host)
    parsed = parse_uri(hypervisor.uri, data_dir=settings.DATA_DIR)
    audit.record(by, "host_probed", object=hypervisor.host.ref, object_name=hypervisor.host.name, uri=parsed.text)
    return engine.submit(
        ProbeHost,
        target=ProbeTarget.new(parsed.text),
        by=by,
        params=ProbeParams(uri=parsed.text, hypervisor=hypervisor.pk),
    )
