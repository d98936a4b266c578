"""Circuit breakers hold calls back from what is down and let them through again, on a fake Redis and on Valkey."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import fakeredis
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry

from agentflow.broker.breakers import Admitted, Breakers, BreakerState, BreakerView, Refused
from agentflow.broker.keys import Keys
from agentflow.embedded import ServerUrls

ENDPOINT = "http:0123456789abcdef"
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class House:
    """One installation's breakers, its Redis, and the passing of time."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.keys = Keys(f"{uuid4()}:")
        self.breakers = Breakers(client, self.keys)
        self._passed_ms = 0

    @property
    def view(self) -> BreakerView:
        return self.breakers.read(ENDPOINT)

    def ask(self, trial_seconds: float = 60) -> Admitted | Refused:
        return self.breakers.admit(ENDPOINT, trial_seconds)

    def enter(self, trial_seconds: float = 60) -> Admitted:
        admitted = self.ask(trial_seconds)
        assert isinstance(admitted, Admitted)
        return self._moved(admitted, self._passed_ms)

    def report(self, admitted: Admitted, is_success: bool) -> None:
        self.breakers.record(ENDPOINT, is_success, self._moved(admitted, -self._passed_ms))

    def withdraw(self, admitted: Admitted) -> None:
        self.breakers.withdraw(ENDPOINT, self._moved(admitted, -self._passed_ms))

    @staticmethod
    def _moved(admitted: Admitted, by_ms: int) -> Admitted:
        """An admission as the present names its times; 0 is no time."""
        times = (admitted.opened_at_ms, admitted.trial_ends_at_ms)
        return Admitted(*[time + by_ms if time else time for time in times])

    def call(self, is_success: bool) -> None:
        self.report(self.enter(), is_success)

    def open(self) -> None:
        for _ in range(5):
            self.call(is_success=False)
        assert self.view.state is OPEN

    def open_half(self) -> None:
        self.open()
        self.let_pass(30)

    def let_pass(self, seconds: float) -> None:
        """Move everything that the breaker has noted into the past, as if the clock had gone on."""
        key, by = self.keys.breaker(ENDPOINT), round(seconds * 1000)
        self._passed_ms += by
        noted = {name.decode(): value.decode() for name, value in self.client.hgetall(key).items()}
        ends = [str(int(each) - by) for each in noted.get("trials", "").split(",") if each]
        if "opened_at" in noted:
            moved = {"opened_at": str(int(noted["opened_at"]) - by), "trials": ",".join(ends)}
            self.client.hset(key, mapping=moved)


@pytest.fixture(params=["fakeredis", "valkey"])
def make_client(request: pytest.FixtureRequest) -> Iterator[Callable[[], redis.Redis]]:
    """Makes clients of one server."""
    made: list[redis.Redis] = []
    if request.param == "valkey":
        urls: ServerUrls = request.getfixturevalue("servers")
        connect = lambda: redis.Redis.from_url(urls.redis_url)  # noqa: E731 - one of two ways
    else:
        server = fakeredis.FakeServer()
        connect = lambda: fakeredis.FakeRedis(server=server)  # noqa: E731 - the other

    def make() -> redis.Redis:
        made.append(connect())
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def house(make_client: Callable[[], redis.Redis]) -> House:
    """Breakers of the test's own."""
    return House(make_client())


def test_five_failures_in_a_row_open_a_breaker(house: House) -> None:
    for _ in range(4):
        house.call(is_success=False)
    assert house.view.state is CLOSED

    house.call(is_success=False)

    refused = house.ask()
    assert isinstance(refused, Refused)
    assert 29 < refused.retry_after_seconds <= 30
    assert house.view.state is OPEN


def test_a_success_while_closed_sets_the_failures_to_zero(house: House) -> None:
    for _ in range(3):
        for _ in range(4):
            house.call(is_success=False)
        house.call(is_success=True)

    assert (house.view.state, house.view.failures) == (CLOSED, 0)


def test_an_open_breaker_says_how_long_it_stays_so(house: House) -> None:
    house.open()
    house.let_pass(20)

    refused = house.ask()

    assert isinstance(refused, Refused)
    assert 9 < refused.retry_after_seconds <= 10
    assert 9 < house.view.retry_after_seconds <= 10


def test_after_the_recovery_time_three_successes_close_it(house: House) -> None:
    house.open_half()
    assert house.view.state is HALF_OPEN, "seen before anybody asks"

    for successes in range(3):
        assert (house.view.state, house.view.successes) == (HALF_OPEN, successes)
        house.call(is_success=True)

    assert (house.view.state, house.view.failures) == (CLOSED, 0)


