"""Streams over the end of the process that serves them: by its death, and by its leave."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from agentflow import AgentFlow
from agentflow.settings import Settings
from tests.factories import wait_for
from tests.integration.api.conftest import TLS, Api
from tests.integration.api.listening import Heard, listen
from tests.workers import WorkerProcess, environment_of

Start = Callable[[], "subprocess.Popen[bytes]"]
_WAIT = {"id": "first", "wait": {"event": "go"}}
_MANY = [{"id": f"s{number}", "needs": ["first"], "noop": {}} for number in range(25)]


@pytest.fixture
def port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def start(settings: Settings, port: int, tmp_path: Path) -> Iterator[Start]:
    """Starts ``agentflow api`` and waits until it answers; kills what is left at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start_api() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "agentflow", "api", "--port", str(port)]
        started.append(subprocess.Popen(command, env=environment_of(settings, tmp_path), cwd=tmp_path))

        def answers() -> bool:
            with suppress(httpx2.TransportError):
                return httpx2.get(f"http://127.0.0.1:{port}/livez", verify=TLS).status_code == 200
            return False

        assert wait_for(answers, 60)
        return started[-1]

    yield start_api
    for process in started:
        process.kill()
        process.wait()


def test_a_stream_goes_on_in_another_process_with_what_came_while_there_was_none(
    start: Start, port: int, settings: Settings, worker: WorkerProcess
) -> None:
    with AgentFlow(settings) as flow:
        key = flow.create_key("me", "operator").text
        api = Api(f"http://127.0.0.1:{port}", flow)
        client = api.client(key)
        before: list[Heard] = []
        first = start()
        run = client.post("/runs", json={"plan": {"agentflow": 1, "name": "p", "steps": [_WAIT, *_MANY]}}).json()["id"]

        with suppress(httpx2.TransportError), listen(client, f"/runs/{run}/events") as heard:
            for each in heard:
                before.append(each)
                if len(before) == 1:
                    flow.get(run).signal("go")
                if len(before) == 3:
                    first.kill()
        wait_for(lambda: flow.get(run).state == "completed", 60)
        second = start()
        with listen(client, f"/runs/{run}/events", before[-1].id) as heard:
            after = list(heard)

        events = [each.as_json() for each in flow.get(run).events()]
        assert len(before) < len(events)
        assert [each.data for each in before + after[:-1]] == events
        with listen(client, "/events") as heard:
            assert next(heard).event == "kpi"
            second.send_signal(signal.SIGTERM)
            assert list(heard)[-1].data == {"why": "server_ends"}
        assert second.wait(30) in (0, -signal.SIGTERM)  # uvicorn ends by the signal, once all is done
