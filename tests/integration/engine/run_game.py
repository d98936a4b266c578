"""What games with runs have in common: random plans, every outcome, and what must hold of the rows at any moment.

The database itself notes every move of a state, so that no verb is believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from sqlalchemy import text

from agentflow.domain.ids import RunId
from agentflow.domain.outcome import AttemptOutcome, Cancelled, Failed, Released, Succeeded, TimedOut
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import FINAL_RUN_STATES, FINAL_STEP_STATES
from agentflow.domain.transition import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS, STEP_TRANSITIONS
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.storage import events
from tests.factories import run_state, step_rows

ACTOR = "tester@test"
TABLES = {"run_state": RUN_TRANSITIONS, "step": STEP_TRANSITIONS, "attempt": ATTEMPT_TRANSITIONS}
WITNESS = (
    "CREATE TABLE witness (subject text, old text, new text)",
    # What a verb does to the rows of a run that it is making is no move yet: nobody else has seen them.
    """
    CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM run WHERE id = NEW.run_id AND xmin = pg_current_xact_id()::xid) THEN
            INSERT INTO witness VALUES (TG_TABLE_NAME, OLD.state, NEW.state);
        END IF;
        RETURN NULL;
    END $$
    """,
)
REASON = Reason(ReasonCode.EXIT_CODE, {"exit_code": 75})
OUTCOMES: dict[str, AttemptOutcome] = {
    "succeeded": Succeeded(0),
    "failed": Failed(REASON, exit_code=1),
    "retryable": Failed(REASON, exit_code=75),
    "timed_out": TimedOut(Reason(ReasonCode.TIMED_OUT, {"timeout_seconds": 1.0})),
    "cancelled": Cancelled(Reason(ReasonCode.CANCELLED, {"actor": "request"})),
    "released": Released(Reason(ReasonCode.DRAINED)),
    "broken off": Released(Reason(ReasonCode.DRAINED), was_started=True),
}


@contextmanager
def opened_arena(house: Runtime) -> Iterator[Runtime]:
    """The installation of a test without kill grace, where the database itself notes every move of a state."""
    calm = house.settings.model_copy(update={"kill_grace_seconds": 0.0})
    runtime = Runtime(calm, celery=house.celery, pool_size=8)
    with runtime.context.database.transaction() as tx:
        for statement in WITNESS:
            tx.execute(text(statement))
        for table in TABLES:
            tx.execute(
                text(
                    f"CREATE TRIGGER witness AFTER UPDATE OF state ON {table} FOR EACH ROW "
                    "WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION note_move()"
                )
            )
    try:
        yield runtime
    finally:
        runtime.close()


def _actions(key: str) -> st.SearchStrategy[dict[str, Any]]:
    """What a step is: mostly one of its own, else a foreach over little, or a switch."""
    inner = st.sampled_from([{"noop": {}}, {"steps": [{"id": f"{key}a", "noop": {}}, {"id": f"{key}b", "noop": {}}]}])
    terms = st.fixed_dictionaries(
        {
            "items": st.lists(st.integers(0, 1), max_size=3),
            "merge": st.sampled_from(["fail_on_any", "partial", "ignore_failures"]),
        },
        optional={"max_parallel": st.integers(1, 2)},
    )
    foreach = st.tuples(terms, inner).map(lambda drawn: {"foreach": drawn[0], **drawn[1]})
    label = st.sampled_from(["'left'", "'left'", "'right'", "'none'"])
    switch = label.map(lambda on: {"switch": {"on": on, "cases": {"left": [], "right": []}}})
    return st.one_of(st.just({"noop": {}}), st.just({"noop": {}}), foreach, switch)


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A graph of up to seven steps with conditions, retries and all ways to fail; some are foreachs and switches."""
    steps: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 7))):
        earlier = [step["id"] for step in steps]
        needs = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        for switch in (step["switch"] for step in steps if step["id"] in needs and "switch" in step):
            switch["cases"][draw(st.sampled_from(["left", "right"]))].append(f"s{number}")
        steps.append(
            {
                "id": f"s{number}",
                **draw(_actions(f"s{number}")),
                "needs": needs,
                "when": draw(st.sampled_from(["succeeded", "succeeded", "failed", "always", "taken", "any"])),
                "on_failure": draw(st.sampled_from(["stop", "continue"])),
            }
        )
        if "switch" not in steps[-1] and "steps" not in steps[-1]:  # a worker performs it
            steps[-1] |= {
                "on_lost": draw(st.sampled_from(["rerun", "hold"])),
                "retry": {"max_attempts": draw(st.integers(1, 3)), "base": "0s", "on_exit_codes": [75]},
            }
    return [step if step["needs"] else {**step, "when": "succeeded"} for step in steps]


