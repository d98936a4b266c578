"""Budgets: what may be used, by whom, and what it means that one is exhausted.

Owns the kinds, the amounts, the scopes that a run stands in and the budgets that the configuration gives to scopes.
Money is counted in whole nano-dollars (1e-9 USD), so that no sum is ever rounded. Reserving is broker/budgets.py's,
what was used is storage's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from typing import Any, Self
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator

from agentflow.domain.ids import RunId

NANO_PER_USD = 1_000_000_000
MAX_USD = 1_000_000
"""The most that a budget may say: what it comes to in nano-dollars is still exact in a double (2^53), as Lua counts."""
MAX_USD_NANO = MAX_USD * NANO_PER_USD
MAX_TOKENS = 10**15
_RUN, _PROJECT, _DIRECTIVE, _INSTALLATION = "run:", "project:", "directive:", "installation"
_UTC_OFFSET = "+00:00"
_OFFSET = r"[+-]\d{2}:\d{2}"
_DAY = re.compile(rf"(?P<date>\d{{4}}-\d{{2}}-\d{{2}})(?P<begins>{_OFFSET})?(?P<ends>{_OFFSET})?", re.ASCII)


class BudgetKind(StrEnum):
    """What is counted. ``steps`` are attempts, retries too; ``active_time`` is time in which a run does not rest."""

    STEPS = "steps"
    TOKENS = "tokens"
    USD = "usd"
    ACTIVE_TIME = "active_time"


def nano_of(usd: Decimal | float | str) -> int:
    """Return USD as nano-dollars, rounded up: a bound must not become smaller than what it bounds."""
    return int((Decimal(str(usd)) * NANO_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def usd_of(nano: int) -> float:
    """Return nano-dollars as USD, for showing."""
    return nano / NANO_PER_USD


class Budget(BaseModel):
    """The caps of one scope; None means that there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    usd_nano: int | None = Field(default=None, ge=1, le=MAX_USD_NANO)
    active_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing is capped."""
        return self == Budget()

    @property
    def is_reserved(self) -> bool:
        """Whether something is capped that attempts reserve before they begin; active time is not."""
        return (self.steps, self.tokens, self.usd_nano) != (None, None, None)

    def limit_of(self, kind: BudgetKind) -> float | None:
        """The cap of one kind, in what it is counted in."""
        return {
            BudgetKind.STEPS: self.steps,
            BudgetKind.TOKENS: self.tokens,
            BudgetKind.USD: self.usd_nano,
            BudgetKind.ACTIVE_TIME: self.active_seconds,
        }[kind]


@dataclass(frozen=True, slots=True)
class Amounts:
    """What an attempt reserves, or what was used."""

    steps: int = 0
    tokens: int = 0
    usd_nano: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.steps + other.steps, self.tokens + other.tokens, self.usd_nano + other.usd_nano)

    def amount_of(self, kind: BudgetKind) -> int:
        """The amount of one kind that attempts reserve."""
        return {BudgetKind.STEPS: self.steps, BudgetKind.TOKENS: self.tokens, BudgetKind.USD: self.usd_nano}[kind]

    def as_json(self) -> dict[str, int]:
        """The stored form."""
        return {"steps": self.steps, "tokens": self.tokens, "usd_nano": self.usd_nano}

    def bounded(self) -> Amounts:
        """The same within what can be counted; a cap covers none of what was beyond it."""
        most = Amounts(MAX_TOKENS, MAX_TOKENS, MAX_USD_NANO)
        return Amounts(*(max(0, min(getattr(self, kind), getattr(most, kind))) for kind in self.__slots__))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the stored form."""
        return cls(int(stored.get("steps", 0)), int(stored.get("tokens", 0)), int(stored.get("usd_nano", 0)))


