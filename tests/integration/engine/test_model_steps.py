"""Steps that call models: from a real worker process to a stub server, with what they leave in rows and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.client import AgentFlow, Engine
from agentflow.domain.budget import Budget
from agentflow.domain.error import InvalidTransition
from agentflow.domain.ids import RunId
from agentflow.domain.state import RunState, ShownRunState
from agentflow.engine.cancel import cancel
from agentflow.engine.raise_budget import raise_budget
from agentflow.engine.resume import resume
from agentflow.engine.retry import retry
from agentflow.runtime import Runtime
from agentflow.storage import views
from agentflow.storage.whole_run import read_run
from tests.factories import command_step, shell_step, submitted, wait_for, wait_for_end
from tests.integration.engine.conftest import ModelStation
from tests.model_stub import ModelStub, Reply, Usage
from tests.workers import WorkerProcess
from tests.workflows import write_manifests

StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def stub() -> Iterator[ModelStub]:
    with ModelStub() as server:
        yield server


def llm_step(key: str, model: str = "ok", prompt: str = "Say something.", **fields: Any) -> dict[str, Any]:
    inner = {
        name: fields.pop(name) for name in ("system", "max_tokens", "output_schema", "keep_content") if name in fields
    }
    return {
        "id": key,
        "needs": fields.pop("needs", []),
        "llm": {"model": f"stub:{model}", "prompt": prompt, **inner},
        **fields,
    }


def shown(house: Runtime, run_id: RunId) -> views.RunView:
    with house.context.database.transaction() as tx:
        return read_run(tx, run_id)


def wait_for_rest(house: Runtime, run_id: RunId, state: ShownRunState) -> views.RunView:
    def there() -> views.RunView | None:
        view = shown(house, run_id)
        return view if view.summary.state is state else None

    return wait_for(there, 60)


def calls_of(house: Runtime, run_id: RunId) -> list[Mapping[str, Any]]:
    with house.context.database.transaction() as tx:
        return list(
            tx.execute(text("SELECT * FROM llm_call WHERE run_id = :id ORDER BY started_at"), {"id": run_id}).mappings()
        )


def files_of(house: Runtime, run_id: RunId) -> list[Path]:
    root = house.settings.content_root() / "runs" / str(run_id)
    return [path for path in root.rglob("*") if path.is_file()]


def test_an_answer_reaches_the_step_that_needs_it_and_goes_with_the_run(models: ModelStation) -> None:
    house = models.house
    steps = [
        command_step("collect", "echo", "three errors"),
        llm_step("summarise", prompt="Summarise: {{ steps.collect.stdout }}", needs=["collect"], max_tokens=50),
        command_step("use", "cat", needs=["summarise"], stdin="got {{ steps.summarise.text }}"),
    ]
    run_id = submitted(house.context, steps)

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    [call] = calls_of(house, run_id)
    assert (call["provider"], call["input_tokens"], call["output_tokens"], call["is_estimated"]) == (
        "stub",
        20,
        10,
        False,
    )
    assert [path for path in files_of(house, run_id) if path.name == "text"] == []
    stdout = next(path for path in files_of(house, run_id) if path.name == "stdout" and "use" in path.parts)
    assert stdout.read_text() == "got echo: Summarise: three errors"


def test_an_answer_that_is_kept_is_one_file_of_its_owner(models: ModelStation) -> None:
    house = models.house
    run_id = submitted(house.context, [llm_step("say", keep_content=True, max_tokens=50)])

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    [kept] = [path for path in files_of(house, run_id) if path.name == "text"]
    assert kept.read_text() == "echo: Say something."
    assert kept.stat().st_mode & 0o777 == 0o600
    [artifact] = shown(house, run_id).steps["say"].artifacts
    assert (artifact.name, artifact.kind, artifact.bytes) == ("text", "answer", kept.stat().st_size)


def test_structured_output_is_checked_and_read_from_the_answer_not_from_a_row(models: ModelStation) -> None:
    house, stub = models.house, models.stub
    stub.replies["json"] = Reply(text='{"count": 3}')
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    steps = [
        llm_step("count", "json", output_schema=schema, max_tokens=50),
        command_step("use", "cat", needs=["count"], stdin="{{ steps.count.result.count }}"),
    ]
    run_id = submitted(house.context, steps)

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert shown(house, run_id).steps["count"].result is None
    stdout = next(path for path in files_of(house, run_id) if path.name == "stdout")
    assert stdout.read_text() == "3"


def test_an_answer_that_breaks_its_schema_is_tried_again_and_says_so(models: ModelStation) -> None:
    house = models.house
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    retrying = {"max_attempts": 2, "base": "10ms"}
    run_id = submitted(house.context, [llm_step("count", "unschematic", output_schema=schema, retry=retrying)])

    assert wait_for_end(house.context, run_id) is RunState.FAILED
    step = shown(house, run_id).steps["count"]
    assert [attempt.state.value for attempt in step.attempts] == ["failed", "failed"]
    assert step.reason is not None
    assert step.reason["detail"]["problem"] == "schema_violated"


@pytest.mark.parametrize(
    ("model", "problem", "attempts"),
    [("at-length", "cut_at_length", 1), ("filtered", "content_filtered", 1), ("no-key", "unauthenticated", 1),
     ("too-long", "context_too_long", 1), ("broken", "server_error", 2), ("malformed", "malformed", 2)],
)  # fmt: skip
def test_a_problem_is_named_and_only_what_may_pass_is_tried_again(
    models: ModelStation, model: str, problem: str, attempts: int
) -> None:
    house = models.house
    run_id = submitted(house.context, [llm_step("ask", model, retry={"max_attempts": 2, "base": "10ms"})])

    assert wait_for_end(house.context, run_id) is RunState.FAILED
    step = shown(house, run_id).steps["ask"]
    assert step.reason is not None
    assert (step.reason["detail"]["problem"], len(step.attempts)) == (problem, attempts)


def test_a_provider_that_says_when_is_waited_for_and_no_attempt_is_spent(models: ModelStation) -> None:
    house, stub = models.house, models.stub
    stub.queue(Reply(429, headers={"Retry-After": "1"}, error={"message": "slow down", "code": "rate_limit_exceeded"}))
    run_id = submitted(house.context, [llm_step("ask", max_tokens=20, retry=1)], budget={"tokens": 500})

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    attempts = shown(house, run_id).steps["ask"].attempts
    assert [attempt.state.value for attempt in attempts] == ["released", "succeeded"]
    assert stub.arrivals[1].monotonic - stub.arrivals[0].monotonic >= 1
    assert sum(call["input_tokens"] + call["output_tokens"] for call in calls_of(house, run_id)) == 30


def test_a_call_in_flight_is_cancelled_and_charged_as_estimated(models: ModelStation) -> None:
    house, stub = models.house, models.stub
    run_id = submitted(house.context, [llm_step("ask", "hanging", max_tokens=100)], budget={"tokens": 5000})
    [arrival] = stub.wait_for_arrivals(1)

    cancel(house.context, run_id, "tester@test")

    assert wait_for_end(house.context, run_id, 10) is RunState.CANCELLED
    assert arrival.is_abandoned.wait(5)
    [call] = calls_of(house, run_id)
    assert call["is_estimated"]
    assert call["input_tokens"] + call["output_tokens"] > 100


def test_the_timeout_covers_a_server_that_never_answers(models: ModelStation) -> None:
    house = models.house
    run_id = submitted(house.context, [llm_step("ask", "hanging", timeout="500ms", retry=1)])

    assert wait_for_end(house.context, run_id, 15) is RunState.FAILED
    [attempt] = shown(house, run_id).steps["ask"].attempts
    assert attempt.state.value == "timed_out"


def test_a_call_whose_worker_is_killed_is_charged_and_made_again(
    house: Runtime, stub: ModelStub, start_worker: StartWorker, tmp_path: Path
) -> None:
    environment = stub.environment(tmp_path) | {"AGENTFLOW_LEASE_SECONDS": "2"}
    first = start_worker(**environment)
    stub.queue(Reply(is_hanging=True))
    run_id = submitted(house.context, [llm_step("ask", max_tokens=100)], budget={"tokens": 5000})
    stub.wait_for_arrivals(1)
    first.kill()
    start_worker(**environment)

    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    lost, made = calls_of(house, run_id)
    assert (lost["is_estimated"], made["is_estimated"]) == (True, False)


def test_a_run_without_enough_tokens_rests_until_it_is_raised_and_resumed(models: ModelStation) -> None:
    house, stub = models.house, models.stub
    steps = [llm_step("one", max_tokens=20), llm_step("two", max_tokens=20, needs=["one"])]
    stub.replies["ok"] = Reply(usage=Usage(prompt=90, completion=10))
    run_id = submitted(house.context, steps, budget={"tokens": 150})

    view = wait_for_rest(house, run_id, ShownRunState.EXHAUSTED)
    assert view.summary.reason is not None
    detail = view.summary.reason["detail"]
    assert (detail["budget"], detail["scope"], detail["limit"], detail["used"]) == ("tokens", f"run:{run_id}", 150, 100)
    assert len(stub.arrivals) == 1
    with pytest.raises(InvalidTransition, match="budget raise"):
        resume(house.context, run_id, "tester@test")
    raise_budget(house.context, run_id, Budget(tokens=100), "tester@test")
    resume(house.context, run_id, "tester@test")

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert [attempt.state.value for attempt in shown(house, run_id).steps["two"].attempts] == ["released", "succeeded"]


def test_two_workers_never_commit_more_tokens_than_the_cap(
    house: Runtime, stub: ModelStub, start_worker: StartWorker, tmp_path: Path
) -> None:
    environment = stub.environment(tmp_path)
    for _ in range(2):
        start_worker("-P", "threads", "-c", "10", **environment)
    stub.replies["ok"] = Reply(usage=Usage(prompt=40, completion=60), delay_seconds=0.2)
    steps = [llm_step(f"ask{number}", max_tokens=60) for number in range(20)]
    run_id = submitted(house.context, steps, budget={"tokens": 1000})

    view = wait_for_rest(house, run_id, ShownRunState.EXHAUSTED)
    wait_for(lambda: not any(step.state.value == "running" for step in shown(house, run_id).steps.values()) or None, 30)
    stub.wait_until_idle()
    assert view.summary.reason is not None
    assert shown(house, run_id).usage.tokens <= 1000
    assert len(stub.arrivals) * 100 <= 1000
    raise_budget(house.context, run_id, Budget(tokens=1500), "tester@test")
    resume(house.context, run_id, "tester@test")

    assert wait_for_end(house.context, run_id, 90) is RunState.COMPLETED
    assert shown(house, run_id).usage.tokens == 2000


def test_fifty_calls_are_all_in_flight_on_one_worker_and_end_with_their_run(
    house: Runtime, stub: ModelStub, start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker("-c", "50", app="workers.models", **stub.environment(tmp_path))
    run_id = submitted(house.context, [llm_step(f"ask{number}", "hanging") for number in range(50)])

    wait_for(lambda: stub.in_flight == 50, 60)
    cancel(house.context, run_id, "tester@test")

    assert wait_for_end(house.context, run_id, 60) is RunState.CANCELLED


def test_steps_and_active_time_are_budgets_of_any_run(house: Runtime, worker: WorkerProcess) -> None:
    by_steps = submitted(
        house.context, [shell_step(f"s{n}", "true", [f"s{n - 1}"] if n else []) for n in range(3)], budget={"steps": 2}
    )
    by_time = submitted(house.context, [shell_step("long", "sleep 60")], budget={"active_time": "1s"})

    view = wait_for_rest(house, by_steps, ShownRunState.EXHAUSTED)
    assert view.summary.reason is not None
    assert view.summary.reason["detail"]["budget"] == "steps"
    raise_budget(house.context, by_steps, Budget(steps=1), "tester@test")
    resume(house.context, by_steps, "tester@test")
    assert wait_for_end(house.context, by_steps) is RunState.COMPLETED
    view = wait_for_rest(house, by_time, ShownRunState.EXHAUSTED)
    assert view.summary.reason is not None
    assert view.summary.reason["detail"]["budget"] == "active_time"
    cancel(house.context, by_time, "tester@test")
    assert wait_for_end(house.context, by_time) is RunState.CANCELLED


def test_a_retry_calls_a_model_again_whose_answer_went_with_the_run(models: ModelStation, tmp_path: Path) -> None:
    house, stub = models.house, models.stub
    flag = tmp_path / "flag"
    steps = [
        llm_step("say", max_tokens=20),
        command_step(
            "use", "/bin/sh", "-c", f"cat; test -e {flag}", needs=["say"], stdin="{{ steps.say.text }}", retry=1
        ),
    ]
    run_id = submitted(house.context, steps)
    assert wait_for_end(house.context, run_id) is RunState.FAILED
    flag.touch()

    retry(house.context, run_id, "tester@test")

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert len(stub.arrivals) == 2


def test_a_failing_endpoint_is_left_alone_and_no_attempt_is_spent_on_it(models: ModelStation) -> None:
    house, stub = models.house, models.stub
    failing = submitted(
        house.context, [llm_step("ask", "broken", retry={"max_attempts": 5, "base": "1ms", "jitter": 0})]
    )
    assert wait_for_end(house.context, failing) is RunState.FAILED
    arrived = len(stub.arrivals)

    run_id = submitted(house.context, [llm_step("ask", retry=1)])

    def postponed() -> Any:
        step = shown(house, run_id).steps["ask"]
        return step if step.reason and step.reason["code"] == "breaker_open" else None

    step = wait_for(postponed)
    assert [attempt.state.value for attempt in step.attempts] == ["released"]
    assert len(stub.arrivals) == arrived
    assert json.dumps(step.reason).count("stub@") == 1
    cancel(house.context, run_id, "tester@test")


def test_the_agents_of_a_workflow_read_what_came_before_and_choose_the_route(
    models: ModelStation, tmp_path: Path
) -> None:
    models.stub.queue(Reply(text="short"), Reply(text="a draft"))
    agents = [
        {"agent_id": "router", "model": "stub:ok", "prompt": "long or short: {{ input.text }}"},
        {"agent_id": "writer", "model": "stub:ok", "prompt": "{{ input.decision }} {{ request.text }}"},
    ]

    def one(key: str, role: str, agent: str | None = None, **more: Any) -> dict[str, Any]:
        performer = {"kind": "agent", "agent_id": agent} if agent else {"kind": "deterministic"}
        return {"stage_id": key, "role": role, "context": "none", **performer, **more}

    nodes = [
        one("in", "start", default_start=True), one("route", "decision", "router"), one("brief", "linear", "writer"),
        one("essay", "linear", "writer"), one("out", "exit"),
    ]  # fmt: skip
    ways = ("in route", "route brief short", "route essay long", "brief out", "essay out")
    edges = [dict(zip(("from_node_id", "to_node_id", "condition"), way.split(), strict=False)) for way in ways]
    engine = Engine.from_config_dir(
        write_manifests(tmp_path / "flow", nodes, edges, agents=agents), flow=AgentFlow(models.house.settings)
    )

    told = engine.run({"text": "sentinel-4711"}, timeout=60)

    assert (told["status"], told["output"]) == ("completed", "a draft")
    assert [record["output"] for record in told["history"][1:3]] == [{"decision": "short"}, "a draft"]
    asked = [arrival.body["messages"][-1]["content"] for arrival in models.stub.wait_until_idle()]
    assert asked == ["long or short: sentinel-4711", "short sentinel-4711"]
