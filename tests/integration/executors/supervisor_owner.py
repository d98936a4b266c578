"""A worker in small: a process that owns supervisors and does as the lines on its standard input say.

Each order and each answer is one line of JSON. ``setup`` (the only argument) may be "deaf": signals ignored and
blocked as a worker's pool child may have them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentflow.executors.base import Lifeline
from agentflow.executors.command import Command
from agentflow.executors.supervisor_pool import SupervisorPool

pool = SupervisorPool()


def main() -> None:
    """Obey until the input ends."""
    if sys.argv[1] == "deaf":
        be_deaf()
    say(ready=os.getpid())
    for line in sys.stdin:
        order = json.loads(line)
        ORDERS[order.pop("do")](**order)


def run(directory: str, script: str, lease_seconds: float = 20, heartbeat_seconds: float = 0) -> None:
    """Run a script here and tell how it ended."""
    lifeline = Lifeline(lease_seconds)
    if heartbeat_seconds:
        threading.Thread(target=beat, args=(lifeline, heartbeat_seconds), daemon=True).start()
    result = pool.run(command(directory, script), lifeline)
    say(ended=result.ended, exit_code=result.exit_code, stop_reason=lifeline.stop_reason, message=result.message)


def run_in_child(directory: str, script: str) -> None:
    """Fork, as a prefork worker does, and run the script there; tell the child's pid."""
    pid = os.fork()
    if pid == 0:
        pool.run(command(directory, script), Lifeline(20))
        os._exit(0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by themselves
    say(child=pid)


def exit_when_terminated(directory: str, script: str) -> None:
    """Run the script; a SIGTERM raises SystemExit out of the run, as in a terminated pool child."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        pool.run(command(directory, script), Lifeline(20))
    except SystemExit:
        say(torn="away")


def supervisors() -> None:
    """Tell the pids of this process's supervisors."""
    say(pids=[link.pid for link in pool._links])


def supervisors_of_fork(directory: str) -> None:
    """Tell the pids of the supervisors that a fork of this process uses; it stays until its input ends."""
    if os.fork() == 0:
        inherited = len(pool._links)
        pool.run(command(directory, "true"), Lifeline(20))
        say(inherited=inherited, pids=[link.pid for link in pool._links], fork=os.getpid())
        threading.Event().wait()


def command(directory: str, script: str) -> Command:
    return Command(
        argv=("/bin/sh", "-c", script),
        env={name: os.environ[name] for name in ("PATH", "TEST_MARK")},
        cwd=Path(directory),
        stdin=None,
        stdout=Path(directory, "stdout"),
        stderr=Path(directory, "stderr"),
        output_limit_bytes=100_000,
        masks=(),
        timeout_seconds=30,
        kill_grace_seconds=0.3,
    )


def beat(lifeline: Lifeline, seconds: float) -> None:
    pause = threading.Event()
    while not pause.wait(seconds):
        lifeline.renew(lifeline.lease_seconds)


def be_deaf() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR2})


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


ORDERS: dict[str, Callable[..., None]] = {
    "run": run,
    "run_in_child": run_in_child,
    "exit_when_terminated": exit_when_terminated,
    "supervisors": supervisors,
    "supervisors_of_fork": supervisors_of_fork,
}

if __name__ == "__main__":
    main()
