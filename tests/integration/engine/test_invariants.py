"""Whatever happens to a run, in whatever order: its rows agree, move along the table, and its audit tells all of it.

Random runs are driven by random verbs: one after the other with hypothesis, and from several threads at once.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from agentflow.domain.error import InvalidTransition
from agentflow.domain.ids import AttemptId, RunId, StepId, StepKey, step_id
from agentflow.domain.outcome import AttemptOutcome, Cancelled, Failed, Released, Succeeded, TimedOut
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import FINAL_RUN_STATES, FINAL_STEP_STATES
from agentflow.domain.transition import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS, STEP_TRANSITIONS
from agentflow.engine.cancel import cancel, cancel_step
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.finalize import finalize
from agentflow.engine.rescue import rescue
from agentflow.engine.retry import retry
from agentflow.engine.settle import ClaimLost, Settlement, settle
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.storage import attempts, events
from tests.factories import run_state, step_rows, submitted

ACTOR = "tester@test"
TABLES = {"run_state": RUN_TRANSITIONS, "step": STEP_TRANSITIONS, "attempt": ATTEMPT_TRANSITIONS}
WITNESS = """
CREATE TABLE witness (subject text, old text, new text);
CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO witness VALUES (TG_TABLE_NAME, OLD.state, NEW.state); RETURN NULL; END $$;
"""
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


@pytest.fixture
def arena(house: Runtime) -> Iterator[Runtime]:
    """The test's installation without kill grace, where the database itself notes every move of a state."""
    calm = house.settings.model_copy(update={"kill_grace_seconds": 0.0})
    runtime = Runtime(calm, celery=house.celery, pool_size=8)
    with runtime.context.database.transaction() as tx:
        for statement in filter(str.strip, WITNESS.split(";\n")):
            tx.execute(text(statement))
        for table in TABLES:
            tx.execute(
                text(
                    f"CREATE TRIGGER witness AFTER UPDATE OF state ON {table} FOR EACH ROW "
                    "WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION note_move()"
                )
            )
    yield runtime
    runtime.close()


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A graph of up to seven steps with conditions, retries and all ways to fail."""
    steps: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 7))):
        earlier = [step["id"] for step in steps]
        steps.append(
            {
                "id": f"s{number}",
                "noop": {},
                "needs": draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else [],
                "when": draw(st.sampled_from(["succeeded", "succeeded", "failed", "always"])),
                "on_failure": draw(st.sampled_from(["stop", "continue"])),
                "on_lost": draw(st.sampled_from(["rerun", "hold"])),
                "retry": {"max_attempts": draw(st.integers(1, 3)), "base": "0s", "on_exit_codes": [75]},
            }
        )
    return [step if step["needs"] else {**step, "when": "succeeded"} for step in steps]


class Player:
    """Plays verbs on one run and remembers the claims it got; refusals are part of the game."""

    def __init__(self, house: Runtime, run_id: RunId, keys: list[StepKey]) -> None:
        self.house, self.run_id, self.keys = house, run_id, keys
        self.claims: list[Claimed] = []

    def claim(self, number: int) -> None:
        """Claim a step, whether it may be claimed or not."""
        claimed = claim(self.house.context, self.run_id, self.keys[number % len(self.keys)], "test:0")
        if isinstance(claimed, Claimed):
            self.claims.append(claimed)

    def settle(self, number: int, outcome: str) -> None:
        """Settle one of the claims; now and then one that was settled or lost before."""
        if self.claims:
            claimed = self.claims[number % len(self.claims)]
            settlement = Settlement(
                self.run_id, claimed.step_id, claimed.plan, OUTCOMES[outcome], ACTOR, is_sink=claimed.is_sink
            )
            settle(self.house.context, settlement, claimed.claim_token)

    def work(self, number: int, outcome: str) -> None:
        """Take one of the steps that can be taken through a whole attempt."""
        rows = step_rows(self.house.context, self.run_id).values()
        due = [StepKey(row.key) for row in rows if row.state in ("ready", "retrying")]
        if due:
            self.claim(self.keys.index(due[number % len(due)]))
            self.settle(len(self.claims) - 1, outcome)

    def settle_twice(self, number: int) -> None:
        """The same claim again is lost."""
        if self.claims:
            claimed = self.claims[number % len(self.claims)]
            settlement = Settlement(self.run_id, claimed.step_id, claimed.plan, OUTCOMES["succeeded"], ACTOR)
            settle(self.house.context, settlement, claimed.claim_token)
            assert isinstance(settle(self.house.context, settlement, claimed.claim_token), ClaimLost)

    def lose(self, number: int) -> None:
        """The worker of a running attempt dies."""
        with self.house.context.database.transaction() as tx:
            rows = tx.execute(
                text("SELECT id, step_id FROM attempt WHERE run_id = :id AND state = 'running' ORDER BY id"),
                {"id": self.run_id},
            ).all()
        if rows:
            row = rows[number % len(rows)]
            lost = attempts.LapsedAttempt(self.run_id, StepId(row.step_id), AttemptId(row.id))
            rescue(self.house.context, lost, ACTOR, is_known_lost=True)

    def cancel_step(self, number: int) -> None:
        """Somebody revokes a step."""
        cancel_step(self.house.context, step_id(self.run_id, self.keys[number % len(self.keys)]), ACTOR)

    def cancel(self) -> None:
        """Somebody cancels the run."""
        self._try(lambda: cancel(self.house.context, self.run_id, ACTOR))

    def retry(self, number: int | None) -> None:
        """Somebody retries the run or a step of it."""
        only = None if number is None else self.keys[number % len(self.keys)]
        self._try(lambda: retry(self.house.context, self.run_id, ACTOR, only=only))

    def finalize(self) -> None:
        """The dispatcher looks whether the run is over."""
        finalize(self.house.context, self.run_id, ACTOR)

    def _try(self, verb: Callable[[], object]) -> None:
        with suppress(InvalidTransition):
            verb()


NUMBERS = st.integers(0, 6)
ENDS = st.sampled_from(["succeeded", "failed", *sorted(OUTCOMES)])
WORK = st.tuples(st.just("work"), NUMBERS, ENDS)
MOVES = st.one_of(
    WORK,
    WORK,
    WORK,
    WORK,
    st.tuples(st.just("claim"), NUMBERS),
    st.tuples(st.just("settle"), NUMBERS, ENDS),
    st.tuples(st.just("settle_twice"), NUMBERS),
    st.tuples(st.just("lose"), NUMBERS),
    st.tuples(st.just("cancel_step"), NUMBERS),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("retry"), st.none() | NUMBERS),
    st.tuples(st.just("retry"), st.none()),
    st.tuples(st.just("finalize")),
)


def _check_rows(house: Runtime, run_id: RunId) -> None:
    """What holds at every moment, counted anew from the rows."""
    with house.context.database.transaction() as tx:
        wrong = tx.execute(
            text(
                """
                SELECT step.key FROM step
                LEFT JOIN LATERAL (
                    SELECT count(*) FILTER (WHERE need.state <> ALL(:final)) AS open,
                           count(*) FILTER (WHERE need.state = 'failed') AS failed,
                           count(*) FILTER (WHERE need.state = 'skipped') AS skipped,
                           count(*) FILTER (WHERE need.state = 'cancelled') AS cancelled
                    FROM edge JOIN step AS need ON need.id = edge.from_step WHERE edge.to_step = step.id
                ) AS needs ON true
                WHERE step.run_id = :id AND (
                    (step.state = 'pending' AND (step.needs_open, step.needs_failed, step.needs_skipped,
                        step.needs_cancelled) <> (needs.open, needs.failed, needs.skipped, needs.cancelled))
                    OR (step.state = 'pending' AND needs.open = 0)
                    OR (step.state IN ('ready', 'running', 'retrying', 'held') AND needs.open > 0)
                    OR (step.state = 'running') <> EXISTS (
                        SELECT 1 FROM attempt WHERE attempt.step_id = step.id AND attempt.state = 'running')
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


def _check_moves(house: Runtime, run_id: RunId) -> None:
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
            assert old is None or event.action in transitions[old, new], (event.action, subject, old, new)
            standing[subject] = new
    rows = step_rows(house.context, run_id)
    for key, row in rows.items():
        assert standing.get(f"step:{key}", "pending") == row.state, key
    assert standing["run"] == run_state(house.context, run_id)
    assert verify_run(house.context, run_id).findings == ()


def _finish(house: Runtime, player: Player) -> None:
    """Settle all that runs and run all that is ready, until the run has ended or waits for a person."""
    while True:
        states = [row.state for row in step_rows(house.context, player.run_id).values()]
        if not {"ready", "retrying", "running"} & set(states):
            break
        for number in range(len(player.keys)):
            player.lose(number)
            player.claim(number)
            player.settle(len(player.claims) - 1, "succeeded")
    finalize(house.context, player.run_id, ACTOR)
    assert (run_state(house.context, player.run_id) in FINAL_RUN_STATES) == ("held" not in states)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=plans(), moves=st.lists(MOVES, max_size=40))