@dataclass(frozen=True, slots=True)
class Scope:
    """What a budget is for, by a name such as ``run:<id>``, ``project:ops`` or ``project:ops@2026-11-21``.

    ``since`` and ``resets_at`` bound a day's scope: what attempts used that began in between counts. Its name says
    both: a day elsewhere than in UTC has its offset in it, ``@2026-11-21+01:00``, or two if clocks are changed on it.
    """

    name: str
    limits: Budget
    run_id: RunId | None = None
    project: str | None = None
    directive: str | None = None
    since: datetime | None = None
    resets_at: datetime | None = None


def counted_in(scope: str, amounts: Amounts) -> Amounts:
    """Return what of an attempt's amounts counts in a scope: steps are counted for runs only."""
    return amounts if scope.startswith(_RUN) else Amounts(tokens=amounts.tokens, usd_nano=amounts.usd_nano)


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """Which budget of which scope does not cover an attempt; amounts are nano-dollars for usd, seconds for time."""

    budget: BudgetKind
    scope: str
    limit: float
    used: float
    reserved: float
    needed: float
    resets_at: datetime | None = None

    def is_short_of(self, caps: Budget) -> bool:
        """Whether ``caps`` would not cover it either; of active time something must be left."""
        limit = caps.limit_of(self.budget)
        if limit is None:
            return False
        return self.used >= limit if self.budget is BudgetKind.ACTIVE_TIME else self.used + self.needed > limit

    def as_detail(self) -> dict[str, Any]:
        """The public form: {budget, scope, limit, used, reserved, needed}, usd in dollars."""
        shown = (lambda amount: usd_of(int(amount))) if self.budget is BudgetKind.USD else (lambda amount: amount)
        detail: dict[str, Any] = {"budget": self.budget.value, "scope": self.scope}
        for name in ("limit", "used", "reserved", "needed"):
            detail[name] = shown(getattr(self, name))
        if self.resets_at is not None:
            detail["resets_at"] = self.resets_at.isoformat()
        return detail


class ScopeBudget(BaseModel):
    """What the configuration caps for a project, a directive or the installation, in all and for each day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    usd: Decimal | None = Field(default=None, gt=0, le=MAX_USD)
    tokens_per_day: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    usd_per_day: Decimal | None = Field(default=None, gt=0, le=MAX_USD)

    @property
    def in_all(self) -> Budget:
        """The caps that hold for good."""
        return Budget(tokens=self.tokens, usd_nano=None if self.usd is None else nano_of(self.usd))

    @property
    def per_day(self) -> Budget:
        """The caps that hold for each day."""
        usd = self.usd_per_day
        return Budget(tokens=self.tokens_per_day, usd_nano=None if usd is None else nano_of(usd))


class ConfiguredBudgets(BaseModel):
    """The installation's budgets. Projects and directives by name (``project/directive``), ``*`` for all others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timezone: str = "UTC"
    """Where a day begins and ends."""
    installation: ScopeBudget = ScopeBudget()
    project: dict[str, ScopeBudget] = {}
    directive: dict[str, ScopeBudget] = {}

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{name!r} is no time zone; write one such as Europe/Berlin") from error
        return name

    def scopes(self, project: str, directive: str | None, at: datetime) -> list[Scope]:
        """Return the configured scopes with caps of an attempt that began ``at``, the narrow ones first."""
        return [scope for scope in self.every_scope(project, directive, at) if not scope.limits.is_unlimited]

    def every_scope(self, project: str, directive: str | None, at: datetime) -> list[Scope]:
        """Return the same with those that have no caps here: other processes may know some for them."""
        found = self._of_directive(project, directive, at) if directive is not None else []
        return found + self._of_project(project, at) + self._pair(_INSTALLATION, self.installation, at)

    def scope_named(self, name: str) -> Scope:
        """Return the scope of a name, with the caps that the configuration gives it; those of runs are not known here.

        Raises ValueError for a name that is none.
        """
        if name.startswith(_RUN):
            return Scope(name, Budget(), run_id=RunId(UUID(name.removeprefix(_RUN))))
        owner, is_of_day, day = name.partition("@")
        if not is_of_day:
            return self.pair_of(owner, datetime.now(UTC))[0]
        since, until = _bounds_of(day)
        return replace(self.pair_of(owner, since)[1], name=name, since=since, resets_at=until)

    def pair_of(self, owner: str, at: datetime) -> list[Scope]:
        """Return the scope of an owner, such as ``project:ops``, in all and that of the day of ``at``, capped or not.

        Raises ValueError for a name that is none.
        """
        if owner.startswith(_DIRECTIVE):
            project, _, directive = owner.removeprefix(_DIRECTIVE).partition("/")
            return self._of_directive(project, directive, at)
        if owner.startswith(_PROJECT):
            return self._of_project(owner.removeprefix(_PROJECT), at)
        if owner == _INSTALLATION:
            return self._pair(_INSTALLATION, self.installation, at)
        raise ValueError(f"{owner!r} has no budget")

    def _of_directive(self, project: str, directive: str, at: datetime) -> list[Scope]:
        name = f"{project}/{directive}"
        budget = self.directive.get(name, self.directive.get("*", ScopeBudget()))
        return self._pair(f"{_DIRECTIVE}{name}", budget, at, project=project, directive=directive)

    def _of_project(self, project: str, at: datetime) -> list[Scope]:
        budget = self.project.get(project, self.project.get("*", ScopeBudget()))
        return self._pair(f"{_PROJECT}{project}", budget, at, project=project)

    def _pair(
        self, name: str, budget: ScopeBudget, at: datetime, *, project: str | None = None, directive: str | None = None
    ) -> list[Scope]:
        since, until = self.day_of(at)
        day = f"{name}@{_day_name(since, until)}"
        return [
            Scope(name, budget.in_all, project=project, directive=directive),
            Scope(day, budget.per_day, project=project, directive=directive, since=since, resets_at=until),
        ]

    def day_of(self, at: datetime) -> tuple[datetime, datetime]:
        """Return when the day of ``at`` begins and ends, in the configured time zone."""
        zone = ZoneInfo(self.timezone)
        day = at.astimezone(zone).date()
        return (
            datetime.combine(day, time(), tzinfo=zone),
            datetime.combine(day + timedelta(days=1), time(), tzinfo=zone),
        )


