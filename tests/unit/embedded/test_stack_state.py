"""The state file is private, whole, and believed only while its writer lives."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from agentflow.embedded import StackState, clear_state, process_started, read_state, write_state


def state_of(pid: int, pid_started: float) -> StackState:
    return StackState(
        pid=pid,
        pid_started=pid_started,
        database_url="postgresql://agentflow:hush@127.0.0.1:1/agentflow",
        redis_url="redis://:hush@127.0.0.1:2/0",
        content_dir=Path("/somewhere/content"),
        audit_key_file=Path("/somewhere/audit.key"),
        version="0.1.0",
        concurrency=4,
        has_flower=True,
        has_beat=True,
    )


def own_state() -> StackState:
    started = process_started(os.getpid())
    assert started is not None
    return state_of(os.getpid(), started)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_state(tmp_path, own_state())
    assert read_state(tmp_path) == own_state()


def test_the_file_is_private_and_the_only_one_left(tmp_path: Path) -> None:
    write_state(tmp_path, own_state())
    write_state(tmp_path, own_state())
    assert [path.name for path in tmp_path.iterdir()] == ["stack.json"]
    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600


def test_a_repr_shows_no_password() -> None:
    assert "hush" not in repr(own_state())


def test_without_a_file_there_is_no_stack(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / "missing") is None


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/below", "/" + "x" * 300])
def test_a_home_that_can_be_none_holds_no_stack(home: str) -> None:
    assert read_state(Path(home)) is None


def test_the_state_of_a_dead_process_is_not_believed(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as process:
        started = process_started(process.pid)
        assert started is not None
        write_state(tmp_path, state_of(process.pid, started))
        assert read_state(tmp_path) is not None
    assert read_state(tmp_path) is None


def test_the_state_of_a_process_that_nobody_reaped_is_not_believed(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as process:
        started = process_started(process.pid)
        assert started is not None
        write_state(tmp_path, state_of(process.pid, started))
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert read_state(tmp_path) is None


def test_a_reused_process_id_is_not_believed(tmp_path: Path) -> None:
    earlier = own_state().pid_started - 0.01
    write_state(tmp_path, state_of(os.getpid(), earlier))
    assert read_state(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": 1}'])
def test_a_file_of_another_shape_is_no_stack(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    assert read_state(tmp_path) is None


def test_a_field_of_a_later_version_makes_no_stack(tmp_path: Path) -> None:
    write_state(tmp_path, own_state())
    facts = json.loads((tmp_path / "stack.json").read_text()) | {"later": 1}
    (tmp_path / "stack.json").write_text(json.dumps(facts))
    assert read_state(tmp_path) is None


def test_clearing_removes_the_file_and_may_be_repeated(tmp_path: Path) -> None:
    write_state(tmp_path, own_state())
    clear_state(tmp_path)
    clear_state(tmp_path)
    assert list(tmp_path.iterdir()) == []
