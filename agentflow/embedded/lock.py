"""One owner for a home: an exclusive lock on `HOME/servers.lock`, held for as long as the servers run.

The kernel gives the lock back when the owner ends, however it ends; the file stays and holds the owner's process id.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from weakref import WeakSet

from agentflow.domain.error import ConfigurationError
from agentflow.embedded.process import process_started

_TRIES = 25
_TRY_AGAIN_SECONDS = 0.02


class AlreadyRunning(ConfigurationError):
    """Another process runs the servers of this home; ``pid`` is its id, None when it could not be told."""

    code = "already_running"

    def __init__(self, home: Path, pid: int | None) -> None:
        self.home, self.pid = home, pid
        who = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"The embedded servers of {home} are run by {who}. Use that stack, stop it first, or choose another "
            "AGENTFLOW_HOME.",
            home=str(home),
            pid=pid,
        )


class HomeLock:
    """The lock of one home. Acquiring what this object already holds, and releasing what it does not, do nothing."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock without waiting. AlreadyRunning: another owner holds it."""
        if self._handle is not None:
            return
        handle = os.open(self._home / "servers.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take(handle)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        _HELD.add(self)

    def release(self) -> None:
        """Give the lock back."""
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            self.forget()

    def forget(self) -> None:
        """Close this process's copy of the lock without giving the lock back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _take(self, handle: int) -> None:
        # The loop only spans the moment in which an owner holds the lock and has not written its id yet.
        owner: int | None = None
        for _ in range(_TRIES):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = _living_owner(handle)
            else:
                os.ftruncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
                return
            if owner is not None:
                break
            time.sleep(_TRY_AGAIN_SECONDS)
        raise AlreadyRunning(self._home, owner)


_HELD: WeakSet[HomeLock] = WeakSet()


def _forget_all() -> None:
    """A forked child would otherwise keep its parent's homes locked beyond the parent's life."""
    for lock in tuple(_HELD):
        lock.forget()


os.register_at_fork(after_in_child=_forget_all)


def _living_owner(handle: int) -> int | None:
    noted = os.pread(handle, 32, 0)
    return int(noted) if noted.isdigit() and process_started(int(noted)) is not None else None
