"""A child's end comes by its stages, its log stays bounded, and a process is known by more than its id."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflow.domain.error import ConfigurationError, ServersUnreachable
from agentflow.embedded import process
from agentflow.embedded.child import Child, ServerLog, spawn
from agentflow.embedded.process import end_process, is_server, process_started, wait_for_exit

DEAF = "trap '' TERM INT; echo deaf; exec 3<>\"$0\"; read line <&3"


def child(tmp_path: Path, script: str) -> tuple[Child, ServerLog]:
    log = ServerLog(tmp_path / "log")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    return Child(["/bin/sh", "-c", script, str(fifo)], None, log, signal.SIGKILL), log


def test_a_child_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    server, log = child(tmp_path, DEAF)
    while "deaf" not in log.text():
        assert server.is_running()
    server.end([(signal.SIGTERM, 0.1)])
    assert not server.is_running()


def test_a_child_hears_signals_that_its_parent_ignores(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server, _ = child(tmp_path, "exec sleep 60")
    finally:
        signal.signal(signal.SIGINT, before)
    server.signal(signal.SIGINT)
    try:
        assert server.has_ended(10.0)
    finally:
        server.end([])


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"Cannot start {tmp_path}/missing: .*No such file"):
        spawn([f"{tmp_path}/missing"], None, signal.SIGKILL)


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "up.log").mkdir()  # which stops root too
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/up.log cannot be written: Is a directory"):
        ServerLog(tmp_path / "up.log").open()


def test_a_log_over_its_limit_is_set_aside_while_the_server_goes_on(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "server.log")
    with log.open() as server:
        server.write(b"first\n" * 100)
        log.trim(limit_bytes=1000)
        assert log.path.stat().st_size == 600
        log.trim(limit_bytes=599)
        server.write(b"second\n")
    assert log.path.read_bytes() == b"second\n"
    assert (tmp_path / "server.log.1").read_bytes() == b"first\n" * 100


def test_a_log_tells_only_of_the_last_start(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "server.log")
    for words in (b"first\n", b"second\n"):
        with log.open() as server:
            server.write(words)
    assert log.text() == "second\n"
    assert log.path.read_bytes() == b"first\nsecond\n"


def test_a_log_that_was_set_aside_tells_what_came_since(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "server.log")
    log.path.write_bytes(b"earlier\n" * 100)
    with log.open() as server:
        log.trim(limit_bytes=1)
        server.write(b"since\n")
    assert log.text() == "since\n"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_server_is_known_by_program_argument_and_start(sleeper: subprocess.Popen[bytes]) -> None:
    now, about = time.time(), Path("60")
    assert is_server(sleeper.pid, "sleep", started_at=now, about=about)
    assert not is_server(sleeper.pid, "postgres", started_at=now, about=about)
    assert not is_server(sleeper.pid, "sleep", started_at=now, about=Path("61"))
    assert not is_server(sleeper.pid, "sleep", started_at=now - 3600, about=about)


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="needs ps")
def test_a_server_is_known_without_proc_too(sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_HAS_PROC", False)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    test_a_server_is_known_by_program_argument_and_start(sleeper)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert process_started(sleeper.pid) is None
    sleeper.wait()
    assert process_started(sleeper.pid) is None
    assert not is_server(sleeper.pid, "sleep", started_at=time.time(), about=Path("60"))


def test_a_process_that_is_not_the_one_meant_gets_no_signal(sleeper: subprocess.Popen[bytes]) -> None:
    end_process(sleeper.pid, lambda: False, [(signal.SIGKILL, 1.0)])
    assert process_started(sleeper.pid) is not None


def test_a_process_that_outlives_every_stage_is_an_error(sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(ServersUnreachable, match=str(sleeper.pid)):
        end_process(sleeper.pid, lambda: True, [(signal.SIGCONT, 0.05)])


@pytest.mark.parametrize("has_pidfds", [True, False])
def test_waiting_for_an_exit_ends_with_it(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, has_pidfds: bool
) -> None:
    if not has_pidfds:
        monkeypatch.delattr(os, "pidfd_open")
    assert not wait_for_exit(sleeper.pid, 0.05)
    sleeper.kill()
    assert wait_for_exit(sleeper.pid, 10.0)
    sleeper.wait()
    assert wait_for_exit(sleeper.pid, 0.0)
    assert process_started(sleeper.pid) is None
