"""Health: each part is told of by itself, and a part that is not there makes the whole unready."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
from sqlalchemy import text

from agentflow.runtime import Runtime
from tests.integration.api.conftest import Api
from tests.workers import WorkerProcess

Opened = Callable[..., httpx2.Client]


def _parts(answer: httpx2.Response) -> dict[str, str]:
    return {name: each["status"] for name, each in answer.json()["components"].items()}


def test_an_installation_with_a_worker_is_ready(worker: WorkerProcess, opened: Opened) -> None:
    answer = opened("viewer").get("/health/ready")

    assert (answer.status_code, answer.json()["status"]) == (200, "ok"), answer.text
    assert set(_parts(answer).values()) == {"ok"}


def test_without_a_worker_it_says_what_to_start(opened: Opened) -> None:
    answer = opened("viewer").get("/health/ready")

    assert (answer.status_code, answer.headers["Retry-After"], answer.json()["status"]) == (503, "5", "unready")
    assert _parts(answer) == {
        "database": "ok",
        "redis": "ok",
        "migrations": "ok",
        "dispatcher": "unready",
        "workers": "unready",
    }
    assert "agentflow worker" in answer.json()["components"]["workers"]["detail"]


def test_tables_of_another_version_are_told_and_not_asked(house: Runtime, api: Api, opened: Opened) -> None:
    client = opened("viewer")
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '0001'"))

    answer = client.get("/health/ready")

    assert answer.status_code == 503
    assert {name for name, status in _parts(answer).items() if status == "ok"} == {"database", "redis"}
    assert "agentflow migrate" in answer.json()["components"]["migrations"]["detail"]
