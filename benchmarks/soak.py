"""Soak: twenty thousand steps through two workers, to see that nothing grows: memory, Redis keys, tables.

What must hold at the end, or the exit code is 1:

- memory: for each worker (its main process, pool children and supervisors together) and each dispatcher, the median
  of its PSS over the last quarter of the steps is at most 5 % above that over the second quarter;
- Redis: no key without an expiry or an owner, and no message;
- tables: once autovacuum has had its turn, each hot table has at most a fifth as many dead rows as living ones (what
  autovacuum tolerates by default) and a thousand; tables of a row for each leader, worker or limit stay below a
  mebibyte.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the stubs that the tests have

from proving.fleet import Fleet
from proving.ground import Ground
from proving.memory import Memory, quarters
from proving.redis_keys import find_unowned
from sqlalchemy import text

from agentflow import AgentFlow, Plan, Run
from agentflow.broker.dispatch import queue_depths

GROWTH = 1.05
OPEN_RUNS = 24
HOT = ("run", "run_state", "step", "attempt", "llm_call", "artifact")
SMALL = ("leader", "worker", "installation", "slot", "rate")
SMALL_BYTES = 1024 * 1024
VACUUM_SECONDS = 150.0
LOOK_SECONDS = 0.25
PATIENCE_SECONDS = 120.0
DONE = "SELECT count(*) FROM step WHERE state IN ('succeeded', 'failed', 'skipped', 'cancelled')"
TABLES = """SELECT relname AS name, n_live_tup AS living, n_dead_tup AS dead, autovacuum_count AS vacuums,
                   pg_table_size(relid) AS bytes, n_tup_upd AS updates
            FROM pg_stat_user_tables WHERE relname = ANY(:names) ORDER BY bytes DESC"""


class Soak:
    """One soak on one ground."""

    def __init__(self, ground: Ground, flow: AgentFlow, steps: int) -> None:
        self._ground = ground
        self._flow = flow
        self.steps = steps
        self.findings: list[str] = []

    def work(self) -> float:
        """Take all steps through the workers, so many runs at a time; returns the seconds."""
        began = time.monotonic()
        open_runs: list[Run] = []
        sent = 0
        while sent < self.steps or open_runs:
            open_runs = [run for run in open_runs if not run.refresh().is_at_rest]
            while sent < self.steps and len(open_runs) < OPEN_RUNS:
                plan, count = self._plan(sent)
                open_runs.append(self._flow.submit(plan))
                sent += count
            time.sleep(LOOK_SECONDS)  # nothing signals the end of any of several runs
        return time.monotonic() - began

    def done(self) -> int:
        """How many steps have ended."""
        with self._ground.runtime.context.database.transaction() as tx:
            return int(tx.execute(text(DONE)).scalar_one())

    def tables(self) -> list[Any]:
        """Wait until autovacuum has had its turn; returns how the tables stand."""
        deadline = time.monotonic() + VACUUM_SECONDS
        while (bloated := [row for row in self._tables() if _is_bloated(row)]) and time.monotonic() < deadline:
            time.sleep(2.0)  # it looks once a minute
        self.findings += [f"table {row.name}: {row.dead} dead rows, {row.living} living" for row in bloated]
        tables = self._tables()
        grown = [row for row in tables if row.name in SMALL and row.bytes > SMALL_BYTES]
        self.findings += [f"table {row.name} has {row.bytes:,} bytes" for row in grown]
        return tables

    def _tables(self) -> list[Any]:
        with self._ground.runtime.context.database.transaction() as tx:
            return list(tx.execute(text(TABLES), {"names": [*HOT, *SMALL]}).all())

    def _plan(self, sent: int) -> tuple[Plan, int]:
        """Plans of forty steps: a chain of twenty, a fan of sixteen, two commands, a call of a model and a join."""
        plan = Plan("soak", files=["work.sh"], folder=self._ground.plans)
        last: list[str] = []
        for number in range(20):
            plan.noop(f"s{number}", needs=last)
            last = [f"s{number}"]
        for number in range(16):
            plan.noop(f"b{number}", needs=last)
        journal = os.devnull if sent else str(self._ground.journal)
        for name in ("c1", "c2"):
            plan.subprocess(name, ["/bin/sh", "work.sh", journal, "plain", "0"], needs=last)
        plan.llm("ask", model="stub:ok", prompt="say something", max_tokens=50, needs=last)
        plan.noop("join", needs=[*(f"b{number}" for number in range(16)), "c1", "c2", "ask"])
        return plan, 40


def main() -> int:
    """Soak, measure, judge; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    arguments = parser.parse_args()
    with Ground("soak") as ground, ground.flow() as flow, Fleet(ground) as fleet:
        for name in ("w1", "w2"):
            fleet.worker(name, "-c", "2")
        fleet.wait_until_ready()
        soak = Soak(ground, flow, arguments.steps)
        with Memory(fleet, soak.done) as memory:
            seconds = soak.work()
        depths = queue_depths(ground.runtime.celery)
        soak.findings += [f"{depth} messages in {queue}" for queue, depth in depths.items() if depth]
        tables = soak.tables()
        codes = fleet.stop(PATIENCE_SECONDS)
        soak.findings += [f"{name} ended with {code}" for name, code in codes.items() if code]
        unowned = find_unowned(ground)
        soak.findings += [f"Redis key {name}" for name in unowned]
        with ground.client() as client:
            redis_memory = client.info("memory")["used_memory_human"]
        lines = _memory_lines(memory, soak)
    _print(arguments.steps, seconds, lines, tables, f"Redis holds {redis_memory} at the end.")
    for finding in soak.findings:
        print(f"VIOLATED {finding}")
    return 1 if soak.findings else 0


def _is_bloated(row: Any) -> bool:
    return row.name in HOT and row.dead > row.living / 5 + 1000


def _memory_lines(memory: Memory, soak: Soak) -> list[str]:
    lines = []
    for name in sorted({name for sample in memory.samples for name in sample.pss}):
        pss = quarters(memory.samples, lambda sample, name=name: sample.pss.get(name, 0), soak.steps)  # type: ignore[misc]
        rss = quarters(memory.samples, lambda sample, name=name: sample.rss.get(name, 0), soak.steps)  # type: ignore[misc]
        growth = pss[3] / pss[1] if pss[1] else 0.0
        if growth > GROWTH:
            soak.findings.append(f"memory of {name} grew by {growth - 1:.1%} from the second to the last quarter")
        cells = " | ".join(f"{kib / 1024:.1f}" for kib in pss)
        lines.append(f"| {name} | {cells} | {growth - 1:+.1%} | {rss[3] / 1024:.1f} |")
    return lines


def _print(steps: int, seconds: float, memory: list[str], tables: list[Any], redis: str) -> None:
    print(f"### Soak: {steps:,} steps through two workers of two slots in {seconds:.0f} s ({steps / seconds:.0f}/s)\n")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, fsync on. {redis}\n")
    print("| PSS in MiB, median of | 1st quarter | 2nd | 3rd | last | last against 2nd | RSS, last |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    print("\n".join(memory))
    print("\n| table | living rows | dead rows | updates | autovacuums | MiB |\n|---|--:|--:|--:|--:|--:|")
    for row in tables:
        print(
            f"| {row.name} | {row.living:,} | {row.dead:,} | {row.updates:,} | {row.vacuums} | "
            f"{row.bytes / 1024 / 1024:.1f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
