"""What `doctor` tells of although each part works: schedules that a run holds up, webhooks that nobody answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text

from agentflow import AgentFlow
from agentflow.domain.webhook import Disabled
from agentflow.engine.scheduler import Scheduler
from agentflow.runtime import Runtime
from agentflow.stack.attention import examine_schedules, examine_webhooks
from agentflow.stack.findings import Concern
from agentflow.storage import webhooks
from tests.schedules import firing_rows, pushed, scheduled, set_due

URL = "https://example.org/hooks/s3cret"


def _ask(house: Runtime, question: Callable[[Connection], str]) -> str:
    with house.context.database.transaction() as tx:
        return question(tx)


def test_a_schedule_that_a_resting_run_holds_up_is_told_with_that_run(house: Runtime, flow: AgentFlow) -> None:
    pushed(house.context)
    schedule, beat = scheduled(house.context, name="nightly"), Scheduler(house.context, "beat@here:1")
    set_due(house.context, schedule)
    beat.one_pass()
    assert _ask(house, examine_schedules) == "1 in force, kept by beat@here:1"
    run = flow.get(str(firing_rows(house.context, schedule)[0].run_id))
    run.pause()
    set_due(house.context, schedule)
    beat.one_pass()

    with pytest.raises(Concern) as concern:
        _ask(house, examine_schedules)

    assert "held up by runs that rest: nightly since " in str(concern.value)
    assert f"(run {run.id[:8]} is paused)" in str(concern.value)
    assert f"`agentflow why {run.id[:8]}`" in concern.value.advice


def test_webhooks_that_nobody_answers_are_told_and_those_that_somebody_stopped_are_not(
    house: Runtime, flow: AgentFlow
) -> None:
    assert _ask(house, examine_webhooks) == "none"
    made = {name: flow.create_webhook(name, URL).webhook for name in ("gone", "late", "fine")}
    flow.create_webhook("stopped", URL)
    flow.disable_webhook("stopped")
    assert _ask(house, examine_webhooks) == "3 enabled"
    with house.context.database.transaction() as tx:
        webhooks.disable(tx, made["gone"].id, "webhooks", Disabled.GONE)
        tx.execute(text("UPDATE webhook SET failing_since = now() WHERE id = :id"), {"id": made["late"].id})

    with pytest.raises(Concern) as concern:
        _ask(house, examine_webhooks)

    assert str(concern.value).startswith("gone is disabled: its address answered 410, late fails since ")
    assert "fine" not in str(concern.value)
    assert "s3cret" not in str(concern.value)
    assert "webhook enable" in concern.value.advice
