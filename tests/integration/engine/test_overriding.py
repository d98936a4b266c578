"""A person ends steps that have not run; what follows is drawn once, whatever else happens at the same time."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.domain.error import InvalidTransition, NotFound, UsageError
from agentflow.domain.gate import Verdict
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.outcome import ClaimRefusal
from agentflow.domain.override import Choose, Override, Skip, Succeed
from agentflow.domain.plan import Plan
from agentflow.domain.state import RunState, StepState
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.decide import Answer, decide
from agentflow.engine.override import Asked, Overridden, override
from agentflow.engine.pause import pause
from agentflow.engine.resume import resume
from agentflow.engine.retry import retry
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import command_step, noop_step, run_state, step_rows, submitted, work_off

WHY = "done by hand"


def _set(house: Runtime, run_id: RunId, key: str, how: Override) -> Overridden:
    return override(house.context, Asked(run_id, StepKey(key), how, "ana", WHY))


def _states(house: Runtime, run_id: RunId) -> dict[str, str]:
    return {key: row.state for key, row in step_rows(house.context, run_id).items()}


def _events(house: Runtime, run_id: RunId) -> Sequence[Any]:
    with house.context.database.transaction() as tx:
        found = text("SELECT * FROM audit_event WHERE run_id = :id AND action = 'override' ORDER BY id")
        return tx.execute(found, {"id": run_id}).all()


def test_a_skipped_step_takes_its_dependents_along_and_a_merge_goes_on(house: Runtime) -> None:
    steps = [
        noop_step("a"),
        noop_step("b"),
        noop_step("after", needs=["a"]),
        noop_step("merge", needs=["a", "b"], when="taken"),
    ]
    run_id = submitted(house.context, steps)

    done = _set(house, run_id, "a", Skip())

    assert (done.old_state, done.new_state) == (StepState.READY, StepState.SKIPPED)
    assert work_off(house, run_id) is RunState.COMPLETED
    assert _states(house, run_id) == {"a": "skipped", "b": "succeeded", "after": "skipped", "merge": "succeeded"}
    row = step_rows(house.context, run_id)["a"]
    assert row.reason == {"code": "overridden", "detail": {"actor": "ana", "why": WHY}}
    [event] = _events(house, run_id)
    assert (event.actor, event.reason, event.facts) == ("ana", row.reason, {"how": "skip"})
    assert event.moved["step:a"] == ["ready", "skipped"]
    assert verify_run(house.context, run_id).is_intact


def test_a_step_that_is_set_to_succeed_gives_its_result_to_those_that_read_it(house: Runtime) -> None:
    steps = [
        command_step("count", "false", outputs="stdout_json"),
        noop_step("many", needs=["count"], when="{{ steps.count.result.errors > 5 }}"),
        noop_step("few", needs=["count"], when="{{ steps.count.result.errors <= 5 }}"),
    ]
    run_id = submitted(house.context, steps)

    done = _set(house, run_id, "count", Succeed({"errors": 7}))

    assert done.ready == ("many",)
    assert work_off(house, run_id) is RunState.COMPLETED
    assert _states(house, run_id) == {"count": "succeeded", "many": "succeeded", "few": "skipped"}
    [event] = _events(house, run_id)
    assert event.facts["result"]["bytes"] == len('{"errors":7}')
    assert "7" not in json.dumps(event.facts["result"] | {"sha256": "", "bytes": 0})


def test_a_decision_takes_the_label_that_a_person_chooses(house: Runtime) -> None:
    steps = [
        noop_step("first"),
        {"id": "route", "needs": ["first"], "switch": {"on": "vars.way", "cases": {"left": ["l"], "right": ["r"]}}},
        noop_step("l", needs=["route"]),
        noop_step("r", needs=["route"]),
    ]
    run_id = submitted(house.context, steps, vars={"way": "left"})

    _set(house, run_id, "route", Choose("right"))

    assert work_off(house, run_id) is RunState.COMPLETED
    assert _states(house, run_id) == {"first": "succeeded", "route": "succeeded", "l": "skipped", "r": "succeeded"}
    assert step_rows(house.context, run_id)["route"].choice == "right"


def test_what_a_pending_step_needed_ends_later_and_tells_nobody_twice(house: Runtime) -> None:
    """Its successors are told once: by the override. Its needs find it final, and the run waits for them all."""
    steps = [
        noop_step("slow"),
        noop_step("middle", needs=["slow"]),
        noop_step("other"),
        noop_step("join", needs=["middle", "other"]),
    ]
    run_id = submitted(house.context, steps)

    done = _set(house, run_id, "middle", Succeed())

    assert done.old_state is StepState.PENDING
    assert _states(house, run_id)["join"] == "pending"
    assert work_off(house, run_id) is RunState.COMPLETED
    join = step_rows(house.context, run_id)["join"]
    assert (join.needs_open, join.needs_succeeded, join.state) == (0, 2, "succeeded")


def test_a_run_whose_last_step_is_set_waits_for_what_is_still_open(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("slow"), noop_step("last", needs=["slow"])])

    _set(house, run_id, "last", Skip())

    assert run_state(house.context, run_id) is RunState.RUNNING
    assert work_off(house, run_id) is RunState.COMPLETED


def test_the_last_open_step_of_a_run_ends_it(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("only")])

    _set(house, run_id, "only", Succeed())

    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_a_held_wait_is_ended_by_a_person(house: Runtime) -> None:
    run_id = submitted(house.context, [{"id": "pause", "wait": {"for": "1h"}}, noop_step("then", needs=["pause"])])

    assert _set(house, run_id, "pause", Succeed()).old_state is StepState.HELD
    assert work_off(house, run_id) is RunState.COMPLETED


def test_a_step_of_a_resting_run_is_set_and_nothing_is_sent(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a"), noop_step("b", needs=["a"])])
    pause(house.context, run_id, "ana")

    _set(house, run_id, "a", Succeed())

    row = step_rows(house.context, run_id)["b"]
    assert (row.state, row.sent_at) == ("ready", None)
    resume(house.context, run_id, "ana")
    assert work_off(house, run_id) is RunState.COMPLETED


def test_items_of_a_foreach_are_set_one_by_one(house: Runtime) -> None:
    each = {"id": "each", "foreach": {"items": [1, 2, 3], "max_parallel": 2}, "noop": {}}
    run_id = submitted(house.context, [each, noop_step("after", needs=["each"])])

    with pytest.raises(InvalidTransition, match="3 items"):
        _set(house, run_id, "each", Skip())
    with pytest.raises(InvalidTransition, match="turn"):
        _set(house, run_id, "each[2]", Skip())
    _set(house, run_id, "each[0]", Skip())

    assert _states(house, run_id)["each[2]"] == "ready"
    assert work_off(house, run_id) is RunState.COMPLETED
    assert _states(house, run_id)["each"] == "succeeded"


def test_an_item_with_a_body_ends_only_as_its_body_does(house: Runtime) -> None:
    each = {"id": "each", "foreach": {"items": [1]}, "steps": [noop_step("inner")]}
    run_id = submitted(house.context, [each])

    with pytest.raises(InvalidTransition, match="body"):
        _set(house, run_id, "each[0]", Skip())
    _set(house, run_id, "each[0].inner", Skip())

    assert _states(house, run_id) == {"each": "succeeded", "each[0]": "skipped", "each[0].inner": "skipped"}
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_a_retry_leaves_what_a_person_skipped(house: Runtime) -> None:
    steps = [
        command_step("a", "false", retry=1, on_failure="continue"),
        noop_step("left_out", needs=["a"], when="always"),
        noop_step("after", needs=["a"]),
    ]
    run_id = submitted(house.context, steps)
    _set(house, run_id, "left_out", Skip())
    assert work_off(house, run_id) is RunState.FAILED

    retried = retry(house.context, run_id, "ana")

    assert (retried.ready, retried.pending) == (("a",), ("after",))
    assert _states(house, run_id)["left_out"] == "skipped"


def test_no_override_passes_a_gate(house: Runtime) -> None:
    noop = {"type": "noop"}
    steps = [
        {"id": "ask", "action": {"type": "approval", "gate": {"message": "Go on?"}}},
        {"id": "act", "needs": ["ask"], "action": noop},
        {"id": "beside", "action": noop},
    ]
    plan = Plan.model_validate({"name": "gated", "steps": steps})
    run_id = submit(house.context, SubmitRequest(plan, {}, "default", "ana", {}, {})).run_id

    with pytest.raises(UsageError, match="gate"):
        _set(house, run_id, "ask", Succeed())
    with pytest.raises(InvalidTransition, match="behind the gate 'ask'"):
        _set(house, run_id, "act", Succeed())
    _set(house, run_id, "beside", Skip())

    assert _states(house, run_id) == {"ask": "held", "act": "pending", "beside": "skipped"}


def test_the_gate_is_named_that_a_step_stands_behind_in_a_foreach(house: Runtime) -> None:
    gate = {"id": "ask", "needs": ["before"], "approval": {}}
    each = {"id": "each", "foreach": [1, 2, 3], "steps": [noop_step("before"), gate]}
    run_id = submitted(house.context, [each, noop_step("after", needs=["each"])])

    with pytest.raises(InvalidTransition, match="behind the gates of 'each', which"):
        _set(house, run_id, "after", Skip())
    work_off(house, run_id)
    with pytest.raises(InvalidTransition, match=r"behind the gate 'each\[0\].ask' \(and 2 more\), which"):
        _set(house, run_id, "after", Skip())
    for item in (0, 1):
        decide(house.context, run_id, StepKey(f"each[{item}].ask"), Answer("alice", Verdict.APPROVE))
    with pytest.raises(InvalidTransition, match=r"behind the gate 'each\[2\].ask', which"):
        _set(house, run_id, "after", Skip())


def test_what_runs_or_has_ended_is_not_set(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a"), noop_step("b", needs=["a"])])
    assert isinstance(claim(house.context, run_id, StepKey("a"), "test:0"), Claimed)

    with pytest.raises(InvalidTransition, match="is running"):
        _set(house, run_id, "a", Skip())
    with pytest.raises(NotFound, match="no step 'bb'"):
        _set(house, run_id, "bb", Skip())
    _set(house, run_id, "b", Skip())
    with pytest.raises(InvalidTransition, match=r"has ended \(skipped\)"):
        _set(house, run_id, "b", Succeed())

    assert len(_events(house, run_id)) == 1


def test_of_two_overrides_at_once_one_wins_and_the_other_is_told(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a"), noop_step("b", needs=["a"]), noop_step("c", needs=["a"])])
    start, told = threading.Barrier(2), list[str]()

    def attempt(how: Override) -> None:
        start.wait()
        try:
            told.append(_set(house, run_id, "a", how).new_state)
        except InvalidTransition as error:
            told.append(type(error).__name__)

    threads = [threading.Thread(target=attempt, args=(how,)) for how in (Skip(), Succeed())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(told) == 2
    assert told.count("InvalidTransition") == 1
    assert len(_events(house, run_id)) == 1
    assert work_off(house, run_id) is RunState.COMPLETED
    assert {row.needs_open for row in step_rows(house.context, run_id).values()} == {0}


def test_an_override_and_a_claim_never_both_have_the_step(house: Runtime) -> None:
    for _ in range(5):
        run_id = submitted(house.context, [noop_step("a"), noop_step("b", needs=["a"])])
        start, told = threading.Barrier(2), dict[str, Any]()

        def take(run_id: RunId = run_id, start: threading.Barrier = start, told: dict[str, Any] = told) -> None:
            start.wait()
            told["claim"] = claim(house.context, run_id, StepKey("a"), "test:0")

        thread = threading.Thread(target=take)
        thread.start()
        start.wait()
        try:
            told["override"] = _set(house, run_id, "a", Skip())
        except InvalidTransition as error:
            told["override"] = error
        thread.join(30)

        is_taken = isinstance(told["claim"], Claimed)
        assert is_taken == isinstance(told["override"], InvalidTransition)
        assert is_taken or told["claim"] is ClaimRefusal.STEP_FINAL or told["claim"] is ClaimRefusal.RUN_NOT_RUNNING
        assert step_rows(house.context, run_id)["a"].id == step_id(run_id, StepKey("a"))
