"""The owner's side of the command supervisors: keeps them between commands and speaks to them.

Owns their lives and the wire's other end. A supervisor belongs to the process that started it and never survives a
fork; it serves one command at a time, so there are as many as commands running at once in this process.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from contextlib import suppress

from agentflow.executors.base import Lifeline, StopReason
from agentflow.executors.command import Command, CommandResult, Ended, StartProblem
from agentflow.executors.orphans import end_orphans
from agentflow.executors.scratch import sweep_scratch
from agentflow.executors.supervisor_link import SupervisorLink

_pools: weakref.WeakSet[SupervisorPool] = weakref.WeakSet()


class SupervisorPool:
    """Runs commands, each under a supervisor of this process; safe to use from any thread and across forks."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[SupervisorLink] = []
        self._links: set[SupervisorLink] = set()
        self._is_closed = False
        _pools.add(self)

    def run(self, command: Command, lifeline: Lifeline) -> CommandResult:
        """Run ``command`` until nothing of it is left and return what happened; never raises for the command's sake.

        ``lifeline`` ends it early. If the lease lapses unrenewed the supervisor ends the command by itself and the
        lifeline is stopped with LEASE_LOST. If this call is torn away by an exception (a worker's SystemExit) the
        command is ended behind it, within the kill grace. Raises RuntimeError once the pool is closed.
        """
        if lifeline.stop_reason is not None:
            return CommandResult(Ended.STOPPED, message="it was stopped before it started")
        try:
            link = self._take()
        except OSError as error:
            return CommandResult(
                Ended.NOT_STARTED,
                message=f"no supervisor can be started for it: {error}",
                problem=StartProblem.NO_SUPERVISOR,
                problem_errno=errno.errorcode.get(error.errno or 0),
            )
        try:
            answer = link.run(command, lifeline)
        except BaseException:
            with self._lock:
                self._links.discard(link)
            link.abandon()
            raise
        if answer.is_lapsed:
            lifeline.stop(StopReason.LEASE_LOST)
        self._give_back(link)
        return answer.result

    def close(self) -> None:
        """End the idle supervisors now and the others after their command."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    def forget(self) -> None:
        """After a fork, in the child: let go of the parent's supervisors without touching them."""
        for link in self._links:
            link.let_go()
        self._pid = os.getpid()
        self._lock = threading.Lock()  # another thread of the parent may have held the old one
        self._idle = []
        self._links = set()
        self._is_closed = False

    def _take(self) -> SupervisorLink:
        if self._pid != os.getpid():  # a fork that ran no Python hook
            self.forget()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the supervisor pool is closed")
            is_first = not self._links
            while self._idle:
                link = self._idle.pop()
                if link.is_alive():
                    return link
                self._links.discard(link)
        if is_first:
            end_orphans()  # of a worker that was killed together with its supervisors
            sweep_scratch()
        link = SupervisorLink()
        with self._lock:
            self._links.add(link)
        return link

    def _give_back(self, link: SupervisorLink) -> None:
        with self._lock:
            if not self._is_closed and link.is_alive():
                self._idle.append(link)
                return
            self._links.discard(link)
        link.close()


def _forget_after_fork() -> None:
    for pool in _pools:
        with suppress(OSError):
            pool.forget()


os.register_at_fork(after_in_child=_forget_after_fork)
