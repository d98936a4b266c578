"""A game on the ledger: workers, rescuers and reconcilers whose every move between Postgres and Redis is one turn.

The players run the engine's own code in threads of which only one moves at a time: each stops before every call of the
ledger, and before and after every transaction, until the game gives it the next turn, a failing network, or its death.
Between the turns the game does to Redis what may happen to it. What the calls really used is kept in the game alone.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import redis
from redis.exceptions import ConnectionError as RedisAway
from sqlalchemy import Connection, text

from agentflow.broker.budgets import Ledger
from agentflow.broker.keys import Keys
from agentflow.domain.budget import Amounts, Budget, BudgetKind, ConfiguredBudgets, Scope, ScopeBudget, scopes_of
from agentflow.domain.call import CallUsage
from agentflow.domain.ids import AttemptId, ClaimToken, RunId, StepId, StepKey, step_id
from agentflow.engine.context import EngineContext
from agentflow.engine.reconcile import reconcile, verify_ledger
from agentflow.engine.reserve import Exhausted, Granted, Reservation, ReserveRequest, reserve, settle_ledger
from agentflow.storage import spending
from agentflow.storage.database import Database
from tests.factories import noop_step, submitted

STEPS_PER_RUN = 8
NANO_PER_TOKEN = 1000
CLAIM = """
INSERT INTO attempt
    (id, run_id, step_id, number, state, claim_token, worker, lease_until, started_at, is_stop_requested)
SELECT :id, :run_id, :step_id, 1 + (SELECT count(*) FROM attempt WHERE step_id = :step_id), 'running', :token, 'game',
       now() + interval '20 s', :started_at, false
WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE step_id = :step_id AND state = 'running')
RETURNING id
"""
END = """
UPDATE attempt SET state = :state, ended_at = now() - make_interval(secs => :ago)
WHERE id = :id AND state = 'running' AND claim_token = coalesce(CAST(:token AS uuid), claim_token)
RETURNING reserved
"""


class Death(BaseException):
    """A player's process is killed."""


