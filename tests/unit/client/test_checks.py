"""What cannot be meant is refused by the client before any server is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from agentflow import AgentFlow, Plan, Run, errors
from agentflow.domain.ids import RunId
from agentflow.settings import Settings

RUN_ID = RunId(UUID("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"))


def flow(home: Path, **fields: Any) -> AgentFlow:
    """A client whose servers are away: a call that reaches for them fails otherwise."""
    database, redis = SecretStr("postgresql://nobody@127.0.0.1:1/none"), SecretStr("redis://127.0.0.1:1/0")
    return AgentFlow(Settings(home=home, database_url=database, redis_url=redis, **fields))


def plan() -> Plan:
    made = Plan("tested")
    made.noop("a")
    return made


@pytest.mark.parametrize("key", ["a\0b", "", "x" * 201, "a\nb", "\ud800", 7])
def test_a_key_is_printable_and_short(tmp_path: Path, key: Any) -> None:
    with pytest.raises(errors.UsageError, match="1 to 200 printable characters"):
        flow(tmp_path).submit(plan(), idempotency_key=key)


@pytest.mark.parametrize("name", ["x" * 101, ".x", "a b"])
def test_a_name_that_is_none_says_what_one_may_be_also_how_long(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.UsageError, match=r"no name of a project: start with .*, at most 100 characters\.$"):
        flow(tmp_path).submit(plan(), project=name)
    with pytest.raises(errors.UsageError, match=r"a directive: start with .*, at most 100 characters\.$"):
        flow(tmp_path).budget(project=name)
    with pytest.raises(errors.UsageError, match=r"names no stored plan: .*, at most 100 characters\.$"):
        flow(tmp_path).stored_plan(name)


@pytest.mark.parametrize("actor", ["me\x1b[2J", "me\nyou", "me\u202e", " "])
def test_an_actor_is_printable_wherever_someone_acts(tmp_path: Path, actor: str) -> None:
    with flow(tmp_path, actor=actor) as client:
        run = Run(client, RUN_ID)
        for act in (lambda: client.submit(plan()), run.cancel, run.retry):
            with pytest.raises(errors.UsageError, match="printable"):
                act()
    with pytest.raises(errors.UsageError, match="printable"):
        flow(tmp_path).submit(plan(), actor=actor)


@pytest.mark.parametrize("timeout", ["5s", -1, float("nan"), True])
def test_a_time_to_wait_is_seconds(tmp_path: Path, timeout: Any) -> None:
    with pytest.raises(errors.UsageError, match="seconds as a number, 0 or more"):
        Run(flow(tmp_path), RUN_ID).wait(timeout=timeout)
