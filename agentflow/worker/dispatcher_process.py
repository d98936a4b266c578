"""The program of the dispatcher process: check that this host may work, say so, then dispatch until the pipe closes.

A worker tells through the pipe how it stands, and this process writes it into the worker's row.
"""

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
from agentflow.worker.roster import Roster

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
    name = sys.argv[1] if len(sys.argv) > 1 else "dispatcher"
    roster = Roster(house.context, name)
    threading.Thread(target=_listen, args=(house, roster, stopping), daemon=True).start()
    try:
        _await_permission(house, stopping)
    except AgentflowError as error:
        print(f"refused {error}", flush=True)  # noqa: T201 - the word that the worker waits for
        return 1
    print("ready", flush=True)  # noqa: T201 - the word that the worker waits for
    roster.start()
    tasks.register(house.celery, known_actions())
    Dispatcher(house.context, f"{name}:{os.getpid()}").run(stopping)
    roster.close()
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


def _listen(house: runtime.Runtime, roster: Roster, stopping: threading.Event) -> None:
    """Hear what the worker tells, until it ends the input."""
    for line in sys.stdin:
        roster.hear(line)
    stopping.set()
    house.context.side_channel.wake()
    house.context.tracing.flush()  # now: whoever waits for this process to end does not wait for long


if __name__ == "__main__":
    raise SystemExit(main())
