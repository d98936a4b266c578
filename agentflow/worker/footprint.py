"""The footprint of a worker: the processor time and the memory of all its processes, as /proc tells.

The dispatcher process beside it asks, so that the worker itself spends nothing on it. Processor time counts that of
processes that have ended: whoever waited for them has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PARENT, _TIMES, _RESIDENT = 1, slice(11, 15), 21
"""Places in /proc/PID/stat behind the name of the command: own and waited-for times, user and system; pages."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process and all that descend from it have used, and the memory that they hold."""

    cpu_seconds: float
    resident_bytes: int


def footprint(pid: int) -> Footprint | None:
    """Measure a process with its descendants; None where it is not there or the system does not tell."""
    processes = dict(_processes())
    if pid not in processes:
        return None
    below: dict[int, list[int]] = {}
    for each, fields in processes.items():
        below.setdefault(int(fields[_PARENT]), []).append(each)
    found = [pid]
    for each in found:
        found += below.get(each, ())
    ticks = sum(int(time) for each in found for time in processes[each][_TIMES])
    pages = sum(int(processes[each][_RESIDENT]) for each in found)
    return Footprint(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it ended meanwhile, or is hidden from us
            continue
        # The name of the command stands in brackets and may hold anything, brackets and spaces too.
        yield int(entry.name), stat.rpartition(b")")[2].split()
