"""Runs as they would be read, for tests of pages: no server is needed to draw one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import AttemptState, ShownRunState, StepState
from agentflow.storage.view_shapes import ArtifactView, AttemptView, RunSummary, RunView, StepView, Usage

RUN_ID = RunId(UUID("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"))
START = datetime(2026, 11, 21, 4, 0, 0, tzinfo=UTC)
EXIT_75 = {"code": "exit_code", "detail": {"exit_code": 75}}


def at(seconds: float) -> datetime:
    """So many seconds after the run's start."""
    return START + timedelta(seconds=seconds)


def attempt(number: int, state: str, begun: float, ended: float | None = None, **more: Any) -> AttemptView:
    """An attempt; times are seconds after the run's start."""
    fields = {"exit_code": None, "signal": None, "reason": None, "retry_at": None} | more
    end = None if ended is None else at(ended)
    return AttemptView(number, AttemptState(state), "worker@host:1", at(begun), end, **fields)


def step(key: str, state: str, *attempts: AttemptView, reason: Any = None, files: Sequence[str] = ()) -> StepView:
    """A step; ``files`` are names of artifacts."""
    left = tuple(
        ArtifactView(StepKey(key), len(attempts), name, "file", 24, 24, "0" * 64, "text/plain", is_cut=False)
        for name in files
    )
    return StepView(StepKey(key), "subprocess", (), StepState(state), reason, None, attempts, left)


def run(state: str, *steps: StepView, now: float = 60, ended: float | None = None, reason: Any = None) -> RunView:
    """A run that began at the start of the clock and is read ``now``."""
    end = None if ended is None else at(ended)
    summary = RunSummary(
        RUN_ID, ShownRunState(state), "default", "triage", "f" * 64, "me@host", reason, 1, START, START, end, at(now)
    )
    attempts = [each for one in steps for each in one.attempts]
    seconds = sum(each.duration_seconds or 0 for each in attempts)
    return RunView(summary, Usage(len(attempts), ended or now, seconds), {one.id: one for one in steps})
