"""One owner for a home, and none once that owner is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentflow.domain.error import ConfigurationError
from agentflow.embedded.lock import AlreadyRunning, HomeLock


def test_a_second_owner_is_refused_with_the_first_ones_id(tmp_path: Path) -> None:
    first = HomeLock(tmp_path)
    first.acquire()
    with pytest.raises(ConfigurationError, match=f"run by process {os.getpid()}") as refusal:
        HomeLock(tmp_path).acquire()
    assert isinstance(refusal.value, AlreadyRunning)
    assert refusal.value.details == {"home": str(tmp_path), "pid": os.getpid()}
    first.release()


def test_a_released_home_is_free(tmp_path: Path) -> None:
    first, second = HomeLock(tmp_path), HomeLock(tmp_path)
    first.acquire()
    first.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_an_id_that_no_process_has_is_not_named(tmp_path: Path) -> None:
    first = HomeLock(tmp_path)
    first.acquire()
    (tmp_path / "servers.lock").write_text("4194305")  # above the largest id that Linux gives
    with pytest.raises(AlreadyRunning, match="run by another process") as refusal:
        HomeLock(tmp_path).acquire()
    assert refusal.value.pid is None
    first.release()


def test_a_forked_child_does_not_hold_its_parents_home(tmp_path: Path) -> None:
    first = HomeLock(tmp_path)
    first.acquire()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.close(writing)
        os.read(reading, 1)  # live until the parent is done
        os._exit(0)
    os.close(reading)
    try:
        first.release()
        second = HomeLock(tmp_path)
        second.acquire()
        second.release()
    finally:
        os.close(writing)
        os.waitpid(child, 0)
