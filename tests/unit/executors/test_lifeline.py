"""A lifeline carries stops and renewals from the heartbeat to the work."""

from __future__ import annotations

from agentflow.executors.base import Lifeline, StopReason


def test_the_first_reason_to_stop_stands_and_is_told_once() -> None:
    lifeline, heard = Lifeline(20), list[StopReason]()
    lifeline.on_stop(heard.append)

    lifeline.stop(StopReason.CANCELLED)
    lifeline.stop(StopReason.DRAINED)

    assert heard == [StopReason.CANCELLED]
    assert lifeline.stop_reason is StopReason.CANCELLED


def test_a_stop_before_anyone_listens_is_told_at_once() -> None:
    lifeline, heard = Lifeline(20), list[StopReason]()
    lifeline.stop(StopReason.DRAINED)

    lifeline.on_stop(heard.append)

    assert heard == [StopReason.DRAINED]


def test_renewals_are_told_to_everyone() -> None:
    lifeline, heard = Lifeline(20), list[float]()
    lifeline.on_renew(heard.append)
    lifeline.on_renew(heard.append)

    lifeline.renew(12.5)

    assert heard == [12.5, 12.5]


def test_what_came_after_the_first_reason_is_known_too() -> None:
    lifeline = Lifeline(20)
    assert (lifeline.is_lease_lost, lifeline.is_drained) == (False, False)

    for reason in (StopReason.LEASE_LOST, StopReason.DRAINED):
        lifeline.stop(reason)

    assert (lifeline.is_lease_lost, lifeline.is_drained) == (True, True)
