"""Waits and the signals that end them: all of it is rows, and no worker has a part in it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.domain.error import InvalidTransition, NotFound
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.state import RunState
from agentflow.engine.cancel import cancel
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.pause import pause
from agentflow.engine.resume import resume
from agentflow.engine.retry import retry
from agentflow.engine.signal import signal
from agentflow.engine.verify import verify_run
from agentflow.engine.wake import wake
from agentflow.engine.why import why
from agentflow.runtime import Runtime
from agentflow.storage import signals
from tests.factories import (
    command_step,
    fresh_run_id,
    noop_step,
    run_state,
    step_rows,
    submitted,
    wait_for,
    work_off,
)

ACTOR = "tester@test"


def _wait(key: str, needs: list[str] | None = None, **wait: Any) -> dict[str, Any]:
    return {"id": key, "needs": needs or [], "wait": wait}


def _states(house: Runtime, run_id: RunId) -> dict[str, str]:
    return {key: row.state for key, row in step_rows(house.context, run_id).items()}


def _events(house: Runtime, run_id: RunId, action: str) -> list[Any]:
    with house.context.database.transaction() as tx:
        found = tx.execute(
            text("SELECT * FROM audit_event WHERE run_id = :id AND action = :action ORDER BY id"),
            {"id": run_id, "action": action},
        )
        return list(found.all())


def _pass_until(house: Runtime, run_id: RunId, key: str, state: str) -> None:
    dispatcher = Dispatcher(house.context, "test")

    def is_there() -> bool:
        house.context.side_channel.wait_for_wakeup(dispatcher.one_pass())
        return _states(house, run_id)[key] == state

    wait_for(is_there, 20)


def test_a_signal_ends_the_wait_and_its_data_is_the_result(house: Runtime) -> None:
    steps = [
        _wait("approval", event="deployed"),
        noop_step("good", ["approval"], when="steps.approval.result.ok"),
        noop_step("bad", ["approval"], when="steps.approval.result.ok == false"),
    ]
    run_id = submitted(house.context, steps)

    assert signal(house.context, run_id, "deployed", "ann@desk", {"ok": True}).step == "approval"

    assert work_off(house, run_id) is RunState.COMPLETED
    assert _states(house, run_id) == {"approval": "succeeded", "good": "succeeded", "bad": "skipped"}
    assert step_rows(house.context, run_id)["approval"].result == {"ok": True}
    (event,) = _events(house, run_id, "signal")
    assert (event.actor, event.subject) == ("ann@desk", "step:approval")
    assert event.facts["signal"] == "deployed"
    assert not verify_run(house.context, run_id).findings


def test_a_signal_that_comes_before_the_wait_is_taken_when_that_begins(house: Runtime) -> None:
    run_id = submitted(house.context, [_wait("first", event="go"), _wait("second", ["first"], event="deployed")])

    assert signal(house.context, run_id, "deployed", ACTOR, [1, 2]).step is None
    assert signal(house.context, run_id, "go", ACTOR).step == "first"

    assert run_state(house.context, run_id) is RunState.COMPLETED
    assert step_rows(house.context, run_id)["second"].result == [1, 2]
    kept, ended = _events(house, run_id, "signal")
    assert (kept.subject, kept.verdict) == ("run", "kept")
    assert ended.facts["took"]["second"]["signal"] == "deployed"
    assert not verify_run(house.context, run_id).findings


def test_each_signal_ends_one_wait_the_first_of_the_plan_first(house: Runtime) -> None:
    run_id = submitted(house.context, [_wait("a", event="go"), _wait("b", event="go"), noop_step("c", ["a", "b"])])

    assert signal(house.context, run_id, "go", ACTOR, 1).step == "a"
    assert signal(house.context, run_id, "go", ACTOR, 2).step == "b"

    assert work_off(house, run_id) is RunState.COMPLETED
    assert [row.result for row in step_rows(house.context, run_id).values()] == [1, 2, None]


def test_of_two_signals_for_one_wait_one_is_left(house: Runtime) -> None:
    run_id = submitted(house.context, [_wait("a", event="go"), _wait("b", ["a"], event="never")])

    signal(house.context, run_id, "go", ACTOR, 1)
    signal(house.context, run_id, "go", "late@desk", 2)

    with house.context.database.transaction() as tx:
        (left,) = signals.read_waiting(tx, run_id)
    assert (left.name, left.actor, left.has_data) == ("go", "late@desk", True)
    assert step_rows(house.context, run_id)["a"].result == 1


def test_signals_that_come_at_once_end_one_wait_each_and_the_rest_is_kept(house: Runtime) -> None:
    steps = [_wait(f"w{number}", event="go") for number in range(4)]
    run_id = submitted(house.context, [*steps, _wait("last", [step["id"] for step in steps], event="end")])

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda number: signal(house.context, run_id, "go", ACTOR, number).step, range(8)))

    assert sorted(filter(None, told)) == ["w0", "w1", "w2", "w3"]
    with house.context.database.transaction() as tx:
        kept = signals.read_waiting(tx, run_id)
    results = [row.result for key, row in step_rows(house.context, run_id).items() if key != "last"]
    assert len(kept) == 4
    assert {number for number, step in enumerate(told) if step} == set(results)
    assert verify_run(house.context, run_id).is_intact


def test_a_run_that_has_ended_or_is_not_there_takes_no_signal(house: Runtime) -> None:
    run_id = submitted(house.context, [_wait("a", event="go")])
    cancel(house.context, run_id, ACTOR)

    with pytest.raises(InvalidTransition, match=r"has ended \(cancelled\) and takes no signal"):
        signal(house.context, run_id, "go", ACTOR)
    with pytest.raises(NotFound):
        signal(house.context, fresh_run_id(), "go", ACTOR)
    assert _states(house, run_id) == {"a": "cancelled"}


def test_a_signal_that_no_step_will_ever_wait_for_is_a_mistake(house: Runtime) -> None:
    run_id = submitted(house.context, [_wait("a", event="deployed"), _wait("b", ["a"], **{"for": "1h"})])

    with pytest.raises(NotFound, match="did you mean 'deployed'"):
        signal(house.context, run_id, "deploied", ACTOR)

    with house.context.database.transaction() as tx:
        assert signals.read_waiting(tx, run_id) == []


def test_a_wait_whose_signal_does_not_come_fails_and_waits_again_when_it_is_retried(house: Runtime) -> None:
    run_id = submitted(house.context, [_wait("a", event="go", timeout="100ms"), noop_step("b", ["a"])])

    _pass_until(house, run_id, "a", "failed")

    reason = step_rows(house.context, run_id)["a"].reason
    assert reason == {"code": "no_signal", "detail": {"event": "go", "timeout_seconds": 0.1}}
    assert run_state(house.context, run_id) is RunState.FAILED

    retry(house.context, run_id, ACTOR)
    assert _states(house, run_id) == {"a": "held", "b": "pending"}
    signal(house.context, run_id, "go", ACTOR)
    assert work_off(house, run_id) is RunState.COMPLETED


def test_a_retry_leaves_a_wait_alone(house: Runtime) -> None:
    run_id = submitted(house.context, [_wait("a", event="go")])

    with pytest.raises(InvalidTransition):
        retry(house.context, run_id, ACTOR)

    assert _states(house, run_id) == {"a": "held"}


def test_the_dispatcher_wakes_up_for_a_wait_at_its_time_and_hears_of_a_new_one(house: Runtime) -> None:
    dispatcher = Dispatcher(house.context, "test")
    dispatcher.one_pass()
    while house.context.side_channel.wait_for_wakeup(0.01):
        pass

    run_id = submitted(house.context, [_wait("a", **{"for": "400ms"})])

    assert house.context.side_channel.wait_for_wakeup(0.01)
    began = time.monotonic()
    assert dispatcher.one_pass() <= 0.4
    _pass_until(house, run_id, "a", "succeeded")
    assert time.monotonic() - began >= 0.3
    assert step_rows(house.context, run_id)["a"].attempts == 0


def test_a_wait_until_a_moment_that_is_past_ends_with_the_next_pass(house: Runtime) -> None:
    run_id = submitted(house.context, [_wait("a", until="2001-01-01T00:00:00Z")])

    _pass_until(house, run_id, "a", "succeeded")

    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_a_wait_until_what_is_no_moment_fails(house: Runtime) -> None:
    steps = [command_step("says", "echo", "say-nothing"), _wait("a", ["says"], until="{{ steps.says.stdout }}")]
    run_id = submitted(house.context, steps)

    assert work_off(house, run_id) is RunState.FAILED

    reason = step_rows(house.context, run_id)["a"].reason
    assert reason["code"] == "template"
    assert "say-nothing" not in str(reason)


def test_time_goes_on_while_the_run_is_paused_and_a_signal_is_heard(house: Runtime) -> None:
    steps = [_wait("a", **{"for": "50ms"}), _wait("b", event="go"), noop_step("c", ["a", "b"])]
    run_id = submitted(house.context, steps)
    pause(house.context, run_id, ACTOR)

    signal(house.context, run_id, "go", ACTOR)
    _pass_until(house, run_id, "a", "succeeded")

    row = step_rows(house.context, run_id)["c"]
    assert (row.state, row.sent_at) == ("ready", None)
    resume(house.context, run_id, ACTOR)
    assert work_off(house, run_id) is RunState.COMPLETED


def test_waits_outlive_a_redis_that_forgets_everything(house: Runtime) -> None:
    run_id = submitted(house.context, [_wait("a", **{"for": "50ms"}), _wait("b", ["a"], event="go")])
    signal(house.context, run_id, "go", ACTOR, "kept")
    client, prefix = house.context.side_channel.client, house.settings.redis_prefix
    keys = list(client.scan_iter(f"{prefix}*"))
    if keys:
        client.delete(*keys)

    _pass_until(house, run_id, "a", "succeeded")

    assert step_rows(house.context, run_id)["b"].result == "kept"
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_waking_twice_changes_nothing(house: Runtime) -> None:
    run_id = submitted(house.context, [_wait("a", **{"for": "0s"}), noop_step("b", ["a"])])
    waiting = step_id(run_id, StepKey("a"))

    assert wake(house.context, waiting, ACTOR) is not None
    assert wake(house.context, waiting, ACTOR) is None

    assert len(_events(house, run_id, "wake")) == 1


def test_why_says_what_is_waited_for_and_how_to_end_it(house: Runtime) -> None:
    steps = [_wait("timer", **{"for": "1h"}), _wait("go", event="deployed", timeout="2h"), _wait("ever", event="x")]
    run_id = submitted(house.context, steps)

    def told(key: str) -> dict[str, Any]:
        found: dict[str, Any] = why(house.context, run_id, StepKey(key)).as_json()["reason"]
        return found

    timer, go, ever = told("timer"), told("go"), told("ever")
    assert timer["sentence"].startswith("waits until 20")
    assert "in 1h" in timer["sentence"] or "in 59m" in timer["sentence"]
    assert "signal deployed" in go["sentence"]
    assert "for at most" in go["sentence"]
    assert go["advice"] == f"`agentflow signal {run_id} deployed` ends its wait"
    assert ever["sentence"] == "waits for the signal x"


def test_a_step_of_an_item_waits_and_takes_its_own_signal(house: Runtime) -> None:
    steps = [{"id": "each", "foreach": [1, 2], "wait": {"event": "go"}}, command_step("never", "true", needs=["each"])]
    run_id = submitted(house.context, steps)

    assert signal(house.context, run_id, "go", ACTOR, "one").step == "each[0]"
    assert signal(house.context, run_id, "go", ACTOR, "two").step == "each[1]"

    assert _states(house, run_id)["each"] == "succeeded"
