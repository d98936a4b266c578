"""Which of all reasons a run or a step is told to have: the first in its way, and what that goes back to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agentflow.domain.budget import Budget
from agentflow.domain.gate import Decision, FormField, GateKind, GateState, GateTerms, Groups, Verdict
from agentflow.domain.gate_shape import Gate, GateView
from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.domain.state import RunState, StepState
from agentflow.domain.why import Explainer, Why, WhyCode
from agentflow.domain.why_facts import (
    AttemptFacts,
    Facts,
    HolderFacts,
    LeaderFacts,
    LineFacts,
    QueueFacts,
    StandingFacts,
    StepFacts,
    SuspectFacts,
    Terms,
    WorkerFacts,
)
from agentflow.domain.why_words import advice, sentence, sentence_of_group, why_json

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RUN = RunId(UUID("0190a5c0-0000-7000-8000-000000000001"))


def _ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


WORKER = WorkerFacts("w1@host", is_serving=True, seen_at=_ago(1), slots=2, busy=2)
GONE = replace(WORKER, name="w0@host", is_serving=False, seen_at=_ago(600))
QUEUE = QueueFacts("commands", depth=0, workers=(GONE, WORKER))
LEADER = LeaderFacts("w1@host:9", 4, expires_at=NOW + timedelta(seconds=2), is_leading=True)
DUE = StepFacts(StepKey("a"), 0, StepState.READY, "commands", not_before=_ago(2))
RUNNING = StandingFacts(RUN, RunState.RUNNING, tally={StepState.READY: 1})
ATTEMPT = AttemptFacts(2, "w1@host:77", started_at=_ago(30), lease_until=NOW + timedelta(seconds=15))
AWAITS = {"code": "awaits_person", "detail": {"after": "worker_lost"}}
PAUSED = {"actor": "ann@host", "why": "a deploy", "at": "2026-11-21T11:00:00Z", "is_hard": False, "scope": "run"}
SHORT: dict[str, Any] = {
    "budget": "tokens", "scope": f"run:{RUN}", "limit": 100, "used": 90, "reserved": 0, "needed": 40
}  # fmt: skip
HOLDER = HolderFacts(RUN, StepKey("other"), "w1@host:78", _ago(9), NOW, "ours")
FULL = LineFacts(turn=3, free=0, limit=1, holders=(HOLDER,))


def _facts(*steps: StepFacts, run: StandingFacts = RUNNING, queue: QueueFacts = QUEUE, **fields: Any) -> Facts:
    return Facts(NOW, run, {step.key: step for step in steps}, {queue.name: queue}, **{"leader": LEADER, **fields})


def _why(step: StepFacts = DUE, **fields: Any) -> Why:
    return Explainer(_facts(step, **fields)).step(step.key)


def _put_off(code: str, **detail: Any) -> StepFacts:
    return replace(DUE, not_before=NOW + timedelta(seconds=12), reason={"code": code, "detail": detail})


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (RunState.COMPLETED, WhyCode.RUN_ENDED),
        (RunState.CANCELLING, WhyCode.RUN_CANCELLING),
        (RunState.FAILING, WhyCode.RUN_FAILING),
        (RunState.PENDING, WhyCode.RUN_PENDING),
    ],
)
def test_a_run_that_does_not_run_is_in_the_way_of_each_step(state: RunState, code: WhyCode) -> None:
    stopped = replace(RUNNING, state=state, paused=PAUSED, exhausted=(SHORT,))

    assert _why(run=stopped).code is code
    assert Explainer(_facts(DUE, run=stopped)).run().code is code


def test_what_still_runs_of_an_ending_run_is_told() -> None:
    reason = {"code": "step_failed", "detail": {"step": "b"}}
    failing = replace(RUNNING, state=RunState.FAILING, reason=reason, tally={StepState.RUNNING: 2})

    told = sentence(Explainer(_facts(run=failing)).run())

    assert told == "is failing: step b failed; 2 steps of it still run"


def test_a_pause_says_who_why_and_since_when_and_stands_before_a_budget() -> None:
    why = _why(run=replace(RUNNING, paused=PAUSED, exhausted=(SHORT,)))

    assert why.code is WhyCode.PAUSED
    assert sentence(why) == "is paused by ann@host since 2026-11-21T11:00:00Z (a deploy)"
    assert advice(why) == "`agentflow resume {run}`"


MAINTAINED = PAUSED | {"scope": "maintenance"}


SUBMITTED_LATER = MAINTAINED | {"at": "2026-11-21T11:30:00Z"}


@pytest.mark.parametrize(
    "run",
    [
        replace(RUNNING, paused=MAINTAINED),
        replace(RUNNING, maintenance=MAINTAINED),
        replace(RUNNING, paused=SUBMITTED_LATER, maintenance=MAINTAINED),
    ],
    ids=["one that is ending", "before it reached the run", "since before the run"],
)
def test_a_maintenance_is_told_as_one_since_it_began_also_before_it_reached_the_run(run: StandingFacts) -> None:
    why = _why(run=run)

    assert sentence(why).startswith("rests: everything is under maintenance by ann@host since 2026-11-21T11:00:00Z")
    assert advice(why) == "`agentflow resume --all`"


def test_a_pause_of_the_runs_own_is_told_also_under_maintenance() -> None:
    assert sentence(_why(run=replace(RUNNING, paused=PAUSED, maintenance=MAINTAINED))).startswith("is paused by")


def test_a_run_that_has_ended_says_how_and_proposes_a_retry_only_where_something_is_left() -> None:
    completed = replace(RUNNING, state=RunState.COMPLETED)
    ended = Explainer(_facts(run=completed)).run()

    assert sentence(ended) == "has ended as completed"
    assert advice(ended) == "`agentflow show {run}` tells what it did"
    assert "its run has ended as completed" in sentence(_why(run=completed))
    assert "agentflow retry {run}" in str(advice(_why(run=replace(completed, state=RunState.FAILED))))


def test_a_run_that_failed_says_why_the_step_did_that_it_failed_with() -> None:
    reason = {"code": "step_failed", "detail": {"step": "a"}}
    failed = replace(RUNNING, state=RunState.FAILED, reason=reason)
    step = replace(DUE, state=StepState.FAILED, reason={"code": "needs_failed", "detail": {}}, attempts=2)

    ended = Explainer(_facts(step, run=failed)).run()

    assert sentence(ended).startswith("has ended as failed: step a has failed in 2 attempts: ")
    assert "agentflow retry {run}" in str(advice(ended))
    assert Explainer(_facts(run=failed)).run().cause is None, "a step that is not among the facts"


def test_one_step_that_asks_a_rate_is_told_as_one() -> None:
    why = Why(WhyCode.RATE_ASKING, {"asking": 1, "key": "api"}, StepKey("a"))

    assert sentence(why).startswith("is due; 1 step before it is out to ask the rate limit api")


def test_a_poisoned_step_is_a_dead_letter_and_says_how_it_is_replayed() -> None:
    why = _why(replace(DUE, state=StepState.FAILED, attempts=3, reason={"code": "poisoned", "detail": {"lost": 3}}))

    assert sentence(why).endswith("(poisoned: a dead letter)")
    assert advice(why) == "mend what ended its workers, then `agentflow dead-letters replay {run} a`"


def test_a_pause_of_another_version_is_told_with_what_it_has() -> None:
    assert sentence(_why(run=replace(RUNNING, paused={}))) == "is paused by ? since ?"


def test_an_exhausted_run_says_which_budget_and_by_how_much_to_raise_it() -> None:
    why = _why(run=replace(RUNNING, exhausted=(SHORT,), caps=Budget(tokens=120)))

    assert why.code is WhyCode.EXHAUSTED
    assert "of 100, 90 used, 40 needed" in sentence(why)
    assert advice(why) == "`agentflow budget raise {run} --tokens +10`, then `agentflow resume {run}`"


def test_a_budget_of_the_configuration_is_raised_there_or_renewed_by_its_day() -> None:
    configured = SHORT | {"scope": "project:ops"}
    renewed = configured | {"resets_at": "2026-11-22T00:00:00Z"}

    assert advice(_why(run=replace(RUNNING, exhausted=(configured,)))) == (
        "raise the configured caps, then `agentflow resume {run}`"
    )
    assert advice(_why(run=replace(RUNNING, exhausted=(renewed,)))) == (
        "wait until 2026-11-22T00:00:00Z, it then goes on by itself"
    )


@pytest.mark.parametrize("state", [StepState.SUCCEEDED, StepState.FAILED, StepState.SKIPPED, StepState.CANCELLED])
def test_a_step_that_is_over_says_how_it_ended_whatever_its_run_does(state: StepState) -> None:
    over = replace(DUE, state=state, attempts=2, reason={"code": "exit_code", "detail": {"exit_code": 3}})

    why = _why(over, run=replace(RUNNING, state=RunState.FAILED))

    assert why.code is WhyCode.STEP_FINAL
    assert sentence(why).endswith("in 2 attempts: exited with code 3")


def test_a_step_that_is_over_is_looked_into_where_there_is_something_to_see() -> None:
    failed = replace(DUE, state=StepState.FAILED, attempts=1, reason={"code": "exit_code", "detail": {"exit_code": 3}})
    child = "0190a5c0-0000-7000-8000-00000000000f"
    ended = {"code": "child_ended", "detail": {"run": child, "state": "failed"}}
    skipped = replace(DUE, state=StepState.SKIPPED, reason={"code": "step_failed", "detail": {"step": "b"}})

    assert advice(_why(replace(failed, has_logs=True))) == "`agentflow logs {run} a` prints what it wrote"
    assert advice(_why(failed)) is None
    lacks = replace(failed, reason={"code": "secret_missing", "detail": {"name": "CHAT_TOKEN"}})
    assert advice(_why(lacks)) == (
        "set AGENTFLOW_SECRET_CHAT_TOKEN where its worker starts, start that again, then `agentflow retry {run}`"
    )
    assert advice(_why(skipped)) is None
    assert advice(_why(replace(failed, attempts=0, reason=ended))) == (
        f"`agentflow why {child}` tells why its child run ended so"
    )


def test_a_step_that_runs_says_where_since_when_and_until_when_its_lease_holds_also_in_a_run_that_rests() -> None:
    running = replace(DUE, state=StepState.RUNNING, attempt=ATTEMPT)

    why = _why(running, run=replace(RUNNING, paused=PAUSED))

    assert why.code is WhyCode.RUNNING
    assert sentence(why).startswith("runs on w1@host:77 for 30s (attempt 2); its lease holds for 15s")


def test_a_lease_that_is_over_and_a_stop_that_was_asked_for_are_told() -> None:
    late = replace(ATTEMPT, lease_until=_ago(4), is_stop_requested=True)

    told = sentence(_why(replace(DUE, state=StepState.RUNNING, attempt=late)))

    assert told == (
        "began on w1@host:77 30s ago (attempt 2) and was told to stop; its lease ended 4s ago and nothing was heard of "
        "it since: a dispatcher takes it for lost, and it goes on elsewhere or is held, as its on_lost says"
    )
    yielding = replace(ATTEMPT, is_yield_requested=True)
    assert "told to give the step back" in sentence(_why(replace(DUE, state=StepState.RUNNING, attempt=yielding)))


def test_a_held_step_says_what_for_and_how_it_is_taken_up() -> None:
    why = _why(replace(DUE, state=StepState.HELD, reason=AWAITS))

    assert why.code is WhyCode.HELD
    assert "on_lost is hold" in sentence(why)
    assert advice(why) == "`agentflow retry {run} --step a` runs it again, on your word"


def _gate(*approvers: str, by: tuple[str, ...] = (), **terms: Any) -> GateView:
    decisions = tuple(Decision(actor, Verdict.APPROVE, _ago(9)) for actor in by)
    gate = Gate(
        UUID(int=9), GateState.OPEN, GateKind.APPROVAL, 1, GateTerms(approvers=approvers, **terms), {}, "f", _ago(60),
        None, False, None, decisions,
    )  # fmt: skip
    return GateView(RUN, StepId(UUID(int=8)), StepKey("a"), "ours", "ship", "root@vm", NOW, gate)


def _at_gate(view: GateView, groups: Groups) -> Why:
    reason = {"code": "awaits_decision", "detail": {"given": len(view.gate.decisions), "count": view.gate.terms.count}}
    waiting = replace(DUE, state=StepState.HELD, reason=reason, gate=view, not_before=None)
    return _why(waiting, terms=Terms(groups=groups))


ASKED_WHOM = [
    (_gate(), {}, "; anyone but root@vm, who submitted the run, may give the 1 missing"),
    (_gate(allows_self=True), {}, "; anyone may give the 1 missing"),
    (_gate("alice", "bob", by=("alice",), count=2), {}, " by alice; bob may give the 1 missing"),
    (_gate("@ops", "bob"), {"ops": ("ann",)}, "; @ops, bob may give the 1 missing"),
    (_gate("@ops"), {"ops": ("ann", "root@vm")}, "; @ops but root@vm, who submitted the run, may give the 1 missing"),
    (_gate("alice", "@ops", count=2), {}, "; alice may give 1 of the 2 missing (@ops: no members here)"),
    (_gate("alice", "@ops", count=2), {"ops": ("alice",)}, "; alice, @ops may give 1 of the 2 missing"),
    (_gate("@ops", "root@vm"), {"ops": ("root@vm",)}, "; nobody may give the 1 missing"),
    (
        _gate("alice", "@ops", by=("alice",), count=2), {},
        " by alice; nobody may give the 1 missing (@ops: no members here)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("view", "groups", "words"), ASKED_WHOM)
def test_a_step_at_a_gate_names_who_may_approve_it_yet(view: GateView, groups: Groups, words: str) -> None:
    assert sentence(_at_gate(view, groups)).endswith(words)


@pytest.mark.parametrize(
    ("actor", "verdicts"),
    [("root@vm", ["reject"]), ("bob", ["approve", "reject"]), ("alice", ["reject"]), ("mallory", [])],
)
def test_each_may_say_to_a_gate_what_would_not_be_refused(actor: str, verdicts: list[str]) -> None:
    assert list(_gate("alice", "bob", by=("alice",), count=2).verdicts_of(actor, {})) == verdicts


def test_a_gate_is_answered_with_what_its_form_asks_and_by_who_may() -> None:
    form = {"region": FormField(), "note": FormField(required=False), "size": FormField(default="s")}
    reject = "`agentflow reject {run} a --why ...`"

    approve = "`agentflow approve {run} a --set region=...` by one of them, or "
    assert advice(_at_gate(_gate("bob", form=form), {})) == approve + reject
    assert advice(_at_gate(_gate(allows_self=True), {})) == f"`agentflow approve {{run}} a` or {reject}"
    fill = "put members into @ops (approver_groups in agentflow.toml), or "
    assert advice(_at_gate(_gate("@ops"), {})) == fill + reject
    assert advice(_at_gate(_gate("root@vm"), {})) == reject


@pytest.mark.parametrize(
    ("step", "code", "words"),
    [
        (
            replace(_put_off("exit_code", exit_code=75), state=StepState.RETRYING),
            WhyCode.RETRYING,
            "is tried again in 12s: exited with code 75",
        ),
        (
            replace(_put_off("rate_limited", key="api"), rate_key="api"),
            WhyCode.RATE_TICKET,
            "waits for the rate limit api: its ticket is for 2026-11-21T12:00:12.000Z, in 12s",
        ),
        (_put_off("call_postponed", what="was refused", seconds=12), WhyCode.POSTPONED, "asks to wait 12 s"),
        (_put_off("breaker_open", endpoint="openai@x:1", seconds=12), WhyCode.BREAKER_OPEN, "calls to openai@x:1 fail"),
        (
            _put_off("budget_contended", budget="usd", scope="project:a"),
            WhyCode.BUDGET_CONTENDED,
            "others have reserved",
        ),
        (_put_off("budget_unsettled"), WhyCode.BUDGET_UNSETTLED, "what its budgets have left"),
        (_put_off("worker_lost", worker="w0@host:1"), WhyCode.NOT_BEFORE, "is due in 12s: lost its worker w0@host:1"),
        (replace(DUE, not_before=NOW + timedelta(seconds=12)), WhyCode.NOT_BEFORE, "is due in 12s"),
    ],
    ids=lambda value: value.value if isinstance(value, WhyCode) else None,
)
def test_a_step_that_is_not_due_yet_says_what_it_was_put_off_for(step: StepFacts, code: WhyCode, words: str) -> None:
    why = _why(step, queue=replace(QUEUE, workers=()))

    assert why.code is code
    assert words in sentence(why)


def test_a_full_concurrency_key_says_who_holds_it_and_the_place_in_its_line() -> None:
    why = _why(replace(DUE, slot_key="db", line=FULL))

    assert why.code is WhyCode.IN_LINE
    assert "in line for db as number 3; 0 free of its 1 place, held by other of 0190a5c0 since" in sentence(why)


def test_what_others_do_is_told_to_who_sees_one_project_without_a_name() -> None:
    suspect = SuspectFacts(RUN, StepKey("other"), StepState.RUNNING, "theirs")
    line = replace(FULL, holders=(HOLDER, replace(HOLDER, project="theirs")))

    own = _why(replace(DUE, slot_key="db", line=line), seen_by="ours")
    none = _why(replace(DUE, slot_key="db", line=line), seen_by="nobody's")
    behind = _why(replace(DUE, is_suspect=True), suspect=suspect, seen_by="ours")

    assert (len(own.detail["holders"]), own.detail["held"]) == (1, 2)
    assert "held by other of 0190a5c0 since" in sentence(own)
    assert sentence(own).endswith("and 1 more")
    assert none.detail["holders"] == []
    assert sentence(none).endswith("held by 2 more")
    assert behind.detail["ahead"] == {"run": None, "step": None, "state": "running"}
    assert "one of another project, which is running" in sentence(behind)
    assert "other of run" in sentence(_why(replace(DUE, is_suspect=True), suspect=suspect))


@pytest.mark.parametrize(
    "step",
    [
        replace(DUE, slot_key="db", line=replace(FULL, turn=1, free=1)),
        replace(DUE, slot_key="db", line=FULL, sent_at=_ago(1)),
    ],
    ids=["its turn", "called up"],
)
def test_a_step_that_was_called_up_or_is_next_is_not_kept_by_the_line(step: StepFacts) -> None:
    assert _why(step).code is not WhyCode.IN_LINE


@pytest.mark.parametrize("sent_at", [None, _ago(1)])
def test_a_queue_without_a_living_worker_says_who_served_it_last(sent_at: datetime | None) -> None:
    why = _why(replace(DUE, sent_at=sent_at), queue=replace(QUEUE, workers=(GONE,)))

    assert why.code is WhyCode.NO_WORKER
    assert "from the queue commands (it was served by w0@host, last seen 2026-11-21T11:50:00.000Z)" in sentence(why)
    assert "agentflow worker -Q commands" in str(advice(why))


def test_a_queue_that_nobody_ever_served_says_so() -> None:
    assert "(none ever did)" in sentence(_why(queue=QueueFacts("other")))


def test_a_message_in_the_queue_says_behind_how_many_and_how_busy_the_workers_are() -> None:
    why = _why(replace(DUE, sent_at=_ago(8), newness=2), queue=replace(QUEUE, depth=14))

    assert why.code is WhyCode.DOORBELL_WAITS
    assert sentence(why) == (
        "waits behind 12 messages in the queue commands (1 worker with 2 slots, 2 busy); sent 8s ago"
    )
    assert "as the next" in sentence(_why(replace(DUE, sent_at=_ago(8), newness=14), queue=replace(QUEUE, depth=14)))


@pytest.mark.parametrize(
    ("age", "leader", "code"),
    [
        (1, LEADER, WhyCode.DOORBELL_TAKEN),
        (4, LEADER, WhyCode.DOORBELL_LOST),
        (4, None, WhyCode.NO_DISPATCHER),
        (4, replace(LEADER, is_leading=False), WhyCode.NO_DISPATCHER),
    ],
)
def test_a_message_that_left_the_queue_is_being_taken_or_lost(age: float, leader: Any, code: WhyCode) -> None:
    assert _why(replace(DUE, sent_at=_ago(age), newness=1), leader=leader).code is code


def test_a_step_without_a_message_waits_for_a_dispatcher_that_leads() -> None:
    why = _why(leader=replace(LEADER, is_leading=False))

    assert why.code is WhyCode.NO_DISPATCHER
    assert "w1@host:9 led last, in term 4" in sentence(why)
    assert _why(leader=None).code is WhyCode.NO_DISPATCHER


@pytest.mark.parametrize(
    ("step", "queue", "code"),
    [
        (DUE, QUEUE, WhyCode.NOT_SENT),
        (DUE, replace(QUEUE, depth=None), WhyCode.REDIS_AWAY),
        (replace(DUE, sent_at=_ago(9), newness=1), replace(QUEUE, depth=None), WhyCode.REDIS_AWAY),
        (replace(DUE, is_suspect=True), QUEUE, WhyCode.SUSPECT),
        (DUE, replace(QUEUE, outstanding=1000), WhyCode.QUEUE_FULL),
        (replace(DUE, rate_key="api", asking=32), QUEUE, WhyCode.RATE_ASKING),
        (replace(DUE, rate_key="api", asking=32, has_ticket=True), QUEUE, WhyCode.NOT_SENT),
    ],
)
def test_a_due_step_says_what_keeps_its_message(step: StepFacts, queue: QueueFacts, code: WhyCode) -> None:
    why = _why(step, queue=queue)

    assert why.code is code
    assert sentence(why)


def _pending(key: str, position: int, *needs: str) -> StepFacts:
    return StepFacts(StepKey(key), position, StepState.PENDING, "commands", needs=tuple(map(StepKey, needs)))


def test_a_pending_step_goes_back_to_what_its_need_waits_for() -> None:
    ticketed = replace(_put_off("rate_limited", key="api"), rate_key="api")

    why = Explainer(_facts(ticketed, _pending("b", 1, "a"))).step(StepKey("b"))

    assert why.code is WhyCode.NEEDS_UNMET
    assert why.cause is not None
    assert why.cause.code is WhyCode.RATE_TICKET
    assert sentence(why).startswith("needs a (ready), which waits for the rate limit api")
    assert advice(why) == "`agentflow limits` shows the rate"


def test_the_root_is_the_most_blocking_of_all_and_lies_behind_other_pending_steps() -> None:
    held = replace(DUE, key=StepKey("h"), position=1, state=StepState.HELD, reason=AWAITS)
    facts = _facts(DUE, held, _pending("c", 2, "a", "h"), _pending("d", 3, "c", "a"))

    why = Explainer(facts).step(StepKey("d"))

    assert [need["step"] for need in why.detail["needs"]] == ["c", "a"]
    assert why.detail["root"] == "h"
    assert sentence(why).startswith("needs c (pending), a (ready); step h is held")


def test_steps_that_need_different_things_are_told_together_by_what_these_go_back_to() -> None:
    held = replace(DUE, state=StepState.HELD, reason=AWAITS)

    groups = Explainer(_facts(held, _pending("b", 1, "a"), _pending("c", 2, "b"))).groups()

    [told] = [sentence_of_group(group) for group in groups if group.count > 1]
    assert told.startswith("each waits for step a, which is held")


def test_a_plan_of_thousands_of_steps_in_a_row_is_explained() -> None:
    keys = [f"s{number}" for number in range(5000)]
    chain = [_pending(key, number, keys[number - 1]) for number, key in enumerate(keys) if number]
    first = replace(DUE, key=StepKey("s0"))

    explainer = Explainer(_facts(first, *chain))

    assert explainer.step(StepKey("s4999")).detail["root"] == "s0"
    counts = [(group.why.code, group.count, len(group.steps)) for group in explainer.groups()]
    assert counts == [(WhyCode.NOT_SENT, 1, 1), (WhyCode.NEEDS_UNMET, 4999, 20)]


def test_a_pending_step_whose_needs_have_just_been_met_says_that_it_needs_nothing_more() -> None:
    why = Explainer(_facts(_pending("b", 1))).step(StepKey("b"))

    assert (why.code, why.cause, why.detail["needs"]) == (WhyCode.NEEDS_UNMET, None, [])


def test_a_run_that_goes_on_says_so_and_one_of_which_nothing_runs_says_what_is_in_the_way() -> None:
    going = replace(RUNNING, tally={StepState.RUNNING: 1, StepState.READY: 2})

    assert sentence(Explainer(_facts(DUE, run=going)).run()) == "goes on (1 running, 2 ready)"
    stuck = Explainer(_facts(DUE, queue=replace(QUEUE, workers=()))).run()
    assert stuck.cause is not None
    assert stuck.cause.code is WhyCode.NO_WORKER
    assert sentence(stuck).startswith("has no step that runs (1 ready): a is due, and no worker")


def test_steps_with_the_same_reason_stand_together_the_most_blocking_first() -> None:
    more = [replace(DUE, key=StepKey(f"s{number}"), position=number) for number in range(3)]
    held = replace(DUE, key=StepKey("h"), position=4, state=StepState.HELD, reason=AWAITS)
    running = replace(DUE, key=StepKey("r"), position=5, state=StepState.RUNNING, attempt=ATTEMPT)
    over = replace(DUE, key=StepKey("o"), position=6, state=StepState.SUCCEEDED)

    groups = Explainer(_facts(*more, held, running, over)).groups()

    assert [(group.why.code, group.steps) for group in groups] == [
        (WhyCode.HELD, ("h",)),
        (WhyCode.NOT_SENT, ("s0", "s1", "s2")),
        (WhyCode.RUNNING, ("r",)),
    ]


def test_every_reason_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "howto" / "why.md").read_text(encoding="utf-8")

    assert [code.value for code in WhyCode if f"`{code.value}`" not in page] == []


def test_a_reason_is_json_with_its_cause_and_the_run_in_its_advice() -> None:
    facts = _facts(replace(DUE, state=StepState.HELD, reason=AWAITS), _pending("b", 1, "a"))

    told: Mapping[str, Any] = why_json(Explainer(facts).step(StepKey("b")), "1234abcd")

    assert told["cause"]["code"] == "held"
    assert told["advice"] == "`agentflow retry 1234abcd --step a` runs it again, on your word"
