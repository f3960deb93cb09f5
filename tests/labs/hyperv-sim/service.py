"""WS-Management: messages in, messages out."""

from __future__ import annotations

import base64
import re
import struct
import threading
import time
import xml.etree.ElementTree as ET

from world import HOST, LOCK, OFF, RUNNING, World, guid
from wql import Fault, holds, parse_wql

SOAP = "{http://www.w3.org/2003/05/soap-envelope}"
WSA = "{http://schemas.xmlsoap.org/ws/2004/08/addressing}"
WSMAN = "{http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd}"
WSEN = "{http://schemas.xmlsoap.org/ws/2004/09/enumeration}"
FAULT = "{http://schemas.microsoft.com/wbem/wsman/1/wsmanfault}"
NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
GET = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
V2, CIMV2 = "root/virtualization/v2", "root/cimv2"


def fill(element: ET.Element, row: dict, space: str, columns: list[str] | None = None) -> ET.Element:
    for key, value in row.items():
        if key.startswith("_") or (columns and key not in columns):
            continue
        for each in value if isinstance(value, list) else [value]:
            child = ET.SubElement(element, f"{{{space}}}{key}")
            if each is None:
                child.set(NIL, "true")
            else:
                child.text = str(each)
    return element


def reference(parent: ET.Element, tag: str, name: str, **keys: str) -> None:
    made = ET.SubElement(parent, tag)
    ET.SubElement(made, f"{WSA}Address").text = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
    parameters = ET.SubElement(made, f"{WSA}ReferenceParameters")
    ET.SubElement(parameters, f"{WSMAN}ResourceURI").text = f"{WMI}{V2}/{name}"
    selectors = ET.SubElement(parameters, f"{WSMAN}SelectorSet")
    ET.SubElement(selectors, f"{WSMAN}Selector", Name="__cimnamespace").text = V2
    for key, value in keys.items():
        ET.SubElement(selectors, f"{WSMAN}Selector", Name=key).text = value


def keys_of(argument: ET.Element | None) -> dict[str, str]:
    """The selectors of a reference that was sent as an argument."""
    if argument is None:
        return {}
    return {selector.get("Name"): selector.text or "" for selector in argument.iter(f"{WSMAN}Selector")}


KINDS = {
    "Microsoft:Hyper-V:Synthetic SCSI Controller": ("Msvm_ResourceAllocationSettingData", 6),
    "Microsoft:Hyper-V:Synthetic Disk Drive": ("Msvm_ResourceAllocationSettingData", 17),
    "Microsoft:Hyper-V:Synthetic DVD Drive": ("Msvm_ResourceAllocationSettingData", 16),
    "Microsoft:Hyper-V:Virtual Hard Disk": ("Msvm_StorageAllocationSettingData", 31),
    "Microsoft:Hyper-V:Virtual CD/DVD Disk": ("Msvm_StorageAllocationSettingData", 31),
    "Microsoft:Hyper-V:Synthetic Ethernet Port": ("Msvm_SyntheticEthernetPortSettingData", 10),
    "Microsoft:Hyper-V:Ethernet Connection": ("Msvm_EthernetPortAllocationSettingData", 33),
}
"""What can be added: its class, and its ResourceType."""
TYPES = {
    **dict.fromkeys(
        ("AutomaticStartupAction", "ResourceType", "EnabledState", "Type", "Format", "BootOrder"), "uint16"
    ),
    **dict.fromkeys(("VirtualQuantity", "Reservation", "Limit", "MaxInternalSize"), "uint64"),
    **dict.fromkeys(
        ("DynamicMemoryEnabled", "SecureBootEnabled", "StaticMacAddress", "ExposeVirtualizationExtensions"), "boolean"
    ),
}
"""Of properties that are no strings."""
ARRAYS = {"Notes", "HostResource", "VirtualSystemIdentifiers", "BootOrder"}


