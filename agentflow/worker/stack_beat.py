"""The beat of `agentflow up`: it keeps the schedules, and hosts the dispatcher that stands by for the worker's.

A dispatcher that is killed is started anew within seconds; one that stands by takes over within its term.
"""

from __future__ import annotations

from agentflow.worker.beat_service import make_beat_app

app = make_beat_app()
