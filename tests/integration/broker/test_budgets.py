"""The ledger's scripts on a real Valkey: what is granted fits and stays, and what is unknown is said to be."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis

from agentflow.broker.budgets import (
    Account,
    Contended,
    Exceeded,
    Ledger,
    LedgerAnswer,
    Origin,
    Reserved,
    Shortfall,
    Unknown,
)
from agentflow.broker.keys import Keys
from agentflow.domain.budget import MAX_TOKENS, Amounts, Budget, BudgetKind, Scope
from agentflow.domain.ids import AttemptId, RunId
from agentflow.embedded import EmbeddedValkey, ServerUrls

RUN, PROJECT = f"run:{UUID(int=1)}", "project:ops"


class House:
    """One installation's ledger and two scopes in it, which tests load by hand."""

    def __init__(self, client: redis.Redis, *, kept_seconds: int = 60) -> None:
        self.client, self.keys = client, Keys(f"{uuid4()}:")
        self.ledger = Ledger(client, self.keys, kept_seconds=kept_seconds)

    def scopes(self, run: int | None = 1000, project: int | None = None, steps: int | None = None) -> list[Scope]:
        return [
            Scope(RUN, Budget(tokens=run, steps=steps), run_id=RunId(UUID(int=1))),
            Scope(PROJECT, Budget(tokens=project), project="ops"),
        ]

    def load(self, scope: str, used: int = 0, outstanding: Mapping[AttemptId, Amounts] | None = None) -> None:
        token = self.ledger.begin_load(scope)
        assert token is not None
        assert self.ledger.finish_load(scope, token, _tokens(used), outstanding or {})

    def load_both(self, used: int = 0, outstanding: Mapping[AttemptId, Amounts] | None = None) -> None:
        for scope in (RUN, PROJECT):
            self.load(scope, used, outstanding)

    def reserve(self, tokens: int, attempt: AttemptId | None = None, **limits: int | None) -> LedgerAnswer:
        return self.ledger.reserve(attempt or _attempt(), self.scopes(**limits), _tokens(tokens))

    def grant(self, tokens: int, attempt: AttemptId, **limits: int | None) -> str:
        answer = self.reserve(tokens, attempt, **limits)
        assert isinstance(answer, Reserved)
        return answer.grant

    def account(self, scope: str = RUN) -> Account:
        account = self.ledger.read(scope)
        assert account is not None
        return account

    def sums(self, scope: str = RUN) -> tuple[int, int]:
        """Tokens that are used, and held."""
        account = self.account(scope)
        assert account.held == sum((entry.amounts for entry in account.entries.values()), Amounts())
        return account.used.tokens, account.held.tokens


def _tokens(count: int) -> Amounts:
    return Amounts(steps=1 if count else 0, tokens=count, usd_nano=0)


def _attempt() -> AttemptId:
    return AttemptId(uuid4())


@pytest.fixture
def house(servers: ServerUrls) -> Iterator[House]:
    client = redis.Redis.from_url(servers.redis_url)
    yield House(client)
    client.close()


def test_a_scope_that_was_never_loaded_is_unknown_and_nothing_is_written_anywhere(house: House) -> None:
    house.load(RUN)

    assert house.reserve(10) == Unknown((PROJECT,))
    assert house.sums() == (0, 0)
    assert house.ledger.read(PROJECT) is None


def test_an_attempt_reserves_in_all_scopes_or_in_none(house: House) -> None:
    house.load_both()
    house.grant(600, _attempt(), project=700)

    answer = house.reserve(300, run=1000, project=700)

    assert isinstance(answer, Contended)
    assert [shortfall.scope for shortfall in answer.shortfalls] == [PROJECT]
    assert house.sums(RUN) == house.sums(PROJECT) == (0, 600)


def test_asking_again_for_what_is_granted_changes_nothing_even_if_the_limit_is_lower_now(house: House) -> None:
    house.load_both()
    attempt = _attempt()

    assert house.grant(900, attempt) == house.grant(900, attempt, run=100)
    assert house.sums() == (0, 900)


def test_what_is_used_is_told_from_what_others_hold(house: House) -> None:
    house.load_both(used=500)
    house.grant(300, _attempt())
    generation = house.account().generation

    assert house.reserve(300) == Contended((Shortfall(RUN, BudgetKind.TOKENS, 500, 300, generation),))
    assert house.reserve(501) == Exceeded((Shortfall(RUN, BudgetKind.TOKENS, 500, 300, generation),))
    assert isinstance(house.reserve(200), Reserved)


