"""Other hypervisors' own client libraries, asked for the same things that a driver tells: the floors of `bench.drivers`.

No code of the product calls anything here. Only names are taken from it (properties, queries), so that both sides ask for the same.
"""
# ruff: noqa: D102 - what the methods do stands at `Client`

from __future__ import annotations

import contextlib
import http.client
import threading
import time
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import libvirt
import requests
import urllib3
import XenAPI
from pypsrp.wsman import NAMESPACES, SelectorSet, WSMan, WSManAction
from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from bench.raw import ensure_event_loop
from drivers.hyperv.wire import PAGE, WMI
from drivers.vsphere.events import PATHS
from drivers.vsphere.guests import WHOLE
from drivers.vsphere.session import _QUICK
from drivers.vsphere.stats import CHUNK, INTERVAL_SECONDS, WANTED
from tests.labs import esx, hyperv, xapi

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.labs.engines import Engine
    from tests.labs.hyperv import HyperVHost
    from tests.labs.openvz import OpenVzNode
    from tests.labs.xapi import StandIn

query = vmodl.query.PropertyCollector
WSEN, WSMAN = f"{{{NAMESPACES['wsen']}}}", f"{{{NAMESPACES['wsman']}}}"


class Client:
    """What a floor does. `listing` and `statistics` say what they are."""

    listing = statistics = ""

    def list(self) -> None:
        """Read all guests."""
        raise NotImplementedError

    def stats(self) -> None:
        """Read the counters of all running guests."""
        raise NotImplementedError

    def suspend(self, uuid: str) -> None:
        """Done when it returns."""
        raise NotImplementedError

    def resume(self, uuid: str) -> None:
        """Done when it returns."""
        raise NotImplementedError

    def listen(self, heard: Callable[[], None], uuid: str) -> None:
        """Call `heard` at each news of that guest, on a thread of its own, from the return on until `close`."""
        raise NotImplementedError

    def close(self) -> None:
        """Sign out."""


class Docker(Client):
    """The Docker SDK for Python, over the engine's socket."""

    def __init__(self, engine: Engine) -> None:
        self._client = engine.client
        self._podman = engine.kind == "podman"
        self._streams: list[Any] = []
        self.listing = "containers.list"
        self.statistics = "libpod's stats" if self._podman else "stats of each"

    def list(self) -> None:
        self._client.containers.list(all=True)

    def list_only(self) -> None:
        """`/containers/json` alone, which lacks limits, restart policies and exit codes."""
        self._client.api.containers(all=True)

    def stats(self) -> None:
        api = self._client.api
        running = api.containers()
        if self._podman:
            answer = api.get(f"{api.base_url}/v4.0.0/libpod/containers/stats", params={"stream": "false"})
            answer.raise_for_status()
            answer.json()
        else:
            for row in running:
                api.stats(row["Id"], stream=False, one_shot=True)

    def suspend(self, uuid: str) -> None:
        self._client.api.pause(uuid)

    def resume(self, uuid: str) -> None:
        self._client.api.unpause(uuid)

    def listen(self, heard: Callable[[], None], uuid: str) -> None:
        stream = self._client.api.events(decode=True)
        self._streams.append(stream)

        def turn() -> None:
            for event in stream:
                if event.get("id") == uuid:
                    heard()

        in_background(turn)

    def close(self) -> None:
        for stream in self._streams:
            stream.close()


