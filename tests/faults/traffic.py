"""A run that uses everything Redis has a part in, and what must hold of it whatever happened to Redis meanwhile."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import text

from agentflow.broker.keys import Keys
from agentflow.broker.queues import QUEUE_NAMES
from agentflow.domain.ids import RunId
from agentflow.domain.state import AttemptState, RunState
from agentflow.engine.reconcile import reconcile, verify_ledger
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, lines_of, shell_step, wait_for, wait_for_end

FLAKY = 'echo {key} >> {marker}; [ "$(grep -c "^{key}$" {marker})" -ge 2 ] || exit 75'
#: One attempt of each step, and one more of the flaky one.
ATTEMPTS = 20
BACK_SECONDS = 15
"""What the promise gives everything that is ready to go out, once Redis is back; busy machines get twice that."""


def mixed_steps(marker: Path) -> list[dict[str, Any]]:
    """A chain, a retry, steps in a line for tickets and others for places: each writes its key down as it starts."""

    def noting(key: str, needs: Sequence[str] = (), **more: Any) -> dict[str, Any]:
        return shell_step(key, f"echo {key} >> {marker}; sleep 0.2", needs=list(needs), **more)

    chain = [noting(f"c{i}", [f"c{i - 1}"] if i else []) for i in range(8)]
    flaky = shell_step("flaky", FLAKY.format(key="flaky", marker=marker), needs=[], retry={"base": "2s"})
    rated = [noting(f"r{i}", rate_limit={"key": "api", "limit": "3/s", "burst": 1}) for i in range(5)]
    placed = [noting(f"p{i}", concurrency={"key": "db", "limit": 1}) for i in range(5)]
    return [*chain, flaky, *rated, *placed]


def assert_whole(house: Runtime, run_id: RunId, marker: Path, seconds: float = 2 * BACK_SECONDS) -> None:
    """The run of ``mixed_steps`` completed: each step started once, nothing held, nothing over-spent, all on record."""
    assert wait_for_end(house.context, run_id, seconds) is RunState.COMPLETED
    started = Counter(lines_of(marker))
    assert started.pop("flaky") == 2
    assert set(started.values()) == {1}
    states = Counter(row.state for row in attempt_rows(house.context, run_id))
    assert states.pop(AttemptState.RELEASED, 0) < ATTEMPTS  # given back before it began: over a cap or a place
    assert states == {AttemptState.SUCCEEDED: ATTEMPTS - 1, AttemptState.FAILED: 1}
    assert verify_run(house.context, run_id).findings == ()
    assert_at_rest(house)


def assert_at_rest(house: Runtime) -> None:
    """No place is held, and the ledger says what Postgres says."""
    with house.context.database.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM slot WHERE attempt_id IS NOT NULL")).scalar_one() == 0
    wait_for(lambda: reconcile(house.context, 0) == 0 and not verify_ledger(house.context))


def keys_without_owner(house: Runtime) -> list[str]:
    """The keys of a Redis at rest that nobody owns: neither kept by their meaning, nor gone by themselves in a day."""
    prefix, client = house.settings.redis_prefix, house.context.side_channel.client
    keys = Keys(prefix)
    # kombu's names for who listens where: as many as there are exchanges.
    kept = [*QUEUE_NAMES, "_kombu.binding.*", "_kombu.binding_permanent.*", "_kombu.binding_deadlines"]
    owned = [keys.wakeup, keys.budgets, *(f"{prefix}{name}" for name in kept)]
    found = [key.decode() for key in client.scan_iter("*")]
    left = [key for key in found if not any(fnmatch.fnmatch(key, pattern) for pattern in owned)]
    return sorted(key for key in left if not 0 < int(client.ttl(key)) <= 24 * 3600)
