"""Loading a workflow directory: the errors of each stage, with file and line, and what is not due by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.error import DAGValidationError, ManifestLoadError, NotFound, PlanRejected, SchemaValidationError
from agentflow.engine.load_workflow import examine, is_workflow, load_workflow
from tests.workflows import write_manifests

ACTIONS = ("http", "llm", "noop", "subprocess")
NODES: list[dict[str, Any]] = [
    {"stage_id": "in", "kind": "deterministic", "role": "start", "context": "none", "default_start": True},
    {"stage_id": "a", "kind": "agent", "role": "linear", "context": "global", "agent_id": "writer"},
    {"stage_id": "out", "kind": "deterministic", "role": "exit", "context": "none"},
]
EDGES = [{"from_node_id": "in", "to_node_id": "a"}, {"from_node_id": "a", "to_node_id": "out"}]
WRITER = {"agent_id": "writer", "model": "test:m", "prompt": "Write: {{ input.title }} for {{ request }}"}


def _changed(position: int, **fields: Any) -> list[dict[str, Any]]:
    return [{**node, **fields} if number == position else node for number, node in enumerate(NODES)]


def _written(folder: Path, nodes: list[dict[str, Any]] | None = None, agent: Any = WRITER, **more: Any) -> Path:
    return write_manifests(folder, NODES if nodes is None else nodes, EDGES, agents=[agent], **more)


def _faults(folder: Path) -> list[tuple[str, str]]:
    """The code of each fault, and file and line."""
    _, faults = examine(folder, available_actions=ACTIONS)
    return [(fault.code, fault.place.rpartition("/")[2]) for fault in faults]


def test_a_workflow_directory_is_a_plan(tmp_path: Path) -> None:
    loaded = load_workflow(_written(tmp_path / "flow"), available_actions=ACTIONS)

    assert [step.id for step in loaded.plan.plan.steps] == ["in", "a", "out"]
    prompts = [text.decode() for text in loaded.plan.content.values()]
    assert prompts == ["Write: {{ (vars.input).title }} for {{ (vars.input) }}"]


def test_a_missing_or_broken_manifest_is_a_load_error(tmp_path: Path) -> None:
    folder = _written(tmp_path)
    (folder / "agents.yaml").unlink()
    (folder / "tools.yaml").write_text("tools: [", encoding="utf-8")

    assert [code for code, _ in _faults(folder)] == ["missing_manifest", "yaml_syntax"]
    with pytest.raises(ManifestLoadError):
        load_workflow(folder)


@pytest.mark.parametrize("name", ["memory.yaml", "plugins.yaml", "policy.yaml", "scheduler.yaml", "schemas"])
def test_a_manifest_that_is_not_due_is_named(tmp_path: Path, name: str) -> None:
    folder = _written(tmp_path)
    (folder / name).mkdir() if name == "schemas" else (folder / name).write_text("{}", encoding="utf-8")

    assert _faults(folder) == [("not_available", f"{name}:1")]
    with pytest.raises(ManifestLoadError):
        load_workflow(folder)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"role": "loop"}, "invalid_node_role"),
        ({"kind": "human"}, "bad_value"),
        ({"context": "task_memory"}, "not_available"),
        ({"context": ""}, "bad_value"),
        ({"tools": ["write"]}, "not_available"),
        ({"merge": {"strategy": "all"}}, "not_available"),
        ({"inputs_schema_id": "draft"}, "not_available"),
        ({"merge_failure_mode": "partial"}, "bad_value"),
        ({"agentid": "writer"}, "unknown_field"),
        ({"stage_id": "1st"}, "bad_id"),
        ({"continue_on_failure": "yes"}, "wrong_type"),
    ],
)
def test_a_field_that_a_node_cannot_have_is_a_schema_error(tmp_path: Path, fields: dict[str, Any], code: str) -> None:
    folder = _written(tmp_path, _changed(1, **fields))

    assert (code in dict(_faults(folder))) is True
    with pytest.raises(SchemaValidationError):
        load_workflow(folder)


def test_empty_lists_ask_for_nothing(tmp_path: Path) -> None:
    folder = _written(tmp_path, _changed(1, tools=[], merge={}, metadata={"owner": "ops"}))

    assert _faults(folder) == []


def test_agents_and_tools_are_read_strictly_and_all_at_once(tmp_path: Path) -> None:
    tools = [{"tool_id": "t", "capabilities": ["external_network"]}, {"tool_id": "u", "subprocess": {}, "python": {}}]
    agent = {**WRITER, "temprature": 1, "tools": ["write"]}

    found = _faults(_written(tmp_path, agent=agent, tools=tools))

    assert [(code, place.partition(":")[0]) for code, place in found] == [
        ("unknown_field", "agents.yaml"),
        ("not_available", "agents.yaml"),
        ("no_action", "tools.yaml"),
        ("not_available", "tools.yaml"),
        ("no_action", "tools.yaml"),
    ]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"python": {"call": "a:b", "args": [1]}}, "wrong_type"),
        ({"python": {"call": "a:b", "args": {"input": 1}}}, "unknown_field"),
        ({"python": {"call": "a:b", "json_args": "x"}}, "wrong_type"),
        ({"python": {"call": "a:b"}, "output": "json"}, "unknown_field"),
        ({"subprocess": {"command": ["cat"], "stdin": "x"}}, "unknown_field"),
    ],
)
def test_what_a_tool_is_given_has_one_place(tmp_path: Path, fields: dict[str, Any], code: str) -> None:
    folder = _written(tmp_path, tools=[{"tool_id": "t", **fields}])

    assert [found for found, _ in _faults(folder)] == [code]
    with pytest.raises(SchemaValidationError):
        load_workflow(folder)


def test_a_broken_graph_is_a_graph_error_with_its_line(tmp_path: Path) -> None:
    folder = write_manifests(tmp_path, NODES, EDGES[:1], agents=[WRITER])

    with pytest.raises(DAGValidationError) as raised:
        load_workflow(folder)

    line = (folder / "workflow.yaml").read_text(encoding="utf-8").splitlines().index("- stage_id: a") + 1
    assert any(fault.code == "no_outbound_edges" and fault.line == line for fault in raised.value.faults)


def test_a_fault_of_the_plan_stands_where_it_was_written(tmp_path: Path) -> None:
    folder = _written(tmp_path, agent={**WRITER, "prompt": "{{ output }}", "max_tokens": 0})
    lines = (folder / "agents.yaml").read_text(encoding="utf-8").splitlines()
    places = {name: next(number for number, line in enumerate(lines, 1) if name in line) for name in ("prompt", "max")}

    with pytest.raises(PlanRejected) as raised:
        load_workflow(folder)

    assert [(fault.code, fault.line) for fault in raised.value.faults] == [
        ("unknown_name", places["prompt"]),
        ("bad_value", places["max"]),
    ]


def test_what_cannot_be_read_is_named_and_not_ignored(tmp_path: Path) -> None:
    def one(key: str, role: str, **more: Any) -> dict[str, Any]:
        return {"stage_id": key, "kind": "deterministic", "role": role, "context": "none", **more}

    nodes = [
        one("in", "start", default_start=True), one("cut", "split"), one("d", "decision"), one("a", "linear"),
        one("b", "linear"), one("join", "merge", operation="say"), one("out", "exit"),
    ]  # fmt: skip
    ways = ["in cut", "cut d", "d a", "d b", "a join", "b join", "join out"]
    edges = [dict(zip(("from_node_id", "to_node_id"), way.split(), strict=True)) for way in ways]
    say = {"tool_id": "say", "subprocess": {"command": ["cat"]}}

    found = _faults(write_manifests(tmp_path, nodes, edges, tools=[say]))

    assert [code for code, _ in found] == ["not_available"]


def test_only_start_nodes_can_be_started_from(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="'a' is no start node"):
        load_workflow(_written(tmp_path), start="a")


def test_a_directory_without_manifests_is_no_workflow(tmp_path: Path) -> None:
    assert not is_workflow(tmp_path)
    with pytest.raises(NotFound):
        load_workflow(tmp_path / "nowhere")