def test_a_run_holds_together_under_any_sequence_of_verbs(
    arena: Runtime, steps: list[dict[str, Any]], moves: list[tuple[Any, ...]]
) -> None:
    run_id = submitted(arena.context, steps)
    player = Player(arena, run_id, [StepKey(step["id"]) for step in steps])
    for name, *arguments in moves:
        getattr(player, name)(*arguments)
        _check_rows(arena, run_id)
    _finish(arena, player)
    _check_rows(arena, run_id)
    _check_moves(arena, run_id)


def _random_moves(chance: random.Random) -> Iterator[tuple[Any, ...]]:
    for _ in range(50):
        number = chance.randrange(9)
        outcome = chance.choice(["succeeded", "succeeded", "retryable", *sorted(OUTCOMES)])
        yield chance.choice(
            [
                *[("work", number, outcome)] * 6,
                ("claim", number),
                ("settle", number, outcome),
                ("lose", number),
                ("cancel_step", number),
                ("cancel",),
                *[("retry", None)] * 2,
                ("finalize",),
            ]
        )


def _layers(chance: random.Random) -> list[dict[str, Any]]:
    """Three layers of three steps, each of which needs the whole layer before it: many locks in common."""
    return [
        {
            "id": f"s{number}",
            "noop": {},
            "needs": [f"s{before}" for before in range(number // 3 * 3 - 3, number // 3 * 3) if before >= 0],
            "when": chance.choice(["succeeded", "always"]) if number >= 3 else "succeeded",
            "on_failure": chance.choice(["stop", "continue", "continue"]),
            "on_lost": chance.choice(["rerun", "rerun", "hold"]),
            "retry": {"max_attempts": 2, "base": "0s", "on_exit_codes": [75]},
        }
        for number in range(9)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_a_run_holds_together_under_verbs_from_many_connections_at_once(arena: Runtime, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same game each time, as far as threads allow
    steps = _layers(chance)
    keys = [StepKey(step["id"]) for step in steps]
    run_id = submitted(arena.context, steps)
    starting = threading.Barrier(4)

    def play(number: int) -> None:
        player = Player(arena, run_id, keys)
        starting.wait()
        for name, *arguments in _random_moves(random.Random(f"{seed}.{number}")):  # noqa: S311 - see above
            getattr(player, name)(*arguments)

    with ThreadPoolExecutor(4) as players:
        list(players.map(play, range(4)))

    _check_rows(arena, run_id)
    _finish(arena, Player(arena, run_id, keys))
    _check_rows(arena, run_id)
    _check_moves(arena, run_id)