def check_rows(house: Runtime, run_id: RunId) -> None:
    """What holds at every moment, counted anew from the rows."""
    with house.context.database.transaction() as tx:
        wrong = tx.execute(
            text(
                """
                SELECT step.key FROM step
                LEFT JOIN LATERAL (
                    SELECT count(*) FILTER (WHERE need.state <> ALL(:final))
                               + CASE WHEN step.awaits_turn AND step.action <> 'group' THEN 1 ELSE 0 END AS open,
                           count(*) FILTER (WHERE need.state = 'failed') AS failed,
                           count(*) FILTER (WHERE need.state = 'skipped'
                               OR need.choice IS NOT NULL AND NOT jsonb_exists(need.labels, need.choice)) AS skipped,
                           count(*) FILTER (WHERE need.state = 'cancelled') AS cancelled
                    FROM (
                        SELECT before.state, before.choice, edge.labels
                        FROM edge JOIN step AS before ON before.id = edge.from_step
                        WHERE edge.to_step = step.id  -- of a foreach that has items they count
                          AND (step.children IS NOT NULL) = (before.parent IS NOT DISTINCT FROM step.key)
                    ) AS need
                ) AS needs ON true
                WHERE step.run_id = :id AND (
                    (step.state = 'pending' AND (step.needs_open, step.needs_failed, step.needs_skipped,
                        step.needs_cancelled) <> (needs.open, needs.failed, needs.skipped, needs.cancelled))
                    OR (step.state = 'pending' AND needs.open = 0)
                    OR (step.state IN ('ready', 'running', 'retrying', 'held') AND needs.open > 0)
                    OR (step.children IS NOT NULL AND step.state = 'pending' AND step.children - step.released <> (
                        SELECT count(*) FROM step AS item WHERE item.run_id = step.run_id AND item.parent = step.key
                          AND item.awaits_turn AND item.state = 'pending'
                          AND item.key = step.key || '[' || item.item || ']'))
                    OR (step.state = 'running') <> EXISTS (
                        SELECT 1 FROM attempt WHERE attempt.step_id = step.id AND attempt.state = 'running')
                    OR (step.action IN ('foreach', 'group', 'decision') AND step.attempts > 0)
                    OR step.attempts <> (SELECT count(*) FROM attempt WHERE attempt.step_id = step.id)
                )
                """
            ),
            {"id": run_id, "final": [state.value for state in FINAL_STEP_STATES]},
        ).all()
        run = tx.execute(text("SELECT state, open_sinks FROM run_state WHERE run_id = :id"), {"id": run_id}).one()
        rows = tx.execute(text("SELECT state, is_sink FROM step WHERE run_id = :id"), {"id": run_id}).all()
    assert wrong == []
    final = {state.value for state in FINAL_STEP_STATES}
    assert run.open_sinks == sum(row.is_sink and row.state not in final for row in rows)
    assert run.state not in FINAL_RUN_STATES or all(row.state in final for row in rows)
    assert run.state not in ("failing", "cancelling") or all(row.state in {*final, "running"} for row in rows)


def _may(transitions: Any, verb: str, old: str, new: str) -> bool:
    """Whether a verb may make a move; one that takes up steps makes them pending first, and may end them at once.

    That again may fail the run, which it has set running before.
    """
    ways = ((old, new),), ((old, "pending"), ("pending", new)), ((old, "running"), ("running", new))
    return any(all(verb in transitions.get(leg, ()) for leg in way) for way in ways)


def check_moves(house: Runtime, run_id: RunId) -> None:
    """Every move was legal, was made by a verb that may, and stands in the audit, which verifies."""
    with house.context.database.transaction() as tx:
        witnessed = tx.execute(text("SELECT DISTINCT subject, old, new FROM witness")).all()
        tx.execute(text("TRUNCATE witness"))
        told = [event for event, _ in events.read_run(tx, run_id)]
        order: dict[tuple[UUID | None, int], int] = {
            (row.step_id, row.sequence): row.id
            for row in tx.execute(
                text("SELECT id, step_id, sequence FROM audit_event WHERE run_id = :r"), {"r": run_id}
            )
        }
    for row in witnessed:
        assert (row.old, row.new) in TABLES[row.subject], row
    standing: dict[str, str] = {}
    for event in sorted(told, key=lambda event: order[event.step_id, event.sequence]):
        for subject, (old, new) in event.moved.items():
            transitions: Any = RUN_TRANSITIONS if subject == "run" else STEP_TRANSITIONS
            assert new is not None
            assert old is None or _may(transitions, event.action, old, new), (event.action, subject, old, new)
            standing[subject] = new
    rows = step_rows(house.context, run_id)
    for key, row in rows.items():
        assert standing.get(f"step:{key}", "pending") == row.state, key
    assert standing["run"] == run_state(house.context, run_id)
    assert verify_run(house.context, run_id).findings == ()
