"""Stand-in for VMware's vmrun: `vmrun.py DIR [-T ws|player] VERB VMX …`. What it starts really runs, in QEMU without KVM.

`list` is answered by quick-list.sh.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


class Failure(Exception):
    """What vmrun says, with exit code 255."""


class Machine:
    """One .vmx and, while it runs, its QEMU."""

    def __init__(self, directory: Path, vmx: str) -> None:
        self.vmx = Path(vmx)
        self._base = directory / "run" / hashlib.sha256(os.path.realpath(vmx).encode()).hexdigest()[:16]

    def _file(self, end: str) -> Path:
        return self._base.with_suffix(end)

    @property
    def pid(self) -> int:
        """Of its QEMU, 0 while it is off."""
        try:
            pid = int(self._file(".pid").read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return 0
        return pid

    def settings(self) -> dict[str, str]:
        found = re.findall(r'^\s*([\w.:]+)\s*=\s*"([^"]*)"', self.vmx.read_text(), re.MULTILINE)
        return {name.lower(): value for name, value in found}

    def start(self) -> None:
        if self.pid:
            raise Failure("The file is already in use")
        settings = self.settings()
        command = ["qemu-system-x86_64", "-accel", "tcg", "-display", "none", "-nic", "none", "-daemonize"]
        command += ["-name", settings.get("displayname", "vm"), "-m", settings.get("memsize", "32")]
        command += ["-qmp", f"unix:{self._file('.qmp')},server=on,wait=off", "-pidfile", str(self._file(".pid"))]
        for name, value in settings.items():
            disk = self.vmx.parent / value
            if name.endswith(".filename") and value.endswith(".vmdk") and disk.exists():
                command += ["-drive", f"file={disk},format=vmdk,if=ide"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"The operation failed: {done.stderr.strip()}")
        self._file(".vmx").write_text(str(self.vmx))
        # libvirt reads the process's number out of this file.
        log = f"vmx| I125: Log for VMware Workstation pid={self.pid} version=17.5.0 build=build-22583795 option=Release"
        (self.vmx.parent / "vmware.log").write_text(f"{time.strftime('%Y-%m-%dT%H:%M:%S')}| {log}\n")

    def stop(self) -> None:
        pid = self._running()
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while self.pid and time.monotonic() < deadline:
            time.sleep(0.02)
        for end in (".pid", ".vmx", ".qmp"):
            self._file(end).unlink(missing_ok=True)

    def ask(self, command: str) -> None:
        """One command of QEMU's monitor."""
        self._running()
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(self._file(".qmp")))
            talk = line.makefile("rw")
            talk.readline()
            for word in ("qmp_capabilities", command):
                talk.write(json.dumps({"execute": word}) + "\n")
                talk.flush()
                while not {"return", "error"} & json.loads(talk.readline()).keys():
                    pass

    def _running(self) -> int:
        pid = self.pid
        if not pid:
            raise Failure(f"The virtual machine is not powered on: {self.vmx}")
        return pid


def running(directory: Path) -> list[Machine]:
    machines = [Machine(directory, file.read_text()) for file in sorted(directory.glob("run/*.vmx"))]
    return [machine for machine in machines if machine.pid]


def main(directory: Path, words: list[str]) -> None:
    if words[:1] == ["-T"]:
        words = words[2:]
    if not words:
        print("vmrun version 1.17.0 build-22583795")
        sys.exit(1)
    verb = words[0]
    if verb == "--stop-all":
        for machine in running(directory):
            machine.stop()
        return
    act(Machine(directory, words[1]), verb)


def act(machine: Machine, verb: str) -> None:
    if not machine.vmx.exists():
        raise Failure(f"Cannot open VM: {machine.vmx}, The virtual machine cannot be found")
    if verb == "start":
        machine.start()
    elif verb in ("stop", "suspend"):
        machine.stop()
    elif verb in ASKS:
        machine.ask(ASKS[verb])
    else:
        raise Failure(f"Unrecognized command: {verb}")


ASKS = {"pause": "stop", "unpause": "cont", "reset": "system_reset"}

if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2:])
    except Failure as failure:
        print(f"Error: {failure}")
        sys.exit(255)
