"""``celery -A workers.models worker``: threads for model calls."""

from agentflow.worker.app import MODELS_ONLY, make_worker_app

app = make_worker_app(MODELS_ONLY)
