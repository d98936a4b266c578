"""What is advised about a server that does not answer: by whose server it is, and whether a stack is up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentflow.cli.unreachable import with_advice
from agentflow.domain.error import ServersUnreachable
from agentflow.embedded import StackState, process_started, write_state


def _told() -> str:
    error = ServersUnreachable("away")
    error.__cause__ = TimeoutError()
    return str(with_advice(error))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AGENTFLOW_DATABASE_URL", "AGENTFLOW_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AGENTFLOW_HOME", str(tmp_path))
    return tmp_path


def test_a_stack_that_is_up_starts_again_what_ended_and_leaves_what_hangs(home: Path) -> None:
    started = process_started(os.getpid()) or 0.0
    write_state(home, StackState(os.getpid(), started, "postgresql://", "redis://", home, home / "audit.key", "0"))
    assert "starts a server again that ended, but not one that hangs" in _told()
    assert "`agentflow down` and `agentflow up`" in _told()


def test_without_a_stack_one_is_to_be_started(home: Path) -> None:
    assert "Start a stack with `agentflow up`" in _told()


def test_of_ones_own_servers_the_addresses_are_to_be_looked_at(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", "postgresql://a@127.0.0.1/b")
    monkeypatch.setenv("AGENTFLOW_REDIS_URL", "redis://127.0.0.1")
    assert "Look at AGENTFLOW_DATABASE_URL and AGENTFLOW_REDIS_URL" in _told()
