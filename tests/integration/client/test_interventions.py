"""`override`, `modify`, `guide` and `abort`, by the client and by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentflow import AgentFlow, Plan, Run, errors
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.integration.client.conftest import Finish
from tests.unit.cli.answers import ask, complain, say


@pytest.fixture(autouse=True)
def _home(at_home: Settings) -> None:
    """The command line works on the test's installation."""


def _run(flow: AgentFlow) -> Run:
    plan = Plan("steered", budget={"steps": 5})
    first = plan.noop("first")
    plan.noop("second", needs=[first])
    plan.llm("ask", model="stub:ok", prompt="Go.", max_tokens=5, price={"input": 1, "output": 1}, needs=["second"])
    return flow.submit(plan)


def test_the_command_line_overrides_a_step(flow: AgentFlow, capsys: pytest.CaptureFixture[str]) -> None:
    run = _run(flow)

    told = ask(capsys, "override", run.id, "first", "--succeed", "--result", '{"n": 1}', "--why", "done by hand")
    said = say(capsys, "override", run.id, "second", "--skip", "--why", "not needed")

    assert told["answer"] == {"from": "ready", "to": "succeeded", "ready": ["second"]}
    assert "Step second is skipped, ready before." in said
    steps = run.refresh().steps
    assert (steps["first"].result, steps["ask"].state) == ({"n": 1}, "skipped")
    assert "set by tester@test: not needed" in say(capsys, "show", run.id)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--skip", "--succeed"), "one of"),
        ((), "one of"),
        (("--skip", "--result", "1"), "succeeds"),
        (("--succeed", "--result", "{broken"), "no JSON"),
        (("--succeed", "--result", '["\\ud800"]'), "half a surrogate pair"),
        (("--succeed", "--result", "[" * 500 + "]" * 500), "deep"),
        (("--succeed", "--result", "@/nowhere/x"), "cannot be read"),
        (("--choose", "left"), "no decision"),
    ],
)
def test_an_override_that_cannot_be_meant_says_why(
    flow: AgentFlow, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    run = _run(flow)

    assert words in complain(capsys, "override", run.id, "first", *options, "--why", "so", code=2)
    assert run.refresh().steps["first"].state == "ready"


def test_what_changes_an_outcome_says_why(flow: AgentFlow, capsys: pytest.CaptureFixture[str]) -> None:
    run = _run(flow)

    assert "--why" in complain(capsys, "override", run.id, "first", "--skip", code=2)
    with pytest.raises(errors.UsageError, match="why"):
        run.override("first", skip=True, why="")
    with pytest.raises(errors.UsageError, match="why"):
        run.abort(why="two\nlines")


def test_the_command_line_modifies_a_run_and_a_step(flow: AgentFlow, capsys: pytest.CaptureFixture[str]) -> None:
    run = _run(flow)
    why = ("--why", "the night is short")

    of_run = ask(capsys, "modify", run.id, "--budget", "steps=+3", "--priority", "4", *why)
    of_step = say(capsys, "modify", run.id, "second", "--timeout", "90s", *why)
    again = ask(capsys, "modify", run.id, "second", "--timeout", "90s", *why)

    assert of_run["answer"]["changes"] == [
        {"what": "steps", "before": 5, "after": 8},
        {"what": "priority", "before": 0, "after": 4},
    ]
    assert "Step second has a timeout of 1 m 30 s now, a timeout of 30 m 00 s before." in of_step
    assert again["answer"]["changes"] == []
    for wrong, words in (
        (("--budget", "steps=-3"), "only be raised"),
        (("--budget", "steps=3"), "has no +"),
        (("--budget", "bytes=+3"), "KIND=+N"),
        (("--timeout", "90"), "timeout: "),
        (("--priority", "12"), "0 to 9"),
    ):
        step = ("second",) if wrong[0] == "--timeout" else ()
        assert words in complain(capsys, "modify", run.id, *step, *wrong, *why, code=2)


def test_the_command_line_guides_the_next_call_and_prints_nothing_of_it(
    flow: AgentFlow, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = _run(flow)
    said = tmp_path / "said.txt"
    said.write_text("sentinel from a file")

    by_file = ask(capsys, "guide", run.id, f"@{said}", "--step", "ask")
    by_word = say(capsys, "guide", run.id, "sentinel from the line")

    assert by_file["answer"]["bytes"] == len("sentinel from a file")
    assert "sentinel" not in f"{by_file}{by_word}{[event.as_json() for event in run.events()]}"
    assert "22 bytes" in by_word
    assert "never calls" in complain(capsys, "guide", run.id, "x", "--step", "first", code=2)


def test_an_aborted_run_rests_and_keeps_why(
    flow: AgentFlow, house: Runtime, finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(flow)

    told = ask(capsys, "abort", run.id, "--why", "wrong data")

    assert (told["state"], told["answer"]) == ("paused", {"is_new": True, "running": 0})
    assert run.refresh().reason is not None
    assert "wrong data" in say(capsys, "show", run.id)
    run.resume()
    run.override("ask", skip=True, why="no model here")
    assert finish(run).state == "completed"
