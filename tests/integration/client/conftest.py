"""The client and the command line as a producer has them: settings or environment, and nothing else of the house."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from agentflow import AgentFlow, Plan, Run
from agentflow.domain.ids import RunId
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import work_off

Finish = Callable[[Run], Run]


@pytest.fixture
def flow(house: Runtime) -> Iterator[AgentFlow]:
    """A client of the test's installation."""
    with AgentFlow(house.settings) as client:
        yield client


@pytest.fixture
def finish(house: Runtime) -> Finish:
    """Work a run off in this process, where a test is not about workers."""

    def work(run: Run) -> Run:
        work_off(house, RunId(run.uuid))
        return run.refresh()

    return work


@pytest.fixture
def at_home(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An environment that names the test's installation, for the command line in this process."""
    for name, value in environment_of(house.settings).items():
        monkeypatch.setenv(name, value)
    return house.settings


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that name an installation to a producer."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    assert settings.audit_key is not None
    return {
        "AGENTFLOW_DATABASE_URL": settings.database_url.get_secret_value(),
        "AGENTFLOW_REDIS_URL": settings.redis_url.get_secret_value(),
        "AGENTFLOW_AUDIT_KEY": settings.audit_key.get_secret_value(),
        "AGENTFLOW_CONTENT_DIR": str(settings.content_dir),
        "AGENTFLOW_HOME": str(settings.home),
        "AGENTFLOW_REDIS_PREFIX": settings.redis_prefix,
        "AGENTFLOW_ACTOR": settings.actor,
    }


def shell_plan(*scripts: str, name: str = "tested", **fields: object) -> Plan:
    """A plan whose steps s0, s1, ... run these scripts one after the other."""
    plan = Plan(name)
    for number, script in enumerate(scripts):
        plan.subprocess(f"s{number}", ["/bin/sh", "-c", script], **fields)  # type: ignore[arg-type]  # fields of steps
    return plan
