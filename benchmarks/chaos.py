"""Chaos: hundreds of runs of every shape while a monkey breaks workers, servers and messages; then proof that it held.

Starts its own PostgreSQL, Valkey and model server, three complete workers, one for models, and beat, all as real
processes under a supervisor of its own. The seed decides which faults come when and which plans are submitted. Prints
what was broken and what it cost, in Markdown; exit code 1 with what was violated, and the logs are kept then.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the stubs that the tests have

from proving.arena import Arena
from proving.crowd import Crowd
from proving.faults import CUT_OFF, FAULTS, REDIS_AWAY
from proving.fleet import Fleet
from proving.ground import Ground
from proving.losses import costs_of
from proving.monkey import Monkey
from proving.plans import GREEDY, THRIFTY_PROJECT
from proving.proof import Proof
from proving.report import Report

from tests.model_stub import Reply, Usage

PROJECT_TOKENS = 2_000
PEACE_SECONDS = 240.0
LONG_MINUTES = 4.0
"""From then on there is room for an outage of a minute."""
LOOK_SECONDS = 1.0


def main() -> int:
    """Make chaos, then judge; returns the exit code."""
    arguments = _read_arguments()
    report = Report(arguments.seed, arguments.minutes, arguments.lease_seconds, os.getloadavg()[0])
    print(f"seed {arguments.seed}", file=sys.stderr)
    ground = Ground(
        "chaos",
        lease_seconds=arguments.lease_seconds,
        drain_seconds=3,
        kill_grace_seconds=2,
        budgets={"project": {THRIFTY_PROJECT: {"tokens": PROJECT_TOKENS}}},
    )
    with ground:
        ground.stub.replies["slow"] = Reply(delay_seconds=1.2)
        ground.stub.replies[GREEDY] = Reply(usage=Usage(prompt=20, completion=3000))
        _make_chaos(ground, report, arguments)
        ground.keep = arguments.keep or not report.has_held
        if ground.keep:
            print(f"logs, journal and databases are kept in {ground.home}", file=sys.stderr)
    print(json.dumps(report.as_json(), indent=2) if arguments.json else report.as_markdown())
    return 0 if report.has_held else 1


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5, help="how long things are broken")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--runs-per-minute", type=float, default=70)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between faults, on average")
    parser.add_argument("--lease-seconds", type=float, default=6.0, help="short, so that many are outlived; 20 else")
    parser.add_argument("--workers", type=int, default=3, help="complete ones, of four slots each")
    parser.add_argument("--models", action=argparse.BooleanOptionalAction, default=True, help="one for models beside")
    parser.add_argument("--faults", nargs="*", choices=[[], *FAULTS], help="only these kinds")
    parser.add_argument("--json", action="store_true", help="print JSON, each fault by itself")
    parser.add_argument("--keep", action="store_true", help="keep the folder also when everything held")
    arguments = parser.parse_args()
    if arguments.faults is None:
        arguments.faults = [kind for kind in FAULTS if kind != REDIS_AWAY or arguments.minutes >= LONG_MINUTES]
    return arguments


def _make_chaos(ground: Ground, report: Report, arguments: argparse.Namespace) -> None:
    crowd = Crowd(ground, arguments.seed, arguments.runs_per_minute)
    with Fleet(ground) as fleet:
        fleet.worker(CUT_OFF, "-c", "4", AGENTFLOW_DATABASE_URL=ground.line.url)
        for number in range(2, arguments.workers + 1):
            fleet.worker(f"w{number}", "-c", "4")
        if arguments.models:
            fleet.worker("models", "-c", "12", app="workers.models")
        fleet.beat("beat")
        fleet.wait_until_ready()
        arena = Arena(ground, fleet, crowd, random.Random(f"{arguments.seed}:victims"))
        rng = random.Random(f"{arguments.seed}:monkey")
        monkey = Monkey(arena, arguments.faults, arguments.every, rng)
        crowd.keep_schedules()
        crowd.start()
        crowd.wait_until_at_work(ground.journal_lines)
        try:
            monkey.run(arguments.minutes * 60)
        finally:
            monkey.mend_all()
            crowd.stop()
            crowd.stop_schedules()
        calm_after = _wait_for_peace(crowd)
        proof = Proof(ground, crowd, PROJECT_TOKENS)
        proof.of_rows()
        report.costs = costs_of(ground.runtime, monkey.made)
        restarts = {member.name: member.starts - 1 for member in fleet.members}
        report.counts = _counts(proof, crowd) | {"restarts": restarts, "all ended after s of peace": calm_after}
        proof.of_the_end(fleet.stop())
    report.checked, report.findings = proof.checked, proof.findings
    crowd.close()


def _wait_for_peace(crowd: Crowd) -> float:
    """Wait until nothing moves any more, while a person lifts every rest; returns how many seconds that took."""
    began = time.monotonic()
    while crowd.lift_rests() and time.monotonic() - began < PEACE_SECONDS:
        time.sleep(LOOK_SECONDS)
    return round(time.monotonic() - began, 1)


def _counts(proof: Proof, crowd: Crowd) -> dict[str, object]:
    def by_state(table: str, column: str = "state") -> dict[str, int]:
        counted = proof.rows(f"SELECT {column} AS word, count(*) AS times FROM {table} GROUP BY 1 ORDER BY 2 DESC")
        return {row.word: int(row.times) for row in counted}

    innocent = "step WHERE reason ->> 'code' = 'poisoned' AND key <> 'poison'"
    return {
        "runs": by_state("run_state"),
        "steps": by_state("step"),
        "attempts": by_state("attempt"),
        "steps given up as poisoned that were not": proof.rows(f"SELECT count(*) FROM {innocent}")[0][0],
        "what callers did and were told": crowd.doings.counts,
        "longest submit, s": round(crowd.doings.longest_submit, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
