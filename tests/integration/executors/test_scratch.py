"""An attempt's directory goes with the attempt, and what a killed worker left is swept up by the next one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentflow.executors.base import Lifeline
from agentflow.executors.command import Command
from agentflow.executors.scratch import scratch_directory, sweep_scratch
from agentflow.executors.supervisor_pool import SupervisorPool

_OWNER = """
import sys
from agentflow.executors.scratch import scratch_directory
with scratch_directory() as scratch:
    (scratch / "stdin").write_text("hunter2")
    print(scratch, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The TMPDIR of this test and of the processes it starts."""
    place = tmp_path / "tmpdir"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@contextmanager
def _owner() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a scratch directory."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _OWNER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_scratch_directory_is_private_and_goes_with_its_block(place: Path) -> None:
    with scratch_directory() as scratch:
        assert scratch.parent == place
        assert scratch.stat().st_mode & 0o777 == 0o700
        (scratch / "work" / "closed").mkdir(parents=True)
        (scratch / "work" / "closed" / "file").write_text("x")
        (scratch / "work" / "closed").chmod(0)
        (scratch / "link").symlink_to(place)

    assert list(place.iterdir()) == []


def test_what_a_killed_owner_left_is_swept_and_what_others_use_is_not(place: Path) -> None:
    (place / "agentflow-of-somebody-else").mkdir()
    with _owner() as (_, used), scratch_directory() as own, _owner() as (killed, left):
        killed.kill()
        killed.wait()
        assert (left / "stdin").read_text() == "hunter2"

        assert sweep_scratch() == 1

        assert not left.exists()
        assert (used / "stdin").exists()
        assert own.exists()
    assert (place / "agentflow-of-somebody-else").exists()


def test_a_link_with_the_name_of_a_scratch_directory_is_not_followed(place: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (place / "agentflow-scratch-x").symlink_to(tmp_path / "precious")

    assert sweep_scratch() == 0
    assert (tmp_path / "precious").exists()


def test_the_first_command_of_a_process_sweeps(pool: SupervisorPool, command: Callable[..., Command]) -> None:
    with _owner() as (killed, left):
        killed.kill()
        killed.wait()

        pool.run(command("true"), Lifeline(20))

        assert not left.exists()


def test_a_place_where_none_can_be_made_is_an_oserror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    with pytest.raises(FileNotFoundError), scratch_directory():
        pass
