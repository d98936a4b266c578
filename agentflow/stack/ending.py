"""End the stack of a home from another process, and know that nothing of it is left.

Owns who is signalled: the process that keeps the stack, known by the state file or by the lock of its home, never
anything by name. That process ends the rest; what outlives it is found by the tree that was seen before.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentflow.domain.error import AgentflowError, ConfigurationError
from agentflow.embedded import AlreadyRunning, read_state
from agentflow.embedded.lock import HomeLock
from agentflow.embedded.process import wait_for_exit
from agentflow.settings import Settings
from agentflow.stack.processes import ProcessName, process_tree, survivors
from agentflow.stack.supervision import drain_patience

SERVERS_STOP_SECONDS = 25.0
LEAVE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class EndedStack:
    """What was ended: the process that kept the stack, and all that it had started."""

    pid: int
    processes: tuple[ProcessName, ...]
    is_forced: bool


def keeper_of(home: Path) -> int | None:
    """The process that keeps the stack of ``home``, also while it starts or stops; None when there is none.

    ConfigurationError: the home is another account's.
    """
    state = read_state(home)
    if state is not None:
        return state.pid
    lock = HomeLock(home)
    try:
        lock.acquire()
    except AlreadyRunning as running:
        return running.pid
    except PermissionError as error:
        raise ConfigurationError(
            f"{home} belongs to another account. Run this as the account whose stack it is.", path=str(home)
        ) from error
    except OSError:  # there is no such home
        return None
    lock.release()
    return None


def end_stack(settings: Settings) -> EndedStack | None:
    """End the stack of ``settings.home`` and return once all of it is gone; None when there is none.

    Running steps get their grace time. AgentflowError: something of it could not be ended.
    """
    pid = keeper_of(settings.home)
    if pid is None:
        return None
    processes = process_tree(pid)
    is_forced = not _end_keeper(pid, drain_patience(settings) + SERVERS_STOP_SECONDS)
    left = survivors(processes, LEAVE_SECONDS)
    if left:
        names = "; ".join(f"{each.pid} ({each.command[:60]})" for each in left)
        raise AgentflowError(
            f"The stack was asked to end, but these processes are still there: {names}", left=len(left)
        )
    return EndedStack(pid, tuple(processes), is_forced)


def _end_keeper(pid: int, patience_seconds: float) -> bool:
    """Send SIGTERM and wait; SIGKILL after the patience. Whether it went by itself."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        if wait_for_exit(pid, patience_seconds):
            return True
        os.kill(pid, signal.SIGKILL)  # on Linux the kernel then ends its servers and its worker
    return wait_for_exit(pid, LEAVE_SECONDS) and False
