"""qemu-img on files that nobody vouches for: bounded in time, memory, CPU and what it may write, and told which format to read.

It is never left to guess the format: a raw disk could claim to be anything, and a guess that follows what it claims opens files.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Final

from core.errors import VmmError
from core.units import GIB, MIB
from operations.actions import Cancelled
from transfers.formats import Found, ImageRefused, check_size
from transfers.places import StagingFull, require_room

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from operations.actions import Context

LOOK_SECONDS: Final = 60
CHECK_SECONDS: Final = 900
CONVERT_CPU_SECONDS: Final = 6 * 3600
MEMORY_BYTES: Final = 2 * GIB
"""Of addresses, most of which it never touches."""
POLL_SECONDS: Final = 0.5
_CHECKED: Final = frozenset({"qcow2", "vdi", "vmdk", "vhdx"})
_PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")


class ToolMissing(VmmError):
    """A program that this server needs is not installed."""

    code = "tool_missing"
    status = 500


def examine(path: Path, found: Found, *, most_bytes: int) -> int:
    """A second look, with qemu-img: how large the disk is, in bytes.

    Raises:
        ImageRefused: It cannot be read as what it is, is damaged or cut off, or leads to another file after all.
    """
    told = json.loads(_run(("info", "--output=json", "-f", found.format, "--", str(path)), seconds=LOOK_SECONDS))
    _refuse_others(told, path)
    virtual_bytes = int(told.get("virtual-size") or 0)
    if told.get("format") != found.format or virtual_bytes <= 0:
        raise ImageRefused("Its header does not say what kind of disk it is.")
    check_size(virtual_bytes, most_bytes)
    if found.format in _CHECKED:
        _check(path, found.format)
    return virtual_bytes


def _refuse_others(told: dict[str, Any], path: Path) -> None:
    """What `formats` should have refused, and what it does not know of."""
    if any(told.get(name) for name in ("backing-filename", "full-backing-filename", "encrypted")):
        raise ImageRefused("It is encrypted, or its content lies in another file.")
    data = (told.get("format-specific") or {}).get("data") or {}
    extents = data.get("extents") or []
    if data.get("data-file") or data.get("encrypt") or any(one.get("filename") != str(path) for one in extents):
        raise ImageRefused("Its content lies in another file.")


def _check(path: Path, format_: str) -> None:
    """Whether its tables lead to what is there: a file that was cut off says so here."""
    arguments = ("check", "--output=json", "-f", format_, "--", str(path))
    # 3: only clusters that nobody uses, which hurt nobody.
    told = json.loads(_run(arguments, seconds=CHECK_SECONDS, good=(0, 2, 3)) or "{}")
    if told.get("corruptions") or told.get("check-errors") or not told:
        raise ImageRefused("It is damaged or cut off: its tables lead nowhere. Send or fetch it again.")


def convert(ctx: Context, source: Path, target: Path, *, source_format: str, target_format: str) -> None:
    """Write `source` anew in another format, with progress.

    Raises:
        Cancelled, ImageRefused, StagingFull: no room beside it.
    """
    measured = json.loads(
        _run(
            ("measure", "--output=json", "-f", source_format, "-O", target_format, "--", str(source)),
            seconds=CHECK_SECONDS,
        )
    )
    # The measure of a raw target is its whole length; what it takes on the disk is what is not zeros.
    needed = int(measured["required"])
    require_room(
        target.parent, min(needed, source.stat().st_blocks * 512 * 2 + 64 * MIB) if target_format == "raw" else needed
    )
    target.unlink(missing_ok=True)
    arguments = ("convert", "-p", "-f", source_format, "-O", target_format, "--", str(source), str(target))
    limits = _limits(CONVERT_CPU_SECONDS, file_bytes=needed + 64 * MIB)
    with subprocess.Popen(  # noqa: S603 - a fixed program, and paths that we made
        [*limits, _program("qemu-img"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd=target.parent,
    ) as process:
        try:
            _follow(ctx, process)
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read(4000) if process.stderr else b""
    if process.returncode:
        raise _failed(said, process.returncode)


def _follow(ctx: Context, process: subprocess.Popen[bytes]) -> None:
    """Read its progress until it closes its output, and look whether somebody cancels."""
    if process.stdout is None:
        raise AssertionError("asked for with PIPE")
    out = process.stdout.fileno()
    while True:
        if select.select([out], [], [], POLL_SECONDS)[0]:
            said = os.read(out, 4096)
            if not said:
                break
            shares = _PERCENT.findall(said)
            if shares:
                ctx.progress(float(shares[-1]) / 100, "Converting")
        if ctx.cancelled():
            raise Cancelled
    process.wait()


_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolMissing(f"This server has no {name}: apt install qemu-utils util-linux")
    return found


def _limits(cpu_seconds: int, *, file_bytes: int) -> list[str]:
    """What stands before the program: it dies with our thread, gains no rights, and gets no more than this."""
    return [
        *(_program("setpriv"), "--pdeathsig", "KILL", "--no-new-privs", "--"),
        *(_program("prlimit"), f"--as={MEMORY_BYTES}", f"--cpu={cpu_seconds}", f"--fsize={file_bytes}"),
        *("--nofile=64", "--core=0", "--"),
    ]


def _run(arguments: Sequence[str], *, seconds: int, good: tuple[int, ...] = (0,)) -> str:
    """What qemu-img says. It may write nothing. Raises ImageRefused."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, and paths that we made
            [*_limits(seconds, file_bytes=0), _program("qemu-img"), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            env=_ENVIRONMENT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ImageRefused(f"It could not be read within {seconds} s.") from None
    if done.returncode not in good:
        raise _failed(done.stderr, done.returncode)
    return done.stdout.decode("utf-8", "replace")


def _failed(said: bytes, code: int) -> ImageRefused | StagingFull:
    if b"No space left" in said:
        return StagingFull("The disk of this server is full. Make room in VMM_DATA_DIR, and try again.")
    line = said.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"it ended with {code}"]
    # Its own words, without our directories.
    words = re.sub(r"'?/[^\s':]*'?", "the file", line[0]).removeprefix("qemu-img: ")
    return ImageRefused(f"qemu-img cannot read it: {words[:300]}.")
