"""The one event loop of a process on which its calls run, and the door to it for the threads that wait for them.

Owns the loop's thread, its life across forks, and how a call ends: completed, stopped or timed out. Who is called, and
what an answer or an error means, is the executors'.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from agentflow.executors.base import Lifeline
from agentflow.telemetry import get_logger

_log = get_logger(__name__)
_T = TypeVar("_T")
_RESOLVERS = 64  # threads for names, which asyncio cannot look up by itself; its own default grows with the cores only


@dataclass(frozen=True, slots=True)
class Completed(Generic[_T]):
    """The call ended by itself and returned ``value``."""

    value: _T


@dataclass(frozen=True, slots=True)
class Stopped:
    """The call was cancelled by its lifeline, or by the end of the loop."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The call was cancelled at the end of its time."""


CallEnd: TypeAlias = Completed[_T] | Stopped | TimedOut


class _Call(Generic[_T]):
    """One call on its way; ``start`` and ``stop`` may be called from anywhere, and ``stop`` at any time."""

    def __init__(self, make_call: Callable[[], Coroutine[Any, Any, _T]], timeout_seconds: float) -> None:
        self.ended: Future[CallEnd[_T]] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._make_call = make_call
        self._timeout_seconds = timeout_seconds
        self._task: asyncio.Task[CallEnd[_T]] | None = None
        self._is_stopped = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.call_soon_threadsafe(self._begin)

    def stop(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed, so the call has ended
                self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._perform())
        self._task.add_done_callback(self._finish)

    def _cancel(self) -> None:
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()

    async def _perform(self) -> CallEnd[_T]:
        bound = asyncio.timeout(self._timeout_seconds)
        try:
            async with bound:
                return Completed(await self._make_call())
        except Exception:  # a library may make anything of the cancellation; what is no timeout goes on to the caller
            if bound.expired():
                return TimedOut()
            raise

    def _finish(self, task: asyncio.Task[CallEnd[_T]]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            self.ended.set_result(task.result())
        elif self._is_stopped:
            self.ended.set_result(Stopped())
        else:
            self.ended.set_exception(error or RuntimeError("the call cancelled itself"))


class CallLoop:
    """Runs calls for the threads of one process, all at once on one loop; safe to use from any thread.

    It must not cross a fork: ask ``call_loop`` for the process's own each time. The loop starts with the first call.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._calls: set[_Call[Any]] = set()
        self._is_closed = False

    @property
    def is_usable(self) -> bool:
        """Whether calls can run on it: it is not closed and belongs to this process."""
        return not self._is_closed and self._pid == os.getpid()

    def run(
        self, make_call: Callable[[], Coroutine[Any, Any, _T]], lifeline: Lifeline, timeout_seconds: float
    ) -> CallEnd[_T]:
        """Run what ``make_call`` returns on the loop, wait for its end and say how it ended.

        ``timeout_seconds`` covers all of it. A stop of ``lifeline`` cancels it at once; in both cases this returns when
        the cancellation is done. What the call raises is raised here. A call must never block the loop. If this wait
        is torn away by an exception (a worker's SystemExit), the call is cancelled behind it. Raises RuntimeError once
        the loop is closed.
        """
        if lifeline.stop_reason is not None:
            return Stopped()
        call = _Call(make_call, timeout_seconds)
        try:
            self._start(call)
            lifeline.on_stop(lambda _reason: call.stop())
            return call.ended.result()
        except BaseException:
            call.stop()
            raise
        finally:
            with self._lock:
                self._calls.discard(call)

    def close(self) -> None:
        """Stop the calls that run, wait for their end and end the loop's thread."""
        with self._lock:
            self._is_closed = True
            calls, loop, thread = list(self._calls), self._loop, self._thread
        if loop is None or thread is None or self._pid != os.getpid():
            return
        for call in calls:
            call.stop()
        for call in calls:
            with suppress(Exception):  # it is raised to the thread that waits for the call
                call.ended.result()
        with suppress(RuntimeError):  # closed before
            loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def _start(self, call: _Call[Any]) -> None:
        with self._lock:
            if not self.is_usable:
                raise RuntimeError("the loop of the calls is closed, or is another process's")
            if self._loop is None:
                self._loop = _new_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="agentflow-calls", daemon=True)
                self._thread.start()
            self._calls.add(call)
            call.start(self._loop)


_lock = threading.Lock()
_current: CallLoop | None = None
_left_behind: list[CallLoop] = []


def call_loop() -> CallLoop:
    """Return the loop of this process; a new one after a fork, or when the last one was closed."""
    global _current
    with _lock:
        if _current is None or not _current.is_usable:
            _current = CallLoop()
        return _current


def _new_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(False)  # whatever the environment says: debugging logs what a call is given
    loop.set_exception_handler(_log_stray_error)
    loop.set_default_executor(ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="agentflow-resolve"))
    return loop


def _log_stray_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Name the class of an error that nobody waits for; its text may quote what a model said."""
    _log.warning("stray_error_seen", error=type(context.get("exception")).__name__)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.run_until_complete(_end_what_is_left(loop))
    loop.close()


async def _end_what_is_left(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()


def _forget_after_fork() -> None:
    """In the child: never touch the parent's loop; closing it here would reach into the parent's selector."""
    global _lock, _current
    _lock = threading.Lock()  # another thread of the parent may have held the old one
    if _current is not None:
        _left_behind.append(_current)
    _current = None


os.register_at_fork(after_in_child=_forget_after_fork)
