"""The worker of `agentflow up`: a complete one that tells the stack when it takes messages.

Standard input is a socket to the stack; the word is written there, since what is logged depends on the log level.
"""

from __future__ import annotations

import os
from typing import Any

from celery.signals import worker_ready

from agentflow.worker.entry import app

READY = b"ready\n"
_LINE = 0

__all__ = ["READY", "app"]


@worker_ready.connect(weak=False)
def _tell(**_: Any) -> None:
    os.write(_LINE, READY)
