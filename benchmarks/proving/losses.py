"""The time that a fault cost, read from the rows afterwards.

For each fault that was made, from its beginning:

- *next start*: until anybody's next attempt began. It is small where others work on while one is broken, and as long as
  the fault itself where nobody can.
- *hit*: attempts that were running on what it broke, at any moment from its beginning to its end, and were lost or
  given back by a worker that stopped or could not reach Postgres; *went on*: until the step of the last of them was
  taken up again, or was decided otherwise (held for a person, failed as poisoned, cancelled). Faults overlap: an
  attempt counts for each fault that may have ended it. The time of a run that a person let rest is nobody's fault:
  its attempts count as hit and for no time.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text

from agentflow.runtime import Runtime
from proving.arena import Made

GRACE_SECONDS = 60.0
STARTS = "SELECT extract(epoch FROM started_at) AS at FROM attempt ORDER BY started_at"
HIT = """
    SELECT attempt.id, extract(epoch FROM attempt.started_at) AS began, extract(epoch FROM attempt.ended_at) AS ended,
           attempt.worker, extract(epoch FROM (
               SELECT min(later.started_at) FROM attempt AS later
               WHERE later.step_id = attempt.step_id AND later.number > attempt.number
           )) AS again, run_state.rested_seconds > 0 AS has_rested
    FROM attempt JOIN step ON step.id = attempt.step_id JOIN run_state ON run_state.run_id = attempt.run_id
    WHERE attempt.state IN ('lost', 'released') AND attempt.ended_at IS NOT NULL
      AND (attempt.state = 'lost' OR attempt.reason ->> 'code' IN ('drained', 'servers_away'))"""
MATCHES = "SELECT id FROM attempt WHERE worker LIKE :pattern AND state IN ('lost', 'released')"


@dataclass(frozen=True)
class Cost:
    """What one fault cost, in seconds; None where nothing followed it."""

    made: Made
    next_start: float | None
    hit: int
    went_on: float | None


def costs_of(runtime: Runtime, faults: Sequence[Made]) -> list[Cost]:
    """Read what each fault cost."""
    with runtime.context.database.transaction() as tx:
        starts = [float(row.at) for row in tx.execute(text(STARTS))]
        ended = tx.execute(text(HIT)).all()
        matching = {
            pattern: {row.id for row in tx.execute(text(MATCHES), {"pattern": pattern})}
            for pattern in {made.hits for made in faults if made.hits}
        }
    costs = []
    for made in faults:
        place = bisect_right(starts, made.at)
        next_start = starts[place] - made.at if place < len(starts) else None
        hits = [
            row
            for row in ended
            if made.hits and row.id in matching[made.hits] and row.began <= made.until
            and made.at <= row.ended <= made.until + GRACE_SECONDS
        ]  # fmt: skip
        went_on = [float(row.ended if row.again is None else row.again) - made.at for row in hits if not row.has_rested]
        costs.append(Cost(made, next_start, len(hits), max(went_on, default=None)))
    return costs


def median_and_most(seconds: Sequence[float | None]) -> str:
    """Return ``median / most`` of those that are known."""
    known = [each for each in seconds if each is not None]
    return f"{statistics.median(known):.1f} / {max(known):.1f}" if known else "-"
