"""Watching pool children: a killed one is noticed within a fraction of a second.

The pool wakes up when a child's pipe closes, which the kernel does a moment before the child can be waited for. It then
finds nothing to clean up, and looks again only after five seconds. Looking more often costs a few system calls.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps

WATCH_SECONDS = 0.2


class ChildWatch(bootsteps.StartStopStep):
    """Has the prefork pool look after its children often; other pools have none."""

    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")

    def start(self, worker: Any) -> None:
        """Begin to look."""
        look = getattr(getattr(worker.pool, "_pool", None), "maintain_pool", None)
        if look is not None:
            worker.timer.call_repeatedly(WATCH_SECONDS, look)
