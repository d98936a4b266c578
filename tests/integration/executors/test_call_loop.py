"""Calls run all at once on one loop, end when they are told to, and a fork gets a loop of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from agentflow.executors.base import Lifeline, StopReason
from agentflow.executors.call_loop import CallLoop, Completed, Stopped, TimedOut, call_loop


@pytest.fixture
def loop() -> Iterator[CallLoop]:
    loop = CallLoop()
    yield loop
    loop.close()


class Gate:
    """A call that says when it is in flight and how it ended, and that may take its time to be cancelled."""

    def __init__(self, cleaning_seconds: float = 0) -> None:
        self.cleaning_seconds = cleaning_seconds
        self.is_in_flight = threading.Event()
        self.is_cleaned = threading.Event()

    async def pass_through(self) -> str:
        self.is_in_flight.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(self.cleaning_seconds)
            self.is_cleaned.set()
        return "passed"


async def _answer() -> str:
    return "answer"


def test_a_call_that_ends_returns_its_value(loop: CallLoop) -> None:
    assert loop.run(_answer, Lifeline(20), 5) == Completed("answer")


def test_what_a_call_raises_is_raised_to_the_thread_that_waits(loop: CallLoop) -> None:
    async def fail() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        loop.run(fail, Lifeline(20), 5)


def test_a_time_out_of_the_call_itself_is_an_error_and_not_the_end_of_its_time(loop: CallLoop) -> None:
    async def give_up() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        loop.run(give_up, Lifeline(20), 5)


def test_the_end_of_its_time_cancels_a_call_and_waits_for_that(loop: CallLoop) -> None:
    gate = Gate(cleaning_seconds=0.1)

    assert loop.run(gate.pass_through, Lifeline(20), 0.1) == TimedOut()
    assert gate.is_cleaned.is_set()


def test_a_library_that_turns_the_cancellation_into_an_error_does_not_hide_how_the_call_ended(loop: CallLoop) -> None:
    gate, lifeline = Gate(), Lifeline(20)

    async def wrapped() -> str:
        try:
            return await gate.pass_through()
        except asyncio.CancelledError:
            raise ConnectionError("aborted") from None

    assert loop.run(wrapped, Lifeline(20), 0.05) == TimedOut()
    with ThreadPoolExecutor(1) as pool:
        gate.is_in_flight.clear()
        end = pool.submit(loop.run, wrapped, lifeline, 60)
        assert gate.is_in_flight.wait(10)
        lifeline.stop(StopReason.CANCELLED)
        assert end.result(10) == Stopped()


def test_a_stop_cancels_a_call_in_flight_and_waits_for_that(loop: CallLoop) -> None:
    gate, lifeline = Gate(cleaning_seconds=0.1), Lifeline(20)
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(loop.run, gate.pass_through, lifeline, 60)
        assert gate.is_in_flight.wait(10)

        lifeline.stop(StopReason.CANCELLED)

        assert end.result(10) == Stopped()
    assert gate.is_cleaned.is_set()


def test_a_call_that_is_stopped_before_it_starts_is_not_made(loop: CallLoop) -> None:
    gate, lifeline = Gate(), Lifeline(20)
    lifeline.stop(StopReason.DRAINED)

    assert loop.run(gate.pass_through, lifeline, 60) == Stopped()
    assert not gate.is_in_flight.is_set()


def test_a_stop_after_the_end_and_after_the_loop_is_closed_does_nothing(loop: CallLoop) -> None:
    lifeline, late = Lifeline(20), Lifeline(20)
    loop.run(_answer, lifeline, 5)
    loop.run(_answer, late, 5)

    lifeline.stop(StopReason.CANCELLED)
    loop.close()
    late.stop(StopReason.CANCELLED)

    assert not loop.is_usable


def test_fifty_calls_are_in_flight_at_once(loop: CallLoop) -> None:
    everybody = threading.Barrier(51)

    async def meet() -> None:
        await asyncio.get_running_loop().run_in_executor(None, everybody.wait, 30)  # it opens for 51 only

    with ThreadPoolExecutor(50) as pool:
        ends = [pool.submit(loop.run, meet, Lifeline(20), 60) for _ in range(50)]
        everybody.wait(30)

        assert [end.result(10) for end in ends] == [Completed(None)] * 50


def test_closing_stops_what_runs_and_refuses_what_comes() -> None:
    loop, gate = CallLoop(), Gate(cleaning_seconds=0.1)
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(loop.run, gate.pass_through, Lifeline(20), 60)
        assert gate.is_in_flight.wait(10)

        loop.close()
        loop.close()

        assert end.result(10) == Stopped()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run(_answer, Lifeline(20), 5)


def test_a_wait_that_is_torn_away_cancels_the_call_behind_it(loop: CallLoop) -> None:
    gate = Gate()

    def tear() -> None:
        assert gate.is_in_flight.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def leave(_signal: int, _frame: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGUSR1, leave)
    try:
        threading.Thread(target=tear).start()
        with pytest.raises(SystemExit):
            loop.run(gate.pass_through, Lifeline(20), 60)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert gate.is_cleaned.wait(10)


def test_a_process_has_one_loop_and_gets_a_new_one_when_it_was_closed() -> None:
    first = call_loop()
    assert call_loop() is first

    first.close()

    assert call_loop() is not first
    assert call_loop().run(_answer, Lifeline(20), 5) == Completed("answer")


def _call_in_child() -> None:
    end = call_loop().run(_answer, Lifeline(20), 20)
    os._exit(0 if end == Completed("answer") else 3)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_while_a_call_is_in_flight_harms_neither_side() -> None:
    gate, lifeline = Gate(), Lifeline(20)
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(call_loop().run, gate.pass_through, lifeline, 60)
        assert gate.is_in_flight.wait(10)

        child = get_context("fork").Process(target=_call_in_child)
        child.start()
        child.join(30)

        assert child.exitcode == 0
        assert call_loop().run(_answer, Lifeline(20), 5) == Completed("answer")
        began = time.monotonic()
        lifeline.stop(StopReason.CANCELLED)
        assert end.result(10) == Stopped()
        assert time.monotonic() - began < 5
