"""``celery -A workers.commands worker``: processes for subprocess steps, and in-process work."""

from agentflow.worker.app import COMMANDS_ONLY, make_worker_app

app = make_worker_app(COMMANDS_ONLY)
