"""The ledger: reservations a second, and the time that Redis itself spends on one, by the number of scopes.

Each attempt reserves and commits in all scopes of its run, project and directive, with others' reservations standing
beside it. Prints the median round trip of one client, the rate of several, and the server's own time a script.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import redis
from rich.console import Console
from rich.table import Table

from agentflow.broker.budgets import Ledger, Reserved
from agentflow.broker.keys import Keys
from agentflow.domain.budget import Amounts, Budget, Scope
from agentflow.domain.ids import AttemptId, RunId
from agentflow.embedded import EmbeddedServers

NEEDED, USED = Amounts(1, 300, 300_000), Amounts(1, 50, 50_000)
CAPS = Budget(tokens=10**14, usd_nano=10**14)


def main() -> None:
    """Measure one, three and seven scopes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=3000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--outstanding", type=int, default=50, help="reservations of others in every scope")
    arguments = parser.parse_args()
    table = Table(title=f"reserve + commit, {arguments.outstanding} others outstanding in each scope")
    for heading in ("scopes", "median ms", f"a second, {arguments.clients} clients", "Redis us: reserve", "commit"):
        table.add_column(heading)
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-benchmark-", ignore_cleanup_errors=True) as home,
        EmbeddedServers(Path(home)) as servers,
    ):
        for count in (1, 3, 7):
            table.add_row(str(count), *measure(servers.urls.redis_url, count, arguments))
    console = Console()
    console.print(table)
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, fsync on")


def measure(redis_url: str, count: int, arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return a row of the table."""
    client, keys = redis.Redis.from_url(redis_url), Keys(f"benchmark{count}:")
    scopes = [Scope(f"run:{UUID(int=1)}", CAPS, run_id=RunId(UUID(int=1)))]
    scopes += [Scope(f"project:p{number}", CAPS, project=f"p{number}") for number in range(count - 1)]
    prepare(Ledger(client, keys), scopes, arguments.outstanding)
    single = statistics.median(timed(Ledger(client, keys), scopes) for _ in range(arguments.attempts // 4))
    client.config_resetstat()
    rate = together(redis_url, keys, scopes, arguments)
    reserve, commit = server_time(client, keys, scopes, arguments.attempts)
    client.close()
    return (f"{single * 1000:.2f}", f"{rate:.0f}", f"{reserve:.0f}", f"{commit:.0f}")


def prepare(ledger: Ledger, scopes: list[Scope], outstanding: int) -> None:
    """Load the scopes and let others reserve in them."""
    for scope in scopes:
        token = ledger.begin_load(scope.name)
        if token is None or not ledger.finish_load(scope.name, token, Amounts(), {}):
            raise SystemExit("the ledger is not empty")
    for _ in range(outstanding):
        ledger.reserve(AttemptId(uuid4()), scopes, NEEDED)


def timed(ledger: Ledger, scopes: list[Scope]) -> float:
    """Take one attempt through the ledger; returns the seconds."""
    attempt_id, names = AttemptId(uuid4()), [scope.name for scope in scopes]
    began = time.perf_counter()
    answer = ledger.reserve(attempt_id, scopes, NEEDED)
    if not isinstance(answer, Reserved):
        raise SystemExit(f"not granted: {answer}")
    ledger.commit(attempt_id, names, USED, answer.grant)
    return time.perf_counter() - began


def together(redis_url: str, keys: Keys, scopes: list[Scope], arguments: argparse.Namespace) -> float:
    """Return how many attempts a second several clients take through the ledger at once."""
    starting = threading.Barrier(arguments.clients + 1)

    def work() -> None:
        client = redis.Redis.from_url(redis_url)
        ledger = Ledger(client, keys)
        timed(ledger, scopes)
        starting.wait()
        for _ in range(arguments.attempts // arguments.clients):
            timed(ledger, scopes)
        client.close()

    with ThreadPoolExecutor(arguments.clients) as pool:
        working = [pool.submit(work) for _ in range(arguments.clients)]
        starting.wait()
        began = time.perf_counter()
        for each in working:
            each.result()
    return arguments.attempts / (time.perf_counter() - began)


def server_time(client: redis.Redis, keys: Keys, scopes: list[Scope], attempts: int) -> tuple[float, float]:
    """Return the microseconds that the server spends on a reserve and on a commit."""
    ledger, names = Ledger(client, keys), [scope.name for scope in scopes]
    granted: list[tuple[AttemptId, str]] = []
    client.config_resetstat()
    for _ in range(attempts):
        attempt_id = AttemptId(uuid4())
        answer = ledger.reserve(attempt_id, scopes, NEEDED)
        if isinstance(answer, Reserved):
            granted.append((attempt_id, answer.grant))
    reserve = per_script(client)
    client.config_resetstat()
    for attempt_id, grant in granted:
        ledger.commit(attempt_id, names, USED, grant)
    return reserve, per_script(client)


def per_script(client: redis.Redis) -> float:
    """Return the microseconds a script by the server's own account."""
    stats = dict(client.info("commandstats"))
    return float(stats["cmdstat_evalsha"]["usec_per_call"])


if __name__ == "__main__":
    main()
