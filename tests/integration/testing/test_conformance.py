"""The same plans through a real worker and in process: states, attempts, reasons and choices are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from agentflow import AgentFlow, Plan
from agentflow.client.run import Run
from agentflow.settings import Settings
from agentflow.testing import Rehearsal
from tests.workers import REPOSITORY, WorkerProcess

EXAMPLES = REPOSITORY / "examples"


def _shapes() -> Plan:
    """Retries, timeouts, routes, a foreach with a body, a wait, a place of a limit: by commands alone."""
    plan = Plan("shapes")
    plan.subprocess("count", ["echo", "[1, 2, 3]"], outputs="stdout_json", needs=[])
    with plan.foreach("each", "steps.count.result", needs=["count"], merge="ignore_failures") as body:
        body.subprocess("odd", ["sh", "-c", 'test "$1" != 2', "odd", "{{ item }}"], retry=1)
    plan.switch("which", on="steps.count.result | length", cases={"3": "three", "default": "other"}, needs=["count"])
    plan.noop("three", needs=["which"])
    plan.noop("other", needs=["which"])
    plan.wait("pause", for_="300ms", needs=["three"])
    plan.subprocess("slow", ["sleep", "60"], timeout="300ms", on_failure="continue", needs=["count"], retry=1)
    for name in ("left", "right"):
        plan.subprocess(name, ["true"], concurrency={"key": "place", "limit": 1}, needs=["pause"])
    retry = {"max_attempts": 3, "base": "100ms", "on_exit_codes": [7]}
    plan.subprocess("never", ["sh", "-c", "exit 7"], retry=retry, on_failure="continue", needs=["left", "right"])
    plan.subprocess("after", ["true"], when="failed", needs=["never"])
    return plan


PLANS: Mapping[str, tuple[Any, Mapping[str, str]]] = {
    "release": (EXAMPLES / "release.yaml", {}),
    "broken": (EXAMPLES / "release.yaml", {"broken": "true"}),
    "mirrors": (EXAMPLES / "mirrors.yaml", {}),
    "pages": (EXAMPLES / "pages.yaml", {}),
    "release-all": (EXAMPLES / "release-all.yaml", {}),
    "shapes": (_shapes(), {}),
}


def _told(run: Run) -> dict[str, Any]:
    """What must not differ: nothing of when, by whom, or in which order side by side."""
    steps = {
        key: (step.state, step.choice, step.reason, [(each.state, each.exit_code) for each in step.attempts])
        for key, step in run.steps.items()
    }
    below = {key: [_told(child) for child in children] for key, children in run.children.items()}
    return {"state": run.state, "steps": steps, "children": below, "attempts": run.usage.attempts}


@pytest.mark.timeout(240)
def test_a_rehearsal_shows_what_a_worker_does(settings: Settings, worker: WorkerProcess, agentflow: Rehearsal) -> None:
    with AgentFlow(settings) as flow:
        real = {name: flow.submit(plan, given) for name, (plan, given) in PLANS.items()}
        rehearsed = {name: _told(agentflow.run(plan, given)) for name, (plan, given) in PLANS.items()}
        for name, run in real.items():
            assert _told(run.wait(60)) == rehearsed[name], name
