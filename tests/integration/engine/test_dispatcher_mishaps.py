"""What the dispatcher took on is not lost with an outage, and what it cannot do does not keep it from the rest."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from kombu.exceptions import LimitExceeded
from pydantic import SecretStr
from sqlalchemy import text

from agentflow.broker.dispatch import queue_depths
from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import StepKey, step_id
from agentflow.engine import dispatcher
from agentflow.engine.context import PlanView
from agentflow.engine.dispatch import send_steps
from agentflow.engine.dispatcher import Dispatcher
from agentflow.runtime import Runtime
from agentflow.storage.database import ConflictingWrite
from tests.factories import noop_step, planned, step_rows, submitted


def test_reports_outlive_an_outage_of_postgres_in_their_order(house: Runtime) -> None:
    run_ids = [submitted(house.context, [noop_step("one")]) for _ in range(3)]
    channel = house.context.side_channel
    for run_id in run_ids:
        step = str(step_id(run_id, StepKey("one")))
        channel.report({"kind": "revoked", "task_id": step, "actor": "celery-control"})
    away = Runtime(
        house.settings.model_copy(update={"database_url": SecretStr("postgresql://nobody@127.0.0.1:1/nothing")})
    )

    with pytest.raises(ServersUnreachable):
        Dispatcher(away.context, "away:1")._act_on_reports()
    away.close()

    left = [report.fields["task_id"] for report in channel.take_reports()]
    assert left == [str(step_id(run_id, StepKey("one"))) for run_id in run_ids]
    Dispatcher(house.context, "one:1").one_pass()
    assert [step_rows(house.context, run_id)["one"].state for run_id in run_ids] == ["cancelled"] * 3


def test_a_report_outlives_a_conflict(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    step = str(step_id(run_id, StepKey("one")))
    house.context.side_channel.report({"kind": "revoked", "task_id": step, "actor": "celery-control"})
    leading = Dispatcher(house.context, "one:1")
    with monkeypatch.context() as patch:
        patch.setattr(dispatcher, "cancel_step", _conflict)
        leading.one_pass()
    assert step_rows(house.context, run_id)["one"].state == "ready"

    leading.one_pass()

    assert step_rows(house.context, run_id)["one"].state == "cancelled"


def _conflict(*_: object) -> None:
    raise ConflictingWrite("deadlock detected")


def test_a_conflict_does_not_end_the_dispatcher(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    stopping, passes = threading.Event(), 0

    def conflict_once(_: object) -> float:
        nonlocal passes
        passes += 1
        if passes == 1:
            raise ConflictingWrite("deadlock detected")
        stopping.set()
        return 0.0

    monkeypatch.setattr(Dispatcher, "one_pass", conflict_once)
    Dispatcher(house.context, "one:1").run(stopping)

    assert passes == 2


UNPERFORMED = {"type": "dance"}


def _execute(house: Runtime, statement: str, **parameters: Any) -> None:
    with house.context.database.transaction() as tx:
        tx.execute(text(statement), parameters)


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE plan SET document = '{}' WHERE fingerprint = :fingerprint",
        """UPDATE plan SET document = jsonb_set(document, '{steps,0,action}', CAST(:action AS jsonb))
        WHERE fingerprint = :fingerprint""",
        "UPDATE step SET key = 'in no plan' WHERE run_id = :run_id",
    ],
    ids=["plan that cannot be read", "action that nobody performs", "step that is in no plan"],
)
def test_a_run_that_cannot_be_sent_does_not_keep_the_others_from_being_sent(house: Runtime, spoil: str) -> None:
    bad, good = (submitted(house.context, [noop_step("one")], name=name) for name in ("bad", "good"))
    plan, _ = planned([noop_step("one")], name="bad")
    values = {"fingerprint": plan.fingerprint, "run_id": bad, "action": json.dumps(UNPERFORMED)}
    _execute(house, spoil, **{name: value for name, value in values.items() if f":{name}" in spoil})
    _execute(house, "UPDATE step SET sent_at = NULL")
    fresh = Runtime(house.settings, celery=house.celery)
    depth = _waiting(house)
    leading = Dispatcher(fresh.context, "one:1")

    leading.one_pass()
    fresh.close()

    assert leading.is_leading
    assert step_rows(house.context, good)["one"].sent_at is not None
    assert _waiting(house) == depth + 1


def _waiting(house: Runtime) -> int:
    return sum(queue_depths(house.celery).values())


def test_a_run_is_safe_although_neither_redis_nor_postgres_can_be_reached_after_its_commit(house: Runtime) -> None:
    nowhere = {
        "database_url": SecretStr("postgresql://nobody@127.0.0.1:1/nothing"),
        "redis_url": SecretStr("redis://127.0.0.1:1/0"),
    }
    run_id = submitted(house.context, [noop_step("one")])
    plan, _ = planned([noop_step("one")])
    away = Runtime(house.settings.model_copy(update=nowhere))

    assert not send_steps(away.context, run_id, PlanView(plan), [StepKey("one")])
    away.close()


def test_no_free_connection_to_redis_is_an_outage(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(**_: object) -> None:
        raise LimitExceeded(10)

    run_id = submitted(house.context, [noop_step("one")])
    plan, _ = planned([noop_step("one")])
    monkeypatch.setattr(house.celery.producer_pool, "acquire", acquire)

    assert not send_steps(house.context, run_id, PlanView(plan), [StepKey("one")])
    assert step_rows(house.context, run_id)["one"].sent_at is None
