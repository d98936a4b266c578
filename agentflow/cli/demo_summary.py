"""The end of `agentflow demo`: the offline model puts into words what the run did, in a run of its own.

Owns what the model is told, and the words where there is none. It never changes how the demo ends: a demo without a
model, or with one that fails, is a whole demo.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta

from agentflow.cli import words
from agentflow.client import AgentFlow, Plan, Run
from agentflow.domain.error import AgentflowError
from agentflow.executors.offline_model import OfflineModelMissing, check_installed

STEP = "summarise"
MODEL = "offline:smollm2"
STEP_TIMEOUT = timedelta(seconds=60)
WAIT_SECONDS = 90.0
# Small models repeat well and write freely badly.
_TASK = "Rewrite this as a short note to the team: "


def sum_up(flow: AgentFlow, run: Run, say: Callable[[str], None]) -> None:
    """Let the offline model sum up ``run`` and say what it wrote, or say in a line why there is nothing."""
    try:
        check_installed(flow.settings)
    except OfflineModelMissing as missing:
        say(f"A small model on this machine would sum this up here. {missing}")
        return
    say("A small model on this machine sums it up; it is often wrong.\n")
    try:
        say(_told_by_the_model(flow, run))
    except AgentflowError as error:
        say(f"It could not be asked: {error}")


def _told_by_the_model(flow: AgentFlow, run: Run) -> str:
    summary = flow.submit(_plan(run)).wait(WAIT_SECONDS)
    step = summary.steps[STEP]
    if step.state != "succeeded":
        return f"It said nothing: {words.reason(step.reason) or step.state}"
    text = summary.read_artifact("text", STEP).decode(errors="replace").strip()
    lines = (words.printable(line) for line in text.splitlines() if line.strip())
    quoted = "\n".join(textwrap.fill(line, 100, initial_indent="  ", subsequent_indent="  ") for line in lines)
    return f"{quoted}\n\n  ({summary.usage.tokens} tokens)\n"


def _plan(run: Run) -> Plan:
    plan = Plan("demo-summary")
    plan.llm(
        STEP,
        model=MODEL,
        prompt=_TASK + " ".join(_facts(run)),
        max_tokens=150,
        temperature=0,
        seed=1,
        keep_content=True,
        timeout=STEP_TIMEOUT,
        retry=1,
    )
    return plan


def _facts(run: Run) -> Iterator[str]:
    steps = run.steps.values()
    done = sum(step.state == "succeeded" for step in steps)
    yield f"The run {run.summary.plan_name} is {run.state}."
    yield f"{done} of its {len(steps)} steps succeeded{_time_of(run)}."
    for step in steps:
        if len(step.attempts) > 1:
            yield f"The step {step.id} was tried {len(step.attempts)} times."


def _time_of(run: Run) -> str:
    began, ended = run.summary.started_at, run.summary.ended_at
    return f" in {(ended - began).total_seconds():.0f} seconds" if began and ended else ""
