"""What a command finds around it, and what is kept of what it writes."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentflow.executors.base import Lifeline
from agentflow.executors.command import Command, CommandResult, Ended
from agentflow.executors.supervisor_pool import SupervisorPool

if TYPE_CHECKING:
    from tests.integration.executors.conftest import Marked, Owner

MakeCommand = Callable[..., Command]


def test_a_command_reports_its_exit_code_streams_and_hashes(
    pool: SupervisorPool, command: MakeCommand, tmp_path: Path
) -> None:
    result = pool.run(command("echo out; echo error >&2; exit 3"), Lifeline(20))

    assert (result.ended, result.exit_code, result.signal, result.message) == (Ended.EXITED, 3, None, None)
    assert result.stdout is not None
    assert result.stderr is not None
    assert (tmp_path / "stdout").read_text() == "out\n"
    assert (tmp_path / "stderr").read_text() == "error\n"
    assert result.stdout.sha256 == hashlib.sha256(b"out\n").hexdigest()
    assert (result.stderr.bytes_seen, result.stderr.bytes_kept, result.stderr.is_cut) == (6, 6, False)


def test_a_command_that_a_signal_ended_has_no_exit_code(pool: SupervisorPool, command: MakeCommand) -> None:
    result = pool.run(command("kill -SEGV $$"), Lifeline(20))

    assert (result.ended, result.exit_code, result.signal) == (Ended.EXITED, None, signal.SIGSEGV)


@pytest.mark.parametrize("setup", ["", "deaf"])
def test_signals_are_at_their_defaults_whatever_the_owner_ignores_and_blocks(
    start_owner: Callable[..., Owner], tmp_path: Path, setup: str
) -> None:
    owner = start_owner(setup=setup)
    owner.ask("run", directory=str(tmp_path), script="exec cat /proc/self/status")
    owner.hear()

    status = dict(line.split(":\t", 1) for line in (tmp_path / "stdout").read_text().splitlines())
    assert {status[name] for name in ("SigIgn", "SigBlk", "SigCgt")} == {"0" * 16}


def test_a_deaf_owners_command_is_ended_by_sigterm(start_owner: Callable[..., Owner], tmp_path: Path) -> None:
    owner = start_owner(setup="deaf")
    owner.ask("run", directory=str(tmp_path), script="exec sleep 300", lease_seconds=0.5)

    assert owner.hear() == {
        "ended": "stopped",
        "exit_code": None,
        "stop_reason": "lease_lost",
        "message": "its lease was not renewed in time and it was ended",
    }


def test_nothing_but_the_three_standard_files_is_open(
    pool: SupervisorPool, command: MakeCommand, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    script = "import os; print(*sorted(os.listdir('/proc/self/fd')), os.readlink('/proc/self/fd/0'))"
    try:
        pool.run(command(sys.executable, "-I", "-S", "-c", script), Lifeline(20))
    finally:
        os.close(reading)
        os.close(writing)

    assert (tmp_path / "stdout").read_text() == "0 1 2 3 /dev/null\n"  # 3 is the listing's own


def test_a_command_leads_a_session_of_its_own(pool: SupervisorPool, command: MakeCommand, tmp_path: Path) -> None:
    pool.run(
        command(sys.executable, "-c", "import os; print(os.getsid(0) == os.getpgrp() == os.getpid())"), Lifeline(20)
    )

    assert (tmp_path / "stdout").read_text() == "True\n"


def test_standard_input_is_a_file_or_empty(pool: SupervisorPool, command: MakeCommand, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("hello")

    pool.run(command("cat", "-", stdin=tmp_path / "in"), Lifeline(20))
    assert (tmp_path / "stdout").read_text() == "hello"
    result = pool.run(command("cat", "-"), Lifeline(20))

    assert ((tmp_path / "stdout").read_text(), result.exit_code) == ("", 0)


def test_the_environment_is_the_given_one_and_the_supervisors_mark(
    pool: SupervisorPool, command: MakeCommand, marked: Marked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")

    pool.run(command("env", "-0", env={"GREETING": "grüß\udcff"}), Lifeline(20))

    entries = (tmp_path / "stdout").read_bytes().rstrip(b"\0").split(b"\0")
    found = dict(entry.split(b"=", 1) for entry in entries)
    assert set(found) == {b"PATH", b"GREETING", b"TEST_MARK", b"AGENTFLOW_SUPERVISOR"}
    assert found[b"GREETING"] == "grüß".encode() + b"\xff"


def test_a_hundred_megabytes_cost_no_memory_and_are_cut_at_the_bound(
    pool: SupervisorPool, command: MakeCommand, tmp_path: Path
) -> None:
    pool.run(command("true"), Lifeline(20))
    (link,) = pool._links
    before = peak_megabytes(link.pid), peak_megabytes(os.getpid())

    result = pool.run(
        command("yes 0123456789abcde | head -c 100000000", output_limit_bytes=5_000_001, masks=("not-in-there",)),
        Lifeline(20),
    )

    after = peak_megabytes(link.pid), peak_megabytes(os.getpid())
    expected = (b"0123456789abcde\n" * 312_501)[:5_000_001]
    assert result.stdout is not None
    assert (result.stdout.bytes_seen, result.stdout.bytes_kept, result.stdout.is_cut) == (100_000_000, 5_000_001, True)
    assert (tmp_path / "stdout").stat().st_size == 5_000_001
    assert result.stdout.sha256 == hashlib.sha256(expected).hexdigest()
    assert max(late - early for early, late in zip(before, after, strict=True)) < 4


def test_a_secret_is_masked_wherever_the_pieces_of_the_stream_part_it(
    pool: SupervisorPool, command: MakeCommand, tmp_path: Path
) -> None:
    secret = "sesame-42-open"
    # Pieces of 64 KiB are read: the secret lies over every border there is, at another place each time.
    script = f"import sys; [sys.stdout.write('x' * (65536 - 14 - 1) + '{secret}.') for _ in range(40)]"

    result = pool.run(
        command(sys.executable, "-c", script, masks=(secret,), output_limit_bytes=10_000_000), Lifeline(20)
    )

    assert result.stdout is not None
    assert (tmp_path / "stdout").read_text() == ("x" * (65536 - 15) + "***.") * 40
    assert result.stdout.bytes_seen == 65536 * 40
    assert result.stdout.sha256 == hashlib.sha256((tmp_path / "stdout").read_bytes()).hexdigest()


def test_what_stands_in_a_large_pipe_at_the_end_is_kept(
    pool: SupervisorPool, command: MakeCommand, tmp_path: Path
) -> None:
    script = """
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
os.write(1, b"x" * (1 << 20))
"""

    pool.run(command(sys.executable, "-c", script, output_limit_bytes=1 << 21), Lifeline(20))

    assert (tmp_path / "stdout").stat().st_size == 1 << 20


def test_a_daemon_that_holds_stdout_open_does_not_hold_up_the_end(
    pool: SupervisorPool, command: MakeCommand, marked: Marked, tmp_path: Path
) -> None:
    result = pool.run(command("(setsid sleep 300 &); echo done", kill_grace_seconds=10), Lifeline(20))

    assert marked.pids() == set()
    assert (result.ended, result.exit_code) == (Ended.EXITED, 0)
    assert result.duration_seconds < 5
    assert (tmp_path / "stdout").read_text() == "done\n"


def test_a_stranger_that_was_handed_stdout_does_not_hold_up_the_end(
    pool: SupervisorPool, command: MakeCommand, tmp_path: Path
) -> None:
    script = """
