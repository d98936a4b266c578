"""http steps through a real worker: their answers, services that ask to wait, and services that are down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from agentflow import AgentFlow
from agentflow.broker.breakers import BreakerState
from agentflow.client.reports import FORMATS
from agentflow.domain.ids import RunId
from agentflow.domain.state import RunState
from agentflow.embedded import ServerUrls
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, shell_step, step_rows, submitted, wait_for, wait_for_end
from tests.http_service import OK, HttpService, answer
from tests.integration.engine.conftest import Station, _opened
from tests.workers import WorkerProcess

SENTINEL = "sesame-4711"


@pytest.fixture(scope="module")
def _service() -> Iterator[HttpService]:
    with HttpService() as service:
        yield service


@pytest.fixture(scope="module")
def _station(
    servers: ServerUrls, template: str, tmp_path_factory: pytest.TempPathFactory, _service: HttpService
) -> Iterator[Station]:
    """An installation of the module's own with a worker that may call the service."""
    known = {"AGENTFLOW_HTTP_PRIVATE_HOSTS": f"127.0.0.1:{_service.port}", "AGENTFLOW_SECRET_KEY": SENTINEL}
    with _opened(servers, template, tmp_path_factory.mktemp("callers"), "-c", "2", **known) as station:
        yield station


@pytest.fixture
def service(_service: HttpService) -> HttpService:
    """A service on this machine, as if nothing had been asked of it yet."""
    _service.answer = OK
    _service.requests.clear()
    return _service


@pytest.fixture
def house(_station: Station) -> Runtime:
    """The module's installation, with no breaker that an earlier test left open."""
    breakers = _station.house.context.breakers
    for breaker in breakers.read_all():
        breakers.reset(breaker.endpoint)
    return _station.house


@pytest.fixture
def caller(_station: Station) -> WorkerProcess:
    """A worker that may call the service."""
    return _station.worker


def _http(key: str, url: str, **fields: Any) -> dict[str, Any]:
    inner = {name: fields.pop(name) for name in ("method", "json", "headers", "ok_status") if name in fields}
    return {"id": key, "needs": fields.pop("needs", []), "http": {"url": url, **inner}, **fields}


def _states(house: Runtime, run_id: RunId) -> list[str]:
    return [row.state for row in attempt_rows(house.context, run_id)]


def _codes(house: Runtime, run_id: RunId) -> list[str | None]:
    return [row.reason and row.reason["code"] for row in attempt_rows(house.context, run_id)]


def _tables_with(house: Runtime, word: str) -> list[str]:
    """The tables in whose rows a text stands."""
    with house.context.database.transaction() as tx:
        tables = tx.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        rows = {table: tx.execute(text(f"SELECT t::text FROM {table} AS t")).scalars().all() for table in tables}
    return [table for table, found in rows.items() if any(word in row for row in found)]


