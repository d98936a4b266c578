"""Gates: who decides, how many must, what a form gives, what becomes of one that nobody decides. Without a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.domain.error import AlreadyDecided, InvalidTransition, NotAllowed, NotFound, UsageError
from agentflow.domain.gate import GateState, Verdict
from agentflow.domain.gate_shape import Gate
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.state import RunState
from agentflow.embedded import ServerUrls
from agentflow.engine import installation
from agentflow.engine.cancel import cancel
from agentflow.engine.decide import Answer, Decided, decide
from agentflow.engine.fork import ForkRequest, fork
from agentflow.engine.pause import pause
from agentflow.engine.resume import resume
from agentflow.engine.retry import retry
from agentflow.engine.verify import verify_run
from agentflow.engine.wake import wake
from agentflow.runtime import Runtime
from agentflow.storage import gates
from tests.conftest import _administrate, _settings
from tests.factories import noop_step, run_state, shell_step, step_rows, submitted, work_off
from tests.integration.client.conftest import environment_of

GATE = StepKey("gate")


@pytest.fixture(scope="module")
def house(servers: ServerUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """One installation for all tests of the module: each has its own run."""
    name = f"gates_{os.getpid()}"
    _administrate(servers.database_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    house = Runtime(_settings(servers, name, tmp_path_factory.mktemp("gates"), prefix=f"{name}:"))
    installation.install(house.context.database, house.context.store, house.context.audit_key)
    yield house
    house.close()
    _administrate(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)")


def approval(**terms: Any) -> dict[str, Any]:
    """A gate behind a first step."""
    return {"id": "gate", "needs": ["first"], "approval": terms}


def held(house: Runtime, *more: Mapping[str, Any], gate: Mapping[str, Any] | None = None, **fields: Any) -> RunId:
    """A run that waits at its gate, with a step behind it."""
    steps = [noop_step("first"), gate or approval(), *(more or (noop_step("last", needs=["gate"]),))]
    run_id = submitted(house.context, steps, **fields)
    work_off(house, run_id)
    assert step_rows(house.context, run_id)["gate"].state == "held"
    return run_id


def approve(house: Runtime, run_id: RunId, actor: str, **given: Any) -> Decided:
    """Approve the gate as ``actor``."""
    return decide(house.context, run_id, GATE, Answer(actor, Verdict.APPROVE, given=given))


def reject(house: Runtime, run_id: RunId, actor: str, why: str | None = None) -> Decided:
    """Reject the gate as ``actor``."""
    return decide(house.context, run_id, GATE, Answer(actor, Verdict.REJECT, why))


def rows(house: Runtime, sql: str, **parameters: Any) -> list[Any]:
    """Read rows."""
    with house.context.database.transaction() as tx:
        return list(tx.execute(text(sql), parameters).all())


def gate_of(house: Runtime, run_id: RunId) -> Gate:
    """The newest gate of the step."""
    with house.context.database.transaction() as tx:
        gate = gates.read(tx, step_id(run_id, GATE))
    assert gate is not None
    return gate


def let_expire(house: Runtime, run_id: RunId) -> None:
    """Let the time of the open gate be over, and look at it as the dispatcher does."""
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE gate SET expires_at = now() WHERE run_id = :id AND state = 'open'"), {"id": run_id})
    wake(house.context, step_id(run_id, GATE), "dispatcher:test")


def test_a_gate_waits_until_enough_have_approved(house: Runtime) -> None:
    run_id = held(house, gate=approval(count=2))

    first = approve(house, run_id, "alice")
    reason = step_rows(house.context, run_id)["gate"].reason
    second = approve(house, run_id, "bob")

    assert (first.state, first.ready) == (GateState.OPEN, ())
    assert reason == {"code": "awaits_decision", "detail": {"kind": "approval", "given": 1, "count": 2}}
    assert (second.state, second.ready, second.approved_by) == (GateState.APPROVED, ("last",), ("alice", "bob"))
    assert work_off(house, run_id) is RunState.COMPLETED
    assert step_rows(house.context, run_id)["gate"].result == {"approved_by": ["alice", "bob"], "form": {}}


def test_the_same_approver_twice_changes_nothing_and_is_told(house: Runtime) -> None:
    run_id = held(house, gate=approval(count=2))
    approve(house, run_id, "alice")
    before = rows(house, "SELECT count(*) FROM audit_event WHERE run_id = :id", id=run_id)

    again = approve(house, run_id, "alice")

    assert (again.is_new, again.state, again.approved_by) == (False, GateState.OPEN, ("alice",))
    assert rows(house, "SELECT count(*) FROM audit_event WHERE run_id = :id", id=run_id) == before


def test_one_rejection_rejects_and_a_retry_opens_a_new_round(house: Runtime) -> None:
    run_id = held(house, gate=approval(count=3))
    approve(house, run_id, "alice")

    reject(house, run_id, "bob", "too early")

    assert work_off(house, run_id) is RunState.FAILED
    assert step_rows(house.context, run_id)["gate"].reason == {"code": "rejected", "detail": {"actor": "bob"}}
    retry(house.context, run_id, "alice")
    assert gate_of(house, run_id).round == 2
    assert gate_of(house, run_id).decisions == ()
    for actor in ("alice", "bob", "carol"):
        approve(house, run_id, actor)
    assert work_off(house, run_id) is RunState.COMPLETED


def test_a_rejection_counts_as_on_failure_says(house: Runtime) -> None:
    run_id = held(house, gate={**approval(), "on_failure": "ignore"})

    reject(house, run_id, "bob")

    assert run_state(house.context, run_id) is RunState.COMPLETED
    assert step_rows(house.context, run_id)["last"].state == "skipped"


def test_who_approved_may_still_reject(house: Runtime) -> None:
    run_id = held(house, gate=approval(count=2))
    approve(house, run_id, "alice")

    rejected = reject(house, run_id, "alice")

    assert (rejected.state, rejected.approved_by) == (GateState.REJECTED, ())


def test_who_submitted_the_run_may_not_approve_it(house: Runtime) -> None:
    run_id = held(house)

    with pytest.raises(NotAllowed) as refused:
        approve(house, run_id, "tester@test")

    assert refused.value.details["reason"] == "self_approval"
    assert gate_of(house, run_id).decisions == ()
    assert approve(house, held(house, gate=approval(allow_self=True)), "tester@test").state is GateState.APPROVED


def test_only_those_named_and_the_members_of_groups_may_decide(house: Runtime) -> None:
    settings = house.context.settings.model_copy(update={"approver_groups": {"ops": ("dora",)}})
    context = replace(house.context, settings=settings)
    run_id = held(house, gate=approval(approvers=["alice", "@ops", "@nobody"], count=2))

    for stranger in ("bob", "@ops", "ops"):
        with pytest.raises(NotAllowed, match="alice, @ops, @nobody"):
            decide(context, run_id, GATE, Answer(stranger, Verdict.APPROVE))
    decide(context, run_id, GATE, Answer("dora", Verdict.APPROVE))

    assert decide(context, run_id, GATE, Answer("alice", Verdict.APPROVE)).state is GateState.APPROVED


def test_what_an_approver_fills_in_becomes_a_var_of_the_run(house: Runtime) -> None:
    form = {"region": {"one_of": ["eu", "us"]}, "copies": {"type": "integer", "default": 2}}
    run_id = held(
        house, shell_step("last", "exit 0", needs=["gate"], env={"R": "{{ vars.region }}"}), gate=approval(form=form)
    )

    with pytest.raises(UsageError, match="region must be filled in"):
        approve(house, run_id, "alice")
    with pytest.raises(UsageError, match="region is none of its choices: eu, us; copies must be a whole number"):
        approve(house, run_id, "alice", region="mars", copies="two")
    approve(house, run_id, "alice", region="eu", copies="3")

    assert rows(house, "SELECT vars FROM run WHERE id = :id", id=run_id)[0].vars == {"region": "eu", "copies": 3}
    assert step_rows(house.context, run_id)["gate"].result["form"] == {"region": "eu", "copies": 3}
    event = rows(house, "SELECT facts FROM audit_event WHERE action = 'decide' AND run_id = :id", id=run_id)[0].facts
    assert event["set"] == ["copies", "region"]


def test_a_later_approver_cannot_change_what_an_earlier_one_approved(house: Runtime) -> None:
    run_id = held(house, gate=approval(count=2, form={"region": {}}))
    approve(house, run_id, "alice", region="eu")

    with pytest.raises(UsageError, match="set by an earlier approval"):
        approve(house, run_id, "bob", region="us")

    assert approve(house, run_id, "bob").state is GateState.APPROVED


def test_who_comes_late_is_told_who_decided_and_when(house: Runtime) -> None:
    run_id = held(house)
    approve(house, run_id, "alice")

    for step in (GATE, None):
        with pytest.raises(AlreadyDecided, match="was approved by alice at 20") as late:
            decide(house.context, run_id, step, Answer("bob", Verdict.REJECT))
        assert late.value.details["decided_by"] == "alice"


def test_what_is_no_open_gate_cannot_be_decided(house: Runtime) -> None:
    run_id = held(house)

    with pytest.raises(NotFound, match="no step 'nothing'; its open gates: gate"):
        decide(house.context, run_id, StepKey("nothing"), Answer("alice", Verdict.APPROVE))
    with pytest.raises(InvalidTransition, match="waits for no decision; its open gates: gate"):
        decide(house.context, run_id, StepKey("last"), Answer("alice", Verdict.APPROVE))


@pytest.mark.parametrize(
    ("terms", "state", "end"),
    [
        ({}, GateState.EXPIRED, RunState.FAILED),
        ({"on_expiry": "deny"}, GateState.EXPIRED, RunState.FAILED),
        ({"on_expiry": "approve"}, GateState.APPROVED, RunState.COMPLETED),
    ],
)
def test_a_gate_that_nobody_decides_ends_as_the_plan_says(
    house: Runtime, terms: Mapping[str, Any], state: GateState, end: RunState
) -> None:
    run_id = held(house, gate=approval(expires="24h", **terms))

    wake(house.context, step_id(run_id, GATE), "dispatcher:test")
    assert gate_of(house, run_id).state is GateState.OPEN
    let_expire(house, run_id)

    assert gate_of(house, run_id).state is state
    assert work_off(house, run_id) is end


def test_a_gate_is_not_decided_once_its_time_is_over(house: Runtime) -> None:
    run_id = held(house, gate=approval(expires="24h"))
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE gate SET expires_at = now() WHERE run_id = :id"), {"id": run_id})

    with pytest.raises(InvalidTransition, match="its time is over since"):
        approve(house, run_id, "alice")


def test_an_escalated_gate_is_for_others_and_denied_the_second_time(house: Runtime) -> None:
    terms = {"expires": "1h", "on_expiry": "escalate", "escalate_to": ["boss"], "approvers": ["alice"]}
    run_id = held(house, gate=approval(**terms))

    let_expire(house, run_id)

    gate = gate_of(house, run_id)
    assert (gate.is_escalated, gate.state, gate.approvers) == (True, GateState.OPEN, ("boss",))
    assert step_rows(house.context, run_id)["gate"].not_before == gate.expires_at
    with pytest.raises(NotAllowed):
        approve(house, run_id, "alice")
    let_expire(house, run_id)
    assert gate_of(house, run_id).state is GateState.EXPIRED
    assert approve(house, _escalated(house, terms), "boss").state is GateState.APPROVED


def _escalated(house: Runtime, terms: Mapping[str, Any]) -> RunId:
    run_id = held(house, gate=approval(**terms))
    let_expire(house, run_id)
    return run_id


def test_a_gate_of_a_paused_run_is_decided_and_its_steps_wait_for_the_resume(house: Runtime) -> None:
    run_id = held(house)
    pause(house.context, run_id, "alice")

    approve(house, run_id, "bob")

    assert step_rows(house.context, run_id)["last"].state == "ready"
    assert step_rows(house.context, run_id)["last"].sent_at is None
    resume(house.context, run_id, "alice")
    assert work_off(house, run_id) is RunState.COMPLETED


def test_a_cancelled_run_withdraws_its_gates(house: Runtime) -> None:
    run_id = held(house)

    cancel(house.context, run_id, "alice")

    assert gate_of(house, run_id).state is GateState.WITHDRAWN
    with pytest.raises(AlreadyDecided, match="was withdrawn"):
        approve(house, run_id, "bob")


def test_a_rejection_can_send_the_run_back_to_a_step(house: Runtime) -> None:
    steps = [
        noop_step("first"),
        noop_step("draft", needs=["first"]),
        noop_step("aside", needs=["draft"]),
        {"id": "gate", "needs": ["aside"], "approval": {"on_reject": {"redo": "draft", "max_rounds": 1}}},
        noop_step("last", needs=["gate", "draft"]),
    ]
    run_id = submitted(house.context, steps)
    work_off(house, run_id)

    sent_back = reject(house, run_id, "alice", "once more")

    assert (sent_back.state, sent_back.ready) == (GateState.REJECTED, ("draft",))
    states = {key: row.state for key, row in step_rows(house.context, run_id).items()}
    assert states == {"first": "succeeded", "draft": "ready", "aside": "pending", "gate": "pending", "last": "pending"}
    assert work_off(house, run_id) is RunState.RUNNING
    assert [row.attempts for row in step_rows(house.context, run_id).values()] == [1, 2, 2, 0, 0]
    assert gate_of(house, run_id).round == 2
    approve(house, run_id, "alice")
    assert work_off(house, run_id) is RunState.COMPLETED
    assert not verify_run(house.context, run_id).findings


def test_a_run_is_sent_back_no_oftener_than_the_plan_says(house: Runtime) -> None:
    run_id = held(house, gate=approval(on_reject={"redo": "first", "max_rounds": 1}))
    reject(house, run_id, "alice")
    work_off(house, run_id)

    assert reject(house, run_id, "alice").ready == ()

    assert work_off(house, run_id) is RunState.FAILED


def test_every_decision_is_one_event_with_who_and_why_and_the_chains_verify(house: Runtime) -> None:
    run_id = held(house, gate=approval(count=2))
    approve(house, run_id, "alice")
    reject(house, run_id, "bob", "not on a Friday")

    events = rows(
        house, "SELECT actor, facts FROM audit_event WHERE run_id = :id AND action = 'decide' ORDER BY at", id=run_id
    )

    assert [(event.actor, event.facts["verdict"], event.facts["why"]) for event in events] == [
        ("alice", "approve", None),
        ("bob", "reject", "not on a Friday"),
    ]
    assert not verify_run(house.context, run_id).findings


def test_of_two_who_decide_at_once_one_wins_and_the_other_is_told(house: Runtime) -> None:
    gates_of_run = [StepKey(f"gate{number}") for number in range(100)]
    asking = [{"id": key, "needs": [], "approval": {}, "on_failure": "ignore"} for key in gates_of_run]
    run_id, together = submitted(house.context, asking), threading.Barrier(2)

    def say(actor: str, verdict: Verdict, told: list[Any]) -> None:
        for key in gates_of_run:
            together.wait(30)
            try:
                told.append(decide(house.context, run_id, key, Answer(actor, verdict)).state)
            except AlreadyDecided as late:
                told.append(late.details["decided_by"])

    alice: list[Any] = []
    bob: list[Any] = []
    threads = [
        threading.Thread(target=say, args=("alice", Verdict.APPROVE, alice)),
        threading.Thread(target=say, args=("bob", Verdict.REJECT, bob)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    outcomes = {(GateState.APPROVED, "alice"), ("bob", GateState.REJECTED)}
    assert len(alice) == len(bob) == len(gates_of_run)
    assert set(zip(alice, bob, strict=True)) <= outcomes
    decided = rows(house, "SELECT count(*) FROM audit_event WHERE action = 'decide' AND run_id = :id", id=run_id)
    assert decided[0].count == len(gates_of_run)
    approved = alice.count(GateState.APPROVED)
    assert run_state(house.context, run_id) is (RunState.COMPLETED if approved else RunState.FAILED)


def test_of_processes_that_decide_at_once_one_wins_and_the_others_are_told(house: Runtime) -> None:
    run_id = held(house)
    environment = {**os.environ, **environment_of(house.settings)}
    deciding = [
        subprocess.Popen(
            [sys.executable, "-m", "agentflow", "approve", str(run_id), "gate", "--json"],
            env={**environment, "AGENTFLOW_ACTOR": f"person{number}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    answers = [(process.communicate(timeout=60)[0], process.returncode) for process in deciding]

    told = sorted(((code, json.loads(answer)) for answer, code in answers), key=lambda each: each[0])
    assert [code for code, _ in told] == [0, 1]
    winner = told[0][1]["decided"]["approved_by"][0]
    assert {answer["error"]["code"] for _, answer in told[1:]} == {"already_decided"}
    assert {answer["error"]["details"]["decided_by"] for _, answer in told[1:]} == {winner}


def test_the_time_in_which_a_run_waits_for_a_decision_is_no_active_time(house: Runtime) -> None:
    run_id = held(house)
    hour = timedelta(hours=1)
    with house.context.database.transaction() as tx:
        for aging in (
            "UPDATE attempt SET started_at = started_at - :hour, ended_at = ended_at - :hour WHERE run_id = :id",
            "UPDATE gate SET opened_at = opened_at - :hour WHERE run_id = :id",
            "UPDATE run_state SET started_at = started_at - :hour WHERE run_id = :id",
        ):
            tx.execute(text(aging), {"id": run_id, "hour": hour})

    approve(house, run_id, "alice")

    rested = rows(house, "SELECT rested_seconds FROM run_state WHERE run_id = :id", id=run_id)[0].rested_seconds
    assert 3600 <= rested < 3660
    assert work_off(house, run_id) is RunState.COMPLETED


def test_a_gate_decides_itself_by_files_and_checks(house: Runtime) -> None:
    gate = {"kind": "quality", "automatic": True, "checks": {"lint": "block"}, "artifacts": {"first": ["*.txt"]}}
    for code, end, result in ((0, RunState.COMPLETED, ["gate"]), (1, RunState.FAILED, None)):
        steps = [
            shell_step("first", "echo made > $AGENTFLOW_ARTIFACTS/a.txt; : > $AGENTFLOW_ARTIFACTS/empty.txt"),
            shell_step("lint", f"exit {code}", on_failure="ignore", retry=1),
            {"id": "gate", "needs": ["first", "lint"], "when": "always", "approval": gate},
            noop_step("last", needs=["gate"]),
        ]
        run_id = submitted(house.context, steps)

        assert work_off(house, run_id) is end

        opened = gate_of(house, run_id)
        row = step_rows(house.context, run_id)["gate"]
        assert (row.result or {}).get("approved_by") == result
        assert [said.actor for said in opened.decisions] == ["gate"]
        assert [file["name"] for file in opened.facts["artifacts"]["files"]] == ["a.txt"]
        assert opened.facts["checks"][0]["is_passed"] is (code == 0)
        if code:
            assert row.reason == {"code": "rejected", "detail": {"actor": "gate", "checks": ["lint"]}}


def test_a_fork_asks_again_whatever_was_approved_and_does_what_is_behind_the_gate_anew(house: Runtime) -> None:
    run_id = held(house, noop_step("between", needs=["gate"]), noop_step("last", needs=["between"]))
    approve(house, run_id, "alice")
    work_off(house, run_id)

    forked = fork(house.context, run_id, ForkRequest(StepKey("last"), "alice"))

    assert forked.reused == ("first",)
    assert step_rows(house.context, forked.run_id)["gate"].state == "held"
    with pytest.raises(NotAllowed):  # alice made the fork
        approve(house, forked.run_id, "alice")


def test_the_gates_of_a_foreach_are_decided_one_by_one(house: Runtime) -> None:
    inner = [noop_step("first"), {"id": "gate", "needs": ["first"], "approval": {"on_reject": {"redo": "first"}}}]
    run_id = submitted(house.context, [{"id": "each", "foreach": [1, 2], "steps": inner}])
    work_off(house, run_id)

    with pytest.raises(NotFound, match=r"no step 'gate'; its open gates: each\[0\].gate, each\[1\].gate"):
        decide(house.context, run_id, StepKey("gate"), Answer("alice", Verdict.APPROVE))
    with pytest.raises(UsageError, match=r"name a step, each\[0\].gate, each\[1\].gate"):
        decide(house.context, run_id, None, Answer("alice", Verdict.APPROVE))
    decide(house.context, run_id, StepKey("each[0].gate"), Answer("alice", Verdict.APPROVE))
    back = decide(house.context, run_id, StepKey("each[1].gate"), Answer("alice", Verdict.REJECT))
    work_off(house, run_id)
    decide(house.context, run_id, None, Answer("alice", Verdict.APPROVE))

    assert back.ready == ("each[1].first",)
    assert work_off(house, run_id) is RunState.COMPLETED
    assert step_rows(house.context, run_id)["each[1].first"].attempts == 2
