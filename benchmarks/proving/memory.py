"""How much memory the processes of a fleet hold, over time, and whether it grew.

PSS counts a page that several processes share once in all, so that the sum over a worker's processes is what it costs.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from proving.fleet import Fleet, Member
from tests.workers import descendants

SAMPLE_SECONDS = 2.0
_FIRST_QUARTERS = 4


@dataclass(frozen=True)
class Sample:
    """What was held at one moment, in KiB."""

    at: float
    done: int
    pss: Mapping[str, int]
    rss: Mapping[str, int]


class Memory:
    """Takes samples in a thread of its own while the block lasts; ``progress`` tells how much of the work is done."""

    def __init__(self, fleet: Fleet, progress: Callable[[], int]) -> None:
        self._fleet = fleet
        self._progress = progress
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="memory", daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _keep(self) -> None:
        began = time.monotonic()
        while not self._stopping.wait(SAMPLE_SECONDS):
            groups = [group for member in self._fleet.members for group in _groups_of(member)]
            pss = {name: sum(map(_pss, pids)) for name, pids in groups}
            rss = {name: sum(map(_rss, pids)) for name, pids in groups}
            self.samples.append(Sample(time.monotonic() - began, self._progress(), pss, rss))


def quarters(samples: Sequence[Sample], value: Callable[[Sample], float], total: int) -> list[float]:
    """Return the median of a value over each quarter of the work."""
    found: list[list[float]] = [[] for _ in range(_FIRST_QUARTERS)]
    for sample in samples:
        place = min(_FIRST_QUARTERS - 1, _FIRST_QUARTERS * sample.done // total)
        found[place].append(value(sample))
    return [statistics.median(each) if each else 0.0 for each in found]


def _groups_of(member: Member) -> list[tuple[str, list[int]]]:
    """The processes of a member, its dispatcher by itself."""
    if member.pid is None:
        return []
    dispatcher = member.dispatcher()
    others = [pid for pid in descendants(member.pid) if pid not in dispatcher]
    return [(member.name, others), (f"dispatcher of {member.name}", dispatcher)]


def _pss(pid: int) -> int:
    return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def _rss(pid: int) -> int:
    return _field(Path(f"/proc/{pid}/status"), "VmRSS:")


def _field(path: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
