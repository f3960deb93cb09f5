"""WS-Management as Hyper-V speaks it: WQL queries, objects by their keys, methods and the jobs they start."""

from __future__ import annotations

import logging
import threading
import time
import uuid as uuids
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pypsrp.wsman import NAMESPACES, SelectorSet, WSMan, WSManAction

from drivers.errors import DriverError, Timeout, Unreachable
from drivers.hyperv import transport
from drivers.hyperv.errors import STARTED, job_failed, malformed, translate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

    from drivers.types import Credentials

WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
V2 = "root/virtualization/v2"
CIMV2 = "root/cimv2"

OPERATION_SECONDS = 20
"""What the host is given to answer one message; we wait a little longer for its fault."""
GRACE_SECONDS = 3
QUERY_SECONDS = 60.0
"""For all pages of one query."""
JOB_SECONDS = 300.0
"""A save of much memory to a slow disk takes minutes."""
PAGE = 2000
ENVELOPE_BYTES = 500 * 1024
"""What WinRM allows by default (MaxEnvelopeSizekb)."""
ROWS_MAX = 200_000
KEPT = 4

_WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
_ANYBODY = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
_WSEN = f"{{{NAMESPACES['wsen']}}}"
_WSMAN = f"{{{NAMESPACES['wsman']}}}"
_WSA = f"{{{NAMESPACES['wsa']}}}"
_DONE, _DONE_WITH_WARNINGS = 7, 32768
_UNDER_WAY = (2, 3, 4, 5, 6)

# It logs each timeout with its traceback, and each answer that is no XML: both are ours to report, once.
logging.getLogger("pypsrp.wsman").setLevel(logging.CRITICAL)


class Row:
    """One object as the host told it: each property has any number of texts. What is not there is empty, not an error."""

    __slots__ = ("_values",)

    def __init__(self, element: ET.Element) -> None:
        values: dict[str, list[str]] = {}
        for child in element:
            text = child.text
            if text:
                name = _local(child.tag)
                if name in values:
                    values[name].append(text)
                else:
                    values[name] = [text]
        self._values = values

    def text(self, name: str) -> str:
        """The first value, "" where there is none."""
        found = self._values.get(name)
        return found[0] if found else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """All values of a list."""
        return tuple(self._values.get(name, ()))

    def number(self, name: str) -> int | None:
        """A count of at most 64 bits, None where there is none.

        Raises:
            DriverError: It is no such number.
        """
        text = self.text(name).strip()
        if not text:
            return None
        if len(text) > 20 or not (text.isascii() and text.isdigit()) or int(text) >= 2**64:
            raise malformed(f"{name} is no number")
        return int(text)

    def flag(self, name: str) -> bool:
        """A boolean; False where there is none."""
        return self.text(name).strip().lower() in ("true", "1")


