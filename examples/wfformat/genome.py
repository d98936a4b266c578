"""Make an instance in WfFormat with the shape of the 1000Genome workflow, as its description gives it. Prints JSON.

A branch per chromosome: ten tasks that parse parts of it and one that merges them, one that computes scores, and for
each of seven populations two tasks that need both. Runtimes are drawn, from a seed, around what such tasks take.
"""

from __future__ import annotations

import argparse
import json
import random
from typing import Any

POPULATIONS = ("AFR", "ALL", "AMR", "EAS", "EUR", "GBR", "SAS")
PARTS = 10
SECONDS = {
    "individuals": (45.0, 60.0),
    "individuals_merge": (35.0, 40.0),
    "sifting": (0.3, 0.5),
    "mutation_overlap": (2.5, 35.0),
    "frequency": (95.0, 115.0),
}


def main() -> None:
    """Print an instance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromosomes", type=int, default=12, help="how many branches, of 26 tasks each")
    parser.add_argument("--seed", type=int, default=1, help="what the runtimes are drawn from")
    asked = parser.parse_args()
    print(json.dumps(instance_of(asked.chromosomes, asked.seed), separators=(",", ":")))


def instance_of(chromosomes: int, seed: int) -> dict[str, Any]:
    """Return an instance in WfFormat 1.5."""
    parents: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}

    def add(kind: str, needs: list[str]) -> str:
        task_id = f"{kind}_ID{len(parents) + 1:07}"
        parents[task_id], kinds[task_id] = needs, kind
        return task_id

    for _ in range(chromosomes):
        parts = [add("individuals", []) for _ in range(PARTS)]
        both = [add("individuals_merge", parts), add("sifting", [])]
        for _ in POPULATIONS:
            add("mutation_overlap", both)
            add("frequency", both)
    children: dict[str, list[str]] = {task_id: [] for task_id in parents}
    for task_id, needs in parents.items():
        for need in needs:
            children[need].append(task_id)
    drawn = random.Random(seed)  # noqa: S311 - chance from a seed is no secret
    runtimes = {task_id: round(drawn.uniform(*SECONDS[kind]), 3) for task_id, kind in kinds.items()}
    return {
        "name": f"1000genome-shape-{chromosomes}ch",
        "description": "The shape of the 1000Genome workflow with drawn runtimes; no record of an execution",
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": [
                    {"name": kinds[task_id], "id": task_id, "parents": needs, "children": children[task_id]}
                    for task_id, needs in parents.items()
                ]
            },
            "execution": {
                "makespanInSeconds": round(sum(runtimes.values()), 3),
                "executedAt": "2026-01-01T00:00:00Z",
                "tasks": [{"id": task_id, "runtimeInSeconds": runtimes[task_id]} for task_id in parents],
            },
        },
    }


if __name__ == "__main__":
    main()
