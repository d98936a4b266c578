"""Calls in flight: many at once, ended when they are told to, honest about what had left, and harmless across forks."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from agentflow.executors.base import Lifeline, StopReason
from agentflow.executors.command import Ended
from tests.integration.executors.model_calls import Caller, record_of
from tests.model_stub import ModelStub, Reply


@pytest.fixture
def stub() -> Iterator[ModelStub]:
    with ModelStub() as stub:
        yield stub


@pytest.fixture
def caller(tmp_path: Path, stub: ModelStub) -> Iterator[Caller]:
    caller = Caller(tmp_path, stub)
    yield caller
    caller.executor.close()


@contextmanager
def _full_port() -> Iterator[int]:
    """A port where nobody takes a connection: its queue of waiting ones is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(server.getsockname())
        try:
            yield int(server.getsockname()[1])
        finally:
            for each in waiting:
                each.close()


def test_fifty_calls_are_all_in_flight_at_once(caller: Caller, stub: ModelStub) -> None:
    caller.perform("ok")  # the libraries are loaded
    stub.replies["slow"] = Reply(delay_seconds=3)  # a busy machine may need a second of it to send them all
    assignments = [caller.assignment("slow") for _ in range(50)]

    with ThreadPoolExecutor(50) as pool:
        calls = [record_of(each.result()) for each in [caller.start(pool, a, Lifeline(20)) for a in assignments]]

    assert [call.problem for call in calls] == [None] * 50
    assert stub.most_in_flight == 50


@pytest.mark.parametrize("provider", ["stub", "stub-anthropic"])
def test_a_cancelled_call_ends_at_once_and_the_server_sees_it_go(
    caller: Caller, stub: ModelStub, provider: str
) -> None:
    lifeline = Lifeline(20)
    with ThreadPoolExecutor(1) as pool:
        ending = caller.start(pool, caller.assignment(f"{provider}:hanging"), lifeline)
        (arrival,) = stub.wait_for_arrivals(1)

        began = time.monotonic()
        lifeline.stop(StopReason.CANCELLED)
        performance = ending.result(10)
        seconds = time.monotonic() - began

    assert seconds < 1
    assert arrival.is_abandoned.wait(1)
    call = record_of(performance)
    assert (performance.ended, call.was_sent, call.problem) == (Ended.STOPPED, True, None)
    assert call.usage is not None, "it may have been paid for"
    assert call.usage.is_estimated


@pytest.mark.parametrize("model", ["hanging", "one-second", "stub-anthropic:hanging"])
def test_the_timeout_covers_a_server_that_takes_the_request_and_does_not_answer(
    caller: Caller, stub: ModelStub, model: str
) -> None:
    caller.perform("ok")
    caller.perform("stub-anthropic:ok")

    performance = caller.perform(model, timeout_seconds=0.4)

    call = record_of(performance)
    assert (performance.ended, call.was_sent, call.problem) == (Ended.TIMED_OUT, True, None)
    assert 0.4 <= performance.duration_seconds < 2
    assert stub.arrivals[-1].is_abandoned.wait(1)


def test_the_timeout_covers_a_server_that_takes_no_connection(tmp_path: Path, stub: ModelStub) -> None:
    with _full_port() as port:
        full = {"id": "full", "provider": "openai-compatible", "config": {"base_url": f"http://127.0.0.1:{port}/v1"}}
        caller = Caller(tmp_path, stub, full)
        caller.perform("ok")

        performance = caller.perform("full:ok", timeout_seconds=0.4)

        call = record_of(performance)
        assert (performance.ended, call.was_sent) == (Ended.TIMED_OUT, False)
        assert performance.duration_seconds == 0
        assert call.duration_seconds >= 0.4
        caller.executor.close()


def test_a_call_that_is_stopped_while_it_connects_was_not_sent(tmp_path: Path, stub: ModelStub) -> None:
    with _full_port() as port, ThreadPoolExecutor(1) as pool:
        full = {"id": "full", "provider": "openai-compatible", "config": {"base_url": f"http://127.0.0.1:{port}/v1"}}
        caller, lifeline = Caller(tmp_path, stub, full), Lifeline(20)
        ending = caller.start(pool, caller.assignment("full:ok"), lifeline)
        while not _connecting_to(port) and not ending.done():
            time.sleep(0.01)

        lifeline.stop(StopReason.DRAINED)

        performance = ending.result(10)
        assert (performance.ended, record_of(performance).was_sent) == (Ended.STOPPED, False)
        assert performance.duration_seconds == 0, "its work had not begun"
        caller.executor.close()


def _connecting_to(port: int) -> int:
    """How many connections of this machine wait to be taken there, beside those that filled its queue."""
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    waiting = [row for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "02"]
    return max(0, len(waiting) - 3)


def test_a_call_that_is_stopped_before_it_begins_sends_nothing(caller: Caller, stub: ModelStub) -> None:
    lifeline = Lifeline(20)
    lifeline.stop(StopReason.DRAINED)

    performance = caller.executor.perform(caller.assignment("ok"), lifeline)

    assert (performance.ended, record_of(performance).was_sent) == (Ended.STOPPED, False)
    assert stub.arrivals == []


def test_closing_the_executor_closes_its_idle_connections(caller: Caller, stub: ModelStub) -> None:
    caller.perform("ok")
    assert stub.connections == 1

    caller.executor.close()

    assert stub.wait_for_connections(0)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_with_a_call_in_flight_makes_its_own_calls_and_harms_none(caller: Caller, stub: ModelStub) -> None:
    lifeline = Lifeline(20)
    caller.perform("ok")  # leaves an idle connection, which a child must not use
    with ThreadPoolExecutor(1) as pool:
        ending = caller.start(pool, caller.assignment("one-second"), lifeline)
        stub.wait_for_arrivals(2)
        assignment = caller.assignment("ok")

        def call_in_child() -> None:
            call = record_of(caller.executor.perform(assignment, Lifeline(20)))
            os._exit(0 if call.problem is None else 3)

        child = get_context("fork").Process(target=call_in_child)
        child.start()
        child.join(30)

        assert child.exitcode == 0
        assert record_of(ending.result(10)).problem is None
    assert caller.call("ok").problem is None
    assert {arrival.is_answered.is_set() for arrival in stub.wait_until_idle()} == {True}


def test_threads_that_call_at_the_same_first_moment_share_one_model(caller: Caller, stub: ModelStub) -> None:
    together = threading.Barrier(8)

    def call() -> str | None:
        assignment = caller.assignment("ok")
        together.wait(10)
        return record_of(caller.executor.perform(assignment, Lifeline(20))).problem

    with ThreadPoolExecutor(8) as pool:
        assert [each.result() for each in [pool.submit(call) for _ in range(8)]] == [None] * 8
    assert len(stub.arrivals) == 8
