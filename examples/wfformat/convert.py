"""Turn a workflow instance in WfFormat (1.4 to 1.6, see wfcommons.org) into a plan of agentflow.

Every task becomes a step that needs its parents. A step hashes as many bytes as keep one core busy for about the
task's recorded runtime, times --scale; with --noop it does nothing. Prints the plan as YAML.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

BYTES_PER_SECOND = 300_000_000
"""What one core hashes in a second, about."""
MAX_STEPS = 10_000
DEFAULT_TIMEOUT_SECONDS = 1800
PATIENCE = 10
"""How many times its expected runtime a step may take."""
WORK = 'head -c "$1" /dev/zero | sha256sum'


class NotWfFormat(Exception):
    """The instance cannot be read; the message says what is wrong where."""


def main() -> int:
    """Convert a file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("instance", type=Path, help="a file in WfFormat")
    parser.add_argument("--scale", type=float, default=0.001, help="seconds of work for a second of runtime")
    parser.add_argument("--noop", action="store_true", help="steps that do nothing")
    asked = parser.parse_args()
    try:
        document = json.loads(asked.instance.read_text(encoding="utf-8"))
        plan = plan_of(document, None if asked.noop else asked.scale)
    except (OSError, ValueError, NotWfFormat) as error:
        print(f"{asked.instance}: {error}", file=sys.stderr)
        return 2
    yaml.safe_dump(plan, sys.stdout, sort_keys=False, width=120)
    return 0


def plan_of(instance: Any, scale: float | None) -> dict[str, Any]:
    """Return the plan document of an instance; ``scale`` None: steps that do nothing. Raises NotWfFormat."""
    tasks = _tasks(instance)
    runtimes = {} if scale is None else _runtimes(instance, tasks)
    parents = _parents(tasks)
    keys = _step_ids(list(tasks))
    steps = []
    for task_id in tasks:
        seconds = None if scale is None else runtimes[task_id] * scale
        steps.append({"id": keys[task_id], "needs": [keys[parent] for parent in parents[task_id]], **_action(seconds)})
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", str(instance.get("name") or "workflow")).strip("-.")[:100]
    return {"agentflow": 1, "name": name or "workflow", "steps": steps}


def _action(seconds: float | None) -> dict[str, Any]:
    if seconds is None:
        return {"noop": {}}
    work = {"subprocess": {"command": ["/bin/sh", "-c", WORK, "work", str(round(seconds * BYTES_PER_SECOND))]}}
    needed = round(seconds * PATIENCE)
    return work | ({"timeout": f"{needed}s"} if needed > DEFAULT_TIMEOUT_SECONDS else {})


def _tasks(instance: Any) -> dict[str, dict[str, Any]]:
    """The tasks by id: in 1.5 and later they stand under the specification, in 1.4 under the workflow itself."""
    workflow = instance.get("workflow") if isinstance(instance, dict) else None
    if not isinstance(workflow, dict):
        raise NotWfFormat("it has no workflow, so it is no instance in WfFormat")
    written = workflow.get("specification", workflow).get("tasks")
    if not isinstance(written, list) or not written:
        raise NotWfFormat("its workflow has no tasks")
    if len(written) > MAX_STEPS:
        raise NotWfFormat(f"it has {len(written):,} tasks, and a plan has at most {MAX_STEPS:,} steps")
    tasks: dict[str, dict[str, Any]] = {}
    for number, task in enumerate(written):
        task_id = str(task.get("id") or task.get("name") or "") if isinstance(task, dict) else ""
        if not task_id:
            raise NotWfFormat(f"task {number} has no id")
        if task_id in tasks:
            raise NotWfFormat(f"two tasks have the id {task_id!r}")
        tasks[task_id] = task
    return tasks


def _parents(tasks: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """What each task needs: those that it names as parents, and those that name it as a child."""
    parents: dict[str, dict[str, None]] = {task_id: {} for task_id in tasks}
    for task_id, task in tasks.items():
        pairs = [(parent, task_id) for parent in task.get("parents") or ()]
        pairs += [(task_id, child) for child in task.get("children") or ()]
        for parent, child in pairs:
            if parent not in tasks or child not in tasks:
                missing = child if parent in tasks else parent
                raise NotWfFormat(f"task {task_id!r} names {missing!r}, which is no task")
            parents[child][parent] = None
    return {task_id: list(found) for task_id, found in parents.items()}


def _runtimes(instance: Any, tasks: dict[str, dict[str, Any]]) -> dict[str, float]:
    """How long each task took; a task without an execution took no time."""
    execution = instance["workflow"].get("execution") or {}
    executed = {str(each.get("id")): each for each in execution.get("tasks") or ()}
    runtimes = {}
    for task_id, task in tasks.items():
        found = executed.get(task_id, task)
        seconds = found.get("runtimeInSeconds", found.get("runtime", 0))
        if not isinstance(seconds, int | float) or seconds < 0:
            raise NotWfFormat(f"task {task_id!r} has a runtime of {seconds!r}: it must be a number of seconds")
        runtimes[task_id] = float(seconds)
    return runtimes


def _step_ids(task_ids: list[str]) -> dict[str, str]:
    """Ids that a plan may have, each of its own; WfFormat allows more characters than a plan."""
    taken: set[str] = set()
    keys = {}
    for task_id in task_ids:
        key = re.sub(r"[^A-Za-z0-9_-]", "_", task_id)
        key = key if re.match(r"[A-Za-z_]", key) else f"_{key}"
        key = unique = key[:64]
        number = 2
        while unique in taken:
            suffix = f"-{number}"
            unique = key[: 64 - len(suffix)] + suffix
            number += 1
        taken.add(unique)
        keys[task_id] = unique
    return keys


if __name__ == "__main__":
    sys.exit(main())
