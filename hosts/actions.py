"""What a worker does for hosts: the host doctor."""

from __future__ import annotations

import dataclasses
import uuid  # noqa: TC003 - pydantic reads the annotation
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings

from core.errors import Missing
from core.ids import uuid7
from drivers.pool import the_pool
from drivers.probe import ProbeStep, probe
from drivers.types import Credentials, Endpoint
from drivers.uris import parse_uri
from hosts.models import Host, Hypervisor
from operations.actions import READING, Action, Params, Retry, action

if TYPE_CHECKING:
    from operations.actions import Context


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """An endpoint that may never become a host: its own name only, so that probes neither wait for nor join each other.

    A mere reading: it leaves nothing behind but the audit's line, though the doctor tries each minute for as long as it is open.
    """

    pk: uuid.UUID
    name: str

    @classmethod
    def new(cls, uri: str) -> ProbeTarget:
        """For one probe of `uri`."""
        return cls(uuid7(), uri)

    @property
    def ref(self) -> str:
        """`reading/<id>`."""
        return f"{READING}{self.pk}"


class ProbeParams(Params):
    """What to try. The credentials are kept encrypted until the probe has ended, and not after.

    With `hypervisor` (its id) a saved one is tried: at the address and with the credentials that it has when its turn comes, which
    stay in its row.
    """

    uri: str
    hypervisor: uuid.UUID | None = None
    credentials: dict[str, Any] | None = None

    secret: ClassVar[frozenset[str]] = frozenset({"credentials"})


@action
class ProbeHost(Action[ProbeTarget, ProbeParams]):
    """The host doctor: tries name, port, TLS, sign-in, driver, rights and capabilities in turn."""

    kind = "host.probe"
    title = "Probe"
    verb = "host.probe"
    params = ProbeParams
    retry = Retry(times=0)
    timeout_seconds = 45.0

    def load(self, target_id: uuid.UUID) -> ProbeTarget:
        """There is nothing to load."""
        return ProbeTarget(target_id, "")

    def run(self, ctx: Context, target: ProbeTarget, params: ProbeParams) -> dict[str, Any]:
        """Never fails: a step that fails is the result."""
        del ctx, target
        endpoint = _endpoint(params)
        steps = probe(endpoint, parse_uri(endpoint.uri, data_dir=settings.DATA_DIR))
        return {"ok": all(step.state == "ok" for step in steps), "steps": [_step_json(step) for step in steps]}


def _endpoint(params: ProbeParams) -> Endpoint:
    """What to try. A query where a saved hypervisor is tried; raises Missing when it was removed meanwhile.

    Address and credentials of a saved one are read together: it may have moved since it was asked for, and what was given for
    one place is not sent to another.
    """
    if params.hypervisor is not None:
        hypervisor = Hypervisor.objects.filter(pk=params.hypervisor).first()
        if hypervisor is None:
            raise Missing("This hypervisor was removed meanwhile.")
        return hypervisor.endpoint()
    parsed = parse_uri(params.uri, data_dir=settings.DATA_DIR)
    credentials = Credentials(**params.credentials) if params.credentials else None
    return Endpoint(driver=parsed.driver, uri=parsed.text, credentials=credentials)


def _step_json(step: ProbeStep) -> dict[str, Any]:
    """The contract's step."""
    return {
        "step": step.step,
        "state": step.state,
        "evidence": step.evidence,
        "error": {"code": step.error_code} if step.error_code else None,
        "hint": step.hint or "",
        "trust": dataclasses.asdict(step.trust) if step.trust else None,
        "seconds": round(step.seconds, 3),
    }


@action
class IdentifyHost(ProbeHost):
    """Ask an endpoint which machine it is on, so that no machine is added twice under two addresses."""

    kind = "host.identify"
    title = "Identify"
    timeout_seconds = 15.0

    def run(self, ctx: Context, target: ProbeTarget, params: ProbeParams) -> dict[str, Any]:
        """`{"host_uuid": …}`; the connection stays in the pool for the watcher, unless the machine is there already."""
        endpoint = _endpoint(params)
        with ctx.session(endpoint) as session:
            host_uuid = session.host_info().host_uuid
        if Host.objects.filter(host_uuid=host_uuid).exclude(host_uuid="").exists():
            the_pool().forget(endpoint)
        return {"host_uuid": host_uuid}
