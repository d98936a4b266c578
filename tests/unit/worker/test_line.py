"""The line from a worker to the dispatcher beside it: it never blocks, whatever the other end does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agentflow.worker.beside import Line

TOLD = {"queues": ["commands"], "filling": "x" * 3000}


@pytest.fixture
def reader() -> Iterator[subprocess.Popen[str]]:
    """A process that says what it reads."""
    program = "import sys\nfor line in sys.stdin: print(len(line), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def _heard(reader: subprocess.Popen[str]) -> int:
    assert reader.stdout is not None
    return int(reader.stdout.readline())


def test_a_reader_that_is_frozen_loses_lines_and_gets_the_later_ones_whole(reader: subprocess.Popen[str]) -> None:
    line, length = Line(), len(json.dumps(TOLD)) + 1
    line.attach(reader)
    reader.send_signal(signal.SIGSTOP)
    for _ in range(200):
        line.write(TOLD)
    reader.send_signal(signal.SIGCONT)

    heard = [_heard(reader) for _ in range(10)]
    for _ in range(10):
        line.write(TOLD)
    line.detach()
    assert reader.stdin is not None
    reader.stdin.close()
    assert reader.stdout is not None
    heard += [int(each) for each in reader.stdout]

    assert set(heard[:-1]) == {length}
    assert len(heard) < 200


def test_a_reader_that_ended_is_written_to_in_vain_until_another_is_there(reader: subprocess.Popen[str]) -> None:
    line = Line()
    line.write(TOLD)
    line.attach(reader)
    reader.kill()
    reader.wait()
    for _ in range(3):
        line.write(TOLD)

    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as another:
        line.attach(another)
        line.write(TOLD)
        assert another.stdout is not None
        assert json.loads(another.stdout.readline()) == TOLD
