"""What the dispatcher took on is not lost with an outage, and what it cannot do does not keep it from the rest."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import StepKey, step_id
from agentflow.engine.dispatcher import Dispatcher
from agentflow.runtime import Runtime
from tests.factories import noop_step, step_rows, submitted


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

    left = channel.take_reports()
    assert [report["task_id"] for report in left] == [str(step_id(run_id, StepKey("one"))) for run_id in run_ids]
    channel.put_back(left)
    Dispatcher(house.context, "one:1").one_pass()
    assert [step_rows(house.context, run_id)["one"].state for run_id in run_ids] == ["cancelled"] * 3
