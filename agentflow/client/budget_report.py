"""The report on budgets: which scopes belong in it, and how each stands.

Owns the choice of scopes and the report's public form. Postgres is the truth; the ledger in Redis is compared with it
only where that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import Connection

from agentflow.broker.budgets import Account, Ledger
from agentflow.domain.budget import BudgetKind, ConfiguredBudgets, Scope, scopes_of
from agentflow.domain.error import ServersUnreachable, UsageError
from agentflow.domain.ids import RunId
from agentflow.domain.plan import NAME_PATTERN, NAME_WORDS
from agentflow.domain.wording import shorten
from agentflow.storage import balances, runs
from agentflow.storage.balances import Balance, Spender
from agentflow.storage.view_shapes import moment

MOST_SPENDERS = 200
"""How many projects and directives of today a report on everything names beside those of the configuration."""
_RESERVED = (BudgetKind.STEPS, BudgetKind.TOKENS, BudgetKind.USD)


@dataclass(frozen=True, slots=True)
class LedgerBalance:
    """What the ledger in Redis has for a scope, beside what Postgres says."""

    account: Account
    balance: Balance

    @property
    def differs(self) -> bool:
        """Whether it says something else than Postgres; for a moment it may, while attempts begin and end."""
        stored, kinds = self.balance.amounts, self.kinds
        mine = [(self.account.used.amount_of(kind), self.account.held.amount_of(kind)) for kind in kinds]
        return mine != [(stored.used.amount_of(kind), stored.reserved.amount_of(kind)) for kind in kinds]

    @property
    def kinds(self) -> tuple[BudgetKind, ...]:
        """What the report tells of this scope that the ledger knows of."""
        return tuple(line.budget for line in self.balance.lines if line.budget in _RESERVED)

    def as_json(self) -> dict[str, Any]:
        """The ledger's figures as they stand under their scope."""
        amount_of = balances.amount_of
        lines = [(kind, amount_of(self.account.used, kind), amount_of(self.account.held, kind)) for kind in self.kinds]
        budgets = [{"budget": kind.value, "used": used, "reserved": held} for kind, used, held in lines]
        return {"differs": self.differs, "budgets": budgets}


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """How some scopes stand. ``ledger`` is None unless it was asked for; in it, a scope may be missing."""

    read_at: datetime
    timezone: str
    balances: tuple[Balance, ...]
    ledger: Mapping[str, LedgerBalance] | None = None

    def as_json(self) -> dict[str, Any]:
        """The report as ``budget show --json`` prints it."""
        head = {"schema": "agentflow.budget/1", "read_at": moment(self.read_at), "timezone": self.timezone}
        return head | {"scopes": [self._scope_json(balance) for balance in self.balances]}

    def _scope_json(self, balance: Balance) -> dict[str, Any]:
        if self.ledger is None:
            return balance.as_json()
        account = self.ledger.get(balance.scope)
        return balance.as_json() | {"ledger": account.as_json() if account else None}


def read_report(
    tx: Connection,
    configured: ConfiguredBudgets,
    *,
    run_id: RunId | None,
    project: str | None,
    directive: str | None,
    is_today: bool,
) -> BudgetReport:
    """Read how the scopes of a run, a project or a directive stand, else all that the configuration caps."""
    now = balances.read_now(tx)
    if run_id is not None:
        scopes = _of_run(tx, configured, run_id, now)
    elif project is not None or directive is not None:
        owner = f"project:{project}" if directive is None else f"directive:{directive}"
        scopes = configured.pair_of(owner, now)
    else:
        scopes = list(_all(tx, configured, now))
    wanted = [scope for scope in scopes if scope.resets_at is not None or not is_today]
    found = tuple(balances.read_balance(tx, scope) for scope in wanted)
    return BudgetReport(now, configured.timezone, found)


def with_ledger(report: BudgetReport, ledger: Ledger) -> BudgetReport:
    """Add what Redis has to a report. ServersUnreachable when Redis is away."""
    try:
        accounts = ledger.read_all([balance.scope for balance in report.balances])
    except RedisError as error:
        raise ServersUnreachable(f"Redis does not answer: {type(error).__name__}") from error
    pairs = zip(accounts, report.balances, strict=True)
    return replace(report, ledger={each.scope: LedgerBalance(account, each) for account, each in pairs if account})


def checked_owner(project: str | None, directive: str | None, default_project: str) -> tuple[str | None, str | None]:
    """Check whose budgets are asked for; a directive is named as PROJECT/NAME, or by its name alone."""
    if project is not None and directive is not None:
        raise UsageError("Give a project or a directive (as PROJECT/NAME), not both.")
    if directive is not None and "/" not in directive:
        directive = f"{default_project}/{directive}"
    for name in [project] if project is not None else (directive or "any").split("/", 1):
        if not re.match(NAME_PATTERN, name):
            raise UsageError(f"{shorten(name)!r} is no name of a project or a directive: {NAME_WORDS}.")
    return project, directive


def _of_run(tx: Connection, configured: ConfiguredBudgets, run_id: RunId, now: datetime) -> list[Scope]:
    owner, caps = runs.read_owner(tx, run_id), runs.read_budget(tx, run_id)
    above = {each: runs.read_budget(tx, each) for each in reversed(owner.ancestors)}
    found = scopes_of(run_id, caps, owner.project, owner.directive, now, configured, above)
    return [scope for scope in found if scope.run_id is not None or not scope.limits.is_unlimited]


def _all(tx: Connection, configured: ConfiguredBudgets, now: datetime) -> Iterator[Scope]:
    """The installation's scopes, and those with caps of everyone whom the configuration or a call of today names."""
    yield from configured.pair_of("installation", now)
    named = [Spender(name, None) for name in configured.project if name != "*"]
    named += [Spender(*name.split("/", 1)) for name in configured.directive if "/" in name]
    spenders = balances.find_spenders(tx, *configured.day_of(now), MOST_SPENDERS)
    seen: set[str] = set()
    for scope in _scopes_of(configured, [*named, *spenders], now):
        if scope.name not in seen and scope.project is not None:
            seen.add(scope.name)
            yield scope


def _scopes_of(configured: ConfiguredBudgets, spenders: Iterable[Spender], now: datetime) -> Iterator[Scope]:
    for spender in sorted(spenders, key=lambda each: (each.project, each.directive or "")):
        yield from configured.scopes(spender.project, spender.directive, now)
