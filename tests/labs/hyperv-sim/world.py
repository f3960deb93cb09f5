"""The objects of a Hyper-V host, as its management classes show them."""

from __future__ import annotations

import collections
import threading
import time
import uuid
from typing import Any

HOST = "HV01"
RUNNING, OFF = 2, 3
LOCK = threading.RLock()
"""Around everything that reads or changes objects."""
SETTINGS = tuple(
    f"Msvm_{kind}SettingData"
    for kind in ("VirtualSystem", "ResourceAllocation", "SyntheticEthernetPort", "EthernetPortAllocation")
)
"""Classes that are there while no guest is."""
LIVE_CLASSES = ("Msvm_VideoHead", "Msvm_ShutdownComponent", "Msvm_Memory")
PERF = ("HvStats_HyperVHypervisorVirtualProcessor", "HvStats_HyperVHypervisorLogicalProcessor")
STORAGE, NIC = "Counters_HyperVVirtualStorageDevice", "NvspNicStats_HyperVVirtualNetworkAdapter"
REPLACED = str.maketrans({"(": "[", ")": "]", "#": "_", "/": "_", "\\": "_"})

Object = dict[str, Any]


class World:
    """All objects, by class."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Object]] = collections.defaultdict(list)
        self.paused, self.saved = 32768, 32769
        self.screen = (64, 48)
        self.gone_classes: set[str] = set()
        self.job_seconds = 0.05
        self.next_job = None
        self.rows["Msvm_ComputerSystem"].append(
            {"Caption": "Hosting Computer System", "CreationClassName": "Msvm_ComputerSystem", "Name": HOST,
             "ElementName": HOST, "EnabledState": RUNNING, "HealthState": 5}
        )  # fmt: skip
        for name, short in (("Msvm_VirtualSystemManagementService", "vmms"), ("Msvm_ImageManagementService", "vhdsvc")):
            self.rows[name].append({"CreationClassName": name, "Name": short, "SystemName": HOST})
        self.switch = guid()
        self.rows["Msvm_VirtualEthernetSwitch"].append(
            {"CreationClassName": "Msvm_VirtualEthernetSwitch", "Name": self.switch, "ElementName": "External"}
        )
        self.rows["Msvm_VirtualSystemManagementServiceSettingData"].append(
            {
                "InstanceID": f"Microsoft:{HOST}",
                "DefaultVirtualHardDiskPath": "C:\\Disks",
                "DefaultExternalDataRoot": "C:\\VMs",
            }
        )
        self.rows["Win32_LogicalDisk"].append({"DeviceID": "C:", "Size": 1 << 40, "FreeSpace": 1 << 39})
        self.file("C:\\Disks\\install.iso", 1 << 20)
        for kind in (
            "Processor",
            "Memory",
            "StorageAllocation",
        ):  # Hyper-V lists its defaults among the guests' settings
            self.rows[f"Msvm_{kind}SettingData"].append(
                {"InstanceID": f"Microsoft:Definition\\{guid()}\\Default", "VirtualQuantity": 1}
            )
        self.rows["Win32_OperatingSystem"].append(
            {"Caption": "Microsoft Windows Server 2022 Standard", "Version": "10.0.20348", "BuildNumber": "20348",
             "CSName": HOST, "FreePhysicalMemory": 8388608, "TotalVisibleMemorySize": 16777216}
        )  # fmt: skip
        self.rows["Win32_ComputerSystem"].append(
            {"Name": HOST, "DNSHostName": HOST.lower(), "NumberOfProcessors": 1, "NumberOfLogicalProcessors": 8,
             "TotalPhysicalMemory": 17179869184}
        )  # fmt: skip
        self.rows["Win32_Processor"].append(
            {"DeviceID": "CPU0", "Name": "Stand-in(R) CPU  @ 2.40GHz", "Architecture": 9, "NumberOfCores": 4}
        )
        self.rows["Win32_ComputerSystemProduct"].append({"UUID": "4C4C4544-0042-3510-8048-B4C04F564D31"})

    # -- files -------------------------------------------------------------------------------------------------------
    def file(self, path: str, size: int, capacity: int = 0) -> None:
        """A file as Windows lists it: in lower case, whatever it was called."""
        folder, _, name = path.lower().rpartition("\\")
        stem, _, extension = name.rpartition(".")
        self.rows["CIM_DataFile"].append(
            {"Name": f"{folder}\\{name}", "Drive": folder[:2], "Path": f"{folder[2:]}\\", "FileName": stem, "Extension": extension,
             "FileSize": size, "_capacity": capacity}
        )  # fmt: skip

    def file_at(self, path: str) -> Object | None:
        return next((row for row in self.rows["CIM_DataFile"] if row["Name"] == path.lower()), None)

    # -- guests ------------------------------------------------------------------------------------------------------
    def add(self, name: str, vcpus: int = 1, memory: int = 512, *, services: bool = True, generation: int = 2) -> str:
        """A guest that is off; its GUID."""
        key = guid()
        self.rows["Msvm_ComputerSystem"].append(
            {"Caption": "Virtual Machine", "CreationClassName": "Msvm_ComputerSystem", "Name": key, "ElementName": name,
             "EnabledState": OFF, "HealthState": 5, "ProcessID": None, "_services": services, "_since": time.time(),
             "_obeys": True}
        )  # fmt: skip
        self.settings(key, key, name, vcpus, memory, "System:Realized", generation)
        return key

    def define(self, settings: dict[str, Any]) -> None:
        """A guest as `DefineSystem` makes one: processors and memory, in the first generation two IDE controllers, and no more."""
        key, generation = guid(), 2 if settings["VirtualSystemSubType"].endswith(":2") else 1
        top = f"Microsoft:{key}"
        self.rows["Msvm_ComputerSystem"].append(
            {"Caption": "Virtual Machine", "CreationClassName": "Msvm_ComputerSystem", "Name": key,
             "ElementName": settings["ElementName"], "EnabledState": OFF, "HealthState": 5, "ProcessID": None, "_services": True,
             "_since": time.time(), "_obeys": True}
        )  # fmt: skip
        plain = {"AutomaticStartupAction": 3, "AutomaticShutdownAction": 3, "Notes": [], "Version": "10.0"}
        own = {
            "InstanceID": top,
            "VirtualSystemIdentifier": key,
            "VirtualSystemType": "Microsoft:Hyper-V:System:Realized",
        }
        self.rows["Msvm_VirtualSystemSettingData"].append(plain | settings | own)
        self.rows["Msvm_ProcessorSettingData"].append({"InstanceID": f"{top}\\b637\\0", "VirtualQuantity": 1})
        self.rows["Msvm_MemorySettingData"].append(
            {"InstanceID": f"{top}\\4764", "VirtualQuantity": 1024, "Limit": 1048576, "DynamicMemoryEnabled": "false"}
        )
        for number in range(2 if generation == 1 else 0):
            self.rows["Msvm_ResourceAllocationSettingData"].append(
                {"InstanceID": f"{top}\\83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\{number}", "Address": number,
                 "ResourceSubType": "Microsoft:Hyper-V:Emulated IDE Controller"}
            )  # fmt: skip

    def settings(self, key: str, prefix: str, name: str, vcpus: int, memory: int, kind: str, generation: int) -> None:
        """What Hyper-V keeps of a guest, or of a snapshot of one (`prefix` is the snapshot's GUID)."""
        top = f"Microsoft:{prefix}"
        port, scsi = guid(), guid()
        path = f"\\\\{HOST}\\root\\virtualization\\v2:"
        self.rows["Msvm_VirtualSystemSettingData"].append(
            {"InstanceID": top, "ElementName": name, "VirtualSystemIdentifier": key,
             "VirtualSystemType": f"Microsoft:Hyper-V:{kind}", "VirtualSystemSubType": f"Microsoft:Hyper-V:SubType:{generation}",
             "AutomaticStartupAction": 3, "AutomaticShutdownAction": 3, "Notes": ["made by the lab"], "Version": "10.0"}
        )  # fmt: skip
        self.rows["Msvm_ProcessorSettingData"].append(
            {"InstanceID": f"{top}\\b637f346-6a0e-4dec-af52-bd70cb80a21d\\0", "VirtualQuantity": vcpus, "Limit": 100000}
        )
        self.rows["Msvm_MemorySettingData"].append(
            {"InstanceID": f"{top}\\4764334d-e001-4176-82ee-5594ec9b530e", "VirtualQuantity": memory, "Limit": 1048576,
             "Reservation": memory, "AllocationUnits": "byte * 2^20", "DynamicMemoryEnabled": "false"}
        )  # fmt: skip
        controller = f"{top}\\{scsi}\\0"

        def parent(identifier: str, name: str = "Msvm_ResourceAllocationSettingData") -> str:
            escaped = identifier.replace("\\", "\\\\")
            return f'{path}{name}.InstanceID="{escaped}"'

        devices = self.rows["Msvm_ResourceAllocationSettingData"]
        devices.append(
            {
                "InstanceID": controller,
                "ResourceSubType": "Microsoft:Hyper-V:Synthetic SCSI Controller",
                "Address": None,
            }
        )
        for slot, sort in ((0, "Synthetic Disk Drive"), (1, "Synthetic DVD Drive")):
            devices.append(
                {"InstanceID": f"{controller}\\{slot}\\D", "ResourceSubType": f"Microsoft:Hyper-V:{sort}",
                 "Parent": parent(controller), "AddressOnParent": slot}
            )  # fmt: skip
        self.rows["Msvm_StorageAllocationSettingData"].append(
            {"InstanceID": f"{controller}\\0\\L", "ResourceSubType": "Microsoft:Hyper-V:Virtual Hard Disk",
             "Parent": parent(f"{controller}\\0\\D"), "HostResource": [f"C:\\VMs\\{prefix}.vhdx"]}
        )  # fmt: skip
        self.rows["Msvm_SyntheticEthernetPortSettingData"].append(
            {
                "InstanceID": f"{top}\\{port}",
                "ElementName": "Network Adapter",
                "Address": f"00155D{uuid.uuid4().hex[:6].upper()}",
            }
        )
        self.rows["Msvm_EthernetPortAllocationSettingData"].append(
            {"InstanceID": f"{top}\\{port}\\C", "EnabledState": 2,
             "Parent": parent(f"{top}\\{port}", "Msvm_SyntheticEthernetPortSettingData"),
             "HostResource": [f'{path}Msvm_VirtualEthernetSwitch.CreationClassName="Msvm_VirtualEthernetSwitch",Name="{self.switch}"']}
        )  # fmt: skip

    def snapshot(self, key: str) -> None:
        self.settings(key, guid(), "a checkpoint", 7, 7777, "Snapshot:Realized", 2)

    def guests(self) -> list[Object]:
        return [row for row in self.rows["Msvm_ComputerSystem"] if row["Caption"] == "Virtual Machine"]

    def guest(self, key: str) -> Object | None:
        return next((row for row in self.guests() if row["Name"].upper() == key.upper()), None)

    def remove(self, key: str) -> None:
        tops = [
            row["InstanceID"]
            for row in self.rows["Msvm_VirtualSystemSettingData"]
            if row["VirtualSystemIdentifier"] == key
        ]
        for rows in self.rows.values():
            rows[:] = [
                row
                for row in rows
                if row.get("Name") != key and not str(row.get("InstanceID", "")).startswith(tuple(tops))
            ]

    def power(self, row: Object, state: int) -> None:
        if state == RUNNING and row["EnabledState"] not in (RUNNING, self.paused):
            row["_since"] = time.time()
        row["EnabledState"] = state
        row["ProcessID"] = 4000 if state in (RUNNING, self.paused) else None

    # -- what is computed when asked -----------------------------------------------------------------------------------
    def instances(self, name: str) -> list[Object]:
        """All objects of a class."""
        live = [row for row in self.guests() if row["EnabledState"] in (RUNNING, self.paused)]
        if name == "Msvm_VideoHead":
            return [
                {"SystemName": row["Name"], "DeviceID": f"Microsoft:{row['Name']}\\HEAD\\0",
                 "CurrentHorizontalResolution": self.screen[0],
                 "CurrentVerticalResolution": self.screen[1]}
                for row in live
            ]  # fmt: skip
        if name == "Msvm_Memory":  # one for all of it, one for each NUMA node
            return [
                {"SystemName": row["Name"], "NumberOfBlocks": self.number(row["Name"], "Memory") // part}
                for row in live
                for part in (2, 1, 2)
            ]
        if name == "Msvm_ShutdownComponent":
            return [
                {"SystemName": row["Name"], "DeviceID": f"Microsoft:{row['Name']}\\SHUT", "EnabledState": RUNNING,
                 "CreationClassName": name, "SystemCreationClassName": "Msvm_ComputerSystem"}
                for row in live
                if row["_services"]
            ]  # fmt: skip
        if name.startswith("Win32_PerfRawData_"):
            return self.counters(name.removeprefix("Win32_PerfRawData_"), live)
        return self.rows.get(name, [])

    def counters(self, name: str, live: list[Object]) -> list[Object]:
        def seconds(row: Object) -> float:
            return time.time() - row["_since"]

        if name == PERF[0]:
            return [
                {
                    "Name": f"{row['ElementName'].translate(REPLACED)}:Hv VP {number}",
                    "PercentTotalRunTime": int(seconds(row) * 5_000_000),
                }
                for row in live
                for number in range(self.number(row["Name"], "Processor"))
            ]
        if name == PERF[1]:
            return [{"Name": "_Total", "PercentTotalRunTime": int(time.time() * 10_000_000) % 2**60}]
        if name == STORAGE:
            return [
                {"Name": f"C:-VMs-{row['Name']}.vhdx", "ReadBytesPersec": int(seconds(row) * 1_000_000),
                 "WriteBytesPersec": int(seconds(row) * 500_000), "ReadOperationsPerSec": int(seconds(row) * 100),
                 "WriteOperationsPerSec": int(seconds(row) * 50)}
                for row in live
            ]  # fmt: skip
        if name == NIC:
            ports = {
                port["InstanceID"].split("\\")[0].removeprefix("Microsoft:"): port["InstanceID"].split("\\")[1]
                for port in self.rows["Msvm_SyntheticEthernetPortSettingData"]
            }
            return [
                {"Name": f"{row['ElementName']}_Network Adapter_{row['Name']}--{ports[row['Name']]}",
                 "BytesReceivedPersec": int(seconds(row) * 2000), "BytesSentPersec": int(seconds(row) * 1000)}
                for row in live
            ]  # fmt: skip
        return []

    def number(self, key: str, kind: str) -> int:
        rows = self.rows[f"Msvm_{kind}SettingData"]
        return next(row["VirtualQuantity"] for row in rows if row["InstanceID"].startswith(f"Microsoft:{key}"))

    def known(self, name: str) -> bool:
        perf = {f"Win32_PerfRawData_{each}" for each in (*PERF, STORAGE, NIC)}
        empty = {
            "Msvm_EmulatedEthernetPortSettingData",
            "Msvm_GuestNetworkAdapterConfiguration",
            *LIVE_CLASSES,
            *SETTINGS,
        }
        return name not in self.gone_classes and (name in self.rows or name in perf or name in empty)

    # -- jobs ------------------------------------------------------------------------------------------------------------
    def job(self, action) -> Object:
        row = {"InstanceID": guid(), "JobState": 4, "PercentComplete": 0, "ErrorCode": 0, "ErrorDescription": ""}
        self.rows["Msvm_ConcreteJob"].append(row)
        planned, self.next_job = self.next_job, None

        def run() -> None:
            with LOCK:
                if planned is None:
                    action()
                    row.update(JobState=7, PercentComplete=100)
                elif planned != "never":
                    row.update(planned)

        timer = threading.Timer(self.job_seconds, run)
        timer.daemon = True
        timer.start()
        return row


def guid() -> str:
    return str(uuid.uuid4()).upper()
