"""Health: each part is told of by itself, and a part that is not there makes the whole unready."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import psycopg
import pytest
from sqlalchemy import text

from agentflow.api import caller
from agentflow.runtime import Runtime
from tests.integration.api.conftest import Api
from tests.workers import WorkerProcess

Opened = Callable[..., httpx2.Client]


@contextmanager
def _hanging(house: Runtime, table: str) -> Iterator[None]:
    """Let Postgres answer nothing about a table."""
    with psycopg.connect(house.servers.database_url) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield


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
        "content": "ok",
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


def test_a_content_store_that_is_not_there_is_told(house: Runtime, opened: Opened) -> None:
    client = opened("viewer")
    root = house.settings.content_root()
    root.rename(root.with_name("moved"))

    answer = client.get("/health/ready")

    assert (answer.status_code, _parts(answer)["content"], _parts(answer)["database"]) == (503, "unready", "ok")
    assert "AGENTFLOW_CONTENT_DIR" in answer.json()["components"]["content"]["detail"]


def test_a_database_that_hangs_is_told_in_time_beside_the_other_parts(house: Runtime, opened: Opened) -> None:
    client = opened("viewer")
    with _hanging(house, "alembic_version"):
        answer = client.get("/health/ready")

    assert (answer.status_code, answer.json()["status"]) == (503, "unready")
    assert {name for name, status in _parts(answer).items() if status == "ok"} == {"redis"}
    assert "Postgres does not answer" in answer.json()["components"]["database"]["detail"]


def test_no_address_waits_for_ever_for_a_database_that_hangs(
    house: Runtime, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "KEY_SECONDS", 0.5)
    client = opened("operator")
    with _hanging(house, "api_key"):
        answers = [client.get("/runs"), client.post("/runs", json={"plan": "p"}), client.get("/runs/@last/events")]

    assert [(each.status_code, each.json()["code"]) for each in answers] == [(503, "servers_unreachable")] * 3
    assert all("Retry-After" in each.headers for each in answers)
    assert client.get("/runs").status_code == 200, "it answers again"


def test_a_database_that_cannot_be_asked_for_the_key_is_named_in_time(house: Runtime, opened: Opened) -> None:
    client = opened("viewer")
    with _hanging(house, "api_key"):
        answer = client.get("/health/ready")

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["details"]) == (
        503,
        "servers_unreachable",
        {"component": "database"},
    )
    assert client.get("/health/ready").json()["components"]["database"]["status"] == "ok", "it answers again"
