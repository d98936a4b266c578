"""Large graphs: 10,000 empty steps in one run in three shapes, 1,000 branches, and a foreach over 1,000 items.

Prints for each shape how long the submit takes, steps per second, how long a step waits once its last need has ended,
how long it takes to show, explain, report and verify the finished run, and the memory of the worker. Plain Celery runs
beside it what it can: a chain, and a group with a callback (a chord).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the helpers that the tests have

import psycopg
import redis
from celery import chain, chord
from proving.memory import _pss
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from agentflow import AgentFlow
from agentflow.embedded import EmbeddedServers, ServerUrls
from agentflow.engine import installation
from agentflow.engine.load_plan import load_data
from agentflow.engine.verify import verify_run
from agentflow.executors.base import known_actions
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.workers import descendants

REPOSITORY = Path(__file__).parents[1]
KEY = "benchmark-key-benchmark-key-0000"
WAIT_SECONDS = 3600
HANDOVERS = """
    SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY extract(epoch FROM began.started_at - met.at))
    FROM step JOIN attempt AS began ON began.step_id = step.id
    JOIN LATERAL (SELECT max(need.ended_at) AS at FROM edge JOIN attempt AS need ON need.step_id = edge.from_step
                  WHERE edge.to_step = step.id) AS met ON met.at IS NOT NULL
    WHERE step.run_id = %s"""


def main() -> None:
    """Run the shapes and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000, help="steps of a large graph")
    parser.add_argument("--wide", type=int, default=1_000, help="branches, and items of the foreach")
    parser.add_argument("--celery-chain", type=int, default=1_000, help="tasks of plain Celery's chain")
    parser.add_argument("--slots", type=int, default=2, help="slots of the one worker")
    parser.add_argument("--only", nargs="*", help="names of shapes; all without it")
    parser.add_argument("--no-celery", action="store_true", help="without plain Celery")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = parser.parse_args()
    shapes = {name: steps for name, steps in _shapes(asked.steps, asked.wide).items() if name in (asked.only or [name])}
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-benchmark-", ignore_cleanup_errors=True) as home,
        EmbeddedServers(Path(home)) as servers,
    ):
        peers = {} if asked.no_celery else measure_celery(servers.urls, asked)
        measured = list(measure_agentflow(servers.urls, Path(home), shapes, asked.slots))
    if asked.json:
        print(json.dumps({"agentflow": [each.__dict__ for each in measured], "celery": peers}, indent=2))
        return
    _print(measured, peers, asked.slots)


def _shapes(steps: int, wide: int) -> dict[str, list[dict[str, Any]]]:
    """The shapes by name, as the steps of a plan document."""
    side = int(steps**0.5)
    return {
        f"chain of {steps:,}": [_step(f"s{n}", [f"s{n - 1}"] if n else []) for n in range(steps)],
        f"{side} x {side} layers": [
            _step(f"s{layer}_{place}", _above(layer, place, side)) for layer in range(side) for place in range(side)
        ],
        f"1 > {steps - 2:,} > 1": _fan(steps - 2),
        f"1 > {wide:,} > 1": _fan(wide),
        f"foreach of {wide:,}": [
            {"id": "each", "foreach": {"items": list(range(wide)), "max_children": wide}, "noop": {}},
            _step("last", ["each"]),
        ],
    }


def _step(key: str, needs: list[str]) -> dict[str, Any]:
    return {"id": key, "needs": needs, "noop": {}}


def _above(layer: int, place: int, side: int) -> list[str]:
    """Three of the layer before: every step fans out to three, and joins three."""
    return [f"s{layer - 1}_{(place + offset) % side}" for offset in range(3)] if layer else []


def _fan(width: int) -> list[dict[str, Any]]:
    middle = [f"m{n}" for n in range(width)]
    return [_step("first", []), *(_step(key, ["first"]) for key in middle), _step("last", middle)]


@dataclass
class Measured:
    """What one shape took; times are seconds, memory MB of all processes of the worker together."""

    shape: str
    steps: int
    load: float
    submit: float
    run: float
    handover_p50: float
    handover_p95: float
    show: float
    why: float
    why_running: float
    report: float
    verify: float
    memory_mb: float
    state: str

    @property
    def rate(self) -> float:
        """Steps per second, from the submit's return to the end."""
        return self.steps / self.run


def measure_agentflow(
    urls: ServerUrls, home: Path, shapes: Mapping[str, list[dict[str, Any]]], slots: int
) -> Iterator[Measured]:
    """Run each shape as one run on one worker."""
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
    environment = {
        **os.environ,
        "AGENTFLOW_HOME": str(home / "agentflow"),
        "AGENTFLOW_DATABASE_URL": urls.database_url,
        "AGENTFLOW_REDIS_URL": urls.redis_url,
        "AGENTFLOW_AUDIT_KEY": KEY,
        "AGENTFLOW_CONTENT_DIR": str(home / "content"),
    }
    for name, steps in shapes.items():
        with _worker(["-A", "agentflow.worker.entry"], environment, slots) as worker, AgentFlow(settings) as flow:
            measured = _measure(flow, runtime, worker, name, steps, urls.database_url)
            print(f"{name}: {measured.state} in {measured.run:.0f} s, submit {measured.submit:.1f} s", file=sys.stderr)
            yield measured
    runtime.close()


