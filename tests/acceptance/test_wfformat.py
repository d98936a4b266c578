"""A workflow in WfFormat becomes a plan, and its run keeps every dependency."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentflow import AgentFlow
from agentflow.client import RunView
from agentflow.settings import Settings
from tests.workers import REPOSITORY, WorkerProcess

FOLDER = REPOSITORY / "examples" / "wfformat"
INSTANCE = FOLDER / "1000genome-shape-12ch.json"
SCALE = "0.0001"
MOST_SECONDS = 150


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


convert = _module("convert")


def _converted(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "convert.py"), str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _instance(**tasks: dict[str, Any]) -> dict[str, Any]:
    written = [
        {"name": task_id, "id": task_id, "parents": [], "children": []} | task for task_id, task in tasks.items()
    ]
    return {"name": "small", "schemaVersion": "1.5", "workflow": {"specification": {"tasks": written}}}


def broken_needs(view: RunView) -> list[str]:
    """The dependencies that were not kept: a step that began before one of its needs had ended."""
    return [
        f"{step.id} before {need}"
        for step in view.steps.values()
        for need in step.needs
        if not (ended := view.steps[need].attempts[-1].ended_at) or step.attempts[0].started_at < ended
    ]


def test_the_shipped_instance_runs_with_every_dependency_kept(
    settings: Settings, worker: WorkerProcess, tmp_path: Path
) -> None:
    plan = tmp_path / "genome.yaml"
    plan.write_text(_converted(INSTANCE, "--scale", SCALE).stdout, encoding="utf-8")

    with AgentFlow(settings) as flow:
        view = flow.submit(plan).wait(MOST_SECONDS).view

    edges = sum(len(step.needs) for step in view.steps.values())
    assert (view.summary.state, len(view.steps), edges) == ("completed", 312, 456)
    assert {len(step.attempts) for step in view.steps.values()} == {1}
    assert broken_needs(view) == []


def test_the_shipped_instance_is_the_one_that_its_program_makes() -> None:
    made = subprocess.run([sys.executable, str(FOLDER / "genome.py")], capture_output=True, text=True, check=True)

    assert made.stdout == INSTANCE.read_text(encoding="utf-8")


def test_a_task_works_in_proportion_to_its_runtime() -> None:
    instance = _instance(a={}, b={})
    instance["workflow"]["execution"] = {
        "tasks": [{"id": "b", "runtimeInSeconds": 2.5}, {"id": "a", "runtimeInSeconds": 5}]
    }

    steps = convert.plan_of(instance, 0.01)["steps"]

    assert [int(step["subprocess"]["command"][-1]) for step in steps] == [15_000_000, 7_500_000]
    assert convert.plan_of(instance, 100)["steps"][0]["timeout"] == "5000s"


def test_parents_and_children_both_count_and_so_does_the_older_form() -> None:
    instance = _instance(a={"children": ["b"]}, b={}, c={"parents": ["b", "a"]})

    steps = convert.plan_of(instance, None)["steps"]

    assert steps == [{"id": "a", "needs": [], "noop": {}}, {"id": "b", "needs": ["a"], "noop": {}},
                     {"id": "c", "needs": ["b", "a"], "noop": {}}]  # fmt: skip
    older = {"name": "small", "workflow": instance["workflow"]["specification"]}
    assert convert.plan_of(older, None)["steps"] == steps


def test_ids_that_a_plan_cannot_have_stay_apart() -> None:
    ids = ["a.b", "a:b", "1st", "x" * 80, "x" * 79 + "y"]

    keys = [step["id"] for step in convert.plan_of(_instance(**{name: {} for name in ids}), None)["steps"]]

    assert keys == ["a_b", "a_b-2", "_1st", "x" * 64, "x" * 62 + "-2"]


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        ([], "no instance in WfFormat"),
        ({"workflow": {"specification": {"tasks": []}}}, "no tasks"),
        (_instance(a={"parents": ["zz"]}), "task 'a' names 'zz', which is no task"),
        (_instance(a={"id": "b"}, b={}), "two tasks have the id 'b'"),
        (_instance(a={"runtimeInSeconds": -1}), "runtime of -1"),
        ({"workflow": {"tasks": [{"id": f"t{n}"} for n in range(10_001)]}}, "at most 10,000 steps"),
    ],
)
def test_what_is_no_instance_is_refused_with_what_is_wrong(instance: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "instance.json"
    path.write_text(json.dumps(instance), encoding="utf-8")

    refused = _converted(path)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert words in refused.stderr
    assert refused.stderr.count("\n") == 1
