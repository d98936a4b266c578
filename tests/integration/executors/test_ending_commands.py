"""A command ends when it must, with its whole process tree, and its result comes when nothing of it is left."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentflow.executors.base import Lifeline, StopReason
from agentflow.executors.command import Command, CommandResult, Ended
from agentflow.executors.supervisor_pool import SupervisorPool

if TYPE_CHECKING:
    from tests.integration.executors.conftest import Marked, Tree, WaitFor

MakeCommand = Callable[..., Command]


class Running:
    """A command that runs in a thread of its own."""

    def __init__(self, pool: SupervisorPool, command: Command, lifeline: Lifeline) -> None:
        self._results: list[CommandResult] = []
        self._thread = threading.Thread(target=lambda: self._results.append(pool.run(command, lifeline)))
        self._thread.start()

    def result(self) -> CommandResult:
        self._thread.join(20)
        return self._results[0]


def test_a_stubborn_tree_is_gone_after_its_timeout(
    pool: SupervisorPool, command: MakeCommand, marked: Marked, stubborn: Tree, wait_for: WaitFor
) -> None:
    running = Running(pool, command(stubborn.script, timeout_seconds=1), Lifeline(20))
    wait_for(lambda: len(marked.pids()) == stubborn.processes, "the start of the whole tree")

    result = running.result()

    assert marked.pids() == set()
    assert (result.ended, result.exit_code, result.signal) == (Ended.TIMED_OUT, 124, signal.SIGKILL)
    assert 1.3 <= result.duration_seconds < 5
    assert result.message == "it ran longer than its 1 s and was ended"


def test_a_stubborn_tree_is_gone_after_a_stop(
    pool: SupervisorPool, command: MakeCommand, marked: Marked, stubborn: Tree, wait_for: WaitFor
) -> None:
    lifeline = Lifeline(20)
    running = Running(pool, command(stubborn.script), lifeline)
    wait_for(lambda: len(marked.pids()) == stubborn.processes, "the start of the whole tree")

    lifeline.stop(StopReason.CANCELLED)
    result = running.result()

    assert marked.pids() == set()
    assert (result.ended, result.exit_code, result.signal) == (Ended.STOPPED, None, signal.SIGKILL)
    assert result.duration_seconds < 5


def test_a_tree_that_obeys_sigterm_is_not_killed(
    pool: SupervisorPool, command: MakeCommand, tmp_path: Path, wait_for: WaitFor
) -> None:
    script = "trap 'echo cleaned up; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    lifeline = Lifeline(20)
    running = Running(pool, command(script, kill_grace_seconds=10), lifeline)
    wait_for(lambda: (tmp_path / "stdout").exists() and (tmp_path / "stdout").read_text() == "ready\n", "the start")

    lifeline.stop(StopReason.DRAINED)
    result = running.result()

    assert (result.ended, result.exit_code, result.signal) == (Ended.STOPPED, 0, None)
    assert (tmp_path / "stdout").read_text() == "ready\ncleaned up\n"
    assert result.duration_seconds < 5


def test_a_command_that_exits_well_on_its_timeout_still_timed_out(pool: SupervisorPool, command: MakeCommand) -> None:
    script = "trap 'exit 0' TERM; while :; do sleep 0.05; done"

    result = pool.run(command(script, timeout_seconds=0.2, kill_grace_seconds=10), Lifeline(20))

    assert (result.ended, result.exit_code, result.signal) == (Ended.TIMED_OUT, 124, None)


def test_a_process_that_stopped_itself_hears_sigterm(pool: SupervisorPool, command: MakeCommand) -> None:
    result = pool.run(command("kill -STOP $$", timeout_seconds=0.2, kill_grace_seconds=10), Lifeline(20))

    assert (result.ended, result.signal) == (Ended.TIMED_OUT, signal.SIGTERM)


@pytest.mark.parametrize("leave", ["", "os.setsid()"])
def test_a_process_that_keeps_forking_away_is_caught(
    pool: SupervisorPool, command: MakeCommand, marked: Marked, leave: str
) -> None:
    hop = f"""
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    if os.fork():
        os._exit(7)
    {leave}
"""

    result = pool.run(command(sys.executable, "-c", hop), Lifeline(20))

    assert marked.pids() == set()
    assert (result.ended, result.exit_code) == (Ended.EXITED, 7)


def test_what_outlives_the_main_process_is_ended_and_the_exit_code_stands(
    pool: SupervisorPool, command: MakeCommand, marked: Marked
) -> None:
    script = "(setsid sh -c \"trap '' TERM; sleep 300; sleep 301\" &); sleep 302 & exit 3"

    result = pool.run(command(script), Lifeline(20))

    assert marked.pids() == set()
    assert (result.ended, result.exit_code) == (Ended.EXITED, 3)
    assert result.message == "it left processes behind, which were ended"


def test_a_leftover_that_opens_a_session_just_then_still_hears_sigterm(
    pool: SupervisorPool, command: MakeCommand
) -> None:
    moves_away = command("(setsid sleep 300 &)", kill_grace_seconds=10)

    durations = [pool.run(moves_away, Lifeline(20)).duration_seconds for _ in range(150)]

    assert max(durations) < 5


def test_a_stop_before_the_start_starts_nothing(pool: SupervisorPool, command: MakeCommand, tmp_path: Path) -> None:
    lifeline = Lifeline(20)
    lifeline.stop(StopReason.CANCELLED)

    result = pool.run(command("touch started"), lifeline)

    assert result.ended is Ended.STOPPED
    assert list(tmp_path.iterdir()) == []


def test_a_stop_that_comes_too_late_spares_the_next_command(pool: SupervisorPool, command: MakeCommand) -> None:
    lifeline = Lifeline(20)
    pool.run(command("true"), lifeline)
    running = Running(pool, command("sleep 0.5"), Lifeline(20))

    lifeline.stop(StopReason.CANCELLED)
    lifeline.renew(0.1)
    (link,) = pool._links
    assert link.tell({"do": "stop", "serial": 1})  # as one that was on its way when the first command ended

    assert running.result().ended is Ended.EXITED


def test_renewals_keep_a_command_alive_beyond_its_first_lease(pool: SupervisorPool, command: MakeCommand) -> None:
    lifeline, over = Lifeline(0.4), threading.Event()

    def beat() -> None:
        while not over.wait(0.1):
            lifeline.renew(0.4)

    threading.Thread(target=beat).start()
    result = pool.run(command("sleep 1.2"), lifeline)
    over.set()

    assert (result.ended, result.exit_code) == (Ended.EXITED, 0)


def test_a_lease_that_lapses_ends_the_command_by_the_end_of_the_lease(
    pool: SupervisorPool, command: MakeCommand, marked: Marked, stubborn: Tree
) -> None:
    lifeline = Lifeline(1.0)

    result = pool.run(command(stubborn.script, kill_grace_seconds=10), lifeline)

    assert marked.pids() == set()
    assert (result.ended, result.message) == (Ended.STOPPED, "its lease was not renewed in time and it was ended")
    assert lifeline.stop_reason is StopReason.LEASE_LOST
    assert 0.7 < result.duration_seconds < 1.5
