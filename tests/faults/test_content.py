"""A content store that is full, read-only, gone or another: a clear reason, and the worker lives or takes nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentflow.content import SharedDirectory
from agentflow.domain.state import RunState
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, shell_step, step_rows, submitted, wait_for_end
from tests.workers import WorkerProcess, environment_of

Start = Callable[..., WorkerProcess]
Break = Callable[[Path], Any]


@contextmanager
def _gone(store: Path) -> Iterator[None]:
    """An empty directory in its place, as where it was mounted."""
    away = store.with_name("away")
    store.rename(away)
    store.mkdir()
    try:
        yield
        assert list(store.iterdir()) == [], "something was written where the store is not"
    finally:
        store.rmdir()
        away.rename(store)


@contextmanager
def _broken(store: Path) -> Iterator[None]:
    """Its runs are no directory any more."""
    runs, away = store / "runs", store / "away"
    runs.mkdir(exist_ok=True)
    runs.rename(away)
    runs.touch()
    try:
        yield
    finally:
        runs.unlink()
        away.rename(runs)


@contextmanager
def _mounted(store: Path, *options: str) -> Iterator[None]:
    try:
        subprocess.run(["mount", *options, str(store)], check=True, capture_output=True)  # noqa: S607 - the system's
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(store)], check=True)  # noqa: S607 - the system's


@contextmanager
def _read_only(store: Path) -> Iterator[None]:
    with _mounted(store, "--bind", str(store)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(store)], check=True)  # noqa: S607 - the system's
        yield


@contextmanager
def _full(store: Path) -> Iterator[None]:
    identity = (store / "store.id").read_bytes()
    with _mounted(store, "-t", "tmpfs", "-o", "size=64k", "none"):
        (store / "store.id").write_bytes(identity)
        with pytest.raises(OSError, match="No space"):
            (store / "rest").write_bytes(bytes(1 << 20))
        yield


def test_what_cannot_be_kept_fails_its_step_with_the_reason_and_the_worker_lives(
    house: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    _fails_and_lives(house, worker, tmp_path / "gone", _gone, "no content store where this process looks for it")
    _fails_and_lives(house, worker, tmp_path / "broken", _broken, "Not a directory")


def test_a_disk_that_is_full_or_read_only_fails_steps_with_the_reason_and_the_worker_lives(
    house: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    _fails_and_lives(house, worker, tmp_path / "read-only", _read_only, "Read-only file system")
    _fails_and_lives(house, worker, tmp_path / "full", _full, "No space left on device")


def _fails_and_lives(house: Runtime, worker: WorkerProcess, gate: Path, breaks: Break, says: str) -> None:
    store = house.settings.content_root()
    run_id = submitted(house.context, [shell_step("work", f"while [ ! -e {gate} ]; do sleep 0.05; done; echo kept")])

    with breaks(store):
        gate.touch()
        assert wait_for_end(house.context, run_id) is RunState.FAILED

    reason = step_rows(house.context, run_id)["work"].reason
    assert reason["code"] == "content"
    assert says in reason["detail"]["problem"]
    assert str(store) not in reason["detail"]["problem"]
    assert len(attempt_rows(house.context, run_id)) == 1
    assert worker.process.poll() is None
    again = submitted(house.context, [shell_step("work", "echo kept")])
    assert wait_for_end(house.context, again) is RunState.COMPLETED


@pytest.mark.parametrize("has_identity", [False, True], ids=["no store", "another store"])
def test_a_worker_that_sees_another_store_takes_nothing(house: Runtime, tmp_path: Path, has_identity: bool) -> None:
    other = tmp_path / "other"
    other.mkdir()
    if has_identity:
        SharedDirectory(other).store_id()
    run_id = submitted(house.context, [shell_step("work", "true")])
    environment = environment_of(house.settings, tmp_path) | {"AGENTFLOW_CONTENT_DIR": str(other)}

    refused = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers", "worker", "-c", "1"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert refused.returncode != 0
    assert "This worker takes no work" in refused.stderr
    assert "AGENTFLOW_CONTENT_DIR" in refused.stderr
    assert attempt_rows(house.context, run_id) == []
    assert [path.name for path in other.iterdir()] == (["store.id"] if has_identity else [])