class Vsphere(Client):
    """pyVmomi as it comes."""

    listing = "property collector"
    statistics = "property collector and QueryPerf"

    def __init__(self, simulator: esx.Simulator) -> None:
        self._simulator = simulator
        self._closed = threading.Event()
        self._service = self._connect()
        self._content = self._service.content
        manager = self._content.viewManager
        self._view = manager.CreateContainerView(self._content.rootFolder, [vim.VirtualMachine], True)  # noqa: FBT003 - the API's order
        perf = self._content.perfManager
        known = {f"{each.groupInfo.key}.{each.nameInfo.key}.{each.rollupType}": each.key for each in perf.perfCounter}
        self._metrics = [
            vim.PerformanceManager.MetricId(counterId=known[name], instance=instance)
            for name, instance in WANTED
            if name in known
        ]

    def list(self) -> None:
        self._read(WHOLE)

    def stats(self) -> None:
        spec = vim.PerformanceManager.QuerySpec
        running = [each.obj for each in self._read(_QUICK) if _property(each, "runtime.powerState") == "poweredOn"]
        for start in range(0, len(running), CHUNK):
            self._content.perfManager.QueryPerf(
                [
                    spec(entity=each, metricId=self._metrics, intervalId=INTERVAL_SECONDS, maxSample=3)
                    for each in running[start : start + CHUNK]
                ]
            )

    def suspend(self, uuid: str) -> None:
        WaitForTask(self._machine(uuid).SuspendVM_Task())

    def resume(self, uuid: str) -> None:
        WaitForTask(self._machine(uuid).PowerOnVM_Task())

    def start_some(self, count: int) -> None:
        """Let the first so many machines run."""
        tasks = [each.obj.PowerOnVM_Task() for each in self._read(["name"])[:count]]
        for task in tasks:
            WaitForTask(task)

    def listen(self, heard: Callable[[], None], uuid: str) -> None:
        """By a connection of its own, as the driver has one."""
        content = self._connect().content
        view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)  # noqa: FBT003 - the API's order
        machine = content.searchIndex.FindByUuid(None, uuid, True, True)  # noqa: FBT003 - the API's order
        collector = content.propertyCollector.CreatePropertyCollector()
        collector.CreateFilter(_through(view, PATHS), partialUpdates=True)
        version = collector.WaitForUpdatesEx("", query.WaitOptions(maxWaitSeconds=1)).version

        def turn() -> None:
            nonlocal version
            while not self._closed.is_set():
                updates = collector.WaitForUpdatesEx(version, query.WaitOptions(maxWaitSeconds=5))
                if updates is not None:
                    version = updates.version
                    if any(change.obj == machine for each in updates.filterSet for change in each.objectSet):
                        heard()

        in_background(turn)

    def close(self) -> None:
        self._closed.set()
        Disconnect(self._service)

    def _connect(self) -> Any:
        return SmartConnect(
            host=self._simulator.host, port=self._simulator.port, user=esx.USERNAME, pwd=esx.PASSWORD,
            disableSslCertValidation=True,
        )  # fmt: skip

    def _machine(self, uuid: str) -> Any:
        return self._content.searchIndex.FindByUuid(None, uuid, True, True)  # noqa: FBT003 - the API's order

    def _read(self, paths: Sequence[str]) -> list[Any]:
        options = query.RetrieveOptions()
        collector = self._content.propertyCollector
        result = collector.RetrievePropertiesEx([_through(self._view, paths)], options)
        found = list(result.objects)
        while result.token:
            result = collector.ContinueRetrievePropertiesEx(result.token)
            found += result.objects
        return found


def _through(view: Any, paths: Sequence[str]) -> Any:
    """What is to be read of all machines in a view."""
    step = query.TraversalSpec(name="view", path="view", skip=False, type=type(view))
    return query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[step])],
        propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=list(paths))],
    )


def _property(found: Any, name: str) -> Any:
    return next((each.val for each in found.propSet if each.name == name), None)


class Xapi(Client):
    """The XenAPI binding as it comes; counters by `requests`."""

    listing = "get_all_records of 8 tables"
    statistics = "rrd_updates"
    tables = ("VM", "VBD", "VDI", "VIF", "network", "VM_metrics", "VM_guest_metrics", "pool")

    def __init__(self, host: StandIn) -> None:
        self._host = host
        self._closed = threading.Event()
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.verify = False
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._session = self._login()

    def list(self) -> None:
        for name in self.tables:
            getattr(self._host.api, name).get_all_records()

    def list_only(self) -> None:
        """Without disks, interfaces and memory."""
        self._host.api.VM.get_all_records()

    def stats(self) -> None:
        start = int(time.time()) - 2
        path = f"/rrd_updates?start={start}&interval=5&cf=AVERAGE&host=true"
        answer = self._http.get(
            f"https://{self._host.host}:{self._host.port}{path}",
            headers={"Cookie": f"session_id={self._session.handle}"},
            timeout=20,
        )
        answer.raise_for_status()
        ET.fromstring(answer.content)

    def suspend(self, uuid: str) -> None:
        self._host.api.VM.pause(self._host.ref(uuid))

    def resume(self, uuid: str) -> None:
        self._host.api.VM.unpause(self._host.ref(uuid))

    def listen(self, heard: Callable[[], None], uuid: str) -> None:
        """By a connection of its own, as the driver has one."""
        api, ref = self._login().xenapi, self._host.ref(uuid)
        token = getattr(api.event, "from")([f"vm/{ref}"], "", 1.0)["token"]

        def turn() -> None:
            nonlocal token
            while not self._closed.is_set():
                answer = getattr(api.event, "from")([f"vm/{ref}"], token, 5.0)
                token = answer["token"]
                if answer["events"]:
                    heard()

        in_background(turn)

    def close(self) -> None:
        self._closed.set()
        self._http.close()

    def _login(self) -> XenAPI.Session:
        session = XenAPI.Session(f"https://{self._host.host}:{self._host.port}/", ignore_ssl=True)
        session.login_with_password(xapi.USERNAME, xapi.PASSWORD, "1.0", "bench")
        return session