def _keys_with(house: Runtime, word: str) -> list[str]:
    """The keys of Redis in which a text stands, or in whose name."""
    client = house.context.side_channel.client
    reads: dict[bytes, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    found = {key: reads[client.type(key)](key) for key in client.scan_iter(f"{house.settings.redis_prefix}*")}
    assert found
    return [key.decode() for key, value in found.items() if word in f"{key!r}{value!r}"]


def test_a_service_is_called_with_what_a_step_said_and_a_secret_and_another_step_reads_its_answer(
    house: Runtime, caller: WorkerProcess, service: HttpService
) -> None:
    service.answer = answer(200, b'{"id": 7}', Content_Type="application/json")
    steps = [
        shell_step("find", "echo forty-two"),
        _http(
            "file",
            f"{service.url}tickets",
            needs=["find"],
            method="POST",
            json={"title": "{{ steps.find.stdout }}"},
            headers={"Authorization": "Bearer {{ secrets.KEY }}"},
        ),
        shell_step("use", """test "$BODY" = '{"id": 7}'""", ["file"], env={"BODY": "{{ steps.file.text }}"}),
    ]

    run_id = submitted(house.context, steps, secrets=["KEY"])

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED, caller.output()
    [request] = service.requests
    assert request.body == b'{"title": "forty-two"}'
    assert request.headers["authorization"] == f"Bearer {SENTINEL}"
    assert SENTINEL not in caller.output()
    assert str(service.port) not in caller.output()


def test_what_a_service_answers_is_in_no_row_no_key_no_log_and_no_report(
    house: Runtime, caller: WorkerProcess, service: HttpService
) -> None:
    """However it is read, and however badly it fits there: only a declared result, which is not here, is in a row."""
    word = "answer-4711"
    service.answer = answer(200, f'["{word}", "{word}"]'.encode(), Content_Type="application/json")
    rest: dict[str, Any] = {"needs": ["get"], "on_failure": "continue"}
    reads = "{{ steps.get.text }}"
    steps = [
        _http("get", service.url),
        {"id": "chooses", "switch": {"on": "steps.get.text", "cases": {"a": []}}, **rest},
        {"id": "waits", "wait": {"until": reads}, **rest},
        shell_step("each", "cat >/dev/null", foreach="steps.get.text | fromjson", stdin="{{ item }}", **rest),
        {"id": "counts", "noop": {}, "foreach": "steps.get.text", **rest},
        {"id": "asks", "noop": {}, "when": "steps.get.text | fromjson | int > 1", **rest},
        _http(
            "sends",
            f"{service.url}{{{{ steps.get.text | length }}}}",
            method="POST",
            json=[reads],
            ok_status=[201],
            **rest,
        ),
        _http("parses", service.url, headers={"X-Word": reads}, outputs="none", **rest),
        shell_step("fails", "cat; exit 3", stdin=reads, **rest),
    ]

    run_id = submitted(house.context, steps)
    assert wait_for_end(house.context, run_id, 60) in (RunState.PARTIAL, RunState.FAILED), caller.output()

    states = {key: row.state for key, row in step_rows(house.context, run_id).items() if "[" not in key}
    assert states == {
        "get": "succeeded", "chooses": "failed", "waits": "failed", "each": "succeeded", "counts": "failed",
        "asks": states["asks"], "sends": "failed", "parses": "succeeded", "fails": "failed",
    }  # fmt: skip
    assert states["asks"] in ("failed", "skipped")
    assert any(word in request.body.decode() for request in service.requests)
    assert _tables_with(house, word) == []
    assert _keys_with(house, word) == []
    assert word not in caller.output()
    with AgentFlow(house.settings) as flow:
        assert [name for name in FORMATS if word in flow.report(run_id, name)] == []
        assert word not in json.dumps(flow.get(run_id).as_json())
        assert [event for event in flow.get(run_id).events() if word in repr(event)] == []


def test_a_service_that_asks_to_wait_is_called_again_then_and_no_attempt_is_spent(
    house: Runtime, caller: WorkerProcess, service: HttpService
) -> None:
    answers = iter([answer(429, Retry_After="1"), answer(503, Retry_After="0.2"), answer(200)])
    service.answer = lambda connection: connection.sendall(next(answers))

    run_id = submitted(house.context, [_http("call", service.url, retry=1)])

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED, caller.output()
    assert _states(house, run_id) == ["released", "released", "succeeded"]


def test_a_private_address_fails_its_step_at_once(house: Runtime, caller: WorkerProcess, service: HttpService) -> None:
    with HttpService() as private:
        run_id = submitted(house.context, [_http("call", private.url, retry=3)])

        assert wait_for_end(house.context, run_id) is RunState.FAILED
        assert private.requests == []
    assert _codes(house, run_id) == ["call_failed"]


def test_a_service_that_is_down_is_left_alone_until_its_breaker_lets_a_trial_through(
    house: Runtime, caller: WorkerProcess, service: HttpService
) -> None:
    service.answer = answer(500)
    retry = {"max_attempts": 5, "base": "1ms", "max_delay": "1ms", "jitter": 0}
    failing = submitted(house.context, [_http("call", service.url, retry=retry)])
    assert wait_for_end(house.context, failing) is RunState.FAILED
    assert len(service.requests) == 5

    held = submitted(house.context, [_http("call", service.url, retry=1)])

    wait_for(lambda: _codes(house, held) == ["breaker_open"])
    [breaker] = house.context.breakers.read_all()
    assert (breaker.state, len(service.requests)) == (BreakerState.OPEN, 5)
    assert _states(house, held) == ["released"]
