"""`python -m bench [NAME …]`: the product against raw libvirt and other raw client libraries, in one run on this machine.

Each bench starts servers of its own on free ports and data directories of its own, uses them as any program would (REST with a
token, WebSockets), measures the floor beside it, and takes away what it made. Needs root and this machine's libvirtd, which
it starts where nothing answers.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import libvirt

from bench import cloud, drivers, events, fanout, idle, inventory, pages, start, startup, transfers
from bench.report import Row, load, machine, markdown_table, plain_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESULTS = Path(__file__).parent / "RESULTS.md"
BENCHES: dict[str, Callable[[bool], Iterator[Row]]] = {
    "startup": startup.run,
    "events": events.run,
    "fanout": fanout.run,
    "start": start.run,
    "inventory": inventory.run,
    "pages": pages.run,
    "idle": idle.run,
    "drivers": drivers.run,
    "transfers": transfers.run,
    "cloud": cloud.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer runs and guests: a look, not a result")
    parser.add_argument("--check", action="store_true", help="exit status 1 when an aim is missed")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} beside the benches")
    parser.add_argument("--mib", type=int, default=256, help="transfers: how large the volume is (default: 256)")
    options = parser.parse_args()
    transfers.size_bytes = options.mib << 20
    unknown = [name for name in options.names if name not in BENCHES]
    if unknown:
        parser.error(f"no bench {unknown[0]!r}; there are {', '.join(BENCHES)}")
    rows, broken, loads = measure(options.names or list(BENCHES), quick=options.quick)
    print(f"\n{plain_table(rows)}\n\n{machine()}, libvirt {libvirt_version()}\nload average {loads}")
    if options.write:
        write(rows, loads, quick=options.quick)
    missed = [row for row in rows if row.met is False]
    if missed:
        print(f"{len(missed)} of {sum(row.met is not None for row in rows)} aims missed")
    return 1 if broken or (options.check and missed) else 0


def measure(names: list[str], *, quick: bool) -> tuple[list[Row], list[str], str]:
    """Run them; what was found, which did not run to their end, and how busy the machine was."""
    rows: list[Row] = []
    broken: list[str] = []
    loads = []
    for name in names:
        loads.append(f"{name} {load()}")
        print(f"-- {name} (load average {load()})", flush=True)
        since = time.monotonic()
        try:
            for row in BENCHES[name](quick):
                rows.append(row)
                print(row.line(), flush=True)
        except Exception:  # noqa: BLE001 - the others are still worth having
            traceback.print_exc()
            broken.append(name)
        print(f"-- {name}: {time.monotonic() - since:.0f} s", flush=True)
    return rows, broken, "; ".join(loads)


def libvirt_version() -> str:
    """Of the library that both sides use."""
    number = libvirt.getVersion()
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def write(rows: list[Row], loads: str, *, quick: bool) -> None:
    text = f"""# Measured

Made by `python -m bench{" --quick" if quick else ""} --write`; each figure and its floor are from the same run.
On {machine()}, libvirt {libvirt_version()}. Load average before each bench (1, 5, 15 minutes; others worked on the machine): {loads}.

{markdown_table(rows)}
"""
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
