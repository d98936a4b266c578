"""Prune: take whole runs out that ended long enough ago, with their events and their content.

A batch is one transaction: rows and events leave, tombstones and folded usage stay, one event of the installation's own
chain vouches for the tombstones. Child runs go with the run above them. Content goes after the commit: a run that was
not pruned in the end must not have lost any. A tombstone says until then that there may be content, so that what a
crash left is removed later.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError
from sqlalchemy import Connection

from agentflow.domain.budget import usd_of
from agentflow.domain.duration import format_duration
from agentflow.domain.error import ConfigurationError, ContentError, StoreMismatch, UsageError
from agentflow.domain.ids import RunId
from agentflow.domain.tombstone import Tombstone, batch_root
from agentflow.engine.context import EngineContext
from agentflow.engine.prune_firings import BATCH_FIRINGS, prune_firings
from agentflow.engine.record import record_outside
from agentflow.engine.registration import check_registration
from agentflow.storage import installations, retention
from agentflow.storage.database import ConflictingWrite
from agentflow.telemetry import get_logger

log = get_logger(__name__)

SHORTEST_SECONDS = 2 * 86_400
"""No call of a run that ended so long ago began today, in whatever time zone: budgets of a day are never touched."""
BATCH_RUNS = 100
BATCH_SECONDS = 0.25
STATEMENT_RUNS = 5
CONTENT_BATCH = 100


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning took: runs, and firings of schedules; ``has_more`` says that more runs could be taken now."""

    tombstones: tuple[Tombstone, ...] = ()
    has_more: bool = False
    firings: int = 0

    @property
    def tokens(self) -> int:
        """What the pruned runs used in tokens."""
        return sum(each.input_tokens + each.output_tokens for each in self.tombstones)

    @property
    def usd(self) -> float:
        """What the pruned runs used in dollars."""
        return usd_of(sum(each.usd_nano for each in self.tombstones))


@dataclass(frozen=True, slots=True)
class Removed:
    """Of how many runs the content was removed; ``has_more`` says that more could be removed now."""

    runs: int = 0
    has_more: bool = False


def prune(context: EngineContext, older_than_seconds: float, actor: str, limit: int | None = None) -> Pruned:
    """Take out up to ``limit`` runs (all, if None) that ended longer ago than that, batch by batch, with their content.

    Then all firings of schedules go that were decided longer ago. UsageError for less than two days. A run that
    somebody works on right now is left for the next time.
    """
    batches = list(prune_by_batches(context, older_than_seconds, actor, limit))
    tombstones = tuple(each for batch in batches for each in batch.tombstones)
    return Pruned(tombstones, batches[-2].has_more, batches[-1].firings)


def prune_by_batches(
    context: EngineContext, older_than_seconds: float, actor: str, limit: int | None = None
) -> Iterator[Pruned]:
    """Prune as ``prune`` does, and tell after each batch what it took; the firings last, by themselves."""
    check_age(older_than_seconds)
    passed_over: set[RunId] = set()
    taken, has_more = 0, True
    while has_more:
        room = BATCH_RUNS if limit is None else min(BATCH_RUNS, limit - taken)
        batch = prune_batch(context, older_than_seconds, actor, room, passed_over=passed_over)
        taken += len(batch.tombstones)
        remove_content(context)
        yield batch
        has_more = batch.has_more and (limit is None or taken < limit)
    yield Pruned(firings=_prune_all_firings(context, older_than_seconds, actor))


def _prune_all_firings(context: EngineContext, older_than_seconds: float, actor: str) -> int:
    firings = batch = prune_firings(context, older_than_seconds, actor)
    while batch == BATCH_FIRINGS:
        batch = prune_firings(context, older_than_seconds, actor)
        firings += batch
    return firings


def survey(context: EngineContext, older_than_seconds: float, limit: int | None = None) -> retention.Prunable:
    """Tell what a pruning would take. UsageError for less than two days."""
    check_age(older_than_seconds)
    with context.database.transaction() as tx:
        return retention.survey(tx, older_than_seconds, limit)


def check_age(older_than_seconds: float) -> None:
    """Refuse to prune what a budget of today may count."""
    if older_than_seconds < SHORTEST_SECONDS:
        raise UsageError(
            "Runs are kept for 2 days at least, since budgets of a day count them: "
            f"{format_duration(older_than_seconds)} is too short"
        )


