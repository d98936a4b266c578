"""A feed gives every event once, also one that is committed after a later one was read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from agentflow.client.feed import LOOK_BACK, EventFeed
from agentflow.domain.ids import RunId
from agentflow.storage.view_shapes import EventView

START = datetime(2026, 11, 21, tzinfo=UTC)
RUN = RunId(uuid4())


def event(number: int, seconds: float = 0) -> EventView:
    at = START + timedelta(seconds=seconds)
    return EventView(number, RUN, None, number, at, "me", "claim", "run", {}, None, None, {})


def reader(committed: list[EventView]) -> Callable[[int], list[EventView]]:
    return lambda after: sorted((one for one in committed if one.id > after), key=lambda one: one.id)


def taken(feed: EventFeed, *, is_last: bool = False) -> list[int]:
    return [one.id for one in feed.take(is_last=is_last)]


def test_an_event_with_a_lower_id_that_appears_later_is_not_missed() -> None:
    committed = [event(1), event(3)]
    feed = EventFeed(reader(committed))

    assert taken(feed) == [1, 3]
    committed.append(event(2))
    assert taken(feed) == [2]
    assert taken(feed) == []


def test_the_last_look_finds_even_what_is_older_than_the_look_back() -> None:
    committed = [event(1), event(3, LOOK_BACK.total_seconds() + 1), event(9, 3 * LOOK_BACK.total_seconds())]
    feed = EventFeed(reader(committed))

    assert taken(feed) == [1, 3, 9]
    committed.append(event(2))
    assert taken(feed) == []
    assert taken(feed, is_last=True) == [2]


def test_what_is_old_is_not_read_again() -> None:
    asked: list[int] = []
    committed = [event(1), event(2, LOOK_BACK.total_seconds() + 1)]

    def read(after: int) -> list[EventView]:
        asked.append(after)
        return reader(committed)(after)

    feed = EventFeed(read)
    feed.take()
    feed.take()

    assert asked == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=40), st.randoms(use_true_random=False))
def test_in_whatever_order_events_are_committed_each_comes_once(script: list[tuple[int, bool]], random: object) -> None:
    order = list(range(1, len(script) + 1))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis hands in a Random
    committed: list[EventView] = []
    feed = EventFeed(reader(committed))
    seen: list[int] = []
    for number, (seconds, is_looking) in zip(order, script, strict=True):
        committed.append(event(number, seconds))
        if is_looking:
            seen += taken(feed)
    seen += taken(feed, is_last=True)

    assert sorted(seen) == sorted(order)
