"""A worker app with late acks: each busy slot holds a message that is not acknowledged when Redis goes away."""

from __future__ import annotations

from agentflow.worker.app import make_worker_app

app = make_worker_app()
app.conf.task_acks_late = True
for task in app.tasks.values():
    task.acks_late = True