def test_what_needs_nothing_of_a_kind_passes_also_where_that_is_used_up(house: House) -> None:
    house.load_both(used=2000)

    answer = house.ledger.reserve(_attempt(), house.scopes(steps=5), Amounts(steps=1))

    assert isinstance(answer, Reserved)


def test_every_budget_that_is_exceeded_is_named(house: House) -> None:
    house.load_both(used=900)

    answer = house.reserve(300, run=1000, project=1000, steps=1)

    assert isinstance(answer, Exceeded)
    assert [(each.scope, each.kind) for each in answer.shortfalls] == [
        (RUN, BudgetKind.STEPS),
        (RUN, BudgetKind.TOKENS),
        (PROJECT, BudgetKind.TOKENS),
    ]


def test_steps_count_in_runs_only(house: House) -> None:
    house.load_both()
    attempt = _attempt()
    house.grant(10, attempt)
    house.ledger.commit(attempt, [RUN, PROJECT], Amounts(steps=1, tokens=10))

    assert (house.account(RUN).used, house.account(PROJECT).used) == (Amounts(1, 10), Amounts(0, 10))


def test_a_loaded_reservation_is_counted_but_must_be_asked_for_anew(house: House) -> None:
    mine, others = _attempt(), _attempt()
    house.load_both(outstanding={mine: _tokens(600), others: _tokens(600)})

    assert isinstance(house.reserve(100), Contended)
    assert isinstance(house.reserve(600, mine), Contended)
    assert house.sums() == (0, 1200)
    house.ledger.release(others, [RUN, PROJECT])
    house.grant(600, mine)

    assert house.sums() == (0, 600)
    assert house.account().entries[mine].origin is Origin.CONFIRMED


def test_a_use_is_counted_once_however_often_it_is_told(house: House) -> None:
    house.load_both()
    attempt = _attempt()
    grant = house.grant(300, attempt)

    for _ in range(3):
        house.ledger.commit(attempt, [RUN, PROJECT], _tokens(50), grant)

    assert house.sums(RUN) == house.sums(PROJECT) == (50, 0)
    assert house.ledger.find_reserving() == []


def test_what_has_no_reservation_uses_nothing(house: House) -> None:
    house.load_both()

    house.ledger.commit(_attempt(), [RUN, PROJECT, "project:unknown"], _tokens(50))
    house.ledger.release(_attempt(), [RUN, PROJECT, "project:unknown"])

    assert house.sums() == (0, 0)
    assert house.ledger.read("project:unknown") is None


def test_a_reserve_that_arrives_after_the_end_is_never_counted_as_used(house: House) -> None:
    house.load_both()
    attempt = _attempt()
    grant = house.grant(300, attempt)
    house.ledger.commit(attempt, [RUN, PROJECT], _tokens(50), grant)

    assert house.grant(300, attempt) != grant
    house.ledger.commit(attempt, [RUN, PROJECT], _tokens(50), grant)

    assert house.sums() == (50, 0)


def test_a_loaded_reservation_is_its_attempts_whatever_grant_it_had(house: House) -> None:
    attempt = _attempt()
    house.load_both(outstanding={attempt: _tokens(300)})
    house.grant(300, attempt)

    house.ledger.commit(attempt, [RUN, PROJECT], _tokens(50), "the grant before Redis forgot")

    assert house.sums() == (50, 0)


def test_amounts_are_exact_to_the_last_token(house: House) -> None:
    house.load_both(used=MAX_TOKENS - 7)
    attempt = _attempt()
    house.grant(7, attempt, run=MAX_TOKENS)

    assert isinstance(house.reserve(1, run=MAX_TOKENS), Contended)
    house.ledger.commit(attempt, [RUN, PROJECT], _tokens(6))
    house.grant(1, attempt, run=MAX_TOKENS)
    assert isinstance(house.reserve(2, run=MAX_TOKENS), Exceeded)
    assert house.sums() == (MAX_TOKENS - 1, 1)


def test_one_loads_and_the_others_wait(house: House) -> None:
    token = house.ledger.begin_load(RUN)
    assert token is not None

    assert house.ledger.begin_load(RUN) is None
    assert house.reserve(1) == Unknown((RUN, PROJECT))
    assert house.ledger.finish_load(RUN, token, Amounts(), {})
    assert house.ledger.begin_load(RUN) is None


def test_a_loader_that_is_late_writes_nothing(house: House) -> None:
    late = house.ledger.begin_load(RUN)
    assert late is not None
    house.client.delete(house.keys.budget(RUN))
    token = house.ledger.begin_load(RUN)
    assert token is not None

    assert not house.ledger.finish_load(RUN, late, _tokens(1), {})
    assert house.ledger.finish_load(RUN, token, _tokens(2), {})
    assert not house.ledger.finish_load(RUN, late, _tokens(1), {})
    assert house.sums() == (2, 0)


