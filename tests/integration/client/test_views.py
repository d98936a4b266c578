"""What surfaces read: the shown state is the domain's, the statements are few, also for big runs."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, event, text

from agentflow import AgentFlow
from agentflow.domain.error import AmbiguousId, NotFound, UsageError
from agentflow.domain.ids import RunId
from agentflow.domain.reason import PERSON_CODES, ReasonCode
from agentflow.domain.state import MOVING_STEP_STATES, RunFacts, RunState, ShownRunState, StepState, shown_state
from agentflow.runtime import Runtime
from agentflow.storage import feeds, views
from agentflow.storage.whole_run import read_run
from tests.factories import command_step, noop_step, submitted, work_off

HELD = '{"code": "awaits_person", "detail": {"worker": "w@h:1"}}'
BIG = 10_000


def _put(tx: Connection, run_id: RunId, state: RunState, steps: dict[str, StepState]) -> None:
    """Put a run and its steps into states, as the verbs that lead there would."""
    tx.execute(
        text("UPDATE run_state SET state = :state, ended_at = CASE WHEN :final THEN now() END WHERE run_id = :run"),
        {"state": state, "final": state in ("completed", "partial", "failed", "cancelled"), "run": run_id},
    )
    for key, step_state in steps.items():
        tx.execute(
            text(
                "UPDATE step SET state = :state, sent_at = NULL, needs_open = 0, "
                "reason = CASE WHEN :state = 'held' THEN CAST(:held AS jsonb) END WHERE run_id = :run AND key = :key"
            ),
            {"state": step_state, "held": HELD, "run": run_id, "key": key},
        )


def test_the_shown_state_of_one_run_and_of_a_list_is_the_domains(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a"), noop_step("b", ["a"])])
    firsts = (StepState.HELD, StepState.READY, StepState.FAILED)
    seconds = (StepState.SUCCEEDED, StepState.RUNNING, StepState.RETRYING, StepState.PENDING)
    for state, first, second in itertools.product(RunState, firsts, seconds):
        moving = sum(each in MOVING_STEP_STATES for each in (first, second))
        expected = shown_state(RunFacts(state, moving_steps=moving, held_steps=int(first is StepState.HELD)))
        with house.context.database.transaction() as tx:
            _put(tx, run_id, state, {"a": first, "b": second})
            listed = {shown: views.list_runs(tx, views.RunFilter(state=shown), 10) for shown in ShownRunState}

            assert views.read_summary(tx, run_id).state is expected, (state, first, second)
        assert {shown for shown, found in listed.items() if found} == {expected}, (state, first, second)


def test_a_run_that_waits_for_a_time_or_a_child_run_goes_on_and_one_that_waits_for_people_waits(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a"), noop_step("b", ["a"])])
    for code in ReasonCode:
        if not code.value.startswith("awaits_"):
            continue
        is_for_people = code in PERSON_CODES
        expected = shown_state(
            RunFacts(RunState.RUNNING, moving_steps=int(not is_for_people), held_steps=int(is_for_people))
        )
        with house.context.database.transaction() as tx:
            _put(tx, run_id, RunState.RUNNING, {"a": StepState.HELD})
            tx.execute(
                text("UPDATE step SET reason = jsonb_build_object('code', CAST(:code AS text)) WHERE key = 'a'"),
                {"code": code.value},
            )
            shown = views.read_summary(tx, run_id).state

        assert shown is expected, code


def test_a_waiting_run_gives_the_reason_of_what_it_waits_for(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a"), noop_step("b", ["a"])])
    with house.context.database.transaction() as tx:
        _put(tx, run_id, RunState.RUNNING, {"a": StepState.HELD})
        summary = views.read_summary(tx, run_id)

    assert summary.state is ShownRunState.WAITING
    assert summary.reason == {"code": "awaits_person", "detail": {"worker": "w@h:1", "step": "a"}}


def _touched(tx: Connection, read: str, given: Any) -> int:
    """How many rows a statement goes through, those among them that it throws away."""
    (plan,) = tx.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON)\n{read}", given).scalar_one()
    nodes, touched = [plan["Plan"]], 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", ())
        rows = node["Actual Rows"] + sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Join Filter"))
        touched += rows * node["Actual Loops"]
    return touched


def test_a_run_of_ten_thousand_steps_is_read_with_few_statements_that_go_through_each_row_a_few_times(
    house: Runtime, flow: AgentFlow
) -> None:
    wide = [noop_step(f"s{i}", ["root"]) for i in range(BIG - 1000)]
    chain = [noop_step(f"c{i}", [f"c{i - 1}" if i else "root"]) for i in range(999)]
    run_id = submitted(house.context, [noop_step("root"), *wide, *chain])
    asked: list[tuple[str, Any]] = []
    event.listen(flow.context.database.engine, "before_cursor_execute", lambda *args: asked.append(args[2:4]))

    view = flow.read_run(run_id)

    reads = [(read, given) for read, given in asked if read.startswith("--")]
    assert len(view.steps) == BIG
    assert list(view.steps)[:2] == ["root", "s0"]
    assert view.steps["c998"].needs == ("c997",)
    assert len(reads) == 3
    with house.context.database.transaction() as tx:
        touched = {read.splitlines()[0]: _touched(tx, read, given) for read, given in reads}
    assert sum(touched.values()) < 30 * BIG, touched


def test_the_events_of_an_old_run_are_read_without_those_of_others(house: Runtime) -> None:
    """Whatever the planner counts on: the run has many events, and many more were written since."""
    old, engine = submitted(house.context, [noop_step("a")]), house.context.database.engine
    insert = text(
        "INSERT INTO audit_event (run_id, sequence, at, actor, action, subject, moved, facts, mac) "
        "SELECT :run, 1000 + n, now(), 'me', 'note', 'run', '{}', '{}', '' FROM generate_series(1, :many) AS n"
    )
    with engine.begin() as tx:
        tx.execute(insert, {"run": old, "many": 3000})
        tx.execute(insert, {"run": uuid4(), "many": 20_000})
        tx.execute(text("UPDATE run_state SET state = 'cancelled', ended_at = now() WHERE run_id = :run"), {"run": old})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE audit_event"))
    asked: list[tuple[str, Any]] = []
    with house.context.database.transaction() as tx:
        event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2:4]))
        feeds.read_end(tx, old)
        feeds.read_run(tx, old, 2000, feeds.LAST_ID, 100)
        views.events_after(tx, old, 2000, 100)
        for read, given in asked[:]:
            assert _touched(tx, read, given) < 1000, read


def _with_ids(house: Runtime, *ids: str) -> list[RunId]:
    """Submit a run and copy it under these ids."""
    original = submitted(house.context, [noop_step("a")])
    made = [RunId(UUID(one)) for one in ids]
    with house.context.database.transaction() as tx:
        for one in made:
            tx.execute(
                text(
                    "INSERT INTO run (id, project, plan_fingerprint, vars, request_sha256, actor) "
                    "SELECT :id, 'other', plan_fingerprint, vars, request_sha256, actor FROM run WHERE id = :original"
                ),
                {"id": one, "original": original},
            )
    return made


FIRST, SECOND = "aaaa1111-0000-4000-8000-000000000001", "aaaa1111-0000-4000-8000-000000000002"


@pytest.mark.parametrize(
    "reference", [FIRST, FIRST.upper(), FIRST.replace("-", ""), "aaaa1111-0000-4000-8000-000000000001"]
)
def test_a_run_is_found_by_its_whole_id(house: Runtime, reference: str) -> None:
    made = _with_ids(house, FIRST, SECOND)
    with house.context.database.transaction() as tx:
        assert views.find_run(tx, reference) == made[0]


def test_a_prefix_finds_the_one_run_that_it_fits(house: Runtime) -> None:
    made = _with_ids(house, FIRST, "aaaa2222-0000-4000-8000-000000000002")
    with house.context.database.transaction() as tx:
        assert views.find_run(tx, "aaaa1") == made[0]
        assert views.find_run(tx, "aaaa2222-00") == made[1]


def test_a_prefix_that_fits_several_names_them(house: Runtime) -> None:
    _with_ids(house, FIRST, SECOND)
    with house.context.database.transaction() as tx, pytest.raises(AmbiguousId) as ambiguous:
        views.find_run(tx, "aaaa")

    assert ambiguous.value.details["candidates"] == [FIRST, SECOND]
    assert FIRST in str(ambiguous.value)


def test_of_many_candidates_eight_are_named(house: Runtime) -> None:
    _with_ids(house, *(f"bbbb0000-0000-4000-8000-{number:012}" for number in range(12)))
    with house.context.database.transaction() as tx, pytest.raises(AmbiguousId, match="and others") as ambiguous:
        views.find_run(tx, "bbbb")

    assert len(ambiguous.value.details["candidates"]) == 8


def test_the_last_run_is_the_one_submitted_last(house: Runtime) -> None:
    submitted(house.context, [noop_step("a")])
    last = submitted(house.context, [noop_step("b")])
    with house.context.database.transaction() as tx:
        assert views.find_run(tx, "@last") == last


def test_a_project_bounds_what_is_found(house: Runtime) -> None:
    made = _with_ids(house, FIRST)
    with house.context.database.transaction() as tx:
        assert views.find_run(tx, FIRST, "other") == made[0]
        with pytest.raises(NotFound, match="in project default"):
            views.find_run(tx, FIRST, "default")
        with pytest.raises(NotFound):
            views.find_run(tx, "@last", "nowhere")


def test_nothing_is_found_where_nothing_is(house: Runtime) -> None:
    with house.context.database.transaction() as tx:
        with pytest.raises(NotFound, match="no run yet"):
            views.find_run(tx, "@last")
        with pytest.raises(NotFound, match="abcd"):
            views.find_run(tx, "abcd")
        with pytest.raises(NotFound):
            read_run(tx, RunId(uuid4()))


@pytest.mark.parametrize("reference", ["", "abc", "@first", "nightly", "a" * 33, "%", "aaaa'; --"])
def test_what_cannot_name_a_run_is_a_usage_error(house: Runtime, reference: str) -> None:
    with house.context.database.transaction() as tx, pytest.raises(UsageError, match="names no run"):
        views.find_run(tx, reference)


def test_active_time_leaves_out_what_lies_between_the_rounds(house: Runtime, flow: AgentFlow) -> None:
    run_id = submitted(house.context, [command_step("a", "false", retry=1)])
    work_off(house, run_id)
    earlier = "UPDATE run_state SET started_at = started_at - interval '100 s', ended_at = ended_at - interval '90 s'"
    with house.context.database.transaction() as tx:
        tx.execute(text(earlier))
        first_round = read_run(tx, run_id).usage.active_seconds

    flow.retry(run_id)
    work_off(house, run_id)

    both_rounds = flow.read_run(run_id).usage.active_seconds
    assert 10 < first_round < 20
    assert first_round < both_rounds < first_round + 20
