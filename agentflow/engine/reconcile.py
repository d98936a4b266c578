"""Reconcile: make the ledger match Postgres where something was lost on the way between them.

Owns the sweep of entries whose attempts do not run any more, the check of the whole ledger, and waking who waits for
what became free. The leading dispatcher reconciles; a reserve that is refused sweeps the scopes in its way itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from agentflow.broker.budgets import Account
from agentflow.domain.budget import Amounts
from agentflow.domain.ids import AttemptId
from agentflow.engine.context import EngineContext
from agentflow.storage import spending
from agentflow.storage.database import ConflictingWrite
from agentflow.telemetry import get_logger

log = get_logger(__name__)

CONTENDED_SECONDS = 15.0
"""How long a step is snoozed at most for whom others are in the way; as a rule it is woken."""
WOKEN_PER_END = 2
SETTLING_SECONDS = 2.0
"""Who ended an attempt has this long to tell the ledger itself, before a sweep does."""
NO_GRANT = "-"
"""What an attempt's row is taken to name that names no grant: no entry that a reserve wrote is its own."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A scope of which the ledger and Postgres say different things."""

    scope: str
    ledger_used: Amounts
    ledger_held: Amounts
    used: Amounts
    reserved: Amounts


def reconcile(context: EngineContext, settling_seconds: float = SETTLING_SECONDS) -> int:
    """Sweep every scope in which something is reserved; returns how many entries were swept."""
    try:
        return sweep(context, context.ledger.find_reserving(), settling_seconds)
    except RedisError as error:
        log.warning("ledger_away", error=type(error).__name__)
        return 0


def sweep(context: EngineContext, scopes: Sequence[str], settling_seconds: float = SETTLING_SECONDS) -> int:
    """End the reservations of attempts that do not run any more; returns how many. RedisError when Redis is away.

    The ledger is read before Postgres: an attempt that has an entry had its row before.
    """
    if not scopes:
        return 0
    accounts = context.ledger.read_all(scopes)
    with context.database.transaction() as tx:
        entries = {attempt_id for account in accounts if account for attempt_id in account.entries}
        spent = spending.find_spent(tx, entries)
    late = {
        attempt_id: each
        for attempt_id, each in spent.items()
        if each.ended_seconds is None or each.ended_seconds >= settling_seconds
    }
    swept, freed = 0, []
    for scope, account in zip(scopes, accounts, strict=True):
        if account is None:
            context.ledger.forget(scope, "")
        elif late.keys() & account.entries.keys():
            swept += len(late.keys() & account.entries.keys())
            freed += _sweep(context, account, late)
    wake_waiting(context, freed)
    return swept


def _sweep(context: EngineContext, account: Account, late: Mapping[AttemptId, spending.Spent]) -> list[str]:
    """Commit what Postgres says; returns the scope if somebody waits for what became free."""
    entries = late.keys() & account.entries.keys()
    log.warning("reservations_swept", scope=account.scope, count=len(entries))
    freed = []
    for attempt_id in sorted(entries):
        spent = late[attempt_id]
        freed += context.ledger.commit(attempt_id, [account.scope], spent.amounts, spent.grant or NO_GRANT)
    return freed


def wake_waiting(context: EngineContext, scopes: Iterable[str]) -> None:
    """Wake the steps that wait longest for what became free in some scopes."""
    names = sorted(set(scopes))
    if not names:
        return
    try:
        with context.database.transaction() as tx:
            count = spending.wake_waiting(tx, names, WOKEN_PER_END, CONTENDED_SECONDS)
    except ConflictingWrite as error:  # their snooze ends by itself
        log.warning("waiting_steps_not_woken", error=str(error))
        return
    if count:
        context.side_channel.wake()


def verify_ledger(context: EngineContext) -> list[Difference]:
    """Compare every scope that the ledger knows with Postgres; only at rest may nothing differ."""
    differences = []
    known = context.ledger.find_known()
    for account in filter(None, context.ledger.read_all(known)):
        with context.database.transaction() as tx:
            snapshot = spending.snapshot(tx, context.settings.budgets.scope_named(account.scope))
        if (account.used, account.held) != (snapshot.used, snapshot.reserved):
            differences.append(Difference(account.scope, account.used, account.held, snapshot.used, snapshot.reserved))
    return differences
