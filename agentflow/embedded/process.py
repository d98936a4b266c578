"""Who a process id really is, and the end of processes that are not our children.

Owns: the identity of a process (id, start time, arguments) and the bounded end of a server that a former owner left
behind. Linux reads /proc; other platforms ask ps. A zombie counts as gone: what it served, it serves no more.
"""

from __future__ import annotations

import calendar
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from agentflow.domain.error import ServersUnreachable

_HAS_PROC = sys.platform == "linux"
_POLL_SECONDS = 0.02
_START_TOLERANCE_SECONDS = 30.0  # the servers note their start in whole seconds, and a busy machine notes it late

Stages = Sequence[tuple[signal.Signals, float]]


def process_started(pid: int) -> float | None:
    """When a process started, in seconds since boot (Linux) or since the epoch; None when it is gone or a zombie."""
    if not _HAS_PROC:
        return _started_by_ps(pid)
    try:
        # The name of the command stands in brackets and may hold anything, brackets and spaces too.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19]) / os.sysconf("SC_CLK_TCK")


def process_arguments(pid: int) -> list[str]:
    """The argument vector of a process, program first; empty when it is gone. ps gives the arguments as one string."""
    if not _HAS_PROC:
        return [_ps(pid, "comm"), _ps(pid, "command")]
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_server(pid: int, program: str, *, started_at: float, about: Path) -> bool:
    """Whether ``pid`` is that program, started at about that epoch second, with ``about`` among its arguments."""
    started = process_started(pid)
    arguments = process_arguments(pid)
    if started is None or not arguments or Path(arguments[0]).name != program or str(about) not in " ".join(arguments):
        return False
    return abs(_since_epoch(started) - started_at) <= _START_TOLERANCE_SECONDS


def processes_in(directory: Path) -> Iterator[int]:
    """The processes that work in a directory, as far as this account may see them; none where there is no /proc."""
    for entry in Path("/proc").iterdir() if _HAS_PROC else ():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink() == directory:
                yield int(entry.name)


def end_process(pid: int, is_it: Callable[[], bool], stages: Stages) -> None:
    """Signal a process that is not our child until it is gone; ``is_it`` is asked before every signal.

    ServersUnreachable: it outlived the last stage.
    """
    for stage, seconds in stages:
        if not is_it():
            return
        with suppress(ProcessLookupError):
            os.kill(pid, stage)
        if wait_for_exit(pid, seconds):
            return
    raise ServersUnreachable(f"Process {pid}, a server of a former start, does not end. End it by hand.", pid=pid)


def wait_for_exit(pid: int, seconds: float) -> bool:
    """Wait until a process, not necessarily a child, is gone; whether it went in time."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):  # not Linux, or a kernel or sandbox without pidfds
        return _poll_for_exit(pid, seconds)
    try:
        watch = select.poll()
        watch.register(handle, select.POLLIN)
        return bool(watch.poll(seconds * 1000))
    finally:
        os.close(handle)


def _poll_for_exit(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process_started(pid) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)  # without pidfds the end of another's child gives no signal
    return True


def _since_epoch(started: float) -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + started if _HAS_PROC else started


def _started_by_ps(pid: int) -> float | None:
    started, state = _ps(pid, "lstart"), _ps(pid, "state")
    if not started or state.startswith("Z"):
        return None
    return float(calendar.timegm(time.strptime(started, "%a %b %d %H:%M:%S %Y")))


def _ps(pid: int, column: str) -> str:
    command = ["/bin/ps", "-ww", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(
        command, env={"LC_ALL": "C", "TZ": "UTC"}, capture_output=True, text=True, check=False
    ).stdout.strip()
