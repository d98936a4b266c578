"""A command's whole process tree: seeing that it is gone, and ending it. Owns signals and reaping.

Linux makes this exact. The supervisor is the reaper of all its descendants (PR_SET_CHILD_SUBREAPER): whoever loses its
parent, also by a double fork or in a session of its own, becomes a child of the supervisor. So "no child left" proves
"no descendant left". Elsewhere only the command's process group is seen: what leaves it (setsid) escapes.
Work that a command hands to a service (at, docker, systemd-run) is not a descendant and not ended anywhere.
Standard library only: the command supervisor loads this module without the rest of agentflow.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_IS_LINUX = sys.platform == "linux"
_prctl = ctypes.CDLL(None, use_errno=True).prctl if _IS_LINUX else None


def become_reaper() -> bool:
    """Make this process the reaper of its descendants; False where the platform knows no such thing."""
    return _prctl is not None and _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends; for the child, between fork and exec.

    The kernel ties this to the parent's *thread* that forked, so only the single-threaded supervisor may use it.
    """
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent_pid:  # it ended before the kernel was told
        os._exit(1)


class ProcessTree:
    """The tree under one command, whose main process leads a session and a group of its own.

    With ``is_exact`` the caller is the reaper of all descendants and has no children besides this tree.
    """

    def __init__(self, main_pid: int, *, is_exact: bool) -> None:
        self._main_pid = main_pid
        self._is_exact = is_exact
        self._has_children = True
        self._asked: set[int] = set()
        self.main_status: int | None = None
        """The wait status of the main process, once it has ended."""

    def reap(self) -> None:
        """Collect every child that has ended."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._main_pid:
                    self.main_status = status
        except ChildProcessError:
            self._has_children = False

    def is_gone(self) -> bool:
        """Whether no process of the tree is left, as of the last ``reap``."""
        if self._has_children or self._is_exact:
            return not self._has_children
        try:
            os.killpg(self._main_pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # members of another account: they live
            return False
        return False

    def terminate(self) -> None:
        """Ask every process group of the tree that was not asked before to end; call again, new ones may appear.

        Stopped processes are woken, or they could not hear it. Who was asked is left alone: it may be cleaning up.
        """
        new = self._groups() - self._asked
        self._signal(new, signal.SIGTERM, signal.SIGCONT)
        self._asked |= new

    def kill(self) -> None:
        """Kill every process of the tree that can be seen now; call again until ``is_gone``."""
        self._signal(self._groups(), signal.SIGKILL)

    def _groups(self) -> set[int]:
        return _groups_below(os.getpid()) if self._is_exact else {self._main_pid}

    def _signal(self, groups: set[int], *signals: signal.Signals) -> None:
        # By group: the kernel signals a group in one step, so its members cannot fork out of the way.
        for group in groups:
            for number in signals:
                # Gone since we looked, or another account's (a setuid program).
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, number)


def _groups_below(root: int) -> set[int]:
    """The process groups of all descendants of ``root``; all lie in sessions that these descendants opened."""
    children: dict[int, list[tuple[int, int]]] = {}
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit() and (found := _parent_and_group(entry.name)) is not None:
                parent, group = found
                children.setdefault(parent, []).append((int(entry.name), group))
    groups: set[int] = set()
    pending = [root]
    while pending:
        for pid, group in children.pop(pending.pop(), ()):
            pending.append(pid)
            groups.add(group)
    return groups - {0, os.getpgid(root)}


def _parent_and_group(pid: str) -> tuple[int, int] | None:
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(file, 4096).rpartition(b")")[2].split()
        finally:
            os.close(file)
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return None
    return int(fields[1]), int(fields[2])
