"""The footprint of a worker: all its processes count, also those that have ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agentflow.worker.footprint import Footprint, footprint

BELOW = """import time
held = b"x" * (64 << 20)
while time.process_time() < 0.3: pass
print("done", flush=True)
input()
"""
ABOVE = f"""import subprocess, sys
for number in range(2):
    piped = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", {BELOW!r}], **piped) as child:
        child.stdout.readline()
        print("up", flush=True)
        input()
        child.communicate(b"\\n")
    print("down", flush=True)
    input()
"""


@pytest.fixture
def above() -> Iterator[subprocess.Popen[str]]:
    """A process whose children burn 0.3 s of processor time each and hold 64 MiB, one after the other."""
    with subprocess.Popen(
        [sys.executable, "-c", ABOVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def _next(process: subprocess.Popen[str], word: str) -> Footprint:
    """Wait for the word, measure, and let it go on."""
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline().strip() == word
    found = footprint(process.pid)
    assert found is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return found


def test_children_count_while_they_live_and_their_time_when_they_have_ended(above: subprocess.Popen[str]) -> None:
    seen = [_next(above, word) for word in ("up", "down", "up", "down")]

    times, memory = [each.cpu_seconds for each in seen], [each.resident_bytes for each in seen]
    assert times == sorted(times)
    assert times[0] >= 0.29
    assert times[3] >= 0.58
    assert min(memory[0], memory[2]) > max(memory[1], memory[3]) + (60 << 20)


def test_a_process_that_is_not_there_has_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass

    assert footprint(ended.pid) is None
    assert footprint(os.getpid()) is not None
