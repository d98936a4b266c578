"""The ids of agentflow and how one follows from another.

Owns the id types and the derivation of a step's id from its run's. Does not make random ids:
those are handed in by the engine, so that the domain stays pure.
"""

from __future__ import annotations

import hashlib
from typing import NewType
from uuid import UUID

RunId = NewType("RunId", UUID)
INSTALLATION_CHAIN = RunId(UUID(int=0))
"""Stands for a run in the audit events of what happens outside of runs: schedules, stored plans, maintenance."""
SMOKE_PROJECT = "agentflow-smoke"
"""The project of the runs that try an installation out: nobody asked for them by themselves."""
StepId = NewType("StepId", UUID)
"""A step's row id. It is also the id of the Celery task that rings for it, in every attempt."""
StepKey = NewType("StepKey", str)
"""A step's name inside its plan, such as ``collect``."""
AttemptId = NewType("AttemptId", UUID)
ClaimToken = NewType("ClaimToken", UUID)
"""The fence of one attempt: only its holder may extend or settle the attempt."""


def step_id(run_id: RunId, key: StepKey) -> StepId:
    """Return the id of step ``key`` in ``run_id``.

    The first half is the run's first half, so that a task seen in a monitor names its run and the rows
    of one run stand together in the index; the second half is 64 bits of SHA-256 over run and key.
    """
    digest = hashlib.sha256(run_id.bytes + key.encode()).digest()
    return StepId(UUID(bytes=run_id.bytes[:8] + digest[:8]))