@dataclass(frozen=True, slots=True)
class Reference:
    """An object's address: its class, its keys, and the namespace where that is not root/virtualization/v2."""

    class_name: str
    keys: Mapping[str, str]
    namespace: str = V2

    def element(self, tag: str) -> ET.Element:
        """As an endpoint reference, which is how WS-Management passes objects."""
        made = ET.Element(tag)
        ET.SubElement(made, f"{_WSA}Address").text = _ANYBODY
        parameters = ET.SubElement(made, f"{_WSA}ReferenceParameters")
        ET.SubElement(parameters, f"{_WSMAN}ResourceURI").text = _uri(self.namespace, self.class_name)
        selectors = ET.SubElement(parameters, f"{_WSMAN}SelectorSet")
        for name, value in self.keys.items():
            ET.SubElement(selectors, f"{_WSMAN}Selector", Name=name).text = value
        return made


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method gave back.

    Attributes:
        value: Its return value.
        out: Its plain out parameters.
        element: All of them.
    """

    value: int
    out: Row
    element: ET.Element


class Wire:
    """One host's WinRM, for any number of threads: each call has a connection of its own, some are kept for the next.

    Args:
        host: Name or address, an IPv6 one without brackets.
        context: Whom to believe; its sockets keep to `transport.allowance`.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext, credentials: Credentials) -> None:
        self.host = host
        self._port = port
        self._context = context
        self._credentials = credentials
        self._free: list[WSMan] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.heard_at = time.monotonic()
        where = f"[{host}]" if ":" in host else host
        url = f"https://{where}:{port}/wsman"
        self._auth = transport.choose_auth(url, host, context, OPERATION_SECONDS + GRACE_SECONDS)

    def query(self, wql: str, namespace: str = V2, *, seconds: float | None = None) -> list[Row]:
        """All rows of a WQL query: one message, and one more for each further page.

        Args:
            wql: See `select`.
            namespace: `V2` or `CIMV2`.
            seconds: For each message, where the usual patience is too much.

        Raises:
            DriverError: As the host says, or Timeout when the pages do not come to an end.
        """
        until = time.monotonic() + QUERY_SECONDS
        uri = _uri(namespace, "*")
        ask = ET.Element(f"{_WSEN}Enumerate")
        ET.SubElement(ask, f"{_WSMAN}OptimizeEnumeration")
        ET.SubElement(ask, f"{_WSMAN}MaxElements").text = str(PAGE)
        ET.SubElement(ask, f"{_WSMAN}Filter", Dialect=_WQL).text = wql
        body = self._call(WSManAction.ENUMERATE, uri, ask, seconds=seconds)
        rows: list[Row] = []
        while True:
            answer = _first(body)
            items = _child(answer, "Items")
            rows += [Row(item) for item in (() if items is None else items)]
            if _child(answer, "EndOfSequence") is not None:
                return rows
            place = _child(answer, "EnumerationContext")
            if place is None or not place.text or len(rows) > ROWS_MAX:
                raise malformed("an enumeration without an end")
            if time.monotonic() > until:
                raise Timeout(f"{self.host} did not come to an end of its answer.", host=self.host)
            pull = ET.Element(f"{_WSEN}Pull")
            ET.SubElement(pull, f"{_WSEN}EnumerationContext").text = place.text
            ET.SubElement(pull, f"{_WSEN}MaxElements").text = str(PAGE)
            body = self._call(WSManAction.PULL, uri, pull, seconds=seconds)

    def get(self, reference: Reference) -> Row:
        """One object by its keys. Raises NotFound."""
        return Row(
            _first(self._call(WSManAction.GET, _uri(reference.namespace, reference.class_name), None, reference.keys))
        )

    def invoke(
        self, on: Reference, method: str, **arguments: str | int | bool | list[int] | list[str] | Reference
    ) -> Answer:
        """Call a method. Its return value is not judged here.

        Raises:
            DriverError: As the host says, or there is no return value in the answer.
        """
        uri = _uri(on.namespace, on.class_name)
        ask = ET.Element(f"{{{uri}}}{method}_INPUT")
        for name, value in arguments.items():
            tag = f"{{{uri}}}{name}"
            if isinstance(value, Reference):
                ask.append(value.element(tag))
                continue
            for each in value if isinstance(value, list) else [value]:
                ET.SubElement(ask, tag).text = str(each).lower() if isinstance(each, bool) else str(each)
        element = _first(self._call(f"{uri}/{method}", uri, ask, on.keys))
        out = Row(element)
        value_back = out.number("ReturnValue")
        if value_back is None:
            raise malformed(f"{method} returned nothing")
        return Answer(value_back, out, element)

    def finish(self, answer: Answer) -> None:
        """Wait for the job that a method started, if it did.

        Raises:
            DriverError: The job failed, as it says. Timeout: It did not end within `JOB_SECONDS`.
        """
        if answer.value != STARTED:
            return
        job = _job_of(answer.element)
        until = time.monotonic() + JOB_SECONDS
        pause = 0.05
        while True:
            row = self.get(job)
            state = row.number("JobState")
            if state in (_DONE, _DONE_WITH_WARNINGS):
                return
            if state not in _UNDER_WAY:
                text = row.text("ErrorDescription") or row.text("ErrorSummaryDescription")
                raise job_failed(state or 0, row.number("ErrorCode"), text)
            if time.monotonic() > until:
                raise Timeout("Hyper-V's job did not end in time; it goes on there.", host=self.host)
            if self._ended.wait(pause):
                raise Unreachable("The connection was closed.", host=self.host)
            pause = min(1.0, pause * 1.5)

    def close(self) -> None:
        """End it, waking whoever waits for a job. Never raises, may be called twice."""
        self._ended.set()
        with self._lock:
            free, self._free = self._free, []
        for wsman in free:
            _drop(wsman)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._ended.is_set()

    def _call(
        self,
        action: str,
        uri: str,
        body: ET.Element | None,
        keys: Mapping[str, str] | None = None,
        *,
        seconds: float | None = None,
    ) -> ET.Element:
        selectors = SelectorSet()
        for name, value in (keys or {}).items():
            selectors.add_option(name, value)
        transport.allowance.begin(seconds or OPERATION_SECONDS + GRACE_SECONDS)
        with self._connection() as wsman, translate(self.host):
            reply = wsman.invoke(action, uri, body, selector_set=selectors if keys else None)
        found: ET.Element | None = reply.find("s:Body", NAMESPACES)
        if found is None:
            raise malformed("no SOAP body")
        self.heard_at = time.monotonic()
        return found

    @contextmanager
    def _connection(self) -> Iterator[WSMan]:
        """One for this thread alone; after an error of the network it is not used again."""
        if self.closed:
            raise Unreachable("The connection was closed.", host=self.host)
        with self._lock:
            wsman = self._free.pop() if self._free else None
        wsman = wsman or self._new()
        keep = False
        try:
            yield wsman
            keep = True
        except DriverError as error:
            keep = not isinstance(error, Unreachable | Timeout)
            raise
        finally:
            with self._lock:
                keep = keep and not self.closed and len(self._free) < KEPT
                if keep:
                    self._free.append(wsman)
            if not keep:
                _drop(wsman)

    def _new(self) -> WSMan:
        wsman = WSMan(
            self.host,
            port=self._port,
            max_envelope_size=ENVELOPE_BYTES,
            operation_timeout=OPERATION_SECONDS,
            username=self._credentials.username,
            password=self._credentials.password,
            ssl=True,
            auth=self._auth,
            connection_timeout=int(transport.CONNECT_SECONDS),
            read_timeout=OPERATION_SECONDS + GRACE_SECONDS,
        )
        session = transport.new_session(self._context)
        session.auth = transport.authentication(self._auth, self._credentials)
        wsman.transport.session = session
        return wsman


