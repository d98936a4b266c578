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
from agentflow.runtime import Runtime


def _bell() -> Bell:
    run_id = RunId(uuid4())
    return Bell(run_id, step_id(run_id, StepKey("a")), StepKey("a"), "noop", "control", 0)


def test_a_channel_that_is_closed_while_sending_is_an_outage_and_no_error_of_ours(
    house: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = transport.Channel._put

    def closed_first(channel: Any, *arguments: Any, **options: Any) -> None:
        channel.close()
        put(channel, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(transport.Channel, "_put", closed_first)
        with pytest.raises(ServersUnreachable):
            dispatch.send(house.celery, [[_bell()]])

    dispatch.send(house.celery, [[_bell()], [_bell()]])

    assert dispatch.queue_depths(house.celery)["control"] == 2
