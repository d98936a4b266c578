"""Balances: how budgets stand, scope by scope: what is capped, used, reserved and left.

Owns the public shape, in which usd is dollars and active_time seconds. Postgres is asked, never the ledger; the sums
are spending.py's, and which scopes there are is domain/budget.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from agentflow.domain.budget import Amounts, Budget, BudgetKind, Scope, usd_of
from agentflow.domain.ids import RunId
from agentflow.domain.shortfall import cap_of
from agentflow.storage import runs, spending
from agentflow.storage.active_time import read_active_time
from agentflow.storage.database import statement
from agentflow.storage.view_shapes import BudgetLine, moment

_COUNTED = (BudgetKind.TOKENS, BudgetKind.USD)
"""What is counted in every scope, whether it is capped there or not."""


@dataclass(frozen=True, slots=True)
class Balance:
    """How a scope stands; a day's scope has a moment at which it begins anew."""

    scope: str
    resets_at: datetime | None
    lines: tuple[BudgetLine, ...]
    amounts: spending.Snapshot

    def as_json(self) -> dict[str, Any]:
        """The scope as ``budget show --json`` prints it."""
        return {
            "scope": self.scope,
            "resets_at": moment(self.resets_at),
            "budgets": [line.as_json() for line in self.lines],
        }


@dataclass(frozen=True, slots=True)
class Spender:
    """A project, or a directive of it, that calls were made for."""

    project: str
    directive: str | None


def read_now(tx: Connection) -> datetime:
    """Read the clock that days go by."""
    now: datetime = tx.execute(select(func.now())).scalar_one()
    return now


def read_balance(tx: Connection, scope: Scope) -> Balance:
    """Read how a scope stands. Tokens and usd are told wherever they stand, steps and active time where capped."""
    amounts = spending.snapshot(tx, scope)
    kinds = [kind for kind in BudgetKind if kind in _COUNTED or cap_of(scope.limits, kind) is not None]
    lines = [_line(tx, scope, amounts, kind) for kind in kinds]
    return Balance(scope.name, scope.resets_at, tuple(lines), amounts)


def read_caps(tx: Connection, run_id: RunId) -> tuple[BudgetLine, ...]:
    """Read how a run stands with its own caps; nothing where it has none."""
    caps = runs.read_budget(tx, run_id)
    if caps.is_unlimited:
        return ()
    lines = read_balance(tx, own_scope(run_id, caps)).lines
    return tuple(line for line in lines if line.limit is not None)


def own_scope(run_id: RunId, caps: Budget) -> Scope:
    """Return the scope of a run itself."""
    return Scope(f"run:{run_id}", caps, run_id=run_id)


def find_spenders(tx: Connection, since: datetime, until: datetime, limit: int) -> Sequence[Spender]:
    """Find up to ``limit`` projects and directives that calls were made for within a time, by name."""
    rows = tx.execute(statement("find_spenders"), {"since": since, "until": until, "limit": limit})
    return [Spender(row.project, row.directive) for row in rows]


def _line(tx: Connection, scope: Scope, amounts: spending.Snapshot, kind: BudgetKind) -> BudgetLine:
    limit = cap_of(scope.limits, kind)
    if kind is BudgetKind.ACTIVE_TIME and scope.run_id is not None:
        return BudgetLine(kind, limit, round(read_active_time(tx, scope.run_id).active, 3), 0)
    return BudgetLine(kind, limit, amount_of(amounts.used, kind), amount_of(amounts.reserved, kind))


def amount_of(amounts: Amounts, kind: BudgetKind) -> float:
    """Return an amount as people write it."""
    counted = amounts.amount_of(kind)
    return usd_of(counted) if kind is BudgetKind.USD else counted