import socket, sys
with socket.socket(socket.AF_UNIX) as stranger:
    stranger.connect("stranger")
    print("handed over", flush=True)
    socket.send_fds(stranger, [b"-"], [1])
    stranger.recv(1)
"""
    with socket.socket(socket.AF_UNIX) as door, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # a socket's path must be short
        door.bind("stranger")
        door.listen()
        results: list[CommandResult] = []
        run = threading.Thread(
            target=lambda: results.append(pool.run(command(sys.executable, "-c", script), Lifeline(20)))
        )
        run.start()
        guest, _ = door.accept()
        with guest:
            _, fds, _, _ = socket.recv_fds(guest, 1, 1)
            guest.send(b"-")
            run.join(10)
        os.close(fds[0])

    assert (results[0].ended, results[0].exit_code) == (Ended.EXITED, 0)
    assert (tmp_path / "stdout").read_text() == "handed over\n"


def test_one_pool_serves_many_threads_and_keeps_its_supervisors(
    pool: SupervisorPool, command: MakeCommand, tmp_path: Path
) -> None:
    results: dict[int, CommandResult] = {}

    def run(number: int) -> None:
        out = tmp_path / f"out-{number}"
        script = f"sleep 0.3; echo {number}; exit {number}"
        results[number] = pool.run(command(script, stdout=out, stderr=tmp_path / f"error-{number}"), Lifeline(20))

    for _ in range(2):
        threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [results[number].exit_code for number in range(6)] == list(range(6))
        assert [(tmp_path / f"out-{number}").read_text() for number in range(6)] == [f"{n}\n" for n in range(6)]
        assert len(pool._links) <= 6


def test_closing_ends_idle_supervisors_and_refuses_further_commands(command: MakeCommand) -> None:
    pool = SupervisorPool()
    pool.run(command("true"), Lifeline(20))
    (link,) = pool._links

    pool.close()

    assert not Path(f"/proc/{link.pid}").exists()
    with pytest.raises(RuntimeError, match="closed"):
        pool.run(command("true"), Lifeline(20))


def peak_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
