"""The beat of `agentflow up`: it keeps the schedules, and hosts no dispatcher, since the stack's worker has one."""

from __future__ import annotations

from agentflow.worker.beat_service import make_beat_app

app = make_beat_app(has_dispatcher=False)
