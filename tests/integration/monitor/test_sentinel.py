"""What models read and write is nowhere but in files: looked for in every table, key, message, log line and page.

Each place that content passes has a sentinel of its own, so that one that leaks also says from where.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from agentflow.domain.ids import RunId
from agentflow.domain.state import RunState
from agentflow.engine.cancel import cancel
from agentflow.runtime import Runtime
from tests.factories import command_step, step_rows, submitted, wait_for, wait_for_end
from tests.integration.monitor.flower import FlowerProcess
from tests.model_stub import ModelStub, Reply, failing
from tests.workers import WorkerProcess

PROMPT, SYSTEM, STDIN, ANSWER, KEPT, ERROR, BODY = (
    f"SENTINEL-{place}-4711" for place in ("prompt", "system", "stdin", "answer", "kept", "error", "body")
)
ALL = (PROMPT, SYSTEM, STDIN, ANSWER, KEPT, ERROR, BODY)


@pytest.fixture
def stub() -> Iterator[ModelStub]:
    with ModelStub() as server:
        server.replies |= {
            "answers": Reply(text=ANSWER),
            "kept": Reply(text=KEPT),
            "errs": failing(500, f"no: {ERROR}", type="server_error"),
            "refuses": failing(400, f"no: {ERROR}"),
        }
        yield server


@pytest.fixture
def messages(house: Runtime) -> Iterator[list[str]]:
    """Every command that Redis is sent while the test runs, as MONITOR tells it."""
    # Nothing may be said for as long as a worker and Flower take to start.
    client = redis.Redis.from_url(house.servers.redis_url, socket_timeout=None)
    heard: list[str] = []
    with client.monitor() as monitor:
        listener = threading.Thread(target=_listen, args=(monitor, heard), daemon=True)
        listener.start()
        yield heard
        monitor.connection.disconnect()
        listener.join(5)
    client.close()


def _listen(monitor: Any, heard: list[str]) -> None:
    with contextlib.suppress(redis.ConnectionError, OSError, ValueError, AttributeError):  # the fixture hangs up
        for command in monitor.listen():
            heard.append(repr(command))


def _plan(stub: ModelStub) -> list[dict[str, Any]]:
    ask = {"system": f"be {SYSTEM}", "prompt": f"say {PROMPT}", "max_tokens": 40}
    once = {"max_attempts": 2, "base": "10ms"}
    after = {"on_failure": "continue", "retry": once}
    return [
        {"id": "answers", "needs": [], "llm": {"model": "stub:answers", **ask}},
        {"id": "kept", "needs": ["answers"], "llm": {"model": "stub:kept", **ask, "keep_content": True}},
        command_step("cat", "cat", needs=["answers"], stdin=f"{STDIN} {{{{ steps.answers.text }}}}"),
        {"id": "errs", "needs": ["answers"], "llm": {"model": "stub:errs", **ask}, **after},
        {"id": "refuses", "needs": ["answers"], "llm": {"model": "stub:refuses", **ask}, **after},
        {
            "id": "posts",
            "needs": ["answers"],
            "http": {"method": "POST", "url": f"http://{stub.host}/nowhere", "json": {"text": BODY}},
            **after,
        },
        {"id": "hangs", "needs": ["kept", "cat", "errs", "refuses", "posts"], "when": "always",
         "llm": {"model": "stub:hanging", **ask}},
    ]  # fmt: skip


def _rows(house: Runtime) -> str:
    """Every row of every table as text."""
    with psycopg.connect(house.servers.database_url) as connection:
        tables = connection.execute(
            "SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
        texts = [connection.execute(f"SELECT t::text FROM {name} AS t".encode()).fetchall() for (name,) in tables]
    return repr(texts)


def _keys(house: Runtime) -> str:
    """Every key of Redis with its value, whatever its type."""
    client = redis.Redis.from_url(house.servers.redis_url)
    readers: dict[bytes, Callable[[Any], Any]] = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    found = [(key, readers[client.type(key)](key)) for key in client.scan_iter(count=1000) if client.exists(key)]
    client.close()
    return repr(found)


def _problems(house: Runtime, run_id: RunId) -> dict[str, str]:
    """What went wrong with which step: every place was really passed."""
    failed = {key: row.reason for key, row in step_rows(house.context, run_id).items() if row.state == "failed"}
    return {key: reason["detail"].get("problem", reason["code"]) for key, reason in failed.items()}


def _pages(flower: FlowerProcess) -> str:
    return repr([flower.ask(path) for path in ("/api/tasks", "/tasks", "/api/workers", "/metrics")])


def _leaks(place: str, text: str) -> list[str]:
    return [f"{sentinel} in {place}" for sentinel in ALL if sentinel in text]


def _files_with(sentinel: str, root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file() and sentinel.encode() in path.read_bytes())


def test_content_is_in_no_table_key_message_log_or_page(
    house: Runtime,
    stub: ModelStub,
    messages: list[str],
    flower: FlowerProcess,
    start_worker: Callable[..., WorkerProcess],
    tmp_path: Path,
) -> None:
    environment = stub.environment(tmp_path) | {
        "AGENTFLOW_WORKER_EVENTS": "true",
        "AGENTFLOW_LOG_LEVEL": "debug",
        "AGENTFLOW_HTTP_PRIVATE_HOSTS": stub.host,
    }
    worker = start_worker(**environment)
    flower.wait_until_it_hears(worker)
    run_id = submitted(house.context, _plan(stub), budget={"tokens": 50_000})
    wait_for(lambda: any(arrival.model == "hanging" for arrival in stub.arrivals) or None, 60)

    def look(when: str) -> list[str]:
        places = {
            "a row": _rows(house),
            "a key": _keys(house),
            "a message": "".join(messages),
            "the worker's log": worker.output(),
            "Flower": _pages(flower),
            "Flower's log": flower.output(),
        }
        return [f"{leak} {when}" for place, text in places.items() for leak in _leaks(place, text)]

    assert _problems(house, run_id) == {"errs": "server_error", "refuses": "rejected", "posts": "not_found"}
    while_running = look("while the run went")
    cancel(house.context, run_id, "tester@test")
    assert wait_for_end(house.context, run_id) is RunState.CANCELLED
    at_the_end = look("at the end")

    assert while_running + at_the_end == []
    assert len(messages) > 20, "MONITOR was heard"
    content = house.settings.content_root()
    assert _files_with(ANSWER, content) == ["stdout"], "what the command was given it wrote; the answer itself is gone"
    assert _files_with(KEPT, content) == ["text"]
    assert _files_with(ERROR, content) == []
    assert [len(_files_with(sentinel, content)) for sentinel in (PROMPT, SYSTEM, BODY)] == [1, 1, 1], "as handed in"
