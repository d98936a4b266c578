"""The HTTP API among many runs: list, show and submit by 50 callers at once, with a million steps in the tables.

Callers ask either as fast as they are answered, which tells how much the API does, or once a second each, which tells
how long an answer takes while there is room; a request counts from the moment at which it was due.
One run of ten steps is worked off and its rows are copied. Prints requests per second, the times of the answers, the
processor time that the API and Postgres spent on a request, and the statements that took longest on average. Plain
Celery sends chains of ten tasks beside the submits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).parents[1]))  # the helpers that the tests have

import psycopg
from celery import chain
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from agentflow import AgentFlow
from agentflow.domain.ids import RunId
from agentflow.embedded import EmbeddedPostgres, EmbeddedServers, ServerUrls
from agentflow.embedded.binaries import postgres_binaries
from agentflow.embedded.cluster import ROLE, Cluster
from agentflow.engine import installation
from agentflow.engine.load_plan import load_data
from agentflow.executors.base import known_actions
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.crowds import multiply
from tests.factories import work_off
from tests.workers import descendants

KEY = "benchmark-key-benchmark-key-0000"
STEPS = 10
PLAN = {"agentflow": 1, "name": "ten", "steps": [{"id": f"s{n}", "noop": {}} for n in range(STEPS)]}
SLOWEST = """
    SELECT mean_exec_time AS mean, calls, query FROM pg_stat_statements
    WHERE calls > 20 ORDER BY mean_exec_time DESC LIMIT 8"""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """What one kind of request took; times in milliseconds, processor time per request."""

    what: str
    callers: int
    pace: str
    requests: int
    per_second: float
    p50: float
    p95: float
    p99: float
    cpu_api: float
    cpu_postgres: float
    failures: int


@dataclass(frozen=True)
class Server:
    """Where the API answers, the key it takes, and whose processor time is counted."""

    port: int
    key: str
    process: int
    postmaster: int

    def request(self, method: str, path: str, body: bytes = b"", /, **headers: str) -> bytes:
        """Write a request of HTTP/1.1."""
        given = {"Host": "127.0.0.1", "Authorization": f"Bearer {self.key}", **headers}
        if body:
            given |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{method} /api/v1{path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        return "\r\n".join(lines).encode() + body

    def cpu_seconds(self) -> tuple[float, float]:
        """The processor time of the API and of Postgres so far."""
        return _cpu_seconds(self.process), _cpu_seconds(self.postmaster)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps in the tables")
    parser.add_argument("--callers", type=int, default=50, help="requests at once")
    parser.add_argument("--seconds", type=float, default=15, help="how long each kind of request is made")
    parser.add_argument("--processes", type=int, default=2, help="processes of the API")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agentflow-benchmark-", ignore_cleanup_errors=True) as home:
        servers = EmbeddedServers(Path(home))
        with servers:
            _statement(servers.urls, "SELECT 1")
        _count_statements(servers.postgres)
        with EmbeddedServers(Path(home)) as servers:
            _statement(servers.urls, "CREATE EXTENSION pg_stat_statements")
            measured, statements = _measured(servers.urls, Path(home), asked)
            sends = _celery_sends(servers.urls)
    if asked.json:
        print(json.dumps({"api": [each.__dict__ for each in measured], "statements": statements, "celery": sends}))
        return
    _print(measured, statements, sends, asked)


def _measured(
    urls: ServerUrls, home: Path, asked: argparse.Namespace
) -> tuple[list[Measured], list[tuple[float, int, str]]]:
    settings = Settings(
        home=home / "agentflow",
        database_url=SecretStr(urls.database_url),
        redis_url=SecretStr(urls.redis_url),
        audit_key=SecretStr(KEY),
        content_dir=home / "content",
    )
    runtime = Runtime(settings)
    context = runtime.context
    installation.install(context.database, context.store, context.audit_key)
    with AgentFlow(settings) as flow:
        ids = _crowd(runtime, flow, asked.steps)
        key = flow.create_key("benchmark", "operator").text
    _statement(urls, "SELECT pg_stat_statements_reset()")
    with _api(settings, asked.processes) as (port, process):
        server = Server(port, key, process, _postmaster(urls))
        measured = [asyncio.run(_measure(server, kind, asked.seconds)) for kind in _kinds(server, ids, asked.callers)]
    with runtime.context.database.transaction() as tx:
        slowest = tx.execute(text(SLOWEST)).all()
    runtime.close()
    return measured, [(row.mean, row.calls, " ".join(row.query.split())) for row in slowest]


def _crowd(runtime: Runtime, flow: AgentFlow, steps: int) -> list[str]:
    """Fill the tables with ``steps`` steps; returns ids to ask for."""
    run = flow.submit(load_data(PLAN, ".", available_actions=known_actions()))
    work_off(runtime, RunId(run.uuid))
    began = time.perf_counter()
    with runtime.context.database.transaction() as tx:
        tx.execute(text("SET LOCAL statement_timeout = 0"))
        multiply(tx, RunId(run.uuid), steps // STEPS - 1)
        ids = [str(found) for found in tx.execute(text("SELECT id FROM run ORDER BY random() LIMIT 5000")).scalars()]
    with runtime.context.database.autocommit() as connection:
        connection.execute(text("VACUUM"))
    print(f"{steps:,} steps made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return ids


@dataclass(frozen=True)
class Kind:
    """What is asked, by how many callers, and how often each asks in a second; as fast as it is answered, if None."""

    what: str
    make: Callable[[], bytes]
    callers: int
    often: float | None = None


def _kinds(server: Server, ids: list[str], callers: int) -> Iterator[Kind]:
    body = json.dumps({"plan": PLAN}).encode()
    tag = _tag(server, ids[0])
    show = Kind("show", lambda: server.request("GET", f"/runs/{random.choice(ids)}"), callers)
    page = Kind("list, 50 runs a page", lambda: server.request("GET", "/runs?limit=50"), callers)
    yield show
    yield replace(show, often=1.0)
    yield Kind(
        "show, unchanged (304)", lambda: server.request("GET", f"/runs/{ids[0]}", **{"If-None-Match": tag}), callers
    )
    yield page
    yield replace(page, often=1.0)
    yield Kind(
        "list, completed ones", lambda: server.request("GET", "/runs?limit=50&state=completed&name=ten"), callers
    )
    yield Kind("submit", lambda: server.request("POST", "/runs", body), 1)
    yield Kind("submit", lambda: server.request("POST", "/runs", body), callers)


async def _measure(server: Server, kind: Kind, seconds: float) -> Measured:
    """Let callers ask one after the other, each over a connection of its own."""
    await _call(server.port, replace(kind, often=None), time.perf_counter(), 1)
    api, postgres = server.cpu_seconds()
    began = time.perf_counter()
    starts = [began + (number / kind.callers / kind.often if kind.often else 0) for number in range(kind.callers)]
    calls = [_call(server.port, kind, start, seconds) for start in starts]
    answers = [answer for caller in await asyncio.gather(*calls) for answer in caller]
    took = time.perf_counter() - began
    api_after, postgres_after = server.cpu_seconds()
    times = sorted(1000 * seconds for seconds, _ in answers)
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return Measured(
        kind.what,
        kind.callers,
        "as answered" if kind.often is None else f"{kind.often:g}/s each",
        len(answers),
        len(answers) / took,
        p50=round(cuts[49], 2),
        p95=round(cuts[94], 2),
        p99=round(cuts[98], 2),
        cpu_api=1000 * (api_after - api) / len(answers),
        cpu_postgres=1000 * (postgres_after - postgres) / len(answers),
        failures=sum(status >= 400 for _, status in answers),
    )


async def _call(port: int, kind: Kind, start: float, seconds: float) -> list[tuple[float, int]]:
    """Ask from ``start`` on for ``seconds``; returns how long each answer took, with its status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    answers: list[tuple[float, int]] = []
    while True:
        due = time.perf_counter() if kind.often is None else start + len(answers) / kind.often
        if due >= start + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        writer.write(kind.make())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, found, rest = head.partition(b"content-length:")
        if found:
            await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
        answers.append((time.perf_counter() - due, int(head[9:12])))
    writer.close()
    return answers