class HyperV(Client):
    """pypsrp's WSMan as it comes. It is told the queries: (namespace, WQL), which the driver was seen to ask."""

    listing = statistics = "pypsrp's enumerations"

    def __init__(self, host: HyperVHost) -> None:
        self._wsman = WSMan(
            "127.0.0.1", port=host.port, username=hyperv.USER, password=hyperv.PASSWORD, ssl=True, auth="basic",
            cert_validation=False, max_envelope_size=500 * 1024,
        )  # fmt: skip
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self.queries: dict[str, list[tuple[str, str]]] = {}

    def list(self) -> None:
        for namespace, wql in self.queries["list"]:
            self._enumerate(namespace, wql)

    def stats(self) -> None:
        for namespace, wql in self.queries["stats"]:
            self._enumerate(namespace, wql)

    def suspend(self, uuid: str) -> None:
        self._request(uuid, 9)

    def resume(self, uuid: str) -> None:
        self._request(uuid, 2)

    def close(self) -> None:
        self._wsman.close()

    def _enumerate(self, namespace: str, wql: str) -> None:
        uri = f"{WMI}{namespace}/*"
        ask = ET.Element(f"{WSEN}Enumerate")
        ET.SubElement(ask, f"{WSMAN}OptimizeEnumeration")
        ET.SubElement(ask, f"{WSMAN}MaxElements").text = str(PAGE)
        ET.SubElement(ask, f"{WSMAN}Filter", Dialect="http://schemas.microsoft.com/wbem/wsman/1/WQL").text = wql
        answer = self._wsman.invoke(WSManAction.ENUMERATE, uri, ask)
        while not any(each.tag.endswith("}EndOfSequence") for each in answer.iter()):
            place = next(each.text for each in answer.iter() if each.tag.endswith("}EnumerationContext"))
            pull = ET.Element(f"{WSEN}Pull")
            ET.SubElement(pull, f"{WSEN}EnumerationContext").text = place
            ET.SubElement(pull, f"{WSEN}MaxElements").text = str(PAGE)
            answer = self._wsman.invoke(WSManAction.PULL, uri, pull)

    def _request(self, uuid: str, state: int) -> None:
        """The method, and its job asked after every 20 ms."""
        uri = f"{WMI}root/virtualization/v2/Msvm_ComputerSystem"
        keys = SelectorSet()
        keys.add_option("CreationClassName", "Msvm_ComputerSystem")
        keys.add_option("Name", uuid.upper())
        ask = ET.Element(f"{{{uri}}}RequestStateChange_INPUT")
        ET.SubElement(ask, f"{{{uri}}}RequestedState").text = str(state)
        answer = self._wsman.invoke(f"{uri}/RequestStateChange", uri, ask, selector_set=keys)
        selectors = (each for each in answer.iter(f"{WSMAN}Selector") if each.get("Name") == "InstanceID")
        name = next((each.text for each in selectors), None)
        job = SelectorSet()
        job.add_option("InstanceID", name)
        while name is not None:
            row = self._wsman.invoke(
                WSManAction.GET, f"{WMI}root/virtualization/v2/Msvm_ConcreteJob", None, selector_set=job
            )
            if any(each.tag.endswith("}JobState") and each.text == "7" for each in row.iter()):
                return
            time.sleep(0.02)


class OpenVz(Client):
    """libvirt's binding, one connection for the verbs and one more for each listing: an old one does not see what is new."""

    listing = "open, list, info, XML"

    def __init__(self, node: OpenVzNode) -> None:
        ensure_event_loop()
        self._uri = node.uri
        self._connection = libvirt.open(node.uri)

    def list(self) -> None:
        with contextlib.closing(libvirt.open(self._uri)) as connection:
            for domain in connection.listAllDomains(0):
                domain.state(0)
                domain.info()
                domain.XMLDesc(0)

    def suspend(self, uuid: str) -> None:
        self._connection.lookupByUUIDString(uuid).suspend()

    def resume(self, uuid: str) -> None:
        self._connection.lookupByUUIDString(uuid).resume()

    def close(self) -> None:
        self._connection.close()


def in_background(turn: Callable[[], None]) -> None:
    """Until it ends, or its server does."""

    def work() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, requests.RequestException, vmodl.MethodFault):
            turn()

    threading.Thread(target=work, name="bench-listener", daemon=True).start()
