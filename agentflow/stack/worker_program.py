"""`agentflow worker`: become Celery's worker program over an app of the package.

Owns the choice of the app and nothing of the worker. The process is replaced, so that signals, exit code and name are
those of a `celery worker`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from agentflow.domain.error import UsageError
from agentflow.runtime import servers_of, with_stack
from agentflow.settings import load_settings

APPS = {
    "all": "agentflow.worker.entry",
    "commands": "agentflow.worker.entry:commands",
    "models": "agentflow.worker.entry:models",
}


def run_worker(profile: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by a worker. UsageError: no such profile. ServersUnreachable: no servers are known."""
    if profile not in APPS:
        raise UsageError(f"There is no worker profile {profile!r}; there are {', '.join(APPS)}.")
    servers_of(with_stack(load_settings()))  # Celery would show its absence as a traceback
    os.execv(sys.executable, [sys.executable, "-m", "celery", "-A", APPS[profile], "worker", *arguments])  # noqa: S606 - no shell is wanted