def _tag(server: Server, run: str) -> str:
    asked = Request(
        f"http://127.0.0.1:{server.port}/api/v1/runs/{run}", headers={"Authorization": f"Bearer {server.key}"}
    )
    with urlopen(asked, timeout=30) as answer:  # noqa: S310 - the address is our own
        return str(answer.headers["ETag"])


@contextmanager
def _api(settings: Settings, processes: int) -> Iterator[tuple[int, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["api", "--port", str(port), "--processes", str(processes)]
    environment = {
        **os.environ,
        "AGENTFLOW_HOME": str(settings.home),
        "AGENTFLOW_DATABASE_URL": settings.database_url.get_secret_value() if settings.database_url else "",
        "AGENTFLOW_REDIS_URL": settings.redis_url.get_secret_value() if settings.redis_url else "",
        "AGENTFLOW_AUDIT_KEY": KEY,
        "AGENTFLOW_CONTENT_DIR": str(settings.content_root()),
        "AGENTFLOW_API_REQUESTS_PER_MINUTE": "1000000000",
    }
    process = subprocess.Popen([sys.executable, "-m", "agentflow", *arguments], env=environment)
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the API does not start")
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(60)


def _listens(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _cpu_seconds(root: int) -> float:
    """The processor time of a process and of all below it, those that have ended and were waited for too."""
    ticks = 0
    for pid in (root, *descendants(root)):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def _statement(urls: ServerUrls, statement: str) -> None:
    with psycopg.connect(urls.database_url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _count_statements(postgres: EmbeddedPostgres) -> None:
    """Let a server that is down count statements once it is up; only its superuser may, whom nobody can be."""
    cluster = Cluster(postgres.data, postgres_binaries(postgres.home, postgres.account), postgres.account, fsync=True)
    cluster._single_user(  # noqa: SLF001 - nothing else needs it
        postgres.data,
        "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'",
        f"ALTER ROLE {ROLE} SUPERUSER",
        fsync=True,
    )


def _postmaster(urls: ServerUrls) -> int:
    with psycopg.connect(urls.database_url) as connection:
        found = connection.execute("SELECT pg_backend_pid()").fetchone()
        fields = Path(f"/proc/{found and found[0]}/stat").read_text().rpartition(")")[2].split()
        return int(fields[1])


def _celery_sends(urls: ServerUrls) -> dict[str, float]:
    """How long plain Celery takes to send a chain of ten tasks, in milliseconds."""
    os.environ |= {"BENCHMARK_REDIS_URL": urls.redis_url, "BENCHMARK_BACKEND_URL": urls.redis_url}
    import plain

    times = []
    for _ in range(300):
        began = time.perf_counter()
        chain(*[plain.step.si() for _ in range(STEPS - 1)], plain.last.si(0)).apply_async()
        times.append(1000 * (time.perf_counter() - began))
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94]}


def _print(
    measured: list[Measured],
    statements: list[tuple[float, int, str]],
    sends: dict[str, float],
    asked: argparse.Namespace,
) -> None:
    console = Console(width=160)
    table = Table(title=f"{asked.steps:,} steps, {asked.processes} processes of the API; times in milliseconds")
    for heading in (
        "request",
        "callers",
        "pace",
        "per second",
        "p50",
        "p95",
        "p99",
        "CPU API",
        "CPU Postgres",
        "failed",
    ):
        table.add_column(heading)
    for each in measured:
        took = (each.p50, each.p95, each.p99, each.cpu_api, each.cpu_postgres)
        table.add_row(
            each.what,
            str(each.callers),
            each.pace,
            f"{each.per_second:.0f}",
            *(f"{milliseconds:.1f}" for milliseconds in took),
            str(each.failures),
        )
    console.print(table)
    console.print("The statements that took longest on average (milliseconds, calls):")
    for mean, calls, query in statements:
        console.print(f"{mean:8.2f} {calls:8,}  {query[:120]}", markup=False)
    console.print(f"plain Celery sends a chain of ten: p50 {sends['p50']:.1f}, p95 {sends['p95']:.1f}")
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, fsync on")


if __name__ == "__main__":
    main()
