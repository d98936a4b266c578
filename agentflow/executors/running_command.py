"""One command from its start to the proof that nothing of it is left.

Owns its process tree, its captured streams, its deadlines and the way it is ended: SIGTERM to the whole tree, SIGKILL
after the grace, again until nobody is left. Waits for nothing itself: the supervisor's loop calls it.
Standard library only: the command supervisor loads this module without the rest of agentflow.

    running ── main process ends, no one left ────────────────────────────────> over
       │  └─── main process ends, others left ──┐
       └─ timeout, stop, owner gone, lease ─────┴─> ending (TERM ... KILL, KILL) ─> over
"""

from __future__ import annotations

import os
import time

from agentflow.executors.masking import Masker
from agentflow.executors.process_tree import ProcessTree
from agentflow.executors.spawning import NotStartedError, spawn
from agentflow.executors.stream_capture import StreamCapture

# Spelled out, not imported: typing costs the supervisor a tenth of its start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXIT_CODE_TIMED_OUT = 124
_CHUNK_BYTES = 64 * 1024
_LAST_CHUNKS = 64
_FIRST_PAUSE_SECONDS = 0.01
_LAST_PAUSE_SECONDS = 1.0
_PAUSE_SHARE = 10

# Why a command was ended by its supervisor.
TIMEOUT = "timeout"
STOP = "stop"
LAPSE = "lapse"
OWNER_GONE = "owner_gone"
LEFTOVERS = "leftovers"


