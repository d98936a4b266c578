"""The verbs that follow runs, where no worker is there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from agentflow.settings import Settings
from tests.factories import wait_for
from tests.integration.client.terminal import Terminal
from tests.unit.cli.answers import ask, complain, say

LONG = "agentflow: 1\nname: long\nsteps: [{id: hang, subprocess: {command: [sleep, '60']}}, {id: after, noop: }]\n"


@pytest.fixture
def long(tmp_path: Path, at_home: Settings) -> Path:
    """A plan that takes a minute, in an environment that names the installation."""
    path = tmp_path / "long.yaml"
    path.write_text(LONG)
    return path


def test_a_wait_that_runs_out_has_its_own_code(long: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "run", long, "--detach")

    assert ask(capsys, "wait", "@last", "--timeout", "200ms", code=124)["error"]["code"] == "wait_timeout"
    assert "still running after 0.2 s" in complain(capsys, "wait", "@last", "--timeout", "200ms", code=124)


def test_a_run_that_no_worker_takes_says_so(long: Path, at_home: Settings) -> None:
    terminal = Terminal(at_home, "run", long)
    wait_for(lambda: "No worker has taken a step yet" in terminal.text)

    terminal.process.send_signal(signal.SIGINT)

    assert terminal.end() == 130
