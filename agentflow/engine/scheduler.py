"""The scheduler: fires what is due, as the one leader among all that keep the schedules of an installation.

Every write is guarded by itself; the term only keeps two of them from doing the same work. It is driven from outside,
one pass at a time: by Celery's beat.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from agentflow.domain.error import AgentflowError, ServersUnreachable
from agentflow.engine.context import EngineContext
from agentflow.engine.fire import note_due, take_up
from agentflow.storage import leaders, schedules
from agentflow.storage.beat_entries import Term
from agentflow.storage.database import ConflictingWrite
from agentflow.telemetry import get_logger

log = get_logger(__name__)

SERVICE = "scheduler"
TERM_SECONDS = 3.0
POLL_SECONDS = 1.0
FREE_SECONDS = 5.0
REST_SECONDS = 10.0
"""How long a schedule is left alone that met an error which is not its firings' fault."""
BATCH = 100
"""How many schedules of a kind a pass attends to: those that are due, with what may start, and with what waits."""
STARTS = 20
"""How many runs of one schedule are submitted before the term is looked after again."""


class Scheduler:
    """One candidate for leading. Raises ServersUnreachable from every method while Postgres is away."""

    def __init__(self, context: EngineContext, holder: str) -> None:
        self._context = context
        self._holder = holder
        self._term: int | None = None
        self._elected_at = 0.0
        self._freed_at = 0.0
        self._resting: dict[UUID, float] = {}
        self._after_open = self._after_waiting = schedules.NIL

    @property
    def term(self) -> Term | None:
        """The term that this one leads in; None while another leads."""
        return None if self._term is None else Term(SERVICE, self._holder, self._term)

    def elect(self) -> Term | None:
        """Become or stay leader; asks the database a few times a term."""
        now = time.monotonic()
        if self._term is not None and now - self._elected_at < TERM_SECONDS / 3:
            return self.term
        # One statement and no transaction: a leader that freezes here must not keep the row locked from the others.
        with self._context.database.autocommit() as connection:
            term = leaders.elect(connection, SERVICE, self._holder, TERM_SECONDS)
        if term != self._term:
            log.info("leader_changed", service=SERVICE, is_leading=term is not None, term=term)
        self._term, self._elected_at = term, now
        return self.term

    def forget_term(self) -> None:
        """Take the term for over, after contact was lost."""
        self._term = None

    def resign(self) -> None:
        """Give the term up, so that another need not wait for its end."""
        term, self._term = self._term, None
        if term is not None:
            with self._context.database.transaction() as tx:
                leaders.resign(tx, SERVICE, self._holder, term)

    def one_pass(self) -> float:
        """Fire what is due, if leading; returns in how many seconds to look again at most."""
        if self.elect() is None:
            return POLL_SECONDS
        self._free()
        work = self._find_work()
        is_more = len(work.due) == BATCH > len(self._resting)
        for schedule_id in dict.fromkeys([*work.due, *work.open, *work.waiting]):  # what is new first
            if self.elect() is None:
                return POLL_SECONDS
            is_more |= self._attend(schedule_id, is_due=schedule_id in work.due)
        return 0.0 if is_more else min(POLL_SECONDS, work.seconds if work.seconds is not None else POLL_SECONDS)

    def _find_work(self) -> schedules.Work:
        """Find a bounded part of the work, the next part at the next pass: thousands may wait for runs that go on."""
        after_open, after_waiting = self._after_open, self._after_waiting
        with self._context.database.transaction() as tx:
            work = schedules.find_work(tx, BATCH, after_open=after_open, after_waiting=after_waiting)
        self._after_open, self._after_waiting = _go_on_after(work.open), _go_on_after(work.waiting)
        return work

    def _attend(self, schedule_id: UUID, *, is_due: bool) -> bool:
        """Note and start what there is of one schedule; True when there is more to start."""
        if self._resting.get(schedule_id, 0.0) > time.monotonic():
            return False
        with self._surviving(schedule_id):
            if is_due:
                note_due(self._context, schedule_id)
            left = take_up(self._context, schedule_id, STARTS)
            self._resting.pop(schedule_id, None)
            return left > 0
        return False

    @contextmanager
    def _surviving(self, schedule_id: UUID) -> Iterator[None]:
        """Keep one schedule from stopping the work on all others; an outage ends the pass as ever."""
        try:
            yield
        except ServersUnreachable:
            raise
        except ConflictingWrite as error:
            log.warning("schedule_given_up", schedule_id=str(schedule_id), error=str(error))
        except AgentflowError as error:  # such as a content store that is away: the firing waits for it
            self._resting[schedule_id] = time.monotonic() + REST_SECONDS
            log.warning("schedule_not_fired", schedule_id=str(schedule_id), code=error.code, error=str(error))
        except Exception:  # whatever it is, a later pass tries again and the log says so
            self._resting[schedule_id] = time.monotonic() + REST_SECONDS
            log.exception("schedule_not_fired", schedule_id=str(schedule_id))

    def _free(self) -> None:
        now = time.monotonic()
        if now - self._freed_at < FREE_SECONDS:
            return
        self._freed_at = now
        with self._context.database.transaction() as tx:
            freed = schedules.free(tx)
        for name in freed:
            log.info("schedule_goes_on", schedule=f"schedule:{name}")


def _go_on_after(found: tuple[UUID, ...]) -> UUID:
    """Behind what was found, or from the beginning when that was the end."""
    return found[-1] if len(found) == BATCH else schedules.NIL
