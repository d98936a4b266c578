"""Probes: questions that are answered for within a bound, whatever hangs.

A thread that waits for a server cannot be ended, but who asked need not wait with it. So these questions have threads
of their own, few of a kind: those that hang take none from other requests, and keep no process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

ANSWER_SECONDS = 5.0
LATE = f"within {ANSWER_SECONDS:g} s"
_KEYS_AT_ONCE = 4
T = TypeVar("T")


def database_late(seconds: float) -> str:
    """Return the words for a Postgres that was asked in vain for so long."""
    return f"Postgres does not answer within {seconds:g} s, or this process has no free connection to it"


def deadline() -> float:
    """Return until when a request that came now is answered, by the clock of the event loop."""
    return anyio.current_time() + ANSWER_SECONDS


class Probe:
    """One kind of question; ``at_once`` of them are under way at most, and who comes meanwhile waits his turn."""

    def __init__(self, at_once: int = 1) -> None:
        self._free = asyncio.Semaphore(at_once)

    async def ask(self, question: Callable[[], T], until: float) -> T:
        """Return the answer, or raise what the question raises. TimeoutError: there is none in time."""
        with anyio.fail_after(until - anyio.current_time()):
            await self._free.acquire()
            return await asyncio.wrap_future(self._begin(question))

    def _begin(self, question: Callable[[], T]) -> Future[T]:
        """Ask in a thread, which gives its turn back with its answer, also where nobody waits for that any more.

        RuntimeError where this process can have no thread more; then the turn is given back here.
        """
        loop = asyncio.get_running_loop()
        answer: Future[T] = Future()

        def give_back(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._free.release)

        answer.set_running_or_notify_cancel()
        answer.add_done_callback(give_back)
        try:
            threading.Thread(target=_answer, args=(question, answer), name="probe", daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise
        return answer


@dataclass(frozen=True, slots=True)
class Probes:
    """What a process asks after: who shows a key, and each part by itself."""

    key: Probe = field(default_factory=lambda: Probe(_KEYS_AT_ONCE))
    database: Probe = field(default_factory=Probe)
    content: Probe = field(default_factory=Probe)
    redis: Probe = field(default_factory=Probe)


def _answer(question: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(question())
    except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
        answer.set_exception(error)
