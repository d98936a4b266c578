"""Whatever happens to a run from several connections at once: its rows agree, and its audit tells all of it.

One after the other, every verb there is plays its part in test_state_machine.py.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.domain.error import InvalidTransition
from agentflow.domain.ids import AttemptId, RunId, StepId, StepKey, step_id
from agentflow.domain.state import FINAL_RUN_STATES
from agentflow.engine.cancel import cancel, cancel_step
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.finalize import finalize
from agentflow.engine.rescue import rescue
from agentflow.engine.retry import retry
from agentflow.engine.settle import ClaimLost, Settlement, settle
from agentflow.runtime import Runtime
from agentflow.storage import attempts
from tests.factories import run_state, step_rows, submitted
from tests.integration.engine.run_game import ACTOR, OUTCOMES, check_moves, check_rows, opened_arena


@pytest.fixture
def arena(house: Runtime) -> Iterator[Runtime]:
    """The test's installation, watched by the database itself."""
    with opened_arena(house) as runtime:
        yield runtime


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

    check_rows(arena, run_id)
    _finish(arena, Player(arena, run_id, keys))
    check_rows(arena, run_id)
    check_moves(arena, run_id)
