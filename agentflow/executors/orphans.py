"""Finds and kills commands whose supervisor is dead: what is left when a supervisor itself was killed.

The kernel then kills a command's main process, but not what that had started. Every command carries the mark of its
supervisor in its environment, and so do its descendants; a mark whose supervisor no longer lives names an orphan.
Owns marks and that search. Linux only; elsewhere it finds nothing.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK_VARIABLE = "AGENTFLOW_SUPERVISOR"
_PROC = Path("/proc")
_ROUNDS = 20
_PATIENCE_SECONDS = 5.0


def mark_of(pid: int) -> str:
    """The mark of the supervisor ``pid``, a child of this process: pid namespace, pid and time of start.

    Empty where the platform cannot tell.
    """
    try:
        return f"{_namespace()}.{pid}.{_start_time(pid)}"
    except OSError:
        return ""


def end_orphans() -> int:
    """Kill every process of this account whose supervisor is dead and return how many there were.

    They are gone on return, unless the kernel holds one for more than five seconds.
    """
    if not hasattr(os, "pidfd_open") or not _PROC.is_dir():
        return 0
    ended = 0
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for _ in range(_ROUNDS):  # one of them may have forked while we looked
        found = sum(_kill(pid, deadline) for pid in _orphans())
        ended += found
        if not found or time.monotonic() > deadline:
            break
    return ended


def _orphans() -> Iterator[int]:
    own = os.geteuid()
    for entry in _PROC.iterdir():
        with suppress(OSError):  # it ended, or is another account's
            if entry.name.isdigit() and entry.stat().st_uid == own and _is_orphan(int(entry.name)):
                yield int(entry.name)


def _is_orphan(pid: int) -> bool:
    for variable in (_PROC / str(pid) / "environ").read_bytes().split(b"\0"):
        name, _, mark = variable.partition(b"=")
        if name == MARK_VARIABLE.encode():
            return _is_of_the_dead(mark.decode(errors="replace"))
    return False


def _is_of_the_dead(mark: str) -> bool:
    namespace, _, rest = mark.partition(".")
    pid, _, started = rest.partition(".")
    if namespace != _namespace() or not pid.isdigit():
        return False  # a pid of another container means nothing here
    try:
        return _start_time(int(pid)) != started
    except (FileNotFoundError, ProcessLookupError):
        return True


def _kill(pid: int, deadline: float) -> bool:
    with suppress(OSError), _process(pid) as process:
        if not _is_orphan(pid):  # the pid was used again before we held the process
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        return True
    return False


@contextmanager
def _process(pid: int) -> Iterator[int]:
    process = os.pidfd_open(pid)
    try:
        yield process
    finally:
        os.close(process)


def _namespace() -> str:
    return str((_PROC / "self" / "ns" / "pid").stat().st_ino)


def _start_time(pid: int) -> str:
    """When a process started, in ticks since boot; raises ProcessLookupError for one that is dead but not reaped."""
    fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        raise ProcessLookupError(pid)
    return fields[19].decode()
