"""Process trees as /proc shows them: who descends from whom, and whether all of them are gone.

Owns no signals: who ends what is the callers' matter. A process is named by its id and its start, so that an id that
was given to another process in the meantime is not taken for it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentflow.embedded.process import process_arguments, process_started, wait_for_exit


@dataclass(frozen=True, slots=True)
class ProcessName:
    """One process: its id, its start in seconds since boot, and its command line."""

    pid: int
    started: float
    command: str

    def is_running(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return process_started(self.pid) == self.started


def process_tree(root: int) -> list[ProcessName]:
    """The process ``root`` and all that descend from it, parents first; empty when it is gone."""
    children = defaultdict(list)
    for pid, parent in _parents():
        children[parent].append(pid)
    found = [root]
    for pid in found:
        found.extend(children[pid])
    return [name for pid in found if (name := _name(pid)) is not None]


def survivors(processes: Iterable[ProcessName], seconds: float) -> list[ProcessName]:
    """Wait until the processes are gone, at most so long; returns those that are not."""
    deadline = time.monotonic() + seconds
    left = [each for each in processes if each.is_running()]
    for each in left:
        wait_for_exit(each.pid, max(0.0, deadline - time.monotonic()))
    return [each for each in left if each.is_running()]


def _parents() -> Iterator[tuple[int, int]]:
    """Every process with its parent. Not /proc/PID/task/TID/children: kernels may be built without it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):  # it ended in the meantime
                # The name of the command stands in brackets and may hold anything, brackets and spaces too.
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                yield int(entry.name), int(fields[1])


def _name(pid: int) -> ProcessName | None:
    started = process_started(pid)
    if started is None:
        return None
    return ProcessName(pid, started, " ".join(process_arguments(pid)))
