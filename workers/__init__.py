"""The deployment's workers: ``celery -A workers worker`` serves every queue. See workers.commands, workers.models."""

from agentflow.worker.app import make_worker_app

app = make_worker_app()
