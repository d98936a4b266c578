"""`agentflow doctor --smoke` on installations with workers, with none, with some, and with a server away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow import AgentFlow
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.stacks import CommandLine
from tests.unit.cli.answers import check
from tests.workers import WorkerProcess, environment_of


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> CommandLine:
    """The command line on servers of the test's own."""
    return CommandLine(tmp_path / "home", tmp_path, environment_of(settings, tmp_path))


def _smoked(line: CommandLine, *arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    done = line.run("doctor", "--smoke", *arguments, "--json", **environment)
    answer = check(json.loads(done.stdout))
    return done.returncode, {**answer, "checks": {each["name"]: each for each in answer["checks"]}}


def _statuses(answer: dict[str, Any]) -> dict[str, str]:
    return {name: each["status"] for name, each in answer["checks"].items()}


def test_a_run_goes_through_the_workers_of_every_queue(
    own: CommandLine, settings: Settings, worker: WorkerProcess
) -> None:
    code, answer = _smoked(own)
    problems = {name: each["detail"] for name, each in answer["checks"].items() if each["status"] == "problem"}
    assert (code, answer["ok"], problems) == (0, True, {})
    assert [leg["queue"] for leg in answer["legs"]] == ["control", "commands", "models"]
    assert all(leg["worker"].startswith(worker.name) for leg in answer["legs"])
    assert answer["seconds"]["total"] > answer["seconds"]["submit"] > 0
    with AgentFlow(settings) as flow:
        assert [(run.id, run.summary.project) for run in flow.runs()] == [(answer["run"], "agentflow-smoke")]
    shown = own.run("doctor", "--smoke").stdout
    assert "A run goes through." in shown
    assert "hand-over" in shown


def test_a_queue_without_a_worker_is_left_out(own: CommandLine, start_worker: Callable[..., WorkerProcess]) -> None:
    start_worker(app="workers.commands")
    code, answer = _smoked(own)
    assert (code, [leg["queue"] for leg in answer["legs"]]) == (0, ["control", "commands"])
    assert "nobody serves models" in answer["checks"]["workers"]["detail"]


def test_without_workers_nothing_is_submitted(own: CommandLine, settings: Settings, house: Runtime) -> None:
    code, answer = _smoked(own)
    assert (code, answer["run"], answer["legs"], answer["seconds"]) == (1, None, [], None)
    assert _statuses(answer)["workers"] == "problem"
    assert "agentflow worker" in answer["checks"]["workers"]["advice"]
    with AgentFlow(settings) as flow:
        assert len(flow.runs()) == 0


def test_a_run_that_does_not_end_is_cancelled_and_told(
    own: CommandLine, settings: Settings, worker: WorkerProcess
) -> None:
    with AgentFlow(settings) as flow:
        flow.pause_all()
    code, answer = _smoked(own, "--timeout", "20s")
    assert (code, _statuses(answer)["run"], _statuses(answer)["result"]) == (1, "problem", "skipped")
    assert "paused" in answer["checks"]["run"]["detail"]
    with AgentFlow(settings) as flow:
        assert flow.get(answer["run"]).state == "cancelled"


def test_a_redis_that_is_away_is_said_and_has_its_own_exit_code(own: CommandLine, house: Runtime) -> None:
    code, answer = _smoked(own, AGENTFLOW_REDIS_URL="redis://127.0.0.1:1/0")
    assert (code, answer["run"]) == (6, None)
    assert "Redis does not answer" in answer["checks"]["redis"]["detail"]
    assert _statuses(answer)["submit"] == "skipped"
