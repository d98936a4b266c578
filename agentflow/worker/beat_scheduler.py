"""Celery beat's scheduler over Postgres: agentflow's schedules, and a user's own ``beat_schedule`` beside them.

Owns no schedule and no file. Of several beats one leads and fires; when entries of the user last fired stands in rows,
so that whoever leads next goes on from there. A server that is away is waited for: beat never ends for it.
"""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from celery.beat import ScheduleEntry, Scheduler, SchedulingError

from agentflow import runtime, tasks
from agentflow.domain.error import ServersUnreachable
from agentflow.engine import scheduler as engine
from agentflow.executors.base import known_actions
from agentflow.storage import beat_entries
from agentflow.storage.database import ConflictingWrite
from agentflow.telemetry import get_logger
from agentflow.worker.alive import show_life

log = get_logger(__name__)


class PostgresScheduler(Scheduler):
    """What ``celery -A beat beat`` ticks; the process's runtime says for which installation."""

    max_interval = engine.POLL_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._term: int | None = None
        self._unsent: list[tuple[str, datetime, datetime]] = []
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Take the user's entries; Postgres is first asked when this beat leads."""
        self.merge_inplace(self.app.conf.beat_schedule)
        self.install_default_entries(self.schedule)

    @property
    def info(self) -> str:
        """What beat's banner says of the scheduler."""
        return "    . schedules -> PostgreSQL"

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Fire what is due, if this beat leads; returns in how many seconds to look again."""
        try:
            wait_seconds = self._keeper.one_pass()
            wait_seconds = min(wait_seconds, self._fire_entries(), engine.POLL_SECONDS)
            show_life(runtime.current().settings)
            return max(0.0, wait_seconds)
        except ServersUnreachable as error:
            log.warning("servers_unreachable", error=str(error))
            self._keeper.forget_term()
        except ConflictingWrite as error:
            log.warning("pass_given_up", error=str(error))
        except Exception:  # beat must not end for it: the next tick tries again
            log.exception("tick_failed")
        return engine.POLL_SECONDS

    def close(self) -> None:
        """Resign, so that another beat need not wait for the end of the term."""
        if "_keeper" in self.__dict__:
            try:
                self._keeper.resign()
            except (ServersUnreachable, ConflictingWrite):
                log.info("term_left_to_expire")
        super().close()

    @cached_property
    def _keeper(self) -> engine.Scheduler:
        house = runtime.current()
        tasks.register(house.celery, known_actions())
        return engine.Scheduler(house.context, f"beat@{socket.gethostname()}:{os.getpid()}")

    def _fire_entries(self) -> float:
        """Fire the user's entries that are due, in this term only; returns in how many seconds the next may be."""
        self._give_back_unsent()  # also when another leads by now: what it does not take as fired, it fires
        term = self._keeper.elect()
        if term is None or not self.schedule:
            return engine.POLL_SECONDS
        if self._term != term.number:
            self._restore_entries()
            self._term = term.number
        waits = [self._attend(entry, term) for entry in list(self.schedule.values())]
        return min(waits)

    def _restore_entries(self) -> None:
        """Go on from when the entries last fired; new ones count from now on."""
        with runtime.current().context.database.transaction() as tx:
            beat_entries.register(tx, {name: entry.last_run_at for name, entry in self.schedule.items()})
            known = beat_entries.read(tx, list(self.schedule))
        for name, stored in known.items():
            entry = self.schedule[name]
            entry.last_run_at = stored.last_run_at.astimezone(self.app.timezone)
            entry.total_run_count = stored.total_run_count

    def _attend(self, entry: ScheduleEntry, term: beat_entries.Term) -> float:
        try:
            is_due, wait_seconds = entry.is_due()
        except Exception:  # one entry that cannot be computed must not stop the others
            log.exception("entry_not_computed", entry=entry.name)
            return engine.POLL_SECONDS
        if is_due:
            self._fire(entry, term)
        return float(wait_seconds or 0.0)

    def _fire(self, entry: ScheduleEntry, term: beat_entries.Term) -> None:
        """Take the firing, then send it: a beat that ends in between, or thaws later, sends nothing a second time."""
        database, before, now = runtime.current().context.database, entry.last_run_at, datetime.now(UTC)
        with database.transaction() as tx:
            is_ours = beat_entries.claim(tx, term, entry.name, before, now)
        if not is_ours:
            self._term = None  # whoever took it leads, or did: read anew what stands
            return
        self.schedule[entry.name] = entry = entry.next(now.astimezone(self.app.timezone))
        try:
            self.apply_async(entry, advance=False)
        except SchedulingError as error:
            log.warning("entry_not_sent", entry=entry.name, error=str(error))
            self._unsent.append((entry.name, before, now))
            self._give_back_unsent()

    def _give_back_unsent(self) -> None:
        """Give firings back that were taken and not sent; those that an outage keeps from it at the next tick."""
        while self._unsent:
            name, before, now = self._unsent[0]
            try:
                with runtime.current().context.database.transaction() as tx:
                    beat_entries.give_back(tx, name, before, now)
            except (ServersUnreachable, ConflictingWrite):
                log.warning("entry_not_given_back", entry=name)
                raise
            self._unsent.pop(0)
            if name in self.schedule:
                self.schedule[name].last_run_at = before
