"""A worker app under which the guarded crash is sure: each busy slot holds a message that is not acknowledged."""

from __future__ import annotations

import os

from agentflow.broker import redis_guard
from agentflow.worker.app import make_worker_app

app = make_worker_app()
app.conf.task_acks_late = True
for task in app.tasks.values():
    task.acks_late = True
if os.environ.get("WITHOUT_GUARD"):
    redis_guard.remove()
