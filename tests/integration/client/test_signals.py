"""`signal` by the client and by the command line, and how waits and signals are shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agentflow import AgentFlow, Plan, Run, errors
from agentflow.cli.main import main
from agentflow.settings import Settings
from tests.unit.cli.answers import ask, complain, say


@pytest.fixture(autouse=True)
def _home(at_home: Settings) -> None:
    """The command line works on the test's installation."""


@pytest.fixture
def run(flow: AgentFlow) -> Run:
    """A run that waits for two signals, one after the other, and for nothing else."""
    plan = Plan("release")
    first = plan.wait("first", event="built")
    plan.wait("second", event="deployed", event_timeout="2h", needs=[first])
    return flow.submit(plan)


def test_a_signal_of_the_client_ends_a_wait_and_its_data_is_the_result(run: Run) -> None:
    assert run.signal("built", {"version": "1.2"}).step == "first"
    assert run.signal("deployed").step == "second"

    assert run.state == "completed"
    assert run.step("first").result == {"version": "1.2"}


def test_a_signal_of_the_command_line_is_told_and_kept_until_it_is_wanted(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    short = run.id[:8]

    assert "is kept for the first that will" in say(capsys, "signal", run.id, "deployed", "--data", '"early"')
    shown = say(capsys, "show", run.id)
    assert "signals that no step has taken" in shown
    assert "deployed by tester@test" in shown
    assert "waits for the signal built" in shown
    assert f"agentflow signal {short} built" in shown
    assert ask(capsys, "show", run.id)["signals"][0]["has_data"] is True

    answer = ask(capsys, "signal", short, "built", "--data", "[1]")
    assert (answer["signal"], answer["step"], answer["state"]) == ("built", "first", "completed")
    assert "signals" not in ask(capsys, "show", run.id)
    assert run.refresh().step("second").result == "early"


def test_the_time_that_is_left_is_told(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.signal("built")

    shown = " ".join(say(capsys, "show", run.id).split())
    assert re.search(r"waits for the signal deployed, for at most (2 h|1 h 59 m)", shown)
    assert "agentflow signal" in say(capsys, "why", run.id, "second")


def test_data_comes_from_a_file(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"from": "file"}))

    say(capsys, "signal", run.id, "built", "--data", f"@{path}")

    assert run.refresh().step("first").result == {"from": "file"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("deployed", "--data is no JSON at line 1, column 1"),
        ("@/nonexistent", "cannot be read"),
        ("NaN", "must be JSON that can be stored"),
        ('["\\ud800"]', "half a surrogate pair"),
        ('{"a\\u0000": 1}', "NUL"),
        ("9" * 5000, "--data is no JSON"),
        ("[" * 500 + "]" * 500, "deep"),
        (json.dumps("x" * 70_000), "at most 65,536 bytes"),
    ],
)
def test_data_that_cannot_be_kept_is_refused_and_nothing_is_written(
    run: Run, data: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in complain(capsys, "signal", run.id, "built", "--data", data, code=2)
    assert run.refresh().step("first").state == "held"


def test_a_large_file_and_one_that_is_no_text_are_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large, binary = tmp_path / "large.json", tmp_path / "binary.json"
    large.write_text(json.dumps("x" * 70_000))
    binary.write_bytes(b"\xff\xfe")

    assert "has more than 65,536 bytes" in complain(capsys, "signal", run.id, "built", "--data", f"@{large}", code=2)
    assert "is no UTF-8 text" in complain(capsys, "signal", run.id, "built", "--data", f"@{binary}", code=2)


def test_a_run_that_has_ended_takes_no_signal(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.cancel()

    with pytest.raises(errors.InvalidTransition):
        run.signal("built")
    assert main(["signal", run.id, "built"]) == 2
    assert "takes no signal" in capsys.readouterr().err


def test_a_name_that_can_be_none_is_refused_before_anything_is_asked(run: Run) -> None:
    with pytest.raises(errors.UsageError):
        run.signal("two words")


def test_a_fork_takes_over_a_wait_that_has_ended_with_what_its_signal_brought(flow: AgentFlow) -> None:
    plan = Plan("forked")
    first = plan.wait("first", event="built")
    plan.wait("second", event="deployed", needs=[first])
    run = flow.submit(plan)
    run.signal("built", {"version": "1.2"})

    fork = run.fork("second")

    assert fork.step("first").result == {"version": "1.2"}
    assert fork.step("second").state == "held"
    assert fork.signal("deployed").step == "second"
    assert fork.state == "completed"
