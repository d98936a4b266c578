"""No command outlives the process that asked for it, however that process ends; nor a supervisor that is killed."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentflow.executors import supervisor
from agentflow.executors.base import Lifeline, StopReason
from agentflow.executors.command import Command, CommandResult, Ended
from agentflow.executors.supervisor_pool import SupervisorPool

if TYPE_CHECKING:
    from tests.integration.executors.conftest import Marked, Owner, Tree, WaitFor

StartOwner = Callable[..., "Owner"]


def test_an_owner_killed_within_forty_milliseconds_leaves_nothing(
    start_owner: StartOwner, marked: Marked, tmp_path: Path, stubborn: Tree, wait_for: WaitFor
) -> None:
    owner, chance = start_owner(), random.Random(40)  # noqa: S311 - delays, no secrets
    for _ in range(20):
        owner.ask("run_in_child", directory=str(tmp_path), script=stubborn.script)
        child = owner.hear()["child"]
        threading.Event().wait(chance.uniform(0, 0.04))
        os.kill(child, signal.SIGKILL)

    wait_for(lambda: marked.pids() == {owner.pid}, "the end of all twenty commands and supervisors")


def test_an_owner_killed_in_the_middle_leaves_nothing(
    start_owner: StartOwner, marked: Marked, tmp_path: Path, stubborn: Tree, wait_for: WaitFor
) -> None:
    owner = start_owner()
    owner.ask("run", directory=str(tmp_path), script=stubborn.script)
    wait_for(lambda: len(marked.pids()) == stubborn.processes + 2, "the start of the whole tree")

    owner.end()

    wait_for(marked.is_gone, "the end of the tree and its supervisor")


def test_a_stopped_owner_loses_its_command_when_the_lease_lapses(
    start_owner: StartOwner, marked: Marked, tmp_path: Path, stubborn: Tree, wait_for: WaitFor
) -> None:
    owner = start_owner()
    owner.ask("run", directory=str(tmp_path), script=stubborn.script, lease_seconds=1, heartbeat_seconds=0.1)
    owner.ask("supervisors")
    wait_for(lambda: len(marked.pids()) == stubborn.processes + 2, "the start of the whole tree")
    threading.Event().wait(1.2)  # the renewals hold it: nothing may happen, so there is no state to wait for
    assert len(marked.pids()) == stubborn.processes + 2

    owner.signal(signal.SIGSTOP)
    wait_for(lambda: len(marked.pids()) == 2, "the end of the tree, without owner and supervisor", seconds=3)

    owner.signal(signal.SIGCONT)
    answer = owner.hear()
    assert (answer["ended"], answer["stop_reason"]) == ("stopped", "lease_lost")


def test_a_torn_away_run_leaves_nothing(
    start_owner: StartOwner, marked: Marked, tmp_path: Path, stubborn: Tree, wait_for: WaitFor
) -> None:
    owner = start_owner()
    owner.ask("exit_when_terminated", directory=str(tmp_path), script=stubborn.script)
    wait_for(lambda: len(marked.pids()) == stubborn.processes + 2, "the start of the whole tree")

    owner.signal(signal.SIGTERM)

    assert owner.hear() == {"torn": "away"}
    wait_for(lambda: marked.pids() == {owner.pid}, "the end of the tree and its supervisor")


def test_a_fork_uses_supervisors_of_its_own_and_does_not_hold_its_parents(
    start_owner: StartOwner, marked: Marked, tmp_path: Path, wait_for: WaitFor
) -> None:
    owner = start_owner()
    owner.ask("run", directory=str(tmp_path), script="true")
    owner.hear()
    owner.ask("supervisors")
    (parents,) = owner.hear()["pids"]
    owner.ask("supervisors_of_fork", directory=str(tmp_path))
    fork = owner.hear()
    (forks,) = fork["pids"]
    assert (fork["inherited"], forks == parents) == (0, False)

    owner.end()

    wait_for(lambda: marked.pids() == {fork["fork"], forks}, "the end of the parent's supervisor, and of it alone")


def test_a_killed_supervisor_is_an_answer_that_leaves_nothing_and_the_next_command_runs(
    pool: SupervisorPool,
    command: Callable[..., Command],
    marked: Marked,
    tmp_path: Path,
    stubborn: Tree,
    wait_for: WaitFor,
) -> None:
    (first,) = supervisors_after(pool, command("true"))

    def kill_when_started() -> None:
        wait_for(lambda: len(marked.pids()) == stubborn.processes, "the start of the whole tree")
        os.kill(first, signal.SIGKILL)

    threading.Thread(target=kill_when_started).start()
    result = pool.run(command(stubborn.script), Lifeline(20))

    assert marked.pids() == set()
    assert (result.ended, result.exit_code) == (Ended.SUPERVISOR_LOST, None)
    assert result.message == f"its supervisor (pid {first}) died with status -9"
    assert result.stdout is not None
    assert (result.stdout.bytes_kept, result.stdout.is_cut) == (len("ready\n"), True)
    (second,) = supervisors_after(pool, command("true"))
    assert second != first


def test_a_supervisor_killed_while_idle_is_replaced_unnoticed(
    pool: SupervisorPool, command: Callable[..., Command], wait_for: WaitFor
) -> None:
    (first,) = supervisors_after(pool, command("true"))
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: Path(f"/proc/{first}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z", "its end")

    assert pool.run(command("exit 4"), Lifeline(20)).exit_code == 4


def test_what_a_killed_worker_and_its_killed_supervisor_left_is_ended_by_the_next_worker(
    start_owner: StartOwner, marked: Marked, tmp_path: Path, stubborn: Tree, wait_for: WaitFor
) -> None:
    owner, other = start_owner(), start_owner()
    for each in (owner, other):
        each.ask("run", directory=str(tmp_path), script="true")
        each.hear()
        each.ask("supervisors")
    (dying,), (living,) = owner.hear()["pids"], other.hear()["pids"]
    owner.ask("run", directory=str(tmp_path), script=stubborn.script)
    other.ask("run", directory=str(tmp_path), script="exec sleep 306")
    wait_for(lambda: len(marked.pids()) == 4 + stubborn.processes + 1, "the start of both trees")

    owner.signal(signal.SIGSTOP)  # it must not end its orphans itself
    os.kill(dying, signal.SIGKILL)
    wait_for(lambda: len(marked.pids()) == 3 + stubborn.processes, "the end of the main process, by the kernel")
    owner.end()
    pool = SupervisorPool()
    try:
        pool.run(
            Command(("true",), {"PATH": "/bin"}, tmp_path, None, tmp_path / "o", tmp_path / "e", 9, (), 9, 1),
            Lifeline(20),
        )
        left = marked.pids() - {other.pid, living}
    finally:
        pool.close()

    assert len(left) == 1
    assert Path(f"/proc/{left.pop()}/cmdline").read_bytes() == b"sleep\x00306\x00"


def test_a_frozen_supervisor_never_blocks_the_heartbeat(
    pool: SupervisorPool, command: Callable[..., Command], marked: Marked, stubborn: Tree, wait_for: WaitFor
) -> None:
    (frozen,) = supervisors_after(pool, command("true"))
    (link,), lifeline, results = pool._links, Lifeline(20), list[CommandResult]()
    run = threading.Thread(target=lambda: results.append(pool.run(command(stubborn.script), lifeline)))
    run.start()
    wait_for(lambda: len(marked.pids()) == stubborn.processes, "the start of the whole tree")
    os.kill(frozen, signal.SIGSTOP)
    while link.tell({"do": "renew", "serial": 0, "ttl_seconds": 20}):
        pass  # until the socket is full

    lifeline.renew(20)
    lifeline.stop(StopReason.CANCELLED)

    run.join(10)
    assert results[0].ended is Ended.SUPERVISOR_LOST
    assert marked.pids() == set()


def test_a_supervisor_whose_parent_is_not_its_owner_leaves_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        finished = subprocess.run(
            [sys.executable, "-I", "-S", supervisor.__file__, str(os.getppid())],
            stdin=theirs.fileno(),
            timeout=10,
            check=False,
        )

    assert finished.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_everything_does_not_part_the_supervisor_from_its_owner(
    pool: SupervisorPool, command: Callable[..., Command], number: signal.Signals
) -> None:
    (first,) = supervisors_after(pool, command("true"))
    os.kill(first, number)

    assert supervisors_after(pool, command("true")) == [first]


def supervisors_after(pool: SupervisorPool, command: Command) -> list[int]:
    assert pool.run(command, Lifeline(20)).ended is Ended.EXITED
    return [link.pid for link in pool._links]
