"""`why`, `workers` and `queues` by the client and the command line, from rows and queues as they really stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from agentflow import AgentFlow
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.domain.why import WhyCode
from agentflow.engine.claim import claim
from agentflow.engine.dispatcher import Dispatcher
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from agentflow.storage import workers
from agentflow.storage.workers import WorkerTold
from tests.factories import lines_of, noop_step, shell_step, submitted, wait_for, wait_for_end, work_off
from tests.unit.cli.answers import ask, complain, say
from tests.workers import WorkerProcess

DB: dict[str, Any] = {"concurrency": {"key": "db", "limit": 1}}
API: dict[str, Any] = {"rate_limit": {"key": "api", "limit": "2/m"}}


def _told(name: str, *queues: str, slots: int = 2) -> WorkerTold:
    return WorkerTold(name, 1, "0", "prefork", slots, queues, 60.0, 3, 5.0, is_draining=False)


@pytest.fixture
def served(house: Runtime) -> Runtime:
    """An installation with a worker by its row, and a dispatcher that leads."""
    with house.context.database.transaction() as tx:
        workers.see(tx, _told("w1@host", "control", "commands"))
    Dispatcher(house.context, "w1@host:9").one_pass()
    return house


def _write(house: Runtime, statement: str, **parameters: Any) -> None:
    with house.context.database.transaction() as tx:
        tx.execute(text(statement), parameters)


def _codes(flow: AgentFlow, run_id: RunId, *keys: str) -> list[str]:
    return [flow.why(run_id, key).why.code.value for key in keys]


def test_a_run_with_nothing_to_serve_it_says_so_and_a_worker_that_is_gone_is_named(
    house: Runtime, flow: AgentFlow, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = submitted(house.context, [noop_step("a"), noop_step("b", needs=["a"])])

    answer = ask(capsys, "why", run_id)

    assert answer["reason"]["code"] == "run_goes"
    assert answer["reason"]["cause"]["code"] == "no_worker"
    assert [(group["steps"], group["reason"]["code"]) for group in answer["groups"]] == [
        (["a"], "no_worker"),
        (["b"], "needs_unmet"),
    ]
    with house.context.database.transaction() as tx:
        workers.see(tx, _told("w0@host", "control"))
    assert _codes(flow, run_id, "a") != ["no_worker"]
    _write(house, "UPDATE worker SET seen_at = now() - interval '1 minute'")
    page = say(capsys, "why", run_id, "b")
    assert "b needs a (ready), which is due, and no worker that is alive takes from the queue control" in page
    assert "w0@host" in page
    assert "agentflow worker -Q control" in page


def test_messages_ahead_are_counted_by_the_queue_and_a_message_that_went_is_lost(
    served: Runtime, flow: AgentFlow
) -> None:
    first = submitted(served.context, [noop_step(f"s{number}", needs=[]) for number in range(3)])
    second = submitted(served.context, [noop_step("a")])

    why = flow.why(second, "a").why
    assert why.code is WhyCode.DOORBELL_WAITS
    assert (why.detail["ahead"], why.detail["slots"]) == (3, 2)
    assert flow.why(first).groups[0].count == 3
    served.context.side_channel.client.delete(f"{served.settings.redis_prefix}control")
    assert _codes(flow, second, "a") == ["doorbell_taken"]
    _write(served, "UPDATE step SET sent_at = sent_at - interval '1 minute'")
    assert _codes(flow, second, "a") == ["doorbell_lost"]
    _write(served, "UPDATE step SET sent_at = NULL")
    assert _codes(flow, second, "a") == ["not_sent"]
    _write(served, "UPDATE leader SET expires_at = now() - interval '1 second'")
    assert _codes(flow, second, "a") == ["no_dispatcher"]


def test_limits_are_told_with_their_holder_their_line_and_their_ticket(served: Runtime, flow: AgentFlow) -> None:
    steps = [noop_step(key, needs=[], **DB) for key in "abc"] + [noop_step(key, needs=[], **API) for key in "xyz"]
    run_id = submitted(served.context, steps)
    for key in "axy":
        claim(served.context, run_id, StepKey(key), "w1@host:7")

    running, ticket, line = (flow.why(run_id, key).why for key in ("a", "y", "c"))

    assert (running.code, running.detail["worker"], running.detail["attempt"]) == (WhyCode.RUNNING, "w1@host:7", 1)
    assert (ticket.code, ticket.detail["key"]) == (WhyCode.RATE_TICKET, "api")
    assert 20 < ticket.detail["seconds"] < 31
    assert (line.code, line.detail["place"], line.detail["limit"]) == (WhyCode.IN_LINE, 2, 1)
    assert [(each["run"], each["step"]) for each in line.detail["holders"]] == [(str(run_id), "a")]


def test_rests_and_ends_of_a_run_stand_before_everything_of_its_steps(served: Runtime, flow: AgentFlow) -> None:
    run_id = submitted(served.context, [noop_step("a"), noop_step("b", needs=["a"])])
    flow.pause(str(run_id), why="a look at it")

    paused = flow.why(run_id, "b")
    assert (paused.why.code, paused.why.detail["why"]) == (WhyCode.PAUSED, "a look at it")
    assert paused.state == "paused"
    flow.resume(str(run_id))
    flow.cancel(str(run_id))
    assert flow.why(run_id).why.code is WhyCode.RUN_ENDED
    assert flow.why(run_id).groups == ()
    assert _codes(flow, run_id, "a") == ["step_final"]


def test_without_redis_what_hangs_on_it_is_unknown_and_the_rest_is_told(
    served: Runtime, monkeypatch: pytest.MonkeyPatch, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = submitted(served.context, [noop_step("a"), noop_step("b", needs=["a"])])
    monkeypatch.setenv("AGENTFLOW_REDIS_URL", "redis://127.0.0.1:1/0")

    assert ask(capsys, "why", run_id, "a")["reason"]["code"] == "redis_away"
    assert {queue["messages"] for queue in ask(capsys, "queues")["queues"]} == {None}
    assert "Redis does not answer" in say(capsys, "queues")


def test_a_step_that_there_is_not_is_not_found(
    house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = submitted(house.context, [noop_step("collect")])

    assert "did you mean 'collect'?" in complain(capsys, "why", run_id, "colect", code=2)


def test_what_a_step_wrote_is_pointed_at_where_it_wrote_something(house: Runtime, flow: AgentFlow) -> None:
    steps = [
        shell_step("says", "echo hello; exit 1", on_failure="ignore", retry=1),
        shell_step("silent", "true"),
        noop_step("idle"),
        noop_step("left", needs=["says"], when="succeeded"),
    ]
    run_id = submitted(house.context, steps)
    work_off(house, run_id)

    advised = {key: flow.why(run_id, StepKey(key)).advice for key in ("says", "silent", "idle", "left")}

    assert advised.pop("says") == "`agentflow logs {run} says` prints what it wrote"
    assert set(advised.values()) == {None}
    assert flow.get(str(run_id)).steps["left"].state == "skipped"


def test_all_of_an_explanation_is_of_one_moment(served: Runtime, flow: AgentFlow) -> None:
    """A step that is claimed while the facts are read would have no attempt and no doorbell either."""
    from agentflow.domain.why_facts import Terms
    from agentflow.storage import standing_facts

    run_id = submitted(served.context, [noop_step("a")])
    with served.context.database.transaction() as tx:
        before = standing_facts.read_facts(tx, run_id, "dispatcher", Terms())
        claim(served.context, run_id, StepKey("a"), "w1@host:7")
        again = tx.execute(text("SELECT state FROM step WHERE run_id = :id"), {"id": run_id}).scalar_one()

    assert (before.steps[StepKey("a")].state, again) == ("ready", "ready")


def test_a_real_worker_is_listed_with_what_it_runs_and_its_queues_with_what_waits(
    house: Runtime,
    start_worker: Callable[..., WorkerProcess],
    at_home: Settings,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
) -> None:
    assert "Start one" in say(capsys, "workers")
    worker = start_worker("-c", "1", "-Q", "commands,control")
    marker, gate = tmp_path / "marker", tmp_path / "gate"
    script = f"echo x >> {marker}; until [ -e {gate} ]; do sleep 0.1; done"
    steps = [shell_step(key, script, needs=[]) for key in ("a", "b", "c")]
    run_id = submitted(house.context, steps)
    wait_for(lambda: lines_of(marker))

    answer, page = ask(capsys, "workers"), say(capsys, "workers")
    by_name = {queue["name"]: queue for queue in ask(capsys, "queues")["queues"]}
    explained, queues = ask(capsys, "why", run_id), say(capsys, "queues")

    assert queues.count("1 of 1 busy") == 2
    assert "A worker's slots are for all its queues together." in queues
    (listed,) = answer["workers"]
    assert listed["name"].startswith(worker.name)
    assert (listed["state"], listed["slots"], listed["queues"]) == ("alive", 1, ["commands", "control"])
    assert [(each["run"], each["attempt"]) for each in listed["running"]] == [(str(run_id), 1)]
    assert f"{str(run_id)[:8]} {listed['running'][0]['step']}" in page
    assert (by_name["commands"]["messages"], by_name["commands"]["outstanding"]) == (2, 2)
    assert (by_name["commands"]["workers"], by_name["models"]["workers"]) == ([listed["name"]], [])
    assert by_name["commands"]["oldest_due_at"] is not None
    codes = {group["reason"]["code"]: group["count"] for group in explained["groups"]}
    assert codes == {"doorbell_waits": 2, "running": 1}
    gate.touch()
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED


def test_a_suspect_names_the_one_that_it_waits_for(served: Runtime, flow: AgentFlow) -> None:
    first_id, second_id = (submitted(served.context, [noop_step("one")]) for _ in range(2))
    _write(served, "UPDATE step SET joint_losses = 2, sent_at = NULL")
    alone = flow.why(second_id, "one")
    _write(served, "UPDATE step SET sent_at = now() WHERE run_id = :id", id=first_id)
    behind = flow.why(second_id, "one")

    assert (alone.why.code, alone.why.detail["ahead"]) == (WhyCode.SUSPECT, None)
    assert behind.why.detail["ahead"] == {"run": str(first_id), "step": "one", "state": "ready"}
    assert f"waits for one of run {first_id}" in behind.sentence
