"""A short chaos: the program that anyone can run, with a seed of its own, for as long as a check may take.

Which faults it makes is written out: each kind of server, worker and message once, and nothing that lasts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "chaos.py"
SECONDS = 22
LONGEST_SECONDS = 280
"""For a machine that has much else to do; less than a minute is usual."""
FAULTS = (
    "worker_killed",
    "worker_wiped",
    "child_killed",
    "worker_frozen",
    "frozen_then_killed",
    "worker_deployed",
    "leader_killed",
    "beat_killed",
    "flushed",
    "clients_cut",
    "redis_emptied",
    "redis_full",
    "messages_late",
    "postgres_crashed",
    "connections_cut",
    "store_gone",
)


@pytest.mark.timeout(LONGEST_SECONDS + 20)
def test_nothing_is_lost_and_nothing_done_twice_while_everything_breaks() -> None:
    size = ["--workers", "2", "--no-models", "--runs-per-minute", "50", "--lease-seconds", "4"]
    pace = ["--seed", "11", "--minutes", str(SECONDS / 60), "--every", "1.5"]
    command = [sys.executable, str(PROGRAM), *size, *pace, "--json", "--faults", *FAULTS]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS)

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["findings"] == []
    assert len(report["checked"]) > 10
    assert len({fault["made"]["kind"] for fault in report["faults"]}) >= len(FAULTS) / 2
    assert report["counts"]["runs"]["completed"] >= 8