def _day_name(since: datetime, until: datetime) -> str:
    """Name a day so that no other has the same name: another time zone's day of that date has other bounds."""
    begins, ends = (moment.isoformat().removeprefix(f"{moment:%Y-%m-%dT%H:%M:%S}") for moment in (since, until))
    offsets = begins if begins == ends else begins + ends
    return since.date().isoformat() + ("" if offsets == _UTC_OFFSET else offsets)


def _bounds_of(day: str) -> tuple[datetime, datetime]:
    """Read a day's name back. Raises ValueError for one that is none."""
    found = _DAY.fullmatch(day)
    if found is None:
        raise ValueError(f"{day!r} is no day of a budget")
    begins = found["begins"] or _UTC_OFFSET
    next_day = date.fromisoformat(found["date"]) + timedelta(days=1)
    return (
        datetime.fromisoformat(f"{found['date']}T00:00:00{begins}"),
        datetime.fromisoformat(f"{next_day.isoformat()}T00:00:00{found['ends'] or begins}"),
    )


def scopes_of(
    run_id: RunId,
    run_budget: Budget,
    project: str,
    directive: str | None,
    at: datetime,
    configured: ConfiguredBudgets,
    above: Mapping[RunId, Budget] | None = None,
) -> list[Scope]:
    """Return every scope that an attempt counts in, its run first, then the runs ``above`` it, capped or not."""
    runs = {run_id: run_budget, **(above or {})}
    own = [Scope(f"{_RUN}{each}", limits, run_id=each) for each, limits in runs.items()]
    return [*own, *configured.every_scope(project, directive, at)]


def run_of(scope: str) -> RunId | None:
    """Return the run that a scope is the budget of; None for any other."""
    return RunId(UUID(scope.removeprefix(_RUN))) if scope.startswith(_RUN) else None
