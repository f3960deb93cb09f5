"""Stand-ins for OpenVZ 6's vzctl and vzlist: the part of their command lines that libvirt and an operator use.

`vztools.py DIR vzctl ARGUMENTS…`. Containers are real: namespaces, a busybox root, a freezer and a cpuacct cgroup each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

LIST_COLUMNS = "ctid,numproc,status,ip,hostname"


class Failure(Exception):
    """The tool ends with this code, having said this."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Container:
    """One container: its configuration file, its files and, while it runs, its processes."""

    def __init__(self, node: Path, number: str) -> None:
        self.node, self.number = node, number
        self.file = node / "etc-vz/conf" / f"{number}.conf"
        self._pidfile = node / "state" / f"{number}.pid"
        self.groups = [Path("/sys/fs/cgroup", kind, f"openvz-{node.name}", number) for kind in ("freezer", "cpuacct")]

    # -- configuration
    def read(self) -> dict[str, str]:
        """The settings, empty where there is no such container."""
        try:
            text = self.file.read_text()
        except OSError:
            return {}
        return dict(re.findall(r'^\s*([A-Z_]+)="?([^"\n]*)"?', text, re.MULTILINE))

    def write(self, **settings: str) -> None:
        """Change settings, keep the others."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        for name, value in settings.items():
            lines = [line for line in lines if not line.startswith(f"{name}=")] + [f'{name}="{value}"']
        self.file.write_text("\n".join(lines) + "\n")

    @property
    def private(self) -> Path:
        """Its files."""
        text = self.read().get("VE_PRIVATE", f"{self.node}/private/$VEID")
        return Path(text.replace("$VEID", self.number))

    # -- life
    @property
    def pid(self) -> int:
        """Of the process that holds its namespaces, 0 while it is off."""
        try:
            pid = int(self._pidfile.read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, ValueError):
            return 0
        return 0 if state == "Z" else pid

    def processes(self) -> list[int]:
        """Of the container, its init first."""
        pid = self.pid
        try:
            return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def start(self) -> None:
        if not self.file.exists():
            raise Failure(20, "Container config file does not exist")
        if self.pid:
            raise Failure(32, "Container is already running")
        private = self.private
        if not private.is_dir():
            raise Failure(43, f"Container private area {private} does not exist")
        for group in self.groups:
            group.mkdir(parents=True, exist_ok=True)
        name = self.read().get("HOSTNAME") or f"ct{self.number}"
        join = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in self.groups)
        inside = f'hostname "{name}"; ip link set lo up; mount -t proc proc "{private}/proc"; exec chroot "{private}" /sbin/init'
        script = f"{join}; exec unshare -m -p -u -i -n -f --kill-child sh -c '{inside}'"
        with (self.node / "state" / f"{self.number}.log").open("ab") as log:
            process = subprocess.Popen(
                ["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._pidfile.write_text(str(process.pid))
        deadline = time.monotonic() + 5
        while not self.processes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failure(7, "Container start failed")
            time.sleep(0.02)

    def stop(self, *, fast: bool = False) -> None:
        pid = self.pid
        if not pid:
            return
        self.freeze("THAWED")
        for process in self.processes()[:1]:
            os.kill(process, signal.SIGKILL if fast else signal.SIGTERM)
        deadline = time.monotonic() + (1 if fast else 6)
        while self.pid and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.pid:
            os.kill(pid, signal.SIGKILL)
        self._pidfile.unlink(missing_ok=True)

    def freeze(self, state: str) -> None:
        file = self.groups[0] / "freezer.state"
        if not file.exists():
            return
        file.write_text(state)
        deadline = time.monotonic() + 3
        while file.read_text().strip() != state and time.monotonic() < deadline:
            time.sleep(0.02)

    def run(self, command: list[str]) -> int:
        """Run a command inside."""
        processes = self.processes()
        if not processes:
            raise Failure(31, "Container is not running")
        enter = ["nsenter", "-t", str(processes[0]), "-m", "-u", "-i", "-n", "-p", "chroot", str(self.private)]
        join = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in self.groups)
        return subprocess.run(["sh", "-c", f'{join}; exec "$@"', "sh", *enter, *command], check=False).returncode

    def destroy(self) -> None:
        if self.pid:
            raise Failure(31, "Container is currently running. Stop it first.")
        shutil.rmtree(self.private, ignore_errors=True)
        self.file.rename(f"{self.file}.destroyed")
        for group in self.groups:
            with contextlib.suppress(OSError):
                group.rmdir()


class Node:
    """All containers of a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def containers(self) -> list[Container]:
        files = self.directory.glob("etc-vz/conf/*.conf")
        numbers = sorted((file.stem for file in files if file.stem.isdecimal()), key=int)
        return [Container(self.directory, number) for number in numbers]

    def find(self, name: str) -> Container:
        if name.isdecimal():
            return Container(self.directory, name)
        for container in self.containers():
            if container.read().get("NAME") == name:
                return container
        raise Failure(9, f"Bad CT ID {name}")

    def tick(self) -> None:
        """Write /proc/vz/vestat: CPU times of what runs, in ticks, where libvirt looks for them."""
        rows = ["Version: 2.2", "VEID user nice system uptime idle strv uptime used maxlat totlat numsched"]
        for container in self.containers():
            with contextlib.suppress(OSError, ValueError):
                if container.pid:
                    text = (container.groups[1] / "cpuacct.stat").read_text()
                    used = dict(line.split() for line in text.splitlines())
                    rows.append(f"{container.number:>10} {used['user']} 0 {used['system']} 0 0 0 0 0 0 0 0")
        new = self.directory / "proc-vz" / f"vestat.{os.getpid()}"
        new.write_text("\n".join(rows) + "\n")
        new.rename(self.directory / "proc-vz/vestat")

    def stop_all(self, *, destroy: bool = False) -> None:
        for container in self.containers():
            container.stop(fast=True)
            if destroy:
                container.destroy()
            for group in container.groups:
                with contextlib.suppress(OSError):
                    group.rmdir()
        for kind in ("freezer", "cpuacct"):
            with contextlib.suppress(OSError):
                Path("/sys/fs/cgroup", kind, f"openvz-{self.directory.name}").rmdir()


