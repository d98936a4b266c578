"""A message of a pool child that was begun before the event loop started afresh is read to its end."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.pool import ACK
from kombu.asynchronous.hub import Hub

from agentflow.worker.whole_results import WholeResults

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Two ends of a pipe of which the one that reads does not wait."""
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        os.close(end)


def _message(number: int) -> bytes:
    body = pickle.dumps((ACK, (number, None, 1.0, 1, 0)))
    return struct.pack(">i", len(body)) + body


class _Results:
    """A handler on a loop of its own, and what it heard."""

    def __init__(self, children: dict[int, Any]) -> None:
        self.hub, self.heard = Hub(), list[int]()
        self.handler = WholeResults(
            None, None, {}, None, None, None, None, None, None, fileno_to_outq=children, on_process_alive=None
        )
        self.handler.on_state_change = lambda told: self.heard.append(told[1][0])
        self.children = children
        self.begin()

    def begin(self) -> None:
        """Start the loop, or start it afresh, as a worker does whose connection was lost."""
        self.hub.reset()
        self.handler.register_with_event_loop(self.hub)
        for fd in self.children:
            self.hub.add_reader(fd, self.handler.handle_event, fd)
        self._loop = self.hub.create_loop()

    def close(self) -> None:
        self.hub.close()

    def turn(self) -> None:
        """Let the loop look once, which finds something."""
        next(self._loop)


@pytest.fixture
def results(pipe: Pipe) -> Iterator[_Results]:
    """What reads one child's end of the pipe."""
    made = _Results({pipe[0]: SimpleNamespace()})
    yield made
    made.close()


@pytest.mark.parametrize("cut", [2, 4, 9])
def test_the_rest_of_a_begun_message_is_read_after_the_loop_started_afresh(
    pipe: Pipe, results: _Results, cut: int
) -> None:
    _, writer = pipe
    first, second = _message(1), _message(2)
    os.write(writer, first[:cut])
    results.turn()

    results.begin()
    os.write(writer, first[cut:])
    results.turn()
    os.write(writer, second)
    results.turn()

    assert results.heard == [1, 2]


def test_a_begun_message_is_finished_when_the_pool_stops_while_no_loop_turns(pipe: Pipe, results: _Results) -> None:
    reader, writer = pipe
    child = results.children[reader]
    child.outq = SimpleNamespace(_reader=None)  # asked only where the child has not written all yet
    os.write(writer, _message(1)[:6])
    results.turn()

    results.hub.reset()  # as where a connection is lost; the stop comes while there is none yet
    os.write(writer, _message(1)[6:])

    assert not results.handler._finish_partial_read(reader, child)
    assert results.heard == [1]
    assert not results.handler._finish_partial_read(reader, child), "nothing is begun any more"


def test_what_another_child_writes_is_no_rest_of_a_message(pipe: Pipe, results: _Results) -> None:
    reader, writer = pipe
    os.write(writer, _message(1)[:6])
    results.turn()

    results.children[reader] = SimpleNamespace()
    results.begin()
    os.write(writer, _message(2))
    results.turn()

    assert results.heard == [2]