def test_one_failure_of_a_trial_opens_it_for_another_recovery_time(house: House) -> None:
    house.open_half()
    house.call(is_success=True)

    house.call(is_success=False)

    refused = house.ask()
    assert house.view.state is OPEN
    assert isinstance(refused, Refused)
    assert refused.retry_after_seconds > 29


def test_no_more_trials_go_at_a_time_than_successes_are_still_needed(house: House) -> None:
    house.open_half()
    trials = [house.enter() for _ in range(3)]
    refused = house.ask()
    assert isinstance(refused, Refused)
    assert 0 < refused.retry_after_seconds <= 5, "trials mostly report before their time is up"

    house.report(trials[0], is_success=True)

    assert isinstance(house.ask(), Refused), "two are out and two are needed"
    house.report(trials[1], is_success=True)
    house.report(trials[2], is_success=True)
    assert house.view.state is CLOSED


def test_a_trial_that_never_reports_blocks_until_its_time_is_up(house: House) -> None:
    house.open_half()
    for _ in range(3):
        house.enter(trial_seconds=60)
    house.let_pass(59)
    refused = house.ask()
    assert isinstance(refused, Refused)
    assert refused.retry_after_seconds <= 1

    house.let_pass(1)

    assert [type(house.ask()) for _ in range(4)] == [Admitted] * 3 + [Refused]


def test_a_trial_holds_its_place_for_two_recovery_times_at_most_and_reports_later_all_the_same(house: House) -> None:
    house.open_half()
    trials = [house.enter(trial_seconds=1800) for _ in range(3)]
    house.let_pass(59)
    assert isinstance(house.ask(), Refused)

    house.let_pass(1)

    house.enter()
    house.report(trials[0], is_success=True)
    assert (house.view.state, house.view.successes, house.view.trials) == (HALF_OPEN, 1, 1)
    house.report(trials[1], is_success=False)
    assert house.view.state is OPEN


def test_a_trial_that_reports_after_its_time_frees_no_place_of_another(house: House) -> None:
    house.open_half()
    late = house.enter(trial_seconds=1)
    house.let_pass(1)
    for _ in range(3):
        house.enter()

    house.report(late, is_success=True)

    assert (house.view.trials, house.view.successes) == (3, 1)
    assert isinstance(house.ask(), Refused)


def test_a_trial_that_is_withdrawn_gives_its_place_back_and_counts_for_nothing(house: House) -> None:
    house.open_half()
    trials = [house.enter() for _ in range(3)]

    house.withdraw(trials[0])

    view = house.view
    assert (view.state, view.trials, view.successes, view.failed) == (HALF_OPEN, 2, 0, 5)
    assert isinstance(house.ask(), Admitted)


def test_calls_from_before_the_opening_move_it_no_more(house: House) -> None:
    before = [house.enter() for _ in range(7)]
    for admitted in before[:5]:
        house.report(admitted, is_success=False)
    house.let_pass(30)
    house.enter()

    house.report(before[5], is_success=False)
    house.report(before[6], is_success=True)

    view = house.view
    assert (view.state, view.successes, view.trials) == (HALF_OPEN, 0, 1)
    assert (view.failed, view.successful) == (6, 1), "they are counted all the same"


def test_a_report_that_does_not_say_when_its_call_was_admitted_counts_for_the_present(house: House) -> None:
    house.open_half()
    for _ in range(3):
        house.enter()
        house.breakers.record(ENDPOINT, True)

    assert (house.view.state, house.view.trials) == (CLOSED, 0)


def test_every_call_is_counted_and_every_endpoint_is_listed(house: House) -> None:
    house.call(is_success=True)
    house.open()
    house.ask()
    house.breakers.record("another", True)

    another, this = house.breakers.read_all()

    assert (another.endpoint, another.successful) == ("another", 1)
    assert (this.total, this.successful, this.failed, this.rejected) == (7, 1, 5, 1)
    assert this.opened_at is not None


def test_a_reset_closes_a_breaker_and_keeps_its_totals(house: House) -> None:
    late = house.enter()
    house.open()

    house.breakers.reset(ENDPOINT)

    assert (house.view.state, house.view.failures, house.view.failed) == (CLOSED, 0, 5)
    for _ in range(4):
        house.call(is_success=False)
    house.report(late, is_success=False)
    assert house.view.state is CLOSED, "a call from before tells nothing of now"


def test_a_reset_of_an_unknown_endpoint_leaves_nothing_behind(house: House) -> None:
    house.breakers.reset(ENDPOINT)

    assert house.breakers.read_all() == []
    assert house.client.exists(house.keys.breaker(ENDPOINT)) == 0


