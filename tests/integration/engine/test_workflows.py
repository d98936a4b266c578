"""Workflow directories in real runs: the example, and one with every role that makes several of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentflow.client import AgentFlow, Engine
from agentflow.domain.error import NotFound, UsageError
from tests.integration.engine.conftest import Station
from tests.workers import REPOSITORY


def _engine(station: Station, path: Path) -> Engine:
    return Engine.from_config_dir(path, flow=AgentFlow(station.house.settings))


@pytest.mark.parametrize(
    ("request_", "route", "draft"),
    [("edit: teh cat sat", "edit", "the cat sat"), ("a haiku", "create", "A draft of a haiku.")],
)
def test_the_editor_takes_the_route_that_the_request_names(
    station: Station, request_: str, route: str, draft: str
) -> None:
    told = _engine(station, REPOSITORY / "examples" / "editor").run(request_, timeout=60)

    assert told["status"] == "completed"
    assert told["output"] == {"draft": draft, "words": len(draft.split()), "by": route}
    assert told["node_sequence"] == ["normalise", "decide", route, "draft", "summary", "done"]
    assert told["task_id"].startswith("task-editor-")
    assert told["execution_time_ms"] > 0
