"""When a worker is taken for deaf, and what explains that it takes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

import pytest

from agentflow.domain.starvation import Look, StarvationClock, Verdict

HUNGRY = Look(at=0, lengths={"commands": 3, "models": 0}, consumed=7, has_free_slot=True, connected_at=-60)


def _judged(looks: Iterable[Look]) -> list[str]:
    clock = StarvationClock(patience_seconds=10, look_seconds=2)
    return [clock.judge(look).value for look in looks]


def _every_two_seconds(*looks: Look) -> list[Look]:
    return [replace(look, at=at) for at, look in zip(count(0, 2), looks, strict=False)]


def test_a_worker_that_takes_nothing_for_the_whole_time_connects_anew_and_then_ends() -> None:
    verdicts = _judged(_every_two_seconds(*[HUNGRY] * 11))

    assert verdicts == [*["leave"] * 5, "reconnect", *["leave"] * 4, "exit"]


@pytest.mark.parametrize(
    "explained",
    [
        replace(HUNGRY, lengths={"commands": 0, "models": 0}),
        replace(HUNGRY, lengths=None),
        replace(HUNGRY, has_free_slot=False),
        replace(HUNGRY, is_draining=True),
        replace(HUNGRY, lengths={"commands": 0, "models": 4}),
    ],
    ids=["empty", "redis away", "busy", "draining", "another queue"],
)
@pytest.mark.parametrize("at", [0, 3, 5])
def test_the_time_begins_anew_when_something_else_explains_it(explained: Look, at: int) -> None:
    looks = [HUNGRY] * 5
    looks.insert(at, explained)

    assert set(_judged(_every_two_seconds(*looks))) == {"leave"}


def test_the_time_begins_anew_when_a_message_is_taken() -> None:
    taken = replace(HUNGRY, consumed=8)

    assert set(_judged(_every_two_seconds(*[HUNGRY] * 4, *[taken] * 5))) == {"leave"}


def test_a_worker_that_recovered_is_asked_to_connect_before_it_ends_another_time() -> None:
    taken = replace(HUNGRY, consumed=8)

    verdicts = _judged(_every_two_seconds(*[HUNGRY] * 6, *[taken] * 6))

    assert [verdict for verdict in verdicts if verdict != "leave"] == ["reconnect", "reconnect"]


def test_a_worker_that_has_no_connection_is_not_deaf_however_long_it_tries() -> None:
    cannot_connect = replace(HUNGRY, connected_at=None)

    assert set(_judged(_every_two_seconds(*[cannot_connect] * 40))) == {"leave"}


def test_a_worker_that_is_connected_for_less_than_the_patience_is_not_deaf() -> None:
    cannot_connect = replace(HUNGRY, connected_at=None)
    looks = [*[cannot_connect] * 15, *[replace(HUNGRY, connected_at=30)] * 11]

    verdicts = _judged(_every_two_seconds(*looks))

    assert set(verdicts[:20]) == {"leave"}
    assert verdicts[20:] == ["reconnect", *["leave"] * 4, "exit"]


def test_a_worker_whose_every_connection_breaks_again_is_not_deaf() -> None:
    looks = [replace(look, connected_at=look.at - look.at % 8) for look in _every_two_seconds(*[HUNGRY] * 40)]

    assert set(_judged(looks)) == {"leave"}


def test_a_worker_that_takes_nothing_from_its_new_connection_either_ends() -> None:
    before = [HUNGRY] * 6
    after = [replace(HUNGRY, connected_at=None), *[replace(HUNGRY, connected_at=14)] * 6]

    verdicts = _judged(_every_two_seconds(*before, *after))

    assert [(at * 2, verdict) for at, verdict in enumerate(verdicts) if verdict != "leave"] == [
        (10, "reconnect"),
        (24, "exit"),
    ]


def test_a_process_that_was_frozen_is_not_deaf() -> None:
    looks = [replace(HUNGRY, at=at) for at in (0, 2, 4, 60, 62, 64)]

    assert set(_judged(looks)) == {"leave"}


def test_which_queues_waited_the_whole_time_is_told() -> None:
    clock = StarvationClock(patience_seconds=10, look_seconds=2)
    both = replace(HUNGRY, lengths={"commands": 3, "models": 2})

    verdicts = [clock.judge(look) for look in _every_two_seconds(both, *[HUNGRY] * 5)]

    assert verdicts[-1] is Verdict.RECONNECT
    assert clock.waiting == {"commands"}
