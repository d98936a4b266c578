"""A rate limit of 60 a minute, burst 1, under demand on three worker processes: the moments at which steps arrive.

Each step is a command that writes down when it runs, as the called service would see it. Prints the most and the fewest
arrivals in any minute, how late steps were for their tickets, and whether the order of asking was kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from agentflow import AgentFlow
from agentflow.embedded import EmbeddedServers, ServerUrls
from agentflow.engine import installation
from agentflow.runtime import Runtime
from agentflow.settings import Settings

KEY = "benchmark-key-benchmark-key-0000"
ARRIVE = "date +%s.%N >> "
SNOOZES = """SELECT step.key, audit_event.reason -> 'detail' ->> 'until' AS until FROM audit_event
             JOIN step ON step.id = audit_event.step_id WHERE audit_event.action = 'snooze' ORDER BY audit_event.id"""
STARTS = "SELECT step.key, started_at FROM attempt JOIN step ON step.id = attempt.step_id ORDER BY started_at"


def main() -> None:
    """Run it and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=60, help="starts a minute")
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=130, help="how long there is demand")
    parser.add_argument("--workers", type=int, default=3)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-benchmark-", ignore_cleanup_errors=True) as home,
        EmbeddedServers(Path(home)) as servers,
    ):
        settings = _installed(servers.urls, Path(home))
        with ExitStack() as stack:
            pids = [stack.enter_context(_worker(settings)) for _ in range(arguments.workers)]
            arrivals = _demand(settings, Path(home), arguments)
            spent = sum(_cpu_seconds(pid) for pid in pids)
        lateness, is_in_order = _read_tickets(settings)
    _print(arrivals, lateness, arguments, is_in_order=is_in_order, cpu_seconds=spent)


def _demand(settings: Settings, home: Path, arguments: argparse.Namespace) -> list[float]:
    """Let twice as many steps ask as the time allows; returns when they arrived, until the time is over."""
    log = home / "arrivals"
    steps = [
        {"id": f"s{number}", "needs": [], "subprocess": {"command": f"{ARRIVE}{log}", "shell": True}}
        for number in range(2 * arguments.limit * arguments.seconds // 60)
    ]
    rate = {"key": "benchmark", "limit": f"{arguments.limit}/m", "burst": arguments.burst}
    plan = home / "plan.json"
    plan.write_text(json.dumps({"agentflow": 1, "name": "rate", "defaults": {"rate_limit": rate}, "steps": steps}))
    with AgentFlow(settings) as flow:
        run = flow.submit(plan)
        deadline = time.monotonic() + arguments.seconds
        while time.monotonic() < deadline:
            time.sleep(1)
        arrivals = sorted(float(line) for line in log.read_text(encoding="ascii").split())
        run.cancel()
        run.wait(timeout=60)
    return arrivals


def _read_tickets(settings: Settings) -> tuple[list[float], bool]:
    """How many seconds after its ticket each step was claimed, and whether tickets went up in the order of asking."""
    runtime = Runtime(settings)
    with runtime.context.database.transaction() as tx:
        snoozes = [(row.key, datetime.fromisoformat(row.until)) for row in tx.execute(text(SNOOZES))]
        starts = {row.key: row.started_at for row in tx.execute(text(STARTS))}
    runtime.close()
    tickets = dict(snoozes)
    lateness = [(starts[key] - at).total_seconds() for key, at in tickets.items() if key in starts]
    times = [at for _, at in snoozes]
    return lateness, times == sorted(times)


def _print(
    arrivals: list[float],
    lateness: list[float],
    arguments: argparse.Namespace,
    *,
    is_in_order: bool,
    cpu_seconds: float,
) -> None:
    windows = [bisect_left(arrivals, at + 60) - place for place, at in enumerate(arrivals)]
    whole = [
        bisect_left(arrivals, begin + 60) - bisect_left(arrivals, begin)
        for begin in (arrivals[0] + tenth / 10 for tenth in range(int((arrivals[-1] - arrivals[0] - 60) * 10)))
    ]
    table = Table(title=f"{arguments.limit}/m, burst {arguments.burst}, {arguments.workers} workers of one slot")
    for heading in (
        "arrivals",
        "most in a minute",
        "fewest in a minute",
        "late: median ms",
        "late: most ms",
        "in order",
    ):
        table.add_column(heading)
    table.add_row(
        str(len(arrivals)),
        str(max(windows)),
        str(min(whole)) if whole else "-",
        f"{statistics.median(lateness) * 1000:.0f}",
        f"{max(lateness) * 1000:.0f}",
        "yes" if is_in_order else "no",
    )
    console = Console()
    console.print(table)
    console.print(f"workers and dispatchers used {cpu_seconds / arguments.seconds:.0%} of a core")
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, fsync on")


def _installed(urls: ServerUrls, home: Path) -> Settings:
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
    return settings


@contextmanager
def _worker(settings: Settings) -> Iterator[int]:
    """A worker process of one slot; gives its pid once it takes messages."""
    assert settings.database_url is not None  # noqa: S101 - set above
    assert settings.redis_url is not None  # noqa: S101
    environment = {
        **os.environ,
        "C_FORCE_ROOT": "1",
        "AGENTFLOW_HOME": str(settings.home),
        "AGENTFLOW_DATABASE_URL": settings.database_url.get_secret_value(),
        "AGENTFLOW_REDIS_URL": settings.redis_url.get_secret_value(),
        "AGENTFLOW_AUDIT_KEY": KEY,
        "AGENTFLOW_CONTENT_DIR": str(settings.content_dir),
    }
    name = f"w{time.monotonic_ns()}@%h"
    command = [sys.executable, "-m", "celery", "-A", "agentflow.worker.entry", "worker", "-c", "1", "-n", name]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle", "-l", "info"], stdout=log, stderr=log, env=environment
        )
        try:
            deadline = time.monotonic() + 30
            while " ready." not in Path(f"/proc/{os.getpid()}/fd/{log.fileno()}").read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the worker does not start: {' '.join(command)}")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()
            process.wait(30)


def _cpu_seconds(pid: int) -> float:
    """What a process and its living descendants have used of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_cpu_seconds(int(child)) for child in children)


if __name__ == "__main__":
    main()
