"""The exit codes, in one table: how a run's state and an error become what the shell sees.

Owns the numbers of the public contract. Imports nothing, so that the table costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

COMPLETED = 0
FAILED = 1
USAGE = 2
PARTIAL = 3
CANCELLED = 4
RESTING = 5
UNREACHABLE = 6
TIMED_OUT = 124
INTERRUPTED = 130
"""Ctrl-C: the shells' own number for it, so that what follows in a script does not run."""

BY_STATE: Mapping[str, int] = {
    "completed": COMPLETED,
    "failed": FAILED,
    "partial": PARTIAL,
    "cancelled": CANCELLED,
    "paused": RESTING,
    "exhausted": RESTING,
    "waiting": RESTING,
}
"""States in which a run has ended or rests. A run that is on its way has no code: who asked did not wait."""

BY_ERROR: Mapping[str, int] = {
    "usage": USAGE,
    "plan_rejected": USAGE,
    "manifest_load": USAGE,
    "schema_validation": USAGE,
    "dag_validation": USAGE,
    "plan_drift": USAGE,
    "not_found": USAGE,
    "run_pruned": USAGE,
    "ambiguous_id": USAGE,
    "idempotency_conflict": USAGE,
    "precondition_failed": USAGE,
    "invalid_transition": USAGE,
    "configuration": USAGE,
    "store_mismatch": USAGE,
    "servers_unreachable": UNREACHABLE,
    "wait_timeout": TIMED_OUT,
}


def of_state(state: str) -> int:
    """Return the exit code of a verb that waited for a run which is now in ``state``."""
    return BY_STATE.get(state, COMPLETED)


def of_error(code: str) -> int:
    """Return the exit code of an error by its code; what is not in the table is a failure."""
    return BY_ERROR.get(code, FAILED)
