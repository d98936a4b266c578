"""The pytest plugin: the fixture ``agentflow``, and what it is made from.

Owns the fixtures and nothing else. pytest imports this in every session: what a fixture needs is imported in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from agentflow.testing.rehearsal import Rehearsal
    from agentflow.testing.stage import Stage


@pytest.fixture(scope="session")
def agentflow_stage() -> Iterator[Stage]:
    """The session's Postgres, one for each process of xdist; it starts with the first test that asks for it."""
    from agentflow.testing.stage import Stage

    with Stage() as stage:
        yield stage


@pytest.fixture
def agentflow_settings() -> Mapping[str, Any]:
    """Settings of agentflow for a test, such as ``{"python_calls": ("statistics:*",)}``; override it to give some.

    Nothing is taken from the environment or a configuration file.
    """
    return {}


@pytest.fixture
def agentflow(
    agentflow_stage: Stage, agentflow_settings: Mapping[str, Any], request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Rehearsal]:
    """Plans in process: say what models, services and people answer, run a plan, look at the run."""
    from agentflow.testing.rehearsal import Rehearsal

    with Rehearsal(agentflow_stage, agentflow_settings, tmp_path / "agentflow", request.path.parent) as rehearsal:
        yield rehearsal
