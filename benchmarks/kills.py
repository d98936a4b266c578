"""Kills: two workers are killed alternately under load, with all their processes, and every run completes all the same.

Starts its own servers and two complete workers that are started again when they end. Prints for each kill what it hit
and how long until all of that went on; exit code 1 unless every run completed and everything holds.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the stubs that the tests have

from proving.arena import Made, now
from proving.crowd import Crowd
from proving.fleet import Fleet, kill
from proving.ground import Ground
from proving.losses import Cost, costs_of, median_and_most
from proving.proof import Proof

COMPLETING = ("chain", "fan", "diamonds", "retries", "rates", "places", "long")
PEACE_SECONDS = 240.0
LOOK_SECONDS = 0.5


def main() -> int:
    """Kill, wait, judge; returns the exit code."""
    arguments = _read_arguments()
    print(f"seed {arguments.seed}", file=sys.stderr)
    with Ground("kills", lease_seconds=arguments.lease_seconds) as ground:
        rate = arguments.runs / arguments.minutes
        crowd = Crowd(ground, arguments.seed, 1.2 * rate, shapes=COMPLETING, most_runs=arguments.runs)
        with Fleet(ground) as fleet:
            for name in ("w1", "w2"):
                fleet.worker(name, "-c", "4")
            fleet.wait_until_ready()
            crowd.start(has_person=False)
            made = _kill_alternately(fleet, arguments)
            calm_after = _wait_until_all_ended(crowd, arguments.runs)
            crowd.stop()
            proof = Proof(ground, crowd, 0)
            proof.of_rows()
            costs = costs_of(ground.runtime, made)
            states = {row.state: row[1] for row in proof.rows("SELECT state, count(*) FROM run_state GROUP BY 1")}
            proof.of_the_end(fleet.stop())
        crowd.close()
        if states != {"completed": arguments.runs}:
            proof.findings.append(f"not every run completed: {states}")
        ground.keep = bool(proof.findings)
        if ground.keep:
            print(f"logs, journal and databases are kept in {ground.home}", file=sys.stderr)
    _print(arguments, costs, states, calm_after, proof)
    return 1 if proof.findings else 0


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--every", type=float, default=20, help="seconds between kills")
    parser.add_argument("--lease-seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    return parser.parse_args()


def _kill_alternately(fleet: Fleet, arguments: argparse.Namespace) -> list[Made]:
    made = []
    for number in range(int(arguments.minutes * 60 / arguments.every)):
        time.sleep(arguments.every)  # the pace of the kills is what this program is about
        worker = fleet.find(f"w{number % 2 + 1}")
        at = now()
        for pid in worker.own():
            kill(pid, signal.SIGKILL)
        made.append(Made("worker_wiped", at, 0, f"{worker.name}@%", worker.name, at))
        print(f"{worker.name} killed", file=sys.stderr, flush=True)
    return made


def _wait_until_all_ended(crowd: Crowd, runs: int) -> float:
    began = time.monotonic()
    while (len(crowd.submitted) < runs or crowd.resting()) and time.monotonic() - began < PEACE_SECONDS:
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - began


def _print(
    arguments: argparse.Namespace, costs: list[Cost], states: dict[str, int], calm_after: float, proof: Proof
) -> None:
    print(f"### Seed {arguments.seed}: two workers killed alternately every {arguments.every:g} s, {states}\n")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, fsync on, lease "
        f"{arguments.lease_seconds:g} s. All ended {calm_after:.0f} s after the last kill.\n"
    )
    print("| kill | worker | attempts hit | all of them went on after s | next start of any after s |")
    print("|--:|---|--:|--:|--:|")
    for number, cost in enumerate(costs, 1):
        went_on, next_start = (median_and_most([each]).split(" / ")[-1] for each in (cost.went_on, cost.next_start))
        print(f"| {number} | {cost.made.note} | {cost.hit} | {went_on} | {next_start} |")
    went_on, next_start = (
        median_and_most(each) for each in ([cost.went_on for cost in costs], [cost.next_start for cost in costs])
    )
    print(f"| median / most | | {sum(cost.hit for cost in costs)} in all | {went_on} | {next_start} |\n")
    print("\n".join(f"- {line}" for line in proof.checked))
    for finding in proof.findings:
        print(f"- VIOLATED {finding}")


if __name__ == "__main__":
    sys.exit(main())
