"""Chains of empty steps: plain Celery and agentflow, side by side on the same embedded servers.

Prints steps per second with all chains sent at once, and the time of a single chain (median over several).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from celery import chain
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from agentflow import AgentFlow, Plan
from agentflow.embedded import EmbeddedServers, ServerUrls
from agentflow.engine import installation
from agentflow.runtime import Runtime
from agentflow.settings import Settings

FOLDER = Path(__file__).parent
KEY = "benchmark-key-benchmark-key-0000"


def main() -> None:
    """Run both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-benchmark-", ignore_cleanup_errors=True) as home,
        EmbeddedServers(Path(home)) as servers,
    ):
        rows = [
            ("plain Celery chain", *measure_plain(servers.urls, arguments.runs, arguments.steps)),
            ("agentflow run", *measure_agentflow(servers.urls, Path(home), arguments.runs, arguments.steps)),
        ]
    table = Table(title=f"{arguments.runs} chains of {arguments.steps} empty steps, one prefork worker, -c 2")
    for heading in ("system", "steps/s, all at once", "one chain, median ms"):
        table.add_column(heading)
    for name, throughput, latency in rows:
        table.add_row(name, f"{throughput:.0f}", f"{latency * 1000:.0f}")
    console = Console()
    console.print(table)
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, fsync on")


def measure_plain(urls: ServerUrls, runs: int, steps: int) -> tuple[float, float]:
    """Steps per second, and the median seconds of one chain, for plain Celery."""
    os.environ["BENCHMARK_REDIS_URL"] = urls.redis_url
    sys.path.insert(0, str(FOLDER))
    import plain

    client = redis.Redis.from_url(urls.redis_url)

    def send(number: int) -> None:
        chain(*[plain.step.si() for _ in range(steps - 1)], plain.last.si(number)).apply_async()

    def finish(count: int) -> None:
        for _ in range(count):
            if client.blpop(["plain:done"], timeout=120) is None:
                raise SystemExit("plain Celery did not finish")

    with _worker(["-A", "plain"], {**os.environ, "PYTHONPATH": str(FOLDER)}):
        return _measure(send, finish, runs, steps)


def measure_agentflow(urls: ServerUrls, home: Path, runs: int, steps: int) -> tuple[float, float]:
    """The same for agentflow."""
    settings = Settings(
        home=home / "agentflow",
        database_url=SecretStr(urls.database_url),
        redis_url=SecretStr(urls.redis_url),
        audit_key=SecretStr(KEY),
        content_dir=home / "content",
    )
    runtime = Runtime(settings)
    installation.install(runtime.context.database, runtime.context.store, runtime.context.audit_key)
    runtime.close()
    plan = Plan("benchmark")
    for number in range(steps):
        plan.noop(f"s{number}")
    sent = []
    environment = {
        **os.environ,
        "AGENTFLOW_HOME": str(home / "agentflow"),
        "AGENTFLOW_DATABASE_URL": urls.database_url,
        "AGENTFLOW_REDIS_URL": urls.redis_url,
        "AGENTFLOW_AUDIT_KEY": KEY,
        "AGENTFLOW_CONTENT_DIR": str(home / "content"),
    }
    with _worker(["-A", "agentflow.worker.entry"], environment), AgentFlow(settings) as flow:

        def finish(count: int) -> None:
            for run in sent[-count:]:
                run.wait(timeout=120)

        return _measure(lambda _: sent.append(flow.submit(plan)), finish, runs, steps)


def _measure(
    send: Callable[[int], object], finish: Callable[[int], None], runs: int, steps: int
) -> tuple[float, float]:
    single = []
    for number in range(12):
        began = time.perf_counter()
        send(number)
        finish(1)
        single.append(time.perf_counter() - began)
    began = time.perf_counter()
    for number in range(runs):
        send(number)
    finish(runs)
    return runs * steps / (time.perf_counter() - began), statistics.median(single[2:])


@contextmanager
def _worker(app: list[str], environment: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", *app, "worker", "-c", "2", "--without-gossip", "--without-mingle"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, "-l", "info"], stdout=log, stderr=log, env={**environment, "C_FORCE_ROOT": "1"}
        )
        try:
            deadline = time.monotonic() + 30
            while " ready." not in Path(f"/proc/{os.getpid()}/fd/{log.fileno()}").read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the worker does not start: {' '.join(command)}")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