def prune_batch(
    context: EngineContext,
    older_than_seconds: float,
    actor: str,
    limit: int = BATCH_RUNS,
    *,
    seconds: float = BATCH_SECONDS,
    passed_over: set[RunId] | None = None,
) -> Pruned:
    """Take out up to ``limit`` runs in one transaction, and begin with no more once it has taken ``seconds``.

    Where a statement takes too long, each of its runs is tried alone, in a transaction of its own; which still does is
    too big: it is added to ``passed_over``, whose runs are not tried.
    """
    passed_over = set() if passed_over is None else passed_over
    with context.database.transaction() as tx:
        candidates = retention.find_prunable(tx, older_than_seconds, limit, passed_over)
    if not candidates:
        return Pruned()
    batch = _take_out(context, candidates, older_than_seconds, actor, seconds)
    tombstones = list(batch.tombstones)
    for run_id in batch.too_much:
        alone = _take_out(context, [run_id], older_than_seconds, actor, seconds)
        tombstones += alone.tombstones
        if alone.too_much:
            passed_over.add(run_id)
            log.warning("run_too_big_to_prune", run_id=str(run_id))
    return Pruned(tuple(tombstones), batch.is_cut_short or (bool(tombstones) and len(candidates) == limit))


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one transaction took out, and which runs were too much for one statement."""

    tombstones: Sequence[Tombstone]
    too_much: Sequence[RunId]
    is_cut_short: bool


def _take_out(
    context: EngineContext, candidates: Sequence[RunId], older_than_seconds: float, actor: str, seconds: float
) -> _Batch:
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        roots = retention.lock(tx, candidates, older_than_seconds)
        # What is not taken with its root now is taken by itself later: nothing is above it any more.
        locked = [*roots, *retention.lock(tx, retention.find_below(tx, roots), older_than_seconds)]
        batch = _bury(tx, locked, actor, seconds)
        if batch.tombstones:
            retention.forget_plans(tx, (each.plan_fingerprint for each in batch.tombstones))
            _record(context, tx, house, actor, batch.tombstones, older_than_seconds)
    _forget_ledgers(context, batch.tombstones)
    return batch


def _bury(tx: Connection, locked: Sequence[RunId], actor: str, seconds: float) -> _Batch:
    """Take out runs, a few a statement, until the time is over or a statement takes too long."""
    tombstones: list[Tombstone] = []
    began = time.monotonic()
    for begin in range(0, len(locked), STATEMENT_RUNS):
        if begin and time.monotonic() - began > seconds:
            return _Batch(tombstones, (), is_cut_short=True)
        some = locked[begin : begin + STATEMENT_RUNS]
        try:
            tombstones += retention.prune(tx, some, actor)
        except ConflictingWrite:
            return _Batch(tombstones, some, is_cut_short=True)
    return _Batch(tombstones, (), is_cut_short=False)


def _record(
    context: EngineContext,
    tx: Connection,
    house: installations.LockedInstallation,
    actor: str,
    tombstones: Sequence[Tombstone],
    older_than_seconds: float,
) -> None:
    ended = [each.ended_at for each in tombstones]
    facts = {
        "runs": len(tombstones),
        "older_than_seconds": older_than_seconds,
        "first_ended_at": min(ended).isoformat(),
        "last_ended_at": max(ended).isoformat(),
        "root": batch_root(tombstones),
    }
    record_outside(context, tx, house, actor=actor, action="prune", subject="retention", facts=facts)


def _forget_ledgers(context: EngineContext, tombstones: Sequence[Tombstone]) -> None:
    """Let go of the ledgers of runs that are gone; without it they lapse by themselves, a day after their last use."""
    try:
        context.ledger.forget_all(f"run:{each.run_id}" for each in tombstones)
    except RedisError as error:
        log.info("ledgers_left_to_lapse", error=type(error).__name__)


def remove_content(context: EngineContext, limit: int = CONTENT_BATCH) -> Removed:
    """Remove the content of up to ``limit`` pruned runs, also what a crash left.

    A process that does not see the installation's store notes nothing: another store would say that all is gone.
    """
    with context.database.transaction() as tx:
        left = retention.find_left_content(tx, limit)
    if not left or not _sees_store(context):
        return Removed()
    gone, resisting = [], []
    for run_id in left:
        try:
            context.store.delete_run(str(run_id))
        except ContentError as error:
            resisting.append(run_id)
            trouble = str(error)
        else:
            gone.append(run_id)
    if not _sees_store(context):  # it may have gone away in the midst of it
        return Removed()
    if resisting:
        log.warning("content_not_removed", runs=len(resisting), error=trouble)
    with context.database.transaction() as tx:
        retention.note_content_gone(tx, gone)
        retention.note_content_resists(tx, resisting)
    return Removed(len(gone), has_more=bool(gone) and len(left) == limit)


def _sees_store(context: EngineContext) -> bool:
    try:
        check_registration(context.database, context.store, context.audit_key)
    except (StoreMismatch, ConfigurationError) as error:
        log.warning("content_left_to_others", error=str(error))
        return False
    return True
