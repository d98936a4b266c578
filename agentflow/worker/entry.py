"""The apps of agentflow's own workers: ``celery -A agentflow.worker.entry worker``, or ``...entry:commands``.

An installed package has no workers/ beside it. A process has one profile, so an app is built when Celery asks for it.
"""

from __future__ import annotations

from functools import cache

from celery import Celery

from agentflow.worker.app import COMMANDS_ONLY, COMPLETE, MODELS_ONLY, make_worker_app

PROFILES = {"app": COMPLETE, "commands": COMMANDS_ONLY, "models": MODELS_ONLY}

app: Celery
commands: Celery
models: Celery


@cache
def __getattr__(name: str) -> Celery:
    if name not in PROFILES:
        raise AttributeError(f"module {__name__!r} has no app {name!r}; it has {', '.join(PROFILES)}")
    return make_worker_app(PROFILES[name])
