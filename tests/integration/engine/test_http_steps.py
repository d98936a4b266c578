"""http steps through a real worker: their answers, services that ask to wait, and services that are down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentflow.broker.breakers import BreakerState
from agentflow.domain.ids import RunId
from agentflow.domain.state import RunState
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, shell_step, submitted, wait_for, wait_for_end
from tests.http_service import HttpService, answer
from tests.workers import WorkerProcess

SENTINEL = "sesame-4711"
StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def service() -> Iterator[HttpService]:
    """A service on this machine."""
    with HttpService() as service:
        yield service


@pytest.fixture
def caller(start_worker: StartWorker, service: HttpService) -> WorkerProcess:
    """A worker that may call the service."""
    return start_worker(AGENTFLOW_HTTP_PRIVATE_HOSTS=f"127.0.0.1:{service.port}", AGENTFLOW_SECRET_KEY=SENTINEL)


def _http(key: str, url: str, **fields: Any) -> dict[str, Any]:
    inner = {name: fields.pop(name) for name in ("method", "json", "headers", "ok_status") if name in fields}
    return {"id": key, "needs": fields.pop("needs", []), "http": {"url": url, **inner}, **fields}


def _states(house: Runtime, run_id: RunId) -> list[str]:
    return [row.state for row in attempt_rows(house.context, run_id)]


def _codes(house: Runtime, run_id: RunId) -> list[str | None]:
    return [row.reason and row.reason["code"] for row in attempt_rows(house.context, run_id)]


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
