"""The housekeeper: prunes and signs beside the leading dispatcher, in a thread of its own: no send waits for it.

Owns when; what is done stands in prune.py and checkpoint.py. It works a few seconds at a time, between which the
dispatcher asks whether it still leads. What goes wrong is logged and tried again; nothing of it stops the dispatcher.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agentflow.domain.error import AgentflowError
from agentflow.domain.ids import RunId
from agentflow.engine.checkpoint import write_checkpoint
from agentflow.engine.context import EngineContext
from agentflow.engine.fold_tally import fold_tally
from agentflow.engine.prune import prune_batch, remove_content
from agentflow.engine.prune_firings import BATCH_FIRINGS, prune_firings
from agentflow.storage.database import ConflictingWrite
from agentflow.telemetry import get_logger

log = get_logger(__name__)

LOOK_SECONDS = 10.0
SHIFT_SECONDS = 3.0
PAUSE_SECONDS = 0.1
STOP_SECONDS = 3.0
DAY_SECONDS = 86_400
FIRINGS_SECONDS = 3600.0
"""How often firings are pruned: each time that some go is an event of the installation's chain."""

Job = Callable[[], bool]
"""Does a piece of the work; True if there is more of it."""


class Housekeeper:
    """The work of one dispatcher that is not urgent; ``tend`` whenever it leads, ``stop`` at its end."""

    def __init__(self, context: EngineContext, actor: str) -> None:
        self._context = context
        self._actor = actor
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._looked_at = time.monotonic()
        self._has_more = False
        self._is_behind = False
        self._passed_over: set[RunId] = set()
        self._firings_at: float | None = None
        self._troubles: dict[str, str] = {}

    def tend(self) -> None:
        """Begin another shift if it is time for one and none is under way; returns at once."""
        if self._stopping.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        patience = min(LOOK_SECONDS, self._context.settings.checkpoint_seconds)
        if not self._has_more and time.monotonic() - self._looked_at < patience:
            return
        self._thread = threading.Thread(target=self.work, name="housekeeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the shift that is under way; what it is in the middle of may take a moment more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def work(self) -> None:
        """One shift: fold tallies, sign what is to be signed, prune what is too old and remove the content of that."""
        until = time.monotonic() + SHIFT_SECONDS
        jobs: dict[str, Job] = {
            "fold_tally": lambda: fold_tally(self._context),
            "sign": self._sign,
            "prune": self._prune,
            "prune_firings": self._prune_firings,
            "remove_content": self._remove_content,
        }
        left = [self._do(name, job, until) for name, job in jobs.items()]  # each has its turn in every shift
        self._has_more = any(left)
        self._looked_at = time.monotonic()

    def _do(self, name: str, job: Job, until: float) -> bool:
        """Work at one job until nothing of it is left or the shift is over; returns whether something is left."""
        try:
            while job():
                if self._stopping.wait(PAUSE_SECONDS) or time.monotonic() > until:
                    return True
        except (AgentflowError, ConflictingWrite) as error:
            self._warn(name, error)
        except Exception:  # whatever it is, the next shift tries again and the log says so
            log.exception("housekeeping_failed", job=name)
        else:
            self._troubles.pop(name, None)
        return False

    def _warn(self, name: str, error: Exception) -> None:
        """Say once what stands in the way, not at every shift."""
        if self._troubles.get(name) != str(error):
            self._troubles[name] = str(error)
            log.warning("housekeeping_hindered", job=name, error=str(error))

    def _sign(self) -> bool:
        every = 0 if self._is_behind else self._context.settings.checkpoint_seconds
        signed = write_checkpoint(self._context, every)
        self._is_behind = signed is not None and signed.has_more
        return self._is_behind

    def _prune(self) -> bool:
        days = self._context.settings.retention_days
        if days is None:
            return False
        age = days * DAY_SECONDS
        return prune_batch(self._context, age, self._actor, passed_over=self._passed_over).has_more

    def _prune_firings(self) -> bool:
        days, now = self._context.settings.retention_days, time.monotonic()
        if days is None or (self._firings_at is not None and now - self._firings_at < FIRINGS_SECONDS):
            return False
        if prune_firings(self._context, days * DAY_SECONDS, self._actor) == BATCH_FIRINGS:
            return True
        self._firings_at = now
        return False

    def _remove_content(self) -> bool:
        return remove_content(self._context).has_more
