"""Every verb there is, in any order, on several runs at once: what DESIGN calls "must always hold", after every move.

A state machine draws the moves. The rows are counted anew after each, every verb that changed something must have
left its one event, and in the end everything is brought to its end and verified.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text

from agentflow.domain.budget import Budget
from agentflow.domain.error import InvalidTransition, UsageError
from agentflow.domain.ids import AttemptId, RunId, StepId, StepKey, step_id
from agentflow.domain.state import FINAL_RUN_STATES, RunState
from agentflow.engine.cancel import cancel, cancel_step
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.finalize import finalize
from agentflow.engine.fork import ForkRequest, fork
from agentflow.engine.maintenance import pause_all, resume_all
from agentflow.engine.pause import pause
from agentflow.engine.raise_budget import raise_budget
from agentflow.engine.reconcile import reconcile, verify_ledger
from agentflow.engine.rescue import rescue
from agentflow.engine.resume import resume
from agentflow.engine.retry import retry
from agentflow.engine.settle import ClaimLost, Settlement, settle
from agentflow.runtime import Runtime
from agentflow.storage import attempts, runs
from tests.factories import run_state, step_rows, submitted
from tests.integration.engine.run_game import ACTOR, OUTCOMES, check_moves, check_rows, opened_arena, plans

NUMBERS = st.integers(0, 12)
FOLLOW_UPS = {"finalize"}
"""What a verb does after its own commit, as another verb."""


@dataclass
class Game:
    """One run that is played on, and the claims that its players hold."""

    run_id: RunId
    claims: list[Claimed] = field(default_factory=list)
    used_steps: int = 0


class Verbs(RuleBasedStateMachine):
    """The players: producers, workers, operators, the dispatcher and the network, one move after the other."""

    house: Runtime

    def __init__(self) -> None:
        super().__init__()
        self.games: list[Game] = []

    @rule(steps=plans(), cap=st.none() | st.integers(1, 6))
    @precondition(lambda self: len(self.games) < 3)
    def submit(self, steps: list[dict[str, Any]], cap: int | None) -> None:
        """A producer hands in a plan, with or without a budget of steps."""
        budget = {} if cap is None else {"budget": {"steps": cap}}
        run_id = submitted(self.house.context, steps, **budget)
        self.games.append(Game(run_id))

    @rule(run=NUMBERS, number=NUMBERS)
    @precondition(lambda self: self.games)
    def ring(self, run: int, number: int) -> None:
        """A message for a step comes, is answered, and comes again after that."""
        game = self._game(run)
        key = self._key(game, number)
        self._ring(game, key)
        row = step_rows(self.house.context, game.run_id)[key]
        if row.state not in ("ready", "retrying"):
            before = self._digest(game)
            self._ring(game, key)
            assert self._digest(game) == before, "a redelivered message changed something"

    @rule(run=NUMBERS, number=NUMBERS)
    @precondition(lambda self: self.games)
    def ring_due(self, run: int, number: int) -> None:
        """A message comes for a step that may run."""
        game = self._game(run)
        due = [key for key, row in step_rows(self.house.context, game.run_id).items() if row.state == "ready"]
        if due:
            self._ring(game, StepKey(due[number % len(due)]))

    @rule(run=NUMBERS, number=NUMBERS)
    @precondition(lambda self: self.games)
    def claim(self, run: int, number: int) -> None:
        """A worker takes a step if it may, and holds it."""
        game = self._game(run)
        with self._one_event(game, "claim"):
            claimed = claim(self.house.context, game.run_id, self._key(game, number), "test:0")
        if isinstance(claimed, Claimed):
            game.claims.append(claimed)

    @rule(run=NUMBERS, number=NUMBERS, outcome=st.sampled_from(sorted(OUTCOMES)))
    @precondition(lambda self: any(game.claims for game in self.games))
    def settle(self, run: int, number: int, outcome: str) -> None:
        """A worker settles what it holds, or believes to hold; a second settle of the same claim is refused."""
        game = next(game for game in [*self.games[run % len(self.games) :], *self.games] if game.claims)
        claimed = game.claims[number % len(game.claims)]
        settlement = Settlement(
            game.run_id, claimed.step_id, claimed.plan, OUTCOMES[outcome], ACTOR, is_sink=claimed.is_sink
        )
        with self._one_event(game, "settle"):
            settle(self.house.context, settlement, claimed.claim_token)
        before = self._digest(game)
        assert isinstance(settle(self.house.context, settlement, claimed.claim_token), ClaimLost)
        assert self._digest(game) == before

    @rule(run=NUMBERS, number=NUMBERS)
    @precondition(lambda self: self.games)
    def lose(self, run: int, number: int) -> None:
        """The worker of a running attempt dies, and its lease with it."""
        game = self._game(run)
        with self.house.context.database.transaction() as tx:
            rows = tx.execute(
                text("SELECT id, step_id FROM attempt WHERE run_id = :id AND state = 'running' ORDER BY id"),
                {"id": game.run_id},
            ).all()
        if rows:
            row = rows[number % len(rows)]
            lost = attempts.LapsedAttempt(game.run_id, StepId(row.step_id), AttemptId(row.id))
            with self._one_event(game, "rescue"):
                rescue(self.house.context, lost, ACTOR, is_known_lost=True)

    @rule(run=NUMBERS, number=NUMBERS)
    @precondition(lambda self: self.games)
    def cancel_step(self, run: int, number: int) -> None:
        """Somebody revokes a step."""
        game = self._game(run)
        with self._one_event(game, "cancel_step"):
            cancel_step(self.house.context, step_id(game.run_id, self._key(game, number)), ACTOR)

    @rule(run=NUMBERS)
    @precondition(lambda self: self.games)
    def cancel(self, run: int) -> None:
        """Somebody cancels a run."""
        game = self._game(run)
        with self._one_event(game, "cancel"):
            cancel(self.house.context, game.run_id, ACTOR)

    @rule(run=NUMBERS, only=st.none() | NUMBERS)
    @precondition(lambda self: self.games)
    def retry(self, run: int, only: int | None) -> None:
        """Somebody retries a run, or one step of it."""
        game = self._game(run)
        key = None if only is None else self._key(game, only)
        with self._one_event(game, "retry"):
            retry(self.house.context, game.run_id, ACTOR, only=key)

    @rule(run=NUMBERS, is_hard=st.booleans())
    @precondition(lambda self: self.games)
    def pause(self, run: int, is_hard: bool) -> None:
        """Somebody lets a run rest, softly or hard."""
        game = self._game(run)
        with self._one_event(game, "pause"):
            pause(self.house.context, game.run_id, ACTOR, is_hard=is_hard)

    @rule(is_hard=st.booleans(), is_long=st.booleans())
    def maintain(self, is_hard: bool, is_long: bool) -> None:
        """Somebody puts everything under maintenance; a long one lasts until a short one is over."""
        pause_all(self.house.context, ACTOR, is_hard=is_hard)
        for game in self.games:
            assert self._stands_still(game), "a run goes on under maintenance"
        if not is_long:
            resume_all(self.house.context, ACTOR)

    @rule(run=NUMBERS)
    @precondition(lambda self: self.games)
    def resume(self, run: int) -> None:
        """Somebody lets a resting run go on."""
        game = self._game(run)
        with self._one_event(game, "resume"):
            resume(self.house.context, game.run_id, ACTOR)

    @rule(run=NUMBERS, number=NUMBERS)
    @precondition(lambda self: 0 < len(self.games) < 5)
    def fork(self, run: int, number: int) -> None:
        """Somebody makes a new run of what one has done so far; the old one does not notice."""
        game = self._game(run)
        before, last = self._digest(game), self._last_event()
        forked = fork(self.house.context, game.run_id, ForkRequest(self._key(game, number), ACTOR))
        assert self._digest(game) == before, "a fork changed its origin"
        assert self._events_after(last) in (["fork"], ["fork", "finalize"])
        self.games.append(Game(forked.run_id))

    @rule(run=NUMBERS, more=st.integers(1, 5))
    @precondition(lambda self: self.games)
    def raise_budget(self, run: int, more: int) -> None:
        """Somebody gives a run more steps."""
        game = self._game(run)
        with self._one_event(game, "raise_budget"), suppress(UsageError):
            raise_budget(self.house.context, game.run_id, Budget(steps=more), ACTOR)

    @rule(run=NUMBERS)
    @precondition(lambda self: self.games)
    def finalize(self, run: int) -> None:
        """The dispatcher looks whether a run is over."""
        game = self._game(run)
        with self._one_event(game, "finalize"):
            finalize(self.house.context, game.run_id, ACTOR)

    @rule()
    def dispatch(self) -> None:
        """The dispatcher looks after everything."""
        Dispatcher(self.house.context, "machine:1").one_pass()

    @rule()
    def empty_redis(self) -> None:
        """Redis forgets all of this installation."""
        client = self.house.context.side_channel.client
        for key in client.scan_iter(f"{self.house.settings.redis_prefix}*"):
            client.delete(key)

    @invariant()
    def rows_agree(self) -> None:
        """What holds at every moment."""
        for game in self.games:
            check_rows(self.house, game.run_id)
            used = self._used_steps(game)
            assert used >= game.used_steps, "a used budget decreased"
            game.used_steps = used

    def teardown(self) -> None:
        """Bring everything to its end, and hold the whole audit and the ledger against the rows."""
        resume_all(self.house.context, ACTOR)
        for game in self.games:
            self._end(game)
            check_rows(self.house, game.run_id)
            check_moves(self.house, game.run_id)
        reconcile(self.house.context, 0.0)
        assert verify_ledger(self.house.context) == []

    def _game(self, number: int) -> Game:
        return self.games[number % len(self.games)]

    def _key(self, game: Game, number: int) -> StepKey:
        """One of the steps that the run has by now."""
        keys = [*step_rows(self.house.context, game.run_id)]
        return StepKey(keys[number % len(keys)])

    def _ring(self, game: Game, key: StepKey) -> None:
        execute(self.house.context, self.house.lease_keeper, Doorbell(game.run_id, key), "test:0")

    @contextmanager
    def _one_event(self, game: Game, verb: str) -> Iterator[None]:
        """Whatever changes in the block is one event of this verb's; without a change there is none."""
        before, last = self._digest(game), self._last_event()
        with suppress(InvalidTransition):
            yield
        told = [action for action in self._events_after(last) if action not in FOLLOW_UPS - {verb}]
        assert told in ([], [verb]), told
        assert bool(told) == (self._digest(game) != before), (verb, told)

    def _last_event(self) -> int:
        with self.house.context.database.transaction() as tx:
            return int(tx.execute(text("SELECT coalesce(max(id), 0) FROM audit_event")).scalar_one())

    def _events_after(self, last: int) -> list[str]:
        with self.house.context.database.transaction() as tx:
            rows = tx.execute(text("SELECT action FROM audit_event WHERE id > :last ORDER BY id"), {"last": last})
            return [row.action for row in rows]

    def _digest(self, game: Game) -> list[Any]:
        """Everything of a run that a verb may change; not the notes of what was sent."""
        statements = (
            "SELECT state, reason, round, open_sinks, exhausted, paused FROM run_state WHERE run_id = :id",
            "SELECT key, state, attempts, failures, losses, needs_open FROM step WHERE run_id = :id ORDER BY position",
            "SELECT id, state, is_stop_requested, is_yield_requested FROM attempt WHERE run_id = :id ORDER BY id",
            "SELECT steps, tokens FROM run_budget WHERE run_id = :id",
        )
        with self.house.context.database.transaction() as tx:
            return [tx.execute(text(statement), {"id": game.run_id}).all() for statement in statements]

    def _stands_still(self, game: Game) -> bool:
        with self.house.context.database.transaction() as tx:
            run = runs.lock(tx, game.run_id)
        return run is not None and (run.rests or run.state is not RunState.RUNNING)

    def _used_steps(self, game: Game) -> int:
        with self.house.context.database.transaction() as tx:
            rows = tx.execute(
                text("SELECT count(*) FROM attempt WHERE run_id = :id AND reserved ->> 'granted' IS NOT NULL"),
                {"id": game.run_id},
            )
            return int(rows.scalar_one())

    def _end(self, game: Game) -> None:
        """Lose what runs, lift what rests, and run all that is ready, until the run has ended or waits for a person."""
        for number in range(len(step_rows(self.house.context, game.run_id))):
            self.lose(self.games.index(game), number)
        for _ in range(100):
            with self.house.context.database.transaction() as tx:
                run = runs.lock(tx, game.run_id)
            assert run is not None
            if run.rests:
                with suppress(UsageError):
                    raise_budget(self.house.context, game.run_id, Budget(steps=1000), ACTOR)
                resume(self.house.context, game.run_id, ACTOR)
            rows = step_rows(self.house.context, game.run_id).values()
            due = [StepKey(row.key) for row in rows if row.state in ("ready", "retrying")]
            if not due:
                break
            for key in due:
                self._ring(game, key)
        finalize(self.house.context, game.run_id, ACTOR)
        states = [row.state for row in step_rows(self.house.context, game.run_id).values()]
        assert (run_state(self.house.context, game.run_id) in FINAL_RUN_STATES) == ("held" not in states), states


@pytest.mark.timeout(600)
def test_what_must_always_hold_holds_under_any_sequence_of_verbs(house: Runtime) -> None:
    with opened_arena(house) as arena:

        class Machine(Verbs):
            house = arena

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=20,
                phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking against real servers takes minutes
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
