"""Probes: who asks is answered in time, and what hangs takes no more threads than it may."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import anyio
import pytest

from agentflow.api.probe import Probe, deadline


def _now() -> float:
    return anyio.current_time()


def test_what_a_question_answers_or_raises_is_handed_on() -> None:
    def fail() -> str:
        raise LookupError("no")

    async def ask() -> str:
        probe = Probe()
        with pytest.raises(LookupError):
            await probe.ask(fail, deadline())
        return await probe.ask(lambda: "yes", deadline())

    assert asyncio.run(ask()) == "yes"


def test_a_question_that_hangs_is_asked_by_one_thread_until_it_is_answered() -> None:
    asked: list[str] = []
    may_answer, has_begun = threading.Event(), threading.Event()

    def hang(name: str) -> str:
        asked.append(name)
        has_begun.set()
        may_answer.wait(30)
        return name

    async def ask() -> str:
        probe = Probe()
        first = asyncio.create_task(probe.ask(partial(hang, "first"), _now() + 0.2))
        assert await asyncio.to_thread(has_begun.wait, 30)
        for name in ("second", "third"):
            with pytest.raises(TimeoutError):
                await probe.ask(partial(hang, name), _now())
        with pytest.raises(TimeoutError):
            await first
        may_answer.set()
        return await probe.ask(partial(hang, "last"), deadline() + 25)

    assert asyncio.run(ask()) == "last"
    assert asked == ["first", "last"]


def test_a_turn_for_which_there_is_no_thread_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> str:
        probe = Probe()
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", fail)
            with pytest.raises(RuntimeError):
                await probe.ask(lambda: "never", deadline())
        return await probe.ask(lambda: "yes", deadline())

    assert asyncio.run(ask()) == "yes"
