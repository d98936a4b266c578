"""A join that many last predecessors race for becomes ready exactly once: two hundred joins in all."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.outcome import Succeeded
from agentflow.domain.state import RunState
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.settle import Settled, Settlement, settle
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.storage import events
from tests.factories import attempt_rows, noop_step, step_rows, submitted, wait_for_end
from tests.workers import WorkerProcess

PREDECESSORS, RACERS = 100, 8


@pytest.fixture
def wide_house(house: Runtime) -> Iterator[Runtime]:
    """The test's installation with a connection for each racer."""
    wide = Runtime(house.settings, celery=house.celery, pool_size=RACERS)
    yield wide
    wide.close()


def _plan(joins: int, chance: random.Random) -> list[dict[str, Any]]:
    """Joins that need fifty of a hundred steps each, so that each has another last one."""
    before = [f"p{i}" for i in range(PREDECESSORS)]
    return [
        *(noop_step(key, needs=[]) for key in before),
        *(noop_step(f"join{i}", needs=chance.sample(before, 50)) for i in range(joins)),
    ]


def _times_made_ready(house: Runtime, run_id: RunId) -> Counter[str]:
    with house.context.database.transaction() as tx:
        moves = [event.moved for event, _ in events.read_run(tx, run_id)]
    return Counter(key for moved in moves for key, ends in moved.items() if ends == ["pending", "ready"])


def _settle_all_at_once(house: Runtime, claims: list[Claimed]) -> list[StepKey]:
    """Settle from as many connections as there are racers; returns what they were told to send."""
    starting = threading.Barrier(RACERS)

    def race(mine: list[Claimed]) -> list[StepKey]:
        starting.wait()
        ready: list[StepKey] = []
        for claimed in mine:
            settlement = Settlement(
                claimed.run_id, claimed.step_id, claimed.plan, Succeeded(0), "test", is_sink=claimed.is_sink
            )
            settled = settle(house.context, settlement, claimed.claim_token)
            assert isinstance(settled, Settled)
            ready += settled.ready
        return ready

    with ThreadPoolExecutor(RACERS) as racers:
        return [key for keys in racers.map(race, [claims[i::RACERS] for i in range(RACERS)]) for key in keys]


def test_racing_settles_make_each_of_160_joins_ready_once(wide_house: Runtime) -> None:
    chance = random.Random(200)  # noqa: S311 - the same races each time, as far as threads allow
    for _ in range(10):
        run_id = submitted(wide_house.context, _plan(16, chance))
        claims = []
        for number in range(PREDECESSORS):
            claimed = claim(wide_house.context, run_id, StepKey(f"p{number}"), "test:0")
            assert isinstance(claimed, Claimed)
            claims.append(claimed)
        chance.shuffle(claims)

        sent = _settle_all_at_once(wide_house, claims)

        joins = {f"join{i}" for i in range(16)}
        assert sorted(sent) == sorted(joins)
        assert _times_made_ready(wide_house, run_id) == {f"step:{join}": 1 for join in joins}
        rows = step_rows(wide_house.context, run_id)
        assert {(rows[join].state, rows[join].needs_open) for join in joins} == {("ready", 0)}


def test_racing_workers_run_each_of_40_joins_once(house: Runtime, start_worker: Callable[..., WorkerProcess]) -> None:
    start_worker("-c", "4")
    start_worker("-c", "8", "-P", "threads")
    run_id = submitted(house.context, _plan(40, random.Random(40)))  # noqa: S311 - see above

    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    assert _times_made_ready(house, run_id) == {f"step:join{i}": 1 for i in range(40)}
    attempts = attempt_rows(house.context, run_id)
    assert Counter(row.state for row in attempts) == {"succeeded": PREDECESSORS + 40}
    assert len({row.worker for row in attempts}) > 2
    assert verify_run(house.context, run_id).findings == ()