class RunningCommand:
    """A command that was started as ``order`` says; the order's keys are those of command.Command.

    Raises NotStartedError if it cannot be started; then nothing of it is left open.
    """

    def __init__(self, order: dict[str, Any], *, is_reaper: bool) -> None:
        self.serial: int = order["serial"]
        self.pipes: dict[int, StreamCapture] = {}
        self._grace_seconds: float = order["kill_grace_seconds"]
        self._secrets = [mask.encode("utf-8", "surrogateescape") for mask in order["masks"]]
        self._ending: str | None = None
        self._ending_at = 0.0
        self._signal_again_at = 0.0
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._is_killing = False
        self._started_at = time.monotonic()
        self._timeout_at = self._started_at + order["timeout_seconds"]
        try:
            self._captures = self._open_captures(order)
            self.pid = self._start(order)
        except NotStartedError as error:
            raise error.masked(Masker(self._secrets)) from error
        self._tree = ProcessTree(self.pid, is_exact=is_reaper)
        self.renew(order["lease_seconds"])

    def renew(self, ttl_seconds: float) -> None:
        """The lease holds for ``ttl_seconds`` from now.

        The tree is asked to end before the lease does, so that it can be dead when it does: from then on someone
        else may start the same work. The notice is at most a quarter of the lease, one heartbeat.
        """
        self._lease_ends_at = time.monotonic() + ttl_seconds
        self._lapse_at = self._lease_ends_at - min(self._grace_seconds, ttl_seconds / 4)

    def read(self, pipe: int) -> int | None:
        """Take what the command wrote to ``pipe``: how many bytes, 0 at the pipe's end, None while it is empty."""
        try:
            chunk = os.read(pipe, _CHUNK_BYTES)
        except BlockingIOError:
            return None
        self.pipes[pipe].take(chunk)
        return len(chunk)

    def close_pipe(self, pipe: int) -> None:
        """Forget a pipe that is at its end."""
        del self.pipes[pipe]
        os.close(pipe)

    def end(self, why: str) -> None:
        """Begin to end the whole tree; the first reason stands."""
        if self._ending is None:
            self._ending = why
            self._ending_at = time.monotonic()
            self._signal(self._ending_at)

    def advance(self) -> bool:
        """Do what is due now; True once no process of the command is left."""
        self._tree.reap()
        if self._tree.is_gone():
            return True
        now = time.monotonic()
        if self._ending is None:
            self._end_if_due(now)
        elif now >= self._next_signal_at():
            self._signal(now)
        return False

    def seconds_until_due(self) -> float:
        """How long ``advance`` has nothing to do if nothing happens."""
        due = min(self._timeout_at, self._lapse_at) if self._ending is None else self._next_signal_at()
        return max(0.0, due - time.monotonic())

    def report(self) -> dict[str, Any]:
        """Close the streams and say what happened, in the fields of command.CommandResult."""
        duration_seconds = time.monotonic() - self._started_at
        self._drain()
        stdout, stderr = (capture.close() for capture in self._captures)
        ended, exit_code, signal_number = self._outcome()
        return {
            "ended": ended,
            "why": self._ending,
            "exit_code": exit_code,
            "signal": signal_number,
            "duration_seconds": duration_seconds,
            "stdout": stdout,
            "stderr": stderr,
            "message": self._message(),
        }

    def _open_captures(self, order: dict[str, Any]) -> list[StreamCapture]:
        captures: list[StreamCapture] = []
        for path in (order["stdout"], order["stderr"]):
            try:
                captures.append(StreamCapture(path, order["output_limit_bytes"], self._secrets))
            except OSError as error:
                for capture in captures:
                    capture.close()
                raise NotStartedError(
                    "stream_unwritable", f"its output file {path} cannot be opened: {error.strerror}", error.errno
                ) from error
        return captures

    def _start(self, order: dict[str, Any]) -> int:
        ends = [os.pipe(), os.pipe()]
        try:
            process = spawn(order["argv"], order["env"], order["cwd"], order["stdin"], ends[0][1], ends[1][1])
        except NotStartedError:
            for capture, (reading, _) in zip(self._captures, ends, strict=True):
                capture.close()
                os.close(reading)
            raise
        finally:
            for _, writing in ends:
                os.close(writing)
        process.returncode = 0  # this object reaps, not Popen
        for capture, (reading, _) in zip(self._captures, ends, strict=True):
            os.set_blocking(reading, False)
            self.pipes[reading] = capture
        return process.pid

    def _end_if_due(self, now: float) -> None:
        if self._tree.main_status is not None:
            self.end(LEFTOVERS)
        elif now >= self._timeout_at:
            self.end(TIMEOUT)
        elif now >= self._lapse_at:
            self.end(LAPSE)

    def _signal(self, now: float) -> None:
        # Again and again, for while one looks some fork, change their session or lose their parent.
        if self._is_killing or now >= self._graceful_until():
            self._is_killing = True
            self._tree.kill()
            spent = time.monotonic() - now
            self._pause_seconds = min(max(_PAUSE_SHARE * spent, _FIRST_PAUSE_SECONDS), _LAST_PAUSE_SECONDS)
        else:
            self._tree.terminate()
            self._pause_seconds *= 2
        self._signal_again_at = now + self._pause_seconds

    def _next_signal_at(self) -> float:
        return self._signal_again_at if self._is_killing else min(self._signal_again_at, self._graceful_until())

    def _graceful_until(self) -> float:
        return min(self._ending_at + self._grace_seconds, self._lease_ends_at)

    def _drain(self) -> None:
        # Everyone who wrote is dead; whoever else was handed a pipe's end may hold it open, and is not waited for.
        for pipe in list(self.pipes):
            for _ in range(_LAST_CHUNKS):
                if not self.read(pipe):
                    break
            self.close_pipe(pipe)

    def _outcome(self) -> tuple[str, int | None, int | None]:
        code = os.waitstatus_to_exitcode(self._tree.main_status or 0)
        exit_code, signal_number = (code, None) if code >= 0 else (None, -code)
        if self._ending == TIMEOUT:
            return "timed_out", EXIT_CODE_TIMED_OUT, signal_number
        return ("exited" if self._ending in (None, LEFTOVERS) else "stopped"), exit_code, signal_number

    def _message(self) -> str | None:
        problems = [capture.problem for capture in self._captures if capture.problem]
        if self._ending == TIMEOUT:
            problems.insert(0, f"it ran longer than its {self._timeout_at - self._started_at:g} s and was ended")
        elif self._ending == LAPSE:
            problems.insert(0, "its lease was not renewed in time and it was ended")
        elif self._ending == LEFTOVERS:
            problems.insert(0, "it left processes behind, which were ended")
        return "; ".join(problems) or None
