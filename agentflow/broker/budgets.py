"""The ledger: what of each budget is used and reserved, in Redis, so that many workers never promise the same twice.

Owns the scripts over the scopes and the values that they take and give. Limits come with each call and are never kept
here. A scope that is missing is unknown, not empty: reading it from Postgres, and what becomes of an attempt that is
refused, is the engine's. Every method but ``wait_for_load`` raises RedisError when Redis is away.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from agentflow.broker.keys import Keys
from agentflow.broker.scripts import register
from agentflow.domain.budget import Amounts, BudgetKind, Scope, counted_in
from agentflow.domain.ids import AttemptId

KEPT_SECONDS = 24 * 3600
LOAD_SECONDS = 5.0
#: Longer than a refused step is snoozed, so that nobody who waits for what becomes free is overlooked.
AWAITED_SECONDS = 30
_KINDS = {"steps": BudgetKind.STEPS, "tokens": BudgetKind.TOKENS, "usd_nano": BudgetKind.USD}
_PRELUDE = "ledger_scope"
#: What a Redis says that is busy, short of disk or in the middle of a failover.
_PASSING = ("BUSY", "LOADING", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "OOM")
#: Stands among the scopes that have entries while that list is known to be whole: scripts add to it from now on.
_COMPLETE = b""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The attempt has what it needs in every scope; ``grant`` names the reserve that it has it by."""

    grant: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """These scopes must be loaded first; nothing was written."""

    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Where a scope does not cover an attempt; ``held`` is what others have reserved."""

    scope: str
    kind: BudgetKind
    used: int
    held: int
    generation: str


@dataclass(frozen=True, slots=True)
class Exceeded:
    """Some scopes would not cover the attempt even if nothing else were reserved."""

    shortfalls: tuple[Shortfall, ...]


@dataclass(frozen=True, slots=True)
class Contended:
    """Only what others have reserved is in the way."""

    shortfalls: tuple[Shortfall, ...]


LedgerAnswer = Reserved | Unknown | Exceeded | Contended


class Origin(StrEnum):
    """Where an entry comes from: from a reserve, from a load, or from a load and then from a reserve."""

    GRANTED = "granted"
    LOADED = "loaded"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, slots=True)
class Entry:
    """What one outstanding attempt has reserved."""

    amounts: Amounts
    origin: Origin
    grant: str


@dataclass(frozen=True, slots=True)
class Account:
    """One scope as the ledger has it at one moment."""

    scope: str
    generation: str
    used: Amounts
    held: Amounts
    entries: Mapping[AttemptId, Entry] = field(default_factory=dict)


def is_outage(error: RedisError) -> bool:
    """Whether Redis may do later what it did not do now; else the command itself is refused, and will be again."""
    is_passing = isinstance(error, ReadOnlyError | OutOfMemoryError) or str(error).startswith(_PASSING)
    return is_passing or not isinstance(error, ResponseError)


class Ledger:
    """The ledger of one installation; ``client`` is one process's way to Redis."""

    def __init__(self, client: redis.Redis, keys: Keys, *, kept_seconds: int = KEPT_SECONDS) -> None:
        self._client = client
        self._keys = keys
        self._kept_seconds = kept_seconds
        self._load_seconds: dict[str, float] = {}
        self._reserve = register(client, _PRELUDE, "reserve_attempt")
        self._settle = register(client, _PRELUDE, "settle_attempt")
        self._find_unknown = register(client, _PRELUDE, "find_unknown")
        self._begin_load = register(client, _PRELUDE, "begin_load")
        self._finish_load = register(client, _PRELUDE, "finish_load")
        self._forget = register(client, _PRELUDE, "forget_scope")
        self._read = register(client, _PRELUDE, "read_scope")

    def reserve(self, attempt_id: AttemptId, scopes: Sequence[Scope], needed: Amounts) -> LedgerAnswer:
        """Reserve in all scopes or in none; asking again for the same attempt changes nothing."""
        args: list[Any] = [str(attempt_id), self._kept_seconds]
        for scope in scopes:
            limits = [scope.limits.limit_of(kind) for kind in _KINDS.values()]
            args += [scope.name, *_numbers(counted_in(scope.name, needed))]
            args += ["" if limit is None else limit for limit in limits]
        word, *rest = self._reserve(keys=self._keys_of([scope.name for scope in scopes]), args=args)
        match word.decode():
            case "granted":
                return Reserved(rest[0].decode())
            case "unknown":
                return Unknown(tuple(name.decode() for name in rest))
            case "exceeded":
                return Exceeded(tuple(map(_shortfall, rest)))
            case _:
                return Contended(tuple(map(_shortfall, rest)))

    def commit(
        self, attempt_id: AttemptId, scopes: Iterable[str], used: Amounts, grant: str | None = None
    ) -> list[str]:
        """End a reservation with what was used; returns the scopes in which someone waits for what became free.

        ``grant`` is the one that the attempt's row names; None takes any.
        """
        return self._end(attempt_id, list(scopes), used, grant, is_release=False)

    def release(self, attempt_id: AttemptId, scopes: Iterable[str]) -> list[str]:
        """End a reservation of which nothing was used; returns the scopes in which someone waits."""
        return self._end(attempt_id, list(scopes), Amounts(), None, is_release=True)

    def _end(
        self, attempt_id: AttemptId, scopes: list[str], used: Amounts, grant: str | None, *, is_release: bool
    ) -> list[str]:
        args: list[Any] = [str(attempt_id), self._kept_seconds, AWAITED_SECONDS, int(is_release), grant or ""]
        for scope in scopes:
            args += [scope, *_numbers(counted_in(scope, used))]
        return [name.decode() for name in self._settle(keys=self._keys_of(scopes), args=args)]

    def find_unknown(self, scopes: Iterable[str]) -> Unknown:
        """Find the scopes that must be loaded before anything can be reserved in them."""
        names = list(scopes)
        unknown = self._find_unknown(keys=[self._keys.budget(name) for name in names], args=names)
        return Unknown(tuple(name.decode() for name in unknown))

    def begin_load(self, scope: str) -> str | None:
        """Begin to load a scope; returns the token to finish with, None if it is loaded or somebody else is at it."""
        patience_ms = int(self._load_seconds.get(scope, LOAD_SECONDS) * 1000)
        token: bytes = self._begin_load(keys=[self._keys.budget(scope)], args=[str(uuid4()), patience_ms])
        return token.decode() or None

    def finish_load(self, scope: str, token: str, used: Amounts, outstanding: Mapping[AttemptId, Amounts]) -> bool:
        """Write what a snapshot said that was taken since ``begin_load``; False if the load had lapsed.

        Whoever was too slow may take twice as long the next time.
        """
        args: list[Any] = [token, self._kept_seconds, scope, *_numbers(counted_in(scope, used))]
        for attempt_id, amounts in outstanding.items():
            args += [str(attempt_id), *_numbers(counted_in(scope, amounts))]
        is_written = bool(self._finish_load(keys=self._keys_of([scope]), args=args))
        if not is_written:
            self._load_seconds[scope] = min(60.0, 2 * self._load_seconds.get(scope, LOAD_SECONDS))
        return is_written

    def wait_for_load(self, seconds: float) -> None:
        """Wait a moment for somebody else's load; nothing signals its end."""
        threading.Event().wait(seconds)

    def forget(self, scope: str, generation: str) -> bool:
        """Forget a scope unless it was loaded anew since ``generation``; its next use loads it."""
        return bool(self._forget(keys=self._keys_of([scope]), args=[scope, generation]))

    def forget_all(self, scopes: Iterable[str]) -> None:
        """Forget scopes whatever is known of them, also while they are loaded; that load writes nothing then.

        Their names stay in the list of those that have entries, until a sweep finds nothing: a load may put them there
        at any moment.
        """
        keys = [self._keys.budget(scope) for scope in scopes]
        if keys:
            self._client.delete(*keys)

    def read(self, scope: str) -> Account | None:
        """Read a scope; None if it is not loaded."""
        return self.read_all([scope])[0]

    def read_all(self, scopes: Sequence[str]) -> list[Account | None]:
        """Read some scopes, in one exchange, each at a moment of its own."""
        pipe = self._client.pipeline(transaction=False)
        for scope in scopes:
            self._read(keys=[self._keys.budget(scope)], client=pipe)
        return [_account(scope, fields) for scope, fields in zip(scopes, pipe.execute(), strict=True)]

    def find_reserving(self) -> list[str]:
        """Find the scopes in which something is reserved; by a scan where the list of them was lost."""
        names: Any = self._client.smembers(self._keys.budgets)
        if _COMPLETE in names:
            return sorted(name.decode() for name in names if name != _COMPLETE)
        found = [account.scope for account in self.read_all(self.find_known()) if account and account.entries]
        self._client.sadd(self._keys.budgets, _COMPLETE, *found)
        return found

    def find_known(self) -> list[str]:
        """Find every scope that has a ledger, by a scan; for verifying, not for the way of a step."""
        prefix = self._keys.budget("")
        keys = self._client.scan_iter(match=f"{_escaped(prefix)}*", count=1000)
        return sorted({key.decode().removeprefix(prefix) for key in keys})

    def _keys_of(self, scopes: Iterable[str]) -> list[str]:
        return [self._keys.budgets, *map(self._keys.budget, scopes)]


def _numbers(amounts: Amounts) -> tuple[int, ...]:
    return (amounts.steps, amounts.tokens, amounts.usd_nano)


def _shortfall(parts: Sequence[bytes]) -> Shortfall:
    scope, kind, used, held, generation = (part.decode() for part in parts)
    return Shortfall(scope, _KINDS[kind], int(used), int(held), generation)


def _account(scope: str, flat: Sequence[bytes]) -> Account | None:
    fields = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    if not fields:
        return None
    entries = {
        AttemptId(UUID(name.removeprefix("attempt:"))): _entry(value)
        for name, value in fields.items()
        if name.startswith("attempt:")
    }
    return Account(scope, fields["generation"], _sum(fields, "used"), _sum(fields, "held"), entries)


def _entry(value: str) -> Entry:
    origin, grant, *numbers = value.split()
    return Entry(Amounts(*map(int, numbers)), Origin(origin), grant)


def _sum(fields: Mapping[str, str], name: str) -> Amounts:
    return Amounts(*(int(fields[f"{name}_{kind}"]) for kind in _KINDS))


def _escaped(pattern: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in pattern)