def _measure(
    flow: AgentFlow, runtime: Runtime, worker: int, name: str, steps: list[dict[str, Any]], database_url: str
) -> Measured:
    document = {"agentflow": 1, "name": "graph", "steps": steps}
    loaded, load = _timed(lambda: load_data(document, ".", available_actions=known_actions()))
    run, submit = _timed(lambda: flow.submit(loaded))
    began = time.perf_counter()
    _, why_running = _timed(run.why)
    run.wait(timeout=WAIT_SECONDS)
    took = time.perf_counter() - began
    memory = sum(map(_pss, descendants(worker)))
    _, show = _timed(lambda: run.refresh().view)
    _, why = _timed(run.why)
    _, report = _timed(lambda: run.report("html"))
    verified, verify = _timed(lambda: verify_run(runtime.context, run.uuid))
    if not verified.is_intact:
        raise SystemExit(f"the audit of {name} does not hold: {verified.findings[:3]}")
    with psycopg.connect(database_url) as connection:
        found = connection.execute(HANDOVERS.encode(), (run.uuid,)).fetchone()
        p50, p95 = (found and found[0]) or (0.0, 0.0)
    count = len(run.steps)
    return Measured(
        name, count, load, submit, took, float(p50), float(p95), show, why, why_running, report, verify,
        memory / 1024, run.state.value,
    )  # fmt: skip


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def measure_celery(urls: ServerUrls, asked: argparse.Namespace) -> dict[str, float]:
    """Tasks per second of plain Celery, by shape; its chords count in Redis, agentflow's joins in Postgres."""
    os.environ |= {"BENCHMARK_REDIS_URL": urls.redis_url, "BENCHMARK_BACKEND_URL": urls.redis_url}
    import plain

    client = redis.Redis.from_url(urls.redis_url, socket_timeout=None)
    length, wide = asked.celery_chain, (asked.steps - 2, asked.wide)

    def finish(send: Callable[[], object], tasks: int) -> float:
        began = time.perf_counter()
        send()
        if client.blpop(["plain:done"], timeout=WAIT_SECONDS) is None:
            raise SystemExit("plain Celery did not finish")
        return tasks / (time.perf_counter() - began)

    with _worker(["-A", "plain"], {**os.environ, "PYTHONPATH": str(REPOSITORY / "benchmarks")}, asked.slots):
        figures = {
            f"chain of {length:,}": finish(
                lambda: chain(*[plain.step.si() for _ in range(length - 1)], plain.last.si(0)).apply_async(), length
            )
        }
        for width in wide:
            figures[f"1 > {width:,} > 1"] = finish(
                lambda width=width: chain(  # type: ignore[misc]  # Celery's canvas has no types
                    plain.step.si(), chord([plain.part.si() for _ in range(width)], plain.last.si(0))
                ).apply_async(),
                width + 2,
            )
    return figures


@contextmanager
def _worker(app: list[str], environment: Mapping[str, str], slots: int) -> Iterator[int]:
    options = ["-c", str(slots), "--without-gossip", "--without-mingle", "-l", "info"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", *app, "worker", *options],
            stdout=log,
            stderr=log,
            env={**environment, "C_FORCE_ROOT": "1"},
        )
        try:
            deadline = time.monotonic() + 60
            while " ready." not in Path(f"/proc/{os.getpid()}/fd/{log.fileno()}").read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the worker does not start: {' '.join(app)}")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()
            process.wait(60)


def _print(measured: list[Measured], peers: Mapping[str, float], slots: int) -> None:
    console = Console(width=160)
    table = Table(title=f"One run, one prefork worker, -c {slots}; seconds, hand-over in milliseconds")
    headings = (
        "shape",
        "state",
        "load",
        "submit",
        "steps/s",
        "hand-over p50",
        "p95",
        "show",
        "why",
        "why, at the start",
    )
    for heading in (*headings, "report", "audit verify", "worker MB"):
        table.add_column(heading)
    for each in measured:
        times = (each.show, each.why, each.why_running, each.report, each.verify)
        table.add_row(
            each.shape, each.state, f"{each.load:.2f}", f"{each.submit:.2f}", f"{each.rate:.0f}",
            f"{each.handover_p50 * 1000:.0f}", f"{each.handover_p95 * 1000:.0f}",
            *(f"{seconds:.2f}" for seconds in times), f"{each.memory_mb:.0f}",
        )  # fmt: skip
    console.print(table)
    for name, rate in peers.items():
        console.print(f"plain Celery, {name}: {rate:.0f} tasks/s")
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, fsync on")


if __name__ == "__main__":
    main()
