"""A worker app without the guard against messages that cannot be read."""

from __future__ import annotations

from agentflow.broker import redis_guard
from agentflow.worker.app import make_worker_app

app = make_worker_app()
redis_guard.remove()