def embedded(text: str) -> tuple[str, dict]:
    """Class and properties of an instance in CIM-XML. Raises TypeError for a property of another type than the class has."""
    made = ET.fromstring(text)
    values = {}
    for each in made:
        name, array = each.get("NAME"), each.tag == "PROPERTY.ARRAY"
        if each.get("TYPE") != TYPES.get(name, "string") or array is not (name in ARRAYS):
            raise TypeError(name)
        values[name] = [value.text or "" for value in each.iter("VALUE")] if array else each.findtext("VALUE") or ""
    return made.get("CLASSNAME"), values


class Methods:
    """What can be invoked: each answers a return value, a job or a dictionary of out parameters."""

    def __init__(self, world: World) -> None:
        self.world = world

    def RequestStateChange(self, keys: dict, given: dict):  # noqa: N802 - Microsoft's names
        world, row = self.world, self.world.guest(keys.get("Name", ""))
        if row is None:
            raise Fault(
                "wsman:InvalidSelectors", 0x8033805B, "The request contains invalid selectors for the resource."
            )
        have, want = row["EnabledState"], int(given["RequestedState"].text)
        on = (RUNNING, world.paused)
        allowed = {2: (OFF, world.paused, world.saved), 3: (*on, world.saved), 6: on, 9: (RUNNING,), 11: on}
        if have not in allowed.get(want, ()):
            return 32775
        after = {2: RUNNING, 3: OFF, 6: world.saved, 9: world.paused, 11: RUNNING}[want]

        def change() -> None:
            if want == 11:
                row["_since"] = time.time()
            world.power(row, after)

        return world.job(change)

    def ModifySystemSettings(self, _keys: dict, given: dict):  # noqa: N802
        try:
            name, values = embedded(given["SystemSettings"].text)
        except TypeError:
            return 32776
        row = self.settings_at(name, values.pop("InstanceID", ""))
        if name != "Msvm_VirtualSystemSettingData" or row is None:
            return 32773

        def change() -> None:
            row.update(values)
            if "ElementName" in values:
                self.world.guest(row["VirtualSystemIdentifier"])["ElementName"] = values["ElementName"]

        return self.world.job(change)

    def settings_at(self, name: str, identity: str) -> dict | None:
        return next((each for each in self.world.rows[name] if each["InstanceID"] == identity), None)

    # -- making ------------------------------------------------------------------------------------------------------
    def DefineSystem(self, _keys: dict, given: dict):  # noqa: N802
        try:
            name, values = embedded(given["SystemSettings"].text)
        except TypeError:
            return 32776
        if name != "Msvm_VirtualSystemSettingData" or not {"ElementName", "VirtualSystemSubType"} <= set(values):
            return 32773
        return self.world.job(lambda: self.world.define(values))

    def ModifyResourceSettings(self, _keys: dict, given: dict):  # noqa: N802
        changes = [embedded(each) for each in given["*"]["ResourceSettings"]]
        rows = [self.settings_at(name, values.pop("InstanceID", "")) for name, values in changes]
        if None in rows:
            return 32773
        return self.world.job(lambda: [row.update(values) for row, (_, values) in zip(rows, changes, strict=True)])

    def AddResourceSettings(self, _keys: dict, given: dict):  # noqa: N802
        """One object: on a controller, in a drive, at a card, or in the machine itself."""
        identity = keys_of(given.get("AffectedConfiguration")).get("InstanceID", "")
        if self.settings_at("Msvm_VirtualSystemSettingData", identity) is None:
            return 32773
        name, values = embedded(given["*"]["ResourceSettings"][0])
        kind = values.get("ResourceSubType", "")
        if (name, int(values.get("ResourceType", 0))) != KINDS.get(kind):
            return 32773
        parent = ""
        if name != "Msvm_SyntheticEthernetPortSettingData" and "Controller" not in kind:
            parent = re.search(r'InstanceID="(.*)"', values.get("Parent", ""))[1].replace("\\\\", "\\")
            owners = (
                *self.world.rows["Msvm_ResourceAllocationSettingData"],
                *self.world.rows["Msvm_SyntheticEthernetPortSettingData"],
            )
            if parent not in [each["InstanceID"] for each in owners] or not parent.startswith(identity):
                return 32773
        if "Drive" in kind:
            made = f"{parent}\\{values['AddressOnParent']}\\D"
        elif parent:
            made = f"{parent.removesuffix('D')}L" if "Ethernet" not in kind else f"{parent}\\C"
        else:
            made = f"{identity}\\{guid()}" + ("\\0" if "Controller" in kind else "")
        if self.settings_at(name, made) is not None:
            return 32773
        file = next(iter(values.get("HostResource", [])), "")
        if name == "Msvm_StorageAllocationSettingData" and self.world.file_at(file) is None:
            return 32773
        return self.world.job(lambda: self.world.rows[name].append({"Address": None, **values, "InstanceID": made}))

    # -- files -------------------------------------------------------------------------------------------------------
    def CreateVirtualHardDisk(self, _keys: dict, given: dict):  # noqa: N802
        name, values = embedded(given["VirtualDiskSettingData"].text)
        needed = {"Type", "Format", "Path", "MaxInternalSize"}
        if name != "Msvm_VirtualHardDiskSettingData" or not needed <= set(values) or self.world.file_at(values["Path"]):
            return 32773
        return self.world.job(lambda: self.world.file(values["Path"], 4 << 20, int(values["MaxInternalSize"])))

    def GetVirtualHardDiskSettingData(self, _keys: dict, given: dict):  # noqa: N802
        row = self.world.file_at(given["Path"].text)
        if row is None:
            return 32773
        size = f'<PROPERTY NAME="MaxInternalSize" TYPE="uint64"><VALUE>{row["_capacity"]}</VALUE></PROPERTY>'
        return {"SettingData": f'<INSTANCE CLASSNAME="Msvm_VirtualHardDiskSettingData">{size}</INSTANCE>'}

    def Delete(self, keys: dict, _given: dict):  # noqa: N802
        row = self.world.file_at(keys.get("Name", ""))
        if row is None:
            return 9
        self.world.rows["CIM_DataFile"].remove(row)
        return {}

    def DestroySystem(self, _keys: dict, given: dict):  # noqa: N802
        row = self.world.guest(keys_of(given.get("AffectedSystem")).get("Name", ""))
        if row is None:
            return 32773
        if row["EnabledState"] not in (OFF, self.world.saved):
            return 32775
        return self.world.job(lambda: self.world.remove(row["Name"]))

    def GetVirtualSystemThumbnailImage(self, _keys: dict, given: dict):  # noqa: N802
        width, height = int(given["WidthPixels"].text), int(given["HeightPixels"].text)
        identifier = keys_of(given.get("TargetSystem")).get("InstanceID", "")
        row = self.world.guest(identifier.removeprefix("Microsoft:"))
        if row is None:
            return 32773
        if row["EnabledState"] not in (RUNNING, self.world.paused):
            return 32775
        bars = (0xF800, 0x07E0, 0x001F, 0xFFFF)  # red, green, blue, white from left to right
        line = struct.pack(f"<{width}H", *(bars[place * 4 // width] for place in range(width)))
        return {"ImageData": base64.b64encode(line * height).decode()}

    def InitiateShutdown(self, keys: dict, given: dict):  # noqa: N802
        return self._inside(keys, given, OFF)

    def InitiateReboot(self, keys: dict, given: dict):  # noqa: N802
        return self._inside(keys, given, RUNNING)

    def _inside(self, keys: dict, given: dict, state: int):
        row = self.world.guest(keys.get("SystemName", ""))
        right = keys.get("DeviceID") == f"Microsoft:{keys.get('SystemName')}\\SHUT" and {"Force", "Reason"} <= set(
            given
        )
        if row is None or not right:
            raise Fault(
                "wsman:InvalidSelectors", 0x8033805B, "The request contains invalid selectors for the resource."
            )
        if row["EnabledState"] != RUNNING or not row["_services"]:
            return 32780
        if row["_obeys"]:
            threading.Timer(0.1, lambda: self.world.power(row, state)).start()
        return 0


class Service:
    """Messages in, messages out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.methods = Methods(world)
        self.contexts = {}
        self.returns = {}

    def answer(self, request: bytes) -> tuple[int, str, bytes]:
        """Status, action and body."""
        envelope = ET.Element(f"{SOAP}Envelope")
        header, body = ET.SubElement(envelope, f"{SOAP}Header"), ET.SubElement(envelope, f"{SOAP}Body")
        status, action, message = 200, "", ""
        try:
            asked = ET.fromstring(request)
            head = {child.tag: (child.text or "").strip() for child in asked.find(f"{SOAP}Header")}
            action, message = head[f"{WSA}Action"], head[f"{WSA}MessageID"]
            selectors = asked.findall(f"{SOAP}Header/{WSMAN}SelectorSet/{WSMAN}Selector")
            keys = {each.get("Name"): each.text or "" for each in selectors}
            with LOCK:
                self.room = int(head.get(f"{WSMAN}MaxEnvelopeSize") or 153600) - 4096
                self.act(action, head[f"{WSMAN}ResourceURI"], keys, asked.find(f"{SOAP}Body"), body)
        except (ET.ParseError, KeyError, TypeError) as error:
            status = self.fault(body, Fault("wsman:SchemaValidationError", 2150858791, f"bad message: {error!r}"))
        except Fault as error:
            status = self.fault(body, error)
        ET.SubElement(header, f"{WSA}Action").text = f"{action}Response"
        ET.SubElement(header, f"{WSA}MessageID").text = f"uuid:{guid()}"
        ET.SubElement(header, f"{WSA}RelatesTo").text = message
        return status, action, ET.tostring(envelope, encoding="utf-8")

    def fault(self, body: ET.Element, error: Fault) -> int:
        body.clear()
        made = ET.SubElement(body, f"{SOAP}Fault")
        code = ET.SubElement(made, f"{SOAP}Code")
        ET.SubElement(code, f"{SOAP}Value").text = "s:Sender"
        ET.SubElement(ET.SubElement(code, f"{SOAP}Subcode"), f"{SOAP}Value").text = error.subcode
        ET.SubElement(ET.SubElement(made, f"{SOAP}Reason"), f"{SOAP}Text").text = error.text
        detail = ET.SubElement(made, f"{SOAP}Detail")
        inner = ET.SubElement(detail, f"{FAULT}WSManFault", Code=str(error.code), Machine=HOST)
        ET.SubElement(inner, f"{FAULT}Message").text = error.text
        return error.status

    def act(self, action: str, uri: str, keys: dict, given: ET.Element, body: ET.Element) -> None:
        match = re.fullmatch(re.escape(WMI) + r"(root/[a-z0-9/]+)/(\w+|\*)", uri)
        if match is None or match[1] not in (V2, CIMV2):
            raise Fault("wsa:DestinationUnreachable", 2150859002, "The namespace is not valid. (0x8004100E)")
        space, name = match.groups()
        if action.endswith("/Enumerate"):
            self.enumerate(space, given, body)
        elif action.endswith("/Pull"):
            self.pull(given, body)
        elif action == GET:
            self.get(space, name, keys, body)
        elif action.startswith(f"{uri}/"):
            self.invoke(uri, action.rpartition("/")[2], keys, given, body)
        else:
            raise Fault("wsa:ActionNotSupported", 2150858817, f"The action {action} is not supported.")

    def enumerate(self, space: str, given: ET.Element, body: ET.Element) -> None:
        filters = given.find(f".//{WSMAN}Filter")
        columns, name, conditions = parse_wql("" if filters is None else filters.text or "")
        if not self.world.known(name) or (space == CIMV2) is not name.startswith(("Win32_", "CIM_")):
            raise Fault("wsa:DestinationUnreachable", 2150859002, f"The class {name} does not exist. (0x80041010)")
        uri = f"{WMI}{space}/{name}"
        rows = [row for row in self.world.instances(name) if holds(row, conditions)]
        tag = f"{WSMAN}XmlFragment" if columns else f"{{{uri}}}{name}"
        items = [fill(ET.Element(tag), row, uri, columns) for row in rows]
        answer = ET.SubElement(body, f"{WSEN}EnumerateResponse")
        optimised = given.find(f".//{WSMAN}OptimizeEnumeration") is not None
        most = int(given.findtext(f".//{WSMAN}MaxElements") or 1) if optimised else 0
        self.page(answer, items, most, WSMAN if optimised else WSEN)

    def pull(self, given: ET.Element, body: ET.Element) -> None:
        context = given.findtext(f".//{WSEN}EnumerationContext") or ""
        if context not in self.contexts:
            raise Fault("wsen:InvalidEnumerationContext", 2150858763, "The enumeration context is not valid.")
        answer = ET.SubElement(body, f"{WSEN}PullResponse")
        self.page(answer, self.contexts.pop(context), int(given.findtext(f".//{WSEN}MaxElements") or 1), WSEN)

    def page(self, answer: ET.Element, items: list[ET.Element], most: int, space: str) -> None:
        """As many as were asked for and as fit into the envelope; a context for the rest."""
        taken, size = 0, 0
        while taken < min(most, len(items)):
            size += len(ET.tostring(items[taken]))
            if taken and size > self.room:
                break
            taken += 1
        rest = items[taken:]
        context = ""
        if rest or not most:
            context = f"uuid:{guid()}"
            self.contexts[context] = rest
        ET.SubElement(answer, f"{WSEN}EnumerationContext").text = context
        if most:
            ET.SubElement(answer, f"{space}Items").extend(items[:taken])
            if not rest:
                ET.SubElement(answer, f"{space}EndOfSequence")

    def get(self, space: str, name: str, keys: dict, body: ET.Element) -> None:
        wanted = [(key, "=", value) for key, value in keys.items() if not key.startswith("__")]
        row = next((each for each in self.world.instances(name) if wanted and holds(each, wanted)), None)
        if row is None:
            raise Fault("wsa:DestinationUnreachable", 2150858752, "The resource was not found. (0x80041002)")
        uri = f"{WMI}{space}/{name}"
        body.append(fill(ET.Element(f"{{{uri}}}{name}"), row, uri))

    def invoke(self, uri: str, method: str, keys: dict, given: ET.Element, body: ET.Element) -> None:
        call = getattr(self.methods, method, None)
        if call is None:
            raise Fault("wsa:ActionNotSupported", 2150858817, f"The method {method} is not supported.")
        arguments = {child.tag.rpartition("}")[2]: child for child in given[0]}
        every: dict[str, list[str]] = {}
        for child in given[0]:
            every.setdefault(child.tag.rpartition("}")[2], []).append(child.text or "")
        arguments["*"] = every
        result = self.returns.pop(method, None) or call(keys, arguments)
        out = ET.SubElement(body, f"{{{uri}}}{method}_OUTPUT")
        value = 0
        if isinstance(result, int):
            value = result
        elif "JobState" in result:
            reference(out, f"{{{uri}}}Job", "Msvm_ConcreteJob", InstanceID=result["InstanceID"])
            value = 4096
        else:
            for name, found in result.items():
                ET.SubElement(out, f"{{{uri}}}{name}").text = found
        ET.SubElement(out, f"{{{uri}}}ReturnValue").text = str(value)
        if len(ET.tostring(out)) > self.room:
            raise Fault("wsman:EncodingLimit", 2150858790, "The response is too large for the envelope.")
