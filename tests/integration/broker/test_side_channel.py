"""The side channel over Redis, on a fake Redis and on the real Valkey: the same promises on both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import uuid4

import fakeredis
import pytest
import redis
from redis.exceptions import RedisError

from agentflow.broker.bells import MAX_REPORTS, Report, SideChannel, StopKind, StopListener, Stops
from agentflow.embedded import ServerUrls


@pytest.fixture(params=["fakeredis", "valkey"])
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Redis to speak to, over TCP either way."""
    if request.param == "valkey":
        urls: ServerUrls = request.getfixturevalue("servers")
        yield urls.redis_url
        return
    server = fakeredis.TcpFakeServer(("127.0.0.1", 0), server_type="valkey")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def channel(redis_url: str) -> Iterator[SideChannel]:
    """A side channel with keys of the test's own."""
    channel = SideChannel(redis_url, prefix=f"{uuid4()}:")
    yield channel
    channel.close()


def test_a_wakeup_is_heard_once_however_often_it_was_sent(channel: SideChannel) -> None:
    for _ in range(3):
        channel.wake()

    assert channel.wait_for_wakeup(1)
    assert not channel.wait_for_wakeup(0.05)


def test_a_wakeup_wakes_who_is_waiting(channel: SideChannel, redis_url: str) -> None:
    heard: list[bool] = []
    waiting = threading.Thread(target=lambda: heard.append(channel.wait_for_wakeup(4)))
    waiting.start()
    other = SideChannel(redis_url, channel.keys.prefix)
    other.wake()
    waiting.join()
    other.close()

    assert heard == [True]


def test_stops_reach_every_listener(channel: SideChannel) -> None:
    listeners = [channel.listen_for_stops() for _ in range(2)]
    for listener in listeners:
        listener.next_stops(0.2)  # takes the subscription's own answer
    attempts = (str(uuid4()), str(uuid4()))
    for kind in StopKind:
        channel.stop_attempts(attempts, kind)
        assert [_stops(listener) for listener in listeners] == [Stops(kind, attempts)] * 2
    for listener in listeners:
        listener.close()


def test_what_is_no_stop_is_passed_over_and_a_plain_list_of_attempts_is_a_cancel(
    channel: SideChannel, redis_url: str
) -> None:
    listener = channel.listen_for_stops()
    listener.next_stops(0.2)
    client = redis.Redis.from_url(redis_url)
    for message in (b"no json", b"\xff", b"7", b"{}", b'{"kind": "later", "attempts": []}', b"[" * 100_000, b'["a"]'):
        client.publish(channel.keys.stops, message)
    client.close()

    assert _stops(listener) == Stops(StopKind.CANCEL, ("a",))
    listener.close()


def _stops(listener: StopListener) -> Stops | None:
    for _ in range(20):
        stops = listener.next_stops(0.2)
        if stops:
            return stops
    return None


def test_reports_are_taken_in_order_and_wake_the_dispatcher(channel: SideChannel) -> None:
    for number in range(3):
        channel.report({"kind": "revoked", "number": number})

    assert channel.wait_for_wakeup(1)
    assert _finished(channel, 2) == [0, 1]
    assert _finished(channel, 2) == [2]
    assert channel.take_reports() == []


def _finished(channel: SideChannel, limit: int) -> list[int]:
    taken = channel.take_reports(limit)
    for report in taken:
        channel.finish_report(report)
    return [report.fields["number"] for report in taken]


def test_reports_come_again_until_they_were_acted_on_also_to_the_next_leader(
    channel: SideChannel, redis_url: str
) -> None:
    for number in (0, 1, 2, 1):
        channel.report({"number": number})
    first, second, third = channel.take_reports(3)
    channel.finish_report(first)
    channel.postpone_report(second)
    next_leader = SideChannel(redis_url, channel.keys.prefix)

    assert next_leader.take_reports() == [third]
    assert _finished(next_leader, 10) == [2]
    assert _finished(next_leader, 10) == [1, 1]  # two that are alike are two
    assert next_leader.take_reports() == []
    next_leader.close()


def test_what_is_no_report_is_dropped_and_the_others_are_taken(channel: SideChannel, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.lpush(channel.keys.reports, b"no json", b"\xff", b"[]", b"7", b"[" * 100_000)
    client.close()
    channel.report({"kind": "revoked"})

    (report,) = channel.take_reports()
    assert report.fields == {"kind": "revoked"}
    channel.finish_report(report)
    assert channel.take_reports() == []


def test_reports_are_bounded(channel: SideChannel, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.lpush(channel.keys.reports, *["{}"] * (MAX_REPORTS + 5))
    channel.report({"kind": "revoked"})

    assert client.llen(channel.keys.reports) == MAX_REPORTS
    client.delete(channel.keys.reports)
    client.close()


def test_a_redis_that_is_away_breaks_no_sender() -> None:
    channel = SideChannel("redis://127.0.0.1:1/0")

    channel.wake()
    channel.stop_attempts([uuid4()])
    channel.report({"kind": "revoked"})
    channel.finish_report(Report({}, b"{}"))
    channel.postpone_report(Report({}, b"{}"))
    with pytest.raises(RedisError):
        channel.wait_for_wakeup(0.1)
    with pytest.raises(RedisError):
        channel.listen_for_stops()