def select(columns: str, class_name: str, *conditions: str, **equal: str) -> str:
    """A WQL query. `equal` are property and value, which is quoted; `conditions` are WQL already."""
    where = " AND ".join([*conditions, *(f"{name} = {quoted(value)}" for name, value in equal.items())])
    return f"SELECT {columns} FROM {class_name}" + (f" WHERE {where}" if where else "")  # noqa: S608 - quoted above


def quoted(text: str) -> str:
    """A text as a WQL literal: backslash and quotes are escaped by a backslash."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def guid(text: str) -> str | None:
    """A GUID as Hyper-V writes it (upper case), None where it is none."""
    try:
        found = str(uuids.UUID(text)).upper()
    except ValueError:
        return None
    return found if found == text.upper() else None


def _drop(wsman: WSMan) -> None:
    session = wsman.transport.session
    if session is not None:
        session.close()


def _uri(namespace: str, class_name: str) -> str:
    return f"{WMI}{namespace}/{class_name}"


@lru_cache(maxsize=1024)
def _local(tag: object) -> str:
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _first(body: ET.Element) -> ET.Element:
    for child in body:
        return child
    raise malformed("an empty SOAP body")


def _child(element: ET.Element, name: str) -> ET.Element | None:
    """By local name: an optimised enumeration answers in another namespace than a pull."""
    return next((child for child in element if _local(child.tag) == name), None)


def _job_of(output: ET.Element) -> Reference:
    job = _child(output, "Job")
    for selector in () if job is None else job.iter(f"{_WSMAN}Selector"):
        if selector.get("Name") == "InstanceID" and selector.text:
            return Reference("Msvm_ConcreteJob", {"InstanceID": selector.text})
    raise malformed("a job without an address")
