"""`watch` at a terminal has keys; elsewhere it is as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from agentflow import AgentFlow, Plan, Run
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.engine.start_child import start_child
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import wait_for
from tests.integration.client.conftest import environment_of
from tests.integration.client.terminal import TypedTerminal
from tests.workers import REPOSITORY

Watching = Callable[[Run], AbstractContextManager[TypedTerminal]]


@pytest.fixture
def watching(at_home: Settings) -> Watching:
    """Watches a run at a terminal, ready for keys."""

    @contextmanager
    def watch(run: Run) -> Iterator[TypedTerminal]:
        with TypedTerminal(at_home, "watch", run.id) as terminal:
            wait_for(lambda: "p pause" in terminal.text)
            yield terminal

    return watch


def _run(flow: AgentFlow, *, mode: str = "auto") -> Run:
    plan = Plan("watched")
    first = plan.noop("first")
    plan.llm("ask", model="stub:ok", prompt="Go.", max_tokens=5, needs=[first])
    return flow.submit(plan, mode=mode)


def test_a_run_is_paused_resumed_and_cancelled_by_keys(flow: AgentFlow, watching: Watching) -> None:
    run = _run(flow)

    with watching(run) as terminal:
        terminal.press("p")
        wait_for(lambda: run.refresh().state == "paused")
        wait_for(lambda: "It is paused" in terminal.text)
        terminal.press("p")
        wait_for(lambda: run.refresh().state == "running")
        terminal.press("c")
        wait_for(lambda: "[y/N]" in terminal.text)
        terminal.press("n")
        wait_for(lambda: "It was not cancelled" in terminal.text)
        terminal.press("cy")
        wait_for(lambda: terminal.text.count("[y/N]") == 2)
        terminal.press("y")

        assert terminal.end() == 4
    assert "first" in terminal.text.rpartition("yes")[2]


def test_a_gate_is_approved_by_a_key_after_a_question(flow: AgentFlow, at_home: Settings, watching: Watching) -> None:
    with AgentFlow(at_home.model_copy(update={"actor": "ben@test"})) as other:
        run = _run(other, mode="strict")

    with watching(run) as terminal:
        terminal.press("a")
        wait_for(lambda: "Approve gate approve-execution: Start watched" in terminal.text)
        terminal.press("y")
        wait_for(lambda: "Gate approve-execution is approved" in terminal.text)
        terminal.press("r")
        wait_for(lambda: "No gate waits" in terminal.text)
        terminal.press("q")

        assert terminal.end() == 0
    assert flow.get(run.id).step("first").state == "ready"


def test_a_gate_of_a_child_run_is_named_and_not_decided_from_above(
    flow: AgentFlow, house: Runtime, watching: Watching
) -> None:
    child, plan = Plan("asking"), Plan("above")
    child.approval("ask", "Go on?")
    plan.run("below", child)
    run = flow.submit(plan)
    below = start_child(house.context, step_id(RunId(run.uuid), StepKey("below")), "tester@test")

    with watching(run) as terminal:
        terminal.press("a")
        wait_for(lambda: f"Gate ask of the child run {str(below)[:8]} waits" in terminal.text)
        terminal.press("q")

        assert terminal.end() == 5
    assert [view.run_id for view in flow.gates(run)] == [below]


def test_what_a_person_may_not_do_is_said_and_the_run_watched_on(flow: AgentFlow, watching: Watching) -> None:
    run = _run(flow, mode="strict")

    with watching(run) as terminal:
        terminal.press("a")
        wait_for(lambda: "[y/N]" in terminal.text)
        terminal.press("y")
        wait_for(lambda: "somebody else must" in terminal.text)
        terminal.press("q")

        assert terminal.end() == 5


def test_guidance_is_typed_as_a_line(flow: AgentFlow, watching: Watching) -> None:
    run = _run(flow)

    with watching(run) as terminal:
        terminal.press("g")
        wait_for(lambda: "Tell the next model call" in terminal.text)
        terminal.press("be brief\n")
        wait_for(lambda: "is told 8 bytes" in terminal.text)
        terminal.process.send_signal(signal.SIGINT)

        assert terminal.end() == 130
    assert [event.facts["bytes"] for event in run.events() if event.action == "guide"] == [8]


def test_without_a_terminal_nothing_is_read_and_a_resting_run_ends_the_watch(
    flow: AgentFlow, at_home: Settings
) -> None:
    run = _run(flow)
    run.pause()
    environment = environment_of(at_home) | {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}

    told = subprocess.run(
        [sys.executable, "-m", "agentflow", "watch", run.id],
        env=environment, cwd="/", input="c\ny\n", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert told.returncode == 5
    assert "\x1b" not in told.stdout
    assert run.refresh().state == "paused"
