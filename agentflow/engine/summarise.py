"""Summarise: how a run stands, in counts only, as a notify step tells it.

Owns the public form of that. No content, no reason and no name that a run-time list gave is part of it.
"""

from __future__ import annotations

import json
from typing import Any

from agentflow.domain.budget import usd_of
from agentflow.domain.ids import RunId, StepId
from agentflow.engine.context import EngineContext
from agentflow.storage import steps, views
from agentflow.storage.notices import CountedUsage, count_usage
from agentflow.storage.view_shapes import moment

NOTICE_SCHEMA = "agentflow.notice/1"


def summarise(context: EngineContext, run_id: RunId, step_id: StepId, key: str) -> str:
    """Return the notice of step ``key`` as JSON text.

    Its ``id`` is the same in every attempt of a round, so that whoever is told twice can see it.
    """
    with context.database.transaction() as tx:
        summary = views.read_summary(tx, run_id)
        counts = steps.count_by_state(tx, run_id).every
        usage = _usage(count_usage(tx, run_id))
    notice = {
        "schema": NOTICE_SCHEMA,
        "id": f"{step_id}-{summary.round}",
        "run": str(run_id),
        "step": key,
        "project": summary.project,
        "plan": {"name": summary.plan_name, "fingerprint": summary.plan_fingerprint},
        "state": summary.state.value,
        "round": summary.round,
        "steps": {state.value: count for state, count in sorted(counts.items()) if count},
        "usage": usage,
        "created_at": moment(summary.created_at),
        "started_at": moment(summary.started_at),
        "at": moment(summary.read_at),
    }
    return json.dumps(notice, separators=(",", ":"))


def _usage(used: CountedUsage) -> dict[str, Any]:
    return {
        "attempts": used.attempts,
        "calls": used.calls,
        "tokens": used.tokens,
        "usd": usd_of(used.usd_nano),
        "unpriced_calls": used.unpriced_calls,
    }