def test_a_redis_that_forgot_has_closed_breakers(house: House) -> None:
    house.open_half()
    trial = house.enter()
    for key in (house.keys.breaker(ENDPOINT), house.keys.breakers):
        house.client.delete(key)

    house.withdraw(trial)
    assert house.client.exists(house.keys.breaker(ENDPOINT)) == 0
    house.report(trial, is_success=False)

    assert (house.view.state, house.view.failures) == (CLOSED, 1)
    assert isinstance(house.ask(), Admitted)


def test_a_clock_that_went_back_holds_calls_back_no_longer_than_the_recovery_time(house: House) -> None:
    house.open()
    house.let_pass(-3600)

    refused = house.ask()

    assert isinstance(refused, Refused)
    assert refused.retry_after_seconds <= 30


def test_breakers_go_a_day_after_their_last_use(house: House) -> None:
    house.call(is_success=True)

    for key in (house.keys.breaker(ENDPOINT), house.keys.breakers):
        assert 23 * 3600 < house.client.ttl(key) <= 24 * 3600


def test_an_endpoint_that_nobody_used_for_a_day_is_listed_no_more(house: House) -> None:
    house.client.zadd(house.keys.breakers, {"forgotten": 1.0})

    house.call(is_success=True)

    assert [view.endpoint for view in house.breakers.read_all()] == [ENDPOINT]


def test_clients_that_race_for_the_trials_get_no_more_than_there_are(
    house: House, make_client: Callable[[], redis.Redis]
) -> None:
    house.open_half()
    racers = [Breakers(make_client(), house.keys) for _ in range(2)]
    start = threading.Barrier(16)

    def race(number: int) -> Admitted | Refused:
        start.wait()
        return racers[number % 2].admit(ENDPOINT, 60)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(race, range(16)))

    assert sum(isinstance(answer, Admitted) for answer in answers) == 3
    assert house.view.trials == 3


def test_racing_failures_open_it_once(house: House, make_client: Callable[[], redis.Redis]) -> None:
    racers = [Breakers(make_client(), house.keys) for _ in range(2)]
    admitted = [house.enter() for _ in range(16)]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: racers[number % 2].record(ENDPOINT, False, admitted[number]), range(16)))

    assert (house.view.state, house.view.failed) == (OPEN, 16)
    house.let_pass(30)
    assert house.view.state is HALF_OPEN


def test_the_clock_is_the_servers(make_client: Callable[[], redis.Redis]) -> None:
    client = make_client()
    breakers = Breakers(client, Keys(f"{uuid4()}:"), failures_to_open=1, recovery_seconds=0.05)
    breakers.record(ENDPOINT, False)
    before = breakers.read(ENDPOINT)

    while isinstance(breakers.admit(ENDPOINT, 60), Refused):
        pass

    seconds, microseconds = client.time()
    assert before.state is OPEN
    assert before.opened_at is not None
    assert seconds + microseconds / 1e6 - before.opened_at.timestamp() >= 0.05


def test_without_redis_every_call_is_admitted_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    away = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))
    breakers = Breakers(away, Keys())

    for _ in range(3):
        admitted = breakers.admit(ENDPOINT, 60)
        assert isinstance(admitted, Admitted)
        breakers.record(ENDPOINT, False, admitted)

    assert [record.getMessage().split()[0] for record in caplog.records] == ["breakers_not_reached"]
    away.close()


_moves = st.lists(st.sampled_from(["ask", "ask", "succeed", "fail", "fail", "withdraw", "wait"]), max_size=60)


@given(_moves)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_a_breaker_keeps_its_rules(moves: list[str]) -> None:
    house = House(fakeredis.FakeRedis())
    out: list[Admitted] = []
    asked = admitted = 0
    for move in moves:
        before = house.view
        if move == "ask":
            is_admitted = before.state is CLOSED or (before.state is HALF_OPEN and before.trials < 3 - before.successes)
            asked, admitted = asked + 1, admitted + is_admitted
            if is_admitted:
                out.append(house.enter(trial_seconds=1000))
            else:
                assert isinstance(house.ask(), Refused)
        elif move == "wait":
            house.let_pass(30)
        elif out and move == "withdraw":
            house.withdraw(out.pop())
        elif out:
            house.report(out.pop(0), is_success=move == "succeed")
        after = house.view
        assert (after.total, after.rejected) == (asked, asked - admitted)
        assert after.state is not HALF_OPEN or after.trials <= 3 - after.successes
        assert after.state is before.state or (before.state, move, after.state) in _CHANGES


_CHANGES = {
    (CLOSED, "fail", OPEN),
    (OPEN, "wait", HALF_OPEN),
    (HALF_OPEN, "fail", OPEN),
    (HALF_OPEN, "succeed", CLOSED),
}