def options(words: list[str]) -> dict[str, str]:
    """`--name value` and `--flag`."""
    found = {}
    for place, word in enumerate(words):
        if word.startswith("--"):
            value = words[place + 1] if place + 1 < len(words) else ""
            found[word] = "" if value.startswith("--") else value
    return found


def create(container: Container, given: dict[str, str]) -> None:
    if container.file.exists():
        raise Failure(44, "Container config exists")
    template = container.node / "template" / (given.get("--ostemplate") or "busybox")
    if not template.is_dir():
        raise Failure(91, f"Error: OS template {template.name} is not found")
    private = container.node / "private" / container.number
    subprocess.run(["cp", "-a", str(template), str(private)], check=True)
    shutil.copy(container.file.parent / "ve-basic.conf-sample", container.file)
    container.write(
        VE_ROOT=f"{container.node}/root/$VEID", VE_PRIVATE=f"{container.node}/private/$VEID", OSTEMPLATE=template.name
    )


def change(container: Container, given: dict[str, str]) -> None:
    """`vzctl set … --save`."""
    settings = {}
    for name, value in given.items():
        if name == "--save" or not value:
            continue
        if name == "--netif_add":
            named = zip(("ifname", "mac", "host_ifname", "host_mac", "bridge"), value.split(","), strict=False)
            text = ",".join(f"{key}={word}" for key, word in named)
            old = container.read().get("NETIF")
            settings["NETIF"] = f"{old};{text}" if old else text
        else:
            settings[name.removeprefix("--").upper()] = value
    container.write(**settings)