def test_the_snapshot_of_one_load_cannot_finish_another_that_a_late_message_began(house: House) -> None:
    begin = {"keys": [house.keys.budget(RUN)], "args": ["the same message", 5000]}
    first = house.ledger._begin_load(**begin).decode()
    house.client.delete(house.keys.budget(RUN))
    house.ledger._begin_load(**begin)

    assert not house.ledger.finish_load(RUN, first, Amounts(), {})


def test_a_loader_that_is_dead_is_in_the_way_for_seconds_and_no_longer(house: House) -> None:
    house.ledger.begin_load(RUN)

    assert 0 < house.client.pttl(house.keys.budget(RUN)) <= 5000


def test_a_loader_that_was_too_slow_gets_more_time(house: House) -> None:
    house.ledger.finish_load(RUN, "lapsed", Amounts(), {})
    house.ledger.begin_load(RUN)

    assert 5000 < house.client.pttl(house.keys.budget(RUN)) <= 10_000


def test_what_is_forgotten_is_the_generation_that_is_meant(house: House) -> None:
    house.load_both()
    generation = house.account().generation

    assert house.ledger.forget(RUN, generation)
    assert house.ledger.read(RUN) is None
    house.load(RUN)
    assert not house.ledger.forget(RUN, generation)
    assert house.sums() == (0, 0)


def test_a_scope_goes_a_day_after_its_last_use(servers: ServerUrls) -> None:
    client = redis.Redis.from_url(servers.redis_url)
    house = House(client, kept_seconds=86_400)
    house.load_both()
    for move in (lambda: house.grant(1, _attempt()), lambda: house.reserve(10_000)):
        client.expire(house.keys.budget(RUN), 10)
        move()
        assert client.ttl(house.keys.budget(RUN)) > 86_000
    client.close()


def test_who_waits_is_named_when_something_becomes_free(house: House) -> None:
    house.load_both()
    first, second = _attempt(), _attempt()
    house.grant(600, first)
    assert house.ledger.commit(first, [RUN, PROJECT], _tokens(10)) == []
    house.grant(600, second)
    assert isinstance(house.reserve(600), Contended)

    assert house.ledger.commit(second, [RUN, PROJECT], _tokens(10)) == [RUN]


def test_who_gives_back_wakes_others_if_nobody_else_would(house: House) -> None:
    house.load_both()
    holder, refused = _attempt(), _attempt()
    house.grant(600, holder)
    assert isinstance(house.reserve(600, refused), Contended)

    assert house.ledger.release(refused, [RUN, PROJECT]) == []
    house.ledger.release(holder, [RUN, PROJECT])
    assert house.ledger.release(refused, [RUN, PROJECT]) == [RUN]


def test_scopes_with_reservations_are_found_also_when_their_list_was_lost(house: House) -> None:
    house.load_both()
    house.grant(1, _attempt())

    assert house.ledger.find_reserving() == [PROJECT, RUN]
    house.client.delete(house.keys.budgets)
    assert house.ledger.find_reserving() == [PROJECT, RUN]
    assert house.ledger.find_known() == [PROJECT, RUN]


def test_many_at_once_are_granted_no_more_than_there_is(house: House) -> None:
    house.load_both()

    def ask(_: int) -> bool:
        return isinstance(house.reserve(70), Reserved)

    with ThreadPoolExecutor(8) as pool:
        granted = sum(pool.map(ask, range(100)))

    assert granted == 1000 // 70
    assert house.sums() == (0, granted * 70)


def test_what_a_restarted_redis_still_has_is_not_believed() -> None:
    """Its file may lack the last second: an append-only file is synced once a second."""
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-test-", ignore_cleanup_errors=True) as home,
        EmbeddedValkey(Path(home), fsync=False) as valkey,
    ):
        client = redis.Redis.from_url(valkey.url)
        house = House(client)
        house.load_both()
        attempt = _attempt()
        house.grant(300, attempt)
        valkey.stop()
        valkey.start()

        assert client.exists(house.keys.budget(RUN))
        assert house.ledger.read(RUN) is None
        house.ledger.commit(attempt, [RUN, PROJECT], _tokens(300))
        assert house.reserve(300) == Unknown((RUN, PROJECT))
        house.load_both(used=300)
        assert house.sums() == (300, 0)
        client.close()
