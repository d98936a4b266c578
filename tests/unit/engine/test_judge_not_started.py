"""A command that could not be started is explained with the plan's words, never with rendered values."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.domain.action import SubprocessAction
from agentflow.domain.ids import StepKey
from agentflow.domain.outcome import Failed
from agentflow.domain.plan import Step
from agentflow.engine.judge import judge
from agentflow.executors.base import Performance
from agentflow.executors.command import Ended, StartProblem

SENTINEL = "SENTINEL-4711"


def _judged(problem: StartProblem, errno_name: str | None = None, **action: Any) -> str:
    step = Step.model_construct(id=StepKey("bad"), action=SubprocessAction(**action))
    performance = Performance(
        Ended.NOT_STARTED, message=f"the program {SENTINEL!r} in /tmp/x", problem=problem, problem_errno=errno_name
    )
    outcome = judge(step, performance, None)
    assert isinstance(outcome, Failed)
    return outcome.reason.sentence


@pytest.mark.parametrize("problem", list(StartProblem))
def test_every_problem_is_told_by_its_code_and_without_rendered_values(problem: StartProblem) -> None:
    said = _judged(problem, command=("{{ steps.a.stdout }}",), cwd="{{ secrets.X }}")

    assert said.startswith("could not be started: ")
    assert said.endswith(f"({problem.value})")
    assert SENTINEL not in said
    assert "/tmp" not in said


def test_the_template_of_the_program_and_of_the_cwd_are_shown() -> None:
    assert "'{{ steps.a.stdout }}'" in _judged(StartProblem.PROGRAM_NOT_FOUND, command=("{{ steps.a.stdout }}", "b"))
    for_shell: dict[str, Any] = {"command": "echo", "shell": True}
    assert "'/bin/sh'" in _judged(StartProblem.PROGRAM_NOT_FOUND, **for_shell)
    assert "'{{ vars.d }}'" in _judged(StartProblem.CWD_MISSING, command=("a",), cwd="{{ vars.d }}")


def test_the_systems_error_is_named_and_a_long_template_is_cut() -> None:
    said = _judged(StartProblem.SYSTEM_ERROR, "ENAMETOOLONG", command=("x" * 100_000,))

    assert said.endswith("(system_error, ENAMETOOLONG)")
    assert len(said) < 400
