"""Flower's task list tells of every step what the record tells, also when no message of the step is there to tell it."""

from __future__ import annotations

import json
from pathlib import Path

from agentflow.domain.ids import StepKey, step_id
from agentflow.runtime import Runtime
from tests.factories import noop_step, shell_step, submitted, wait_for_end
from tests.integration.monitor.flower import FlowerProcess
from tests.workers import WorkerProcess


def test_a_step_is_shown_by_its_action_with_run_and_step_as_kwargs(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess
) -> None:
    run_id = submitted(house.context, [shell_step("collect", "echo hi"), noop_step("join", needs=["collect"])])
    assert wait_for_end(house.context, run_id) == "completed"
    collect = flower.wait_for_state(step_id(run_id, StepKey("collect")), "SUCCESS")
    join = flower.wait_for_state(step_id(run_id, StepKey("join")), "SUCCESS")
    assert (collect["name"], join["name"]) == ("agentflow.subprocess", "agentflow.noop")
    assert collect["kwargs"] == repr({"run_id": str(run_id), "step_id": "collect"})
    assert collect["args"] == "()"
    assert {collect["root_id"], join["root_id"]} == {str(run_id)}
    assert join["parent_id"] == collect["uuid"]
    assert collect["result"] == "None"
    assert set(flower.tasks()) == {collect["uuid"], join["uuid"]}
