"""What turns a Celery worker into an agentflow worker: profiles, the dispatcher beside it, draining, revokes."""