def vzctl(node: Node, words: list[str]) -> int:
    words = [word for word in words if word not in ("--quiet", "--verbose")]
    if not words or words[0] in ("--help", "--version"):
        print("vzctl version 4.11.1")
        return 0
    if words[0] == "--tick":
        node.tick()
        return 0
    if words[0] in ("--stop-all", "--clear"):
        node.stop_all(destroy=words[0] == "--clear")
        return 0
    if words[:2] == ["start", "destroy"]:  # what libvirt 9.0 calls for undefine
        words = words[1:]
    if len(words) < 2:
        raise Failure(1, "Container ID is not given")
    verb, container, rest = words[0], node.find(words[1]), words[2:]
    if verb not in ("create", "status") and not container.file.exists():
        raise Failure(20, "Container config file does not exist")
    code = act(container, verb, rest)
    node.tick()
    return code


def act(container: Container, verb: str, rest: list[str]) -> int:
    inside = {
        "exec": ["/bin/sh", "-c", " ".join(rest)],
        "exec2": ["/bin/sh", "-c", " ".join(rest)],
        "enter": ["/bin/sh", "-i"],
    }
    if verb in inside:
        return container.run(inside[verb])
    if verb not in VERBS:
        raise Failure(2, f"Invalid command: {verb}")
    VERBS[verb](container, rest)
    return 0


def checkpoint(container: Container, rest: list[str]) -> None:
    if not container.pid:
        raise Failure(31, "Container is not running")
    container.freeze("THAWED" if "--resume" in rest else "FROZEN")


def restart(container: Container, _rest: list[str]) -> None:
    container.stop()
    container.start()


def status(container: Container, _rest: list[str]) -> None:
    there = "exist" if container.file.exists() else "deleted"
    print(f"CTID {container.number} {there} unmounted {'running' if container.pid else 'down'}")


VERBS: dict[str, Callable[[Container, list[str]], None]] = {
    "create": lambda container, rest: create(container, options(rest)),
    "start": lambda container, _: container.start(),
    "stop": lambda container, rest: container.stop(fast="--fast" in rest),
    "restart": restart,
    "destroy": lambda container, _: container.destroy(),
    "chkpnt": checkpoint,
    "set": lambda container, rest: change(container, options(rest)) if "--save" in rest else None,
    "status": status,
}


def vzlist(node: Node, words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="vzlist")
    parser.add_argument("-a", "--all", action="store_true")
    parser.add_argument("-S", "--stopped", action="store_true")
    parser.add_argument("-H", "--no-header", action="store_true")
    parser.add_argument("-o", "--output", default=LIST_COLUMNS)
    parser.add_argument("wanted", nargs="*")
    asked = parser.parse_args(words)
    containers = node.containers()
    if asked.wanted:
        containers = [one for one in containers if {one.number, one.read().get("NAME")} & set(asked.wanted)]
        if not containers:
            raise Failure(1, "Container(s) not found")
    elif asked.stopped:
        containers = [one for one in containers if not one.pid]
    elif not asked.all:
        containers = [one for one in containers if one.pid]
    if not asked.no_header:
        print(asked.output.upper().replace(",", " "))
    for container in containers:
        print(" ".join(cell(container, column) for column in asked.output.split(",")))
    return 0


def cell(container: Container, column: str) -> str:
    settings = container.read()
    name, _, kind = column.partition(".")
    match name:
        case "vpsid" | "ctid" | "veid":
            return f"{container.number:>10}"
        case "status":
            return "running" if container.pid else "stopped"
        case "hostname" | "name":
            return settings.get(name.upper()) or "-"
        case "ip":
            return settings.get("IP_ADDRESS") or "-"
        case "numproc":
            return str(len(container.processes())) if container.pid else "-"
    barrier, _, limit = settings.get(name.upper(), "0:0").partition(":")
    value = (limit or barrier) if kind == "l" else barrier
    return "9223372036854775807" if value == "unlimited" else value


def main() -> NoReturn:
    node, tool = Node(Path(sys.argv[1])), {"vzctl": vzctl, "vzlist": vzlist}[sys.argv[2]]
    try:
        sys.exit(tool(node, sys.argv[3:]))
    except Failure as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.code)


if __name__ == "__main__":
    main()
