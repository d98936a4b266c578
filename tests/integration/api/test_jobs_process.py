"""A job over the death of the process that works at it."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
from sqlalchemy import text

from agentflow.runtime import Runtime
from tests.integration.api.conftest import BASE, Api
from tests.integration.api.test_jobs import followed, grow_old
from tests.integration.api.test_live_process import Start, port, start

__all__ = ["port", "start"]  # fixtures


def test_a_job_of_a_killed_process_is_told_as_lost_and_may_be_begun_again(
    start: Start, port: int, house: Runtime, api: Api, opened: Callable[..., httpx2.Client]
) -> None:
    client, process = opened("admin"), start()
    with house.context.database.transaction() as tx:
        tx.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        tx.execute(text("LOCK TABLE audit_event IN ACCESS EXCLUSIVE MODE"))  # the check waits for it
        begun = httpx2.post(f"http://127.0.0.1:{port}{BASE}/audit/verify", headers=client.headers, timeout=30)
        process.kill()
        process.wait()
    where = begun.headers["Location"].removeprefix(BASE)

    assert client.get(where).json()["state"] == "running"
    assert client.post("/audit/verify").status_code == 409
    grow_old(house.context)
    assert client.get(where).json()["state"] == "lost"
    assert followed(client, client.post("/audit/verify"))["result"]["is_intact"] is True
