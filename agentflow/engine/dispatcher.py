"""The dispatcher: makes Celery match Postgres, as the one leader among all dispatchers of an installation.

It sends due steps that no doorbell is on its way for, sends lost doorbells again, ends lapsed leases and runs that are
over, and acts on what workers report. Every write it makes is guarded by itself; the term only keeps two leaders from
doing the same work. It wakes up when something fell due, when it is woken, and once a second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError
from sqlalchemy import Connection

from agentflow.broker import dispatch as broker
from agentflow.broker.bells import Report
from agentflow.broker.queues import QUEUE_NAMES
from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import StepId
from agentflow.domain.tally import Act
from agentflow.engine.cancel import cancel_step
from agentflow.engine.context import EngineContext
from agentflow.engine.dispatch import send_steps
from agentflow.engine.finalize import finalize
from agentflow.engine.housekeeper import Housekeeper
from agentflow.engine.maintenance import finish as finish_maintenance
from agentflow.engine.reconcile import reconcile
from agentflow.engine.rescue import rescue
from agentflow.engine.resume import resume_renewed
from agentflow.engine.settle import Settled
from agentflow.engine.tend_children import find_child_work
from agentflow.engine.wake import wake
from agentflow.storage import attempts, engine_steps, leaders, runs, steps, tallies
from agentflow.storage.database import ConflictingWrite
from agentflow.telemetry import get_logger

log = get_logger(__name__)

SERVICE = "dispatcher"
TERM_SECONDS = 3.0
POLL_SECONDS = 1.0
RECONCILE_SECONDS = 5.0
STILL_SECONDS = 3.0
"""A transaction that takes longer breaks the contact; a quarter of a lease, where that is longer."""
BATCH = 200
REPORT_KINDS = ("revoked", "child_lost")


@dataclass(slots=True)
class _Clockwork:
    """What the dispatcher remembers between passes, on its monotonic clock."""

    term: int | None = None
    elected_at: float = 0.0
    contact_since: float | None = None
    audited_doorbells_at: float = 0.0
    reconciled_at: float = 0.0
    swept_children_at: float = 0.0
    counted_at: float = 0.0


class Dispatcher:
    """One candidate for leading; ``run`` until stopped, or ``one_pass`` at a time in tests."""

    def __init__(self, context: EngineContext, holder: str) -> None:
        self._context = context
        self._holder = holder
        self._clock = _Clockwork()
        self._actor = f"dispatcher:{holder}"
        self._housekeeper = Housekeeper(context, self._actor)
        self._done: Counter[Act] = Counter()

    @property
    def is_leading(self) -> bool:
        """Whether the last election was won."""
        return self._clock.term is not None

    def run(self, stopping: threading.Event) -> None:
        """Work until ``stopping`` is set; an outage of Postgres or Redis is waited out, a conflict tried again."""
        while not stopping.is_set():
            try:
                wait_seconds = self.one_pass()
            except ServersUnreachable as error:
                log.warning("servers_unreachable", error=str(error))
                self._clock.contact_since = None
                self._clock.term = None
                wait_seconds = POLL_SECONDS
            except ConflictingWrite as error:
                log.warning("pass_given_up", error=str(error))
                wait_seconds = POLL_SECONDS
            self._wait(stopping, wait_seconds)
        self._housekeeper.stop()
        self._resign()

    def one_pass(self) -> float:
        """Do everything that is due, if leading; returns how many seconds to wait for the next pass at most."""
        self._elect()
        self._note_contact()
        if self._clock.term is None:
            return POLL_SECONDS
        self._act_on_reports()
        self._rescue_lapsed()
        self._end_runs()
        self._resume_renewed()
        next_held_at = self._wake_held()
        self._tend_children()
        self._recall_lost_doorbells()
        self._reconcile_ledger()
        self._housekeeper.tend()
        seconds = self._send_due()
        self._count_done()
        return min(seconds, max(0.0, next_held_at - time.monotonic()))

    def _wait(self, stopping: threading.Event, seconds: float) -> None:
        if self._clock.term is None:
            stopping.wait(seconds)
            return
        try:
            self._context.side_channel.wait_for_wakeup(seconds)
        except RedisError:
            stopping.wait(seconds)

    def _elect(self) -> None:
        now = time.monotonic()
        if self._clock.term is not None and now - self._clock.elected_at < TERM_SECONDS / 3:
            return
        # One statement and no transaction: a leader that freezes here must not keep the row locked from the others.
        with self._context.database.autocommit() as connection:
            term = leaders.elect(connection, SERVICE, self._holder, TERM_SECONDS)
        if term != self._clock.term:
            log.info("leader_changed", is_leading=term is not None, term=term)
        self._clock.term, self._clock.elected_at = term, now

    def _note_contact(self) -> None:
        """Begin to count anew where Postgres stood still, for then so did everybody's heartbeats."""
        is_still = self._context.database.take_longest_seconds() > max(
            STILL_SECONDS, self._context.settings.heartbeat_seconds
        )
        if is_still or self._clock.contact_since is None:
            self._clock.contact_since = time.monotonic()

    def _resign(self) -> None:
        if self._clock.term is None:
            return
        try:
            self._count_done(is_last=True)
            with self._context.database.transaction() as tx:
                leaders.resign(tx, SERVICE, self._holder, self._clock.term)
        except ServersUnreachable:
            log.info("term_left_to_expire")

    def _count_done(self, *, is_last: bool = False) -> None:
        """Count for good what was done since the last time, once a second at most."""
        now, done = time.monotonic(), +self._done
        if done and (is_last or now - self._clock.counted_at >= POLL_SECONDS):
            with self._context.database.transaction() as tx:
                tallies.add(tx, done)
            self._done, self._clock.counted_at = Counter(), now

    def _is_fenced(self, tx: Connection) -> bool:
        term = self._clock.term
        if term is None or not leaders.is_leading(tx, SERVICE, self._holder, term):
            self._clock.term = None
            return False
        return True

    def _act_on_reports(self) -> None:
        try:
            reports = self._context.side_channel.take_reports()
        except RedisError:
            return
        for report in reports:
            self._act_on(report)
            self._context.side_channel.finish_report(report)

    def _act_on(self, report: Report) -> None:
        fields = report.fields
        with self._surviving("report_not_acted_on", **_named(fields)):
            try:
                step_id = StepId(UUID(fields["task_id"]))
                if fields["kind"] == "revoked":
                    cancel_step(self._context, step_id, fields["actor"])
                elif fields["kind"] == "child_lost":
                    self._rescue_known_lost(step_id, fields["worker"], is_stopping=fields.get("is_stopping", False))
            except ConflictingWrite:
                self._context.side_channel.postpone_report(report)
                raise

    @contextmanager
    def _surviving(self, event: str, **about: object) -> Iterator[None]:
        """Keep one bad row or report from stopping the work on all others; an outage ends the pass as ever."""
        try:
            yield
        except ServersUnreachable:
            raise
        except Exception:  # whatever it is, the next pass tries again and the log says so
            log.exception(event, **about)
        self._note_contact()

    def _rescue_known_lost(self, step_id: StepId, worker: str, *, is_stopping: bool) -> None:
        with self._context.database.transaction() as tx:
            lost = attempts.find_running_on(tx, step_id, worker)
        if lost is not None:
            ended = rescue(self._context, lost, self._actor, is_known_lost=True, is_stopping=is_stopping)
            self._done[Act.RESCUED] += isinstance(ended, Settled)

    def _rescue_lapsed(self) -> None:
        """End lapsed leases; only after a full lease of contact, since an outage of Postgres lets all leases lapse."""
        if not self._has_contact():
            return
        with self._context.database.transaction() as tx:
            lapsed = attempts.find_lapsed(tx, BATCH) if self._is_fenced(tx) else []
        self._note_contact()
        for attempt in lapsed:
            if not self._has_contact():  # it stood still just now
                return
            with self._surviving("attempt_not_rescued", attempt_id=str(attempt.attempt_id)):
                self._done[Act.RESCUED] += isinstance(rescue(self._context, attempt, self._actor), Settled)

    def _has_contact(self) -> bool:
        since = self._clock.contact_since
        return since is not None and time.monotonic() - since >= self._context.settings.lease_seconds

    def _end_runs(self) -> None:
        with self._context.database.transaction() as tx:
            over = runs.find_over(tx, BATCH)
        for run_id in over:
            with self._surviving("run_not_ended", run_id=str(run_id)):
                self._done[Act.RUN_ENDED] += finalize(self._context, run_id, self._actor) is not None

    def _resume_renewed(self) -> None:
        """Let runs go on that rest only over budgets of a day that is over."""
        with self._context.database.transaction() as tx:
            renewed = runs.find_reset(tx, BATCH)
        for run_id in renewed:
            with self._surviving("run_not_resumed", run_id=str(run_id)):
                resume_renewed(self._context, run_id, self._actor)

    def _wake_held(self) -> float:
        """Look at the steps that the engine holds until a time that has come; returns when to look again at most."""
        asked_at = time.monotonic()
        with self._context.database.transaction() as tx:
            due = engine_steps.find_due_held(tx, BATCH)
            seconds = engine_steps.seconds_to_held(tx)
        woken = 0
        for step_id in due:
            with self._surviving("step_not_woken", step_id=str(step_id)):
                woken += wake(self._context, step_id, self._actor) is not None
        self._done[Act.WOKEN] += woken
        if woken and len(due) == BATCH:
            return asked_at
        return asked_at + (POLL_SECONDS if seconds is None else min(POLL_SECONDS, seconds))

    def _tend_children(self) -> None:
        """Start the child runs that are waited for; now and then do what a crash left undone between runs."""
        now = time.monotonic()
        is_sweep = now - self._clock.swept_children_at >= POLL_SECONDS
        if is_sweep:
            self._clock.swept_children_at = now
        for run_or_step, tend in find_child_work(self._context, self._actor, BATCH, is_sweep=is_sweep):
            with self._surviving("child_not_tended", of=str(run_or_step)):
                tend()
                self._done[Act.CHILD_TENDED] += 1

    def _recall_lost_doorbells(self) -> None:
        now = time.monotonic()
        if now - self._clock.audited_doorbells_at < POLL_SECONDS:
            return
        self._clock.audited_doorbells_at = now
        try:
            depths = broker.queue_depths(self._context.celery)
        except ServersUnreachable:
            return
        patience = self._context.settings.lost_doorbell_seconds
        with self._context.database.transaction() as tx:
            if not self._is_fenced(tx):
                return
            lost = {queue: steps.forget_lost_doorbells(tx, queue, depths[queue], patience) for queue in QUEUE_NAMES}
        self._done[Act.RECALLED] += sum(lost.values())
        if any(lost.values()):
            log.warning("doorbells_lost", **lost)

    def _reconcile_ledger(self) -> None:
        now = time.monotonic()
        if now - self._clock.reconciled_at < RECONCILE_SECONDS:
            return
        self._clock.reconciled_at = now
        with self._surviving("ledger_not_reconciled"):
            self._done[Act.SWEPT] += reconcile(self._context)
        with self._surviving("maintenance_not_finished"):
            finish_maintenance(self._context, self._actor)

    def _send_due(self) -> float:
        """Send what is due; returns the seconds until more falls due, at most the poll interval."""
        with self._context.database.transaction() as tx:
            waiting = steps.find_due(tx)
            seconds = POLL_SECONDS if waiting.seconds is None else min(POLL_SECONDS, waiting.seconds)
            if not (waiting.is_due or waiting.has_line):
                return seconds
            if not self._is_fenced(tx):
                return POLL_SECONDS
            due = self._stamp(tx, waiting)
        # A list: all of them are sent, whatever becomes of the first.
        is_sent = [self._send(list(steps_of_run)) for _, steps_of_run in groupby(due, key=lambda step: step.run_id)]
        return 0.0 if due and all(is_sent) else seconds

    def _stamp(self, tx: Connection, waiting: steps.Due) -> list[steps.DueStep]:
        """Note as sent what there is room for; lines first, since theirs is the order in which places become free."""
        outstanding = steps.count_outstanding(tx)
        most = self._context.settings.doorbells_per_queue
        rooms = {queue: room for queue in QUEUE_NAMES if (room := most - outstanding.get(queue, 0)) > 0}
        suspect = steps.find_suspect(tx)
        due = steps.stamp_line(tx, list(rooms), BATCH, suspect) if waiting.has_line else []
        for queue, room in rooms.items() if waiting.is_due else ():
            due += steps.stamp_due(tx, queue, min(room, BATCH), suspect)
        return due

    def _send(self, of_one_run: list[steps.DueStep]) -> bool:
        """Send neighbours of one run, so that the fair order between runs stays."""
        run_id, retries = of_one_run[0].run_id, {step.key: step.retries for step in of_one_run}
        with self._surviving("due_steps_not_sent", run_id=str(run_id)):
            with self._context.database.transaction() as tx:
                plan = self._context.plans.get(tx, of_one_run[0].plan_fingerprint)
            is_sent = send_steps(self._context, run_id, plan, list(retries), retries)
            self._done[Act.SENT] += len(retries) if is_sent else 0
            return is_sent
        return False


def _named(fields: Mapping[str, Any]) -> dict[str, str]:
    """What may be logged of a report: anybody may write anything into Redis."""
    kind = fields.get("kind")
    try:
        task_id = str(UUID(fields["task_id"]))
    except (KeyError, ValueError, TypeError, AttributeError):
        task_id = "none"
    return {"kind": kind if kind in REPORT_KINDS else "unknown", "task_id": task_id}
