"""What a breaker is told of a call: outages, never what says more of the plan or the run than of the endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentflow.broker.breakers import Admitted, BreakerState, BreakerView
from agentflow.domain.call import CallProblem
from agentflow.domain.ids import StepKey
from agentflow.engine.admit import Admission, Trial, admit, reporting
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.prepare import prepare
from agentflow.executors.base import CallRecord, Performance
from agentflow.executors.command import Ended
from agentflow.executors.http import HttpExecutor
from agentflow.runtime import Runtime
from tests.factories import submitted

ENDPOINT = "http:0123456789abcdef"


def _performance(
    ended: Ended, seconds: float, problem: CallProblem | None = None, *, was_sent: bool = True
) -> Performance:
    call = CallRecord("http", "", was_sent=was_sent, problem=problem, duration_seconds=seconds)
    return Performance(ended, duration_seconds=seconds, call=call)


def _told(house: Runtime, performance: Performance, trial: Trial | None = None) -> BreakerView:
    """Report a trial of a half-open breaker; returns the breaker."""
    breakers, side_channel = house.context.breakers, house.context.side_channel
    endpoint = ENDPOINT if trial is None else trial.endpoint
    for _ in range(5):
        breakers.record(endpoint, False)
    side_channel.client.hset(side_channel.keys.breaker(endpoint), "opened_at", "1")
    admitted = breakers.admit(endpoint, 60)
    assert isinstance(admitted, Admitted)
    with reporting(house.context, Trial(endpoint, admitted, is_cut=trial is not None and trial.is_cut)) as report:
        report(performance)
    return breakers.read(endpoint)


@pytest.mark.parametrize("was_sent", [True, False])
def test_a_timeout_after_ten_seconds_is_an_outage(house: Runtime, was_sent: bool) -> None:
    assert _told(house, _performance(Ended.TIMED_OUT, 9.95, was_sent=was_sent)).state is BreakerState.OPEN


@pytest.mark.parametrize(
    "performance",
    [
        pytest.param(_performance(Ended.TIMED_OUT, 9.0), id="a short timeout"),
        pytest.param(_performance(Ended.TIMED_OUT, 0.0, was_sent=False), id="no time was left"),
        pytest.param(_performance(Ended.STOPPED, 60.0), id="stopped"),
        pytest.param(_performance(Ended.EXITED, 0.1, CallProblem.REJECTED, was_sent=False), id="not sent"),
    ],
)
def test_what_tells_nothing_of_the_endpoint_gives_its_trial_back(house: Runtime, performance: Performance) -> None:
    view = _told(house, performance)

    assert (view.state, view.trials, view.successes, view.failed, view.successful) == (
        BreakerState.HALF_OPEN,
        *(0, 0, 5, 0),
    )


def _admission(house: Runtime, **budget: str) -> Admission:
    call = {"id": "call", "http": {"url": "http://slow.example/"}, "timeout": "10m"}
    run_id = submitted(house.context, [call], budget=budget)
    claimed = claim(house.context, run_id, StepKey("call"), "test:0")
    assert isinstance(claimed, Claimed)
    admission = admit(house.context, claimed, prepare(house.context, claimed, Path()), HttpExecutor())
    assert isinstance(admission, Admission)
    return admission


def test_a_timeout_that_the_runs_active_time_made_is_no_outage(house: Runtime) -> None:
    admission = _admission(house, active_time="1m")
    assert 59 < admission.assignment.timeout_seconds < 60

    view = _told(house, _performance(Ended.TIMED_OUT, 59.9), admission.trial)

    assert (view.state, view.failed) == (BreakerState.HALF_OPEN, 5)


def test_a_timeout_of_the_steps_own_is_an_outage_where_active_time_is_left(house: Runtime) -> None:
    admission = _admission(house, active_time="1h")
    assert admission.assignment.timeout_seconds == 600

    assert _told(house, _performance(Ended.TIMED_OUT, 600), admission.trial).state is BreakerState.OPEN
