"""The program of the dispatcher process: check that this host may work, say so, then dispatch until the pipe closes."""

from __future__ import annotations

import os
import signal
import sys
import threading

from agentflow import runtime, tasks, telemetry
from agentflow.domain.error import AgentflowError, ServersUnreachable
from agentflow.engine import installation
from agentflow.engine.dispatcher import Dispatcher
from agentflow.executors.base import known_actions
from agentflow.telemetry import get_logger

log = get_logger(__name__)


def main() -> int:
    """Run until standard input ends; exit code 0 after a stop, 1 after a refusal."""
    # The terminal's Ctrl-C reaches the whole group; the worker decides when its dispatcher ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    house = runtime.current()
    telemetry.configure(
        log_format=house.settings.log_format, level=house.settings.log_level, is_redacting=house.settings.is_redacting
    )
    threading.Thread(target=_stop_at_end_of_input, args=(house, stopping), daemon=True).start()
    try:
        _await_permission(house, stopping)
    except AgentflowError as error:
        print(f"refused {error}", flush=True)  # noqa: T201 - the word that the worker waits for
        return 1
    print("ready", flush=True)  # noqa: T201 - the word that the worker waits for
    tasks.register(house.celery, known_actions())
    Dispatcher(house.context, f"{sys.argv[1] if len(sys.argv) > 1 else 'dispatcher'}:{os.getpid()}").run(stopping)
    house.close()
    return 0


def _await_permission(house: runtime.Runtime, stopping: threading.Event) -> None:
    """Check the installation; Postgres being away is waited out, anything else is a refusal."""
    context = house.context
    while not stopping.is_set():
        try:
            installation.check(context.database, context.store, context.audit_key)
        except ServersUnreachable as error:
            log.warning("postgres_awaited", error=str(error))
            stopping.wait(1.0)
        else:
            return


def _stop_at_end_of_input(house: runtime.Runtime, stopping: threading.Event) -> None:
    sys.stdin.read()
    stopping.set()
    house.context.side_channel.wake()


if __name__ == "__main__":
    raise SystemExit(main())
