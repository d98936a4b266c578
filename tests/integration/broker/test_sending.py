"""Sending, when a channel is closed under the producer that is about to use it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from kombu.transport import redis as transport

from agentflow.broker import dispatch
from agentflow.broker.canvas import Bell
from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.state import RunState
from agentflow.engine.cancel import cancel
from agentflow.engine.execute import Doorbell, execute
from agentflow.runtime import Runtime
from tests.factories import run_state, shell_step, submitted


def _bell() -> Bell:
    run_id = RunId(uuid4())
    return Bell(run_id, step_id(run_id, StepKey("a")), StepKey("a"), "noop", "control", 0)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_channel_that_is_closed_while_sending_is_an_outage_and_no_error_of_ours(
    house: Runtime, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    put = transport.Channel._put

    def closed_first(channel: Any, *arguments: Any, **options: Any) -> None:
        channel.close()
        put(channel, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(transport.Channel, "_put", closed_first)
        with pytest.raises(ServersUnreachable):
            dispatch.send(house.celery, [[_bell()] * steps])

    dispatch.send(house.celery, [[_bell()] * steps, [_bell()]])

    assert dispatch.queue_depths(house.celery)["control"] == 2


def test_a_chain_goes_out_by_the_producer_that_was_lent_for_it(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's chain drops the ``producer`` it is given and takes a second one from the pool."""
    lent: list[dict[str, Any]] = []
    acquire = house.celery.producer_pool.acquire

    def counted(**asked: Any) -> Any:
        lent.append(asked)
        return acquire(**asked)

    monkeypatch.setattr(house.celery.producer_pool, "acquire", counted)

    dispatch.send(house.celery, [[_bell(), _bell()]])

    assert len(lent) == 1


def test_a_verb_is_done_whole_although_the_channel_to_monitors_was_closed(house: Runtime) -> None:
    """The step was attempted, so that monitors know it."""
    context = house.context
    retries = {"max_attempts": 2, "on_exit_codes": [75], "base": "1h"}
    run_id = submitted(context, [shell_step("a", "exit 75", retry=retries)])
    execute(context, house.lease_keeper, Doorbell(run_id, StepKey("a")), "worker@here:1")
    with house.celery.producer_pool.acquire(block=True) as producer:
        producer.channel.close()

    cancel(context, run_id, "ana")

    assert run_state(context, run_id) is RunState.CANCELLED