class Player(threading.Thread):
    """Somebody who moves when it is his turn."""

    def __init__(self, play: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._play = play
        self._turn, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._order = "go"
        self.is_over = False
        self.error: BaseException | None = None

    def run(self) -> None:
        self._turn.acquire()
        try:
            self._play()
        except Death:
            pass
        except BaseException as error:  # noqa: BLE001 - shown by the game
            self.error = error
        self.is_over = True
        self._stopped.release()

    def stop(self) -> str:
        """Wait for the next turn; returns what is to happen at it."""
        self._stopped.release()
        self._turn.acquire()
        if self._order == "die":
            raise Death
        return self._order

    def move(self, order: str = "go") -> None:
        """Let the player move until its next stop."""
        self._order = order
        self._turn.release()
        self._stopped.acquire()
        if self.error is not None:
            raise self.error


def _stop() -> str:
    player = threading.current_thread()
    return player.stop() if isinstance(player, Player) else "go"


class SteppedLedger(Ledger):
    """The ledger, with a stop before each exchange with Redis, and a memory of what was sent."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        super().__init__(client, keys)
        self.sent: list[Callable[[], object]] = []
        for name in (
            "reserve",
            "_end",
            "find_unknown",
            "begin_load",
            "finish_load",
            "forget",
            "forget_all",
            "read_all",
            "find_reserving",
        ):
            setattr(self, name, self._stepped(getattr(super(), name)))

    def _stepped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **named: Any) -> Any:
            order = _stop()
            if order == "lose request":
                raise RedisAway
            answer = call(*args, **named)
            self.sent.append(lambda: call(*args, **named))
            if order == "lose answer":
                raise RedisAway
            return answer

        return stepped

    def wait_for_load(self, seconds: float) -> None:
        _stop()


class SteppedDatabase(Database):
    """The database, with a stop around each transaction."""

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        _stop()
        with super().transaction() as tx:
            yield tx
        _stop()


@dataclass(frozen=True)
class Work:
    """One attempt as the game knows it."""

    run_id: RunId
    step_id: StepId
    attempt_id: AttemptId
    token: ClaimToken
    needed: Amounts
    actual: Amounts
    scopes: tuple[Scope, ...]


@dataclass
class Game:
    """One installation, two runs of a project and a directive, and what happens to them."""

    context: EngineContext
    client: redis.Redis
    chance: random.Random
    players: list[Player] = field(default_factory=list)
    works: dict[AttemptId, Work] = field(default_factory=dict)
    real: dict[AttemptId, Amounts] = field(default_factory=dict)
    seen_used: dict[str, Amounts] = field(default_factory=dict)
    outcomes: list[str] = field(default_factory=list)
    disk: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plain = self.context
        caps = self.chance.choice
        self.project, self.directive = f"p{self._id().hex[:8]}", "d"
        self.configured = ConfiguredBudgets(
            project={"*": ScopeBudget(tokens=caps([700, 1300]), usd_per_day=caps([None, "0.0012"]))},
            directive={"*": ScopeBudget(tokens_per_day=caps([None, None, 1000]))},
        )
        self.budgets: dict[RunId, Budget] = {}
        for _ in range(2):
            run_id = submitted(self.plain, [noop_step(f"s{number}") for number in range(STEPS_PER_RUN)])
            self.budgets[run_id] = Budget(steps=caps([None, 5]), tokens=caps([None, 400, 700]))
        with self.plain.database.transaction() as tx:
            tx.execute(
                text("UPDATE run SET project = :project, directive = :directive WHERE id = ANY(:ids)"),
                {"project": self.project, "directive": self.directive, "ids": list(self.budgets)},
            )
        settings = self.plain.settings.model_copy(update={"budgets": self.configured})
        self.plain = replace(self.plain, settings=settings)
        self.ledger = SteppedLedger(self.client, self.plain.side_channel.keys)
        assert settings.database_url is not None
        database = SteppedDatabase(settings.database_url.get_secret_value())
        self.context = replace(self.plain, ledger=self.ledger, database=database)
        self.started_at = datetime.now(UTC)
        self.weather = caps([1, 4, 10])
        self.stride = caps([1, 4, 12])
        self.scopes = {scope.name: scope for run_id in self.budgets for scope in self._scopes(run_id)}

    def close(self) -> None:
        """Let go of the connections."""
        self.context.database.close()

    def _scopes(self, run_id: RunId) -> tuple[Scope, ...]:
        at = self.started_at
        return tuple(scopes_of(run_id, self.budgets[run_id], self.project, self.directive, at, self.configured))

    def _uncapped(self, run_id: RunId) -> tuple[Scope, ...]:
        """The same for a worker whose configuration knows no caps."""
        at, none = self.started_at, ConfiguredBudgets()
        return tuple(scopes_of(run_id, self.budgets[run_id], self.project, self.directive, at, none))

    # What the players do.

    def work(self) -> None:
        """Take a step through a whole attempt."""
        work = self._claim()
        if work is None:
            return
        request = ReserveRequest(work.attempt_id, work.token, work.step_id, work.scopes, work.needed)
        answer = reserve(self.context, request)
        self.outcomes.append(type(answer).__name__)
        self._judge(work, answer)
        if isinstance(answer, Granted):
            _stop()
            self.real[work.attempt_id] = work.actual
            _stop()
            self._settle(work, "succeeded", work.token, work.actual)
        else:
            self._settle(work, "released", work.token, None)

    def rescue(self) -> None:
        """End an attempt whose worker is dead, or only slow."""
        with self.context.database.transaction() as tx:
            running = tx.execute(
                text("SELECT id FROM attempt WHERE state = 'running' AND run_id = ANY(:ids) ORDER BY id"),
                {"ids": list(self.budgets)},
            ).scalars()
            found = sorted(AttemptId(each) for each in running)
        if found:
            work = self.works[self.chance.choice(found)]
            self._settle(work, "lost", None, None)

    def reconcile(self) -> None:
        """Do what the leading dispatcher does now and then."""
        reconcile(self.context, self.chance.choice([0.0, 2.0]))

    def _claim(self) -> Work | None:
        run_id = self.chance.choice(list(self.budgets))
        step = step_id(run_id, StepKey(f"s{self.chance.randrange(STEPS_PER_RUN)}"))
        attempt_id, token = AttemptId(self._id()), ClaimToken(self._id())
        needed, share = self.chance.choice([100, 300, 300]), self.chance.choice([0.1, 0.5, 1, 1, 1, 1.2])
        scopes = self._scopes(run_id) if self.chance.random() < 0.9 else self._uncapped(run_id)
        work = Work(run_id, step, attempt_id, token, _of(needed), _of(int(needed * share)), scopes)
        self.works[attempt_id] = work
        parameters = {"id": attempt_id, "run_id": run_id, "step_id": step, "token": token}
        with self.context.database.transaction() as tx:
            is_taken = tx.execute(text(CLAIM), {**parameters, "started_at": self.started_at}).one_or_none() is not None
        return work if is_taken else None

    def _id(self) -> UUID:
        return UUID(int=self.chance.getrandbits(128), version=4)

    def _settle(self, work: Work, state: str, token: ClaimToken | None, used: Amounts | None) -> None:
        """End an attempt as the engine does: row and usage in one transaction, then the ledger."""
        with self.context.database.transaction() as tx:
            parameters = {
                "id": work.attempt_id,
                "state": state,
                "token": None if token is None else str(token),
                "ago": self.chance.choice([0, 60]),
            }
            row = tx.execute(text(END), parameters).one_or_none()
            if row is None:
                return
            if state == "lost" and row.reserved is not None and "granted" in row.reserved:
                used = Amounts.from_json(row.reserved)
            if used is not None:
                spending.insert_call(tx, work.run_id, self._call(work, used))
        grant = row.reserved.get("granted") if row.reserved is not None else None
        settle_ledger(self.context, work.attempt_id, work.scopes, used, grant)

    def _call(self, work: Work, used: Amounts) -> spending.LlmCall:
        return spending.LlmCall(
            attempt_id=work.attempt_id,
            step_id=work.step_id,
            project=self.project,
            directive=self.directive,
            provider="game",
            model="game",
            usage=CallUsage(input_tokens=used.tokens, usd_nano=used.usd_nano),
            started_at=self.started_at,
            duration_seconds=0.0,
        )

    def _judge(self, work: Work, answer: Reservation) -> None:
        """Nobody is told that a budget is exhausted that Postgres would have covered."""
        if isinstance(answer, Exhausted):
            for budget in answer.budgets:
                used = self._used(budget.scope).amount_of(budget.budget)
                assert used + work.needed.amount_of(budget.budget) > budget.limit

    # What the game does.

    def play(self, moves: int) -> None:
        """Make random moves, holding the caps after each, then let all come to rest."""
        for number in range(moves):
            self._move()
            self.check()
            if number % 20 == 0:
                self.check_used()
        self.come_to_rest()

    def _move(self) -> None:
        self.players = [player for player in self.players if not player.is_over]
        start = 16 if len(self.players) < 6 else 0
        kinds = {"turn": 60, "start": start, "die": 2, "network": 2, "redis": self.weather, "late": 4}
        kind = self.chance.choices(list(kinds), list(kinds.values()))[0]
        if kind == "start" or not self.players:
            play = self.chance.choices([self.work, self.rescue, self.reconcile], [8, 2, 1])[0]
            self.players.append(Player(play))
            self.players[-1].start()
        elif kind == "turn":
            self._turn(self.chance.choice(self.players))
        elif kind in ("die", "network"):
            order = "die" if kind == "die" else self.chance.choice(["lose request", "lose answer"])
            self.chance.choice(self.players).move(order)
        elif kind == "redis":
            self.chance.choice([self.flush, self.flush, self.lose_a_scope, self.let_loads_lapse, self.come_back_old])()
        elif self.ledger.sent:
            self.chance.choice(self.ledger.sent[-40:])()

    def _turn(self, player: Player) -> None:
        for _ in range(self.chance.randint(1, self.stride)):
            if not player.is_over:
                player.move()
                self.check()

    def flush(self) -> None:
        """Redis forgets everything."""
        if keys := self._keys():
            self.client.delete(*keys)

    def lose_a_scope(self) -> None:
        """One key expires."""
        if keys := self._keys():
            self.client.delete(self.chance.choice(keys))

    def let_loads_lapse(self) -> None:
        """Time passes that no loader has."""
        for key in self._keys():
            if self.client.type(key) == b"hash" and self.client.hexists(key, "loading"):
                self.client.delete(key)

    def come_back_old(self) -> None:
        """Redis restarts with what it had written to its disk some time ago; it is another process then."""
        for key, value in self.disk.items():
            self.client.restore(key, 0, value, replace=True)
            if self.client.type(key) == b"hash" and self.client.hexists(key, "server"):
                self.client.hset(key, "server", "another")
        for key in self._keys():
            if key not in self.disk and self.disk:
                self.client.delete(key)
        self.disk = {key: self.client.dump(key) for key in self._keys()}

    def _keys(self) -> list[str]:
        keys = self.plain.side_channel.keys
        return [key for key in (keys.budgets, *map(keys.budget, self.scopes)) if self.client.exists(key)]

    # What must hold.

    def check(self) -> None:
        """What calls really used passes no cap but by what providers went beyond their bounds."""
        for name, scope in self.scopes.items():
            inside = [work for work in self.works.values() if scope in work.scopes and work.attempt_id in self.real]
            for kind in (BudgetKind.TOKENS, BudgetKind.USD, BudgetKind.STEPS):
                limit = scope.limits.limit_of(kind)
                if limit is not None:
                    used = sum(work.actual.amount_of(kind) for work in inside)
                    beyond = sum(max(0, work.actual.amount_of(kind) - work.needed.amount_of(kind)) for work in inside)
                    assert used <= limit + beyond, (name, kind)

    def check_used(self) -> None:
        """What was used is never unlearnt."""
        name = self.chance.choice(list(self.scopes))
        used_now, used_before = self._used(name), self.seen_used.get(name, Amounts())
        for kind in (BudgetKind.TOKENS, BudgetKind.USD, BudgetKind.STEPS):
            assert used_now.amount_of(kind) >= used_before.amount_of(kind)
        self.seen_used[name] = used_now

    def _used(self, name: str) -> Amounts:
        with self.plain.database.transaction() as tx:
            return spending.snapshot(tx, self.scopes[name]).used

    def come_to_rest(self) -> None:
        """Let everybody finish, end what nobody works on, and find the ledger as Postgres has it."""
        self.let_loads_lapse()
        while self.players:
            self._finish(self.chance.choice(self.players))
        self.context = self.plain
        while self._has_running():
            self.rescue()
        while reconcile(self.plain, 0.0):
            pass
        self.check_used()
        assert verify_ledger(self.plain) == []

    def _finish(self, player: Player) -> None:
        while not player.is_over:
            player.move()
            self.check()
        self.players.remove(player)

    def _has_running(self) -> bool:
        with self.plain.database.transaction() as tx:
            return bool(
                tx.execute(
                    text("SELECT count(*) FROM attempt WHERE state = 'running' AND run_id = ANY(:ids)"),
                    {"ids": list(self.budgets)},
                ).scalar_one()
            )


def _of(tokens: int) -> Amounts:
    return Amounts(steps=1, tokens=tokens, usd_nano=tokens * NANO_PER_TOKEN)
