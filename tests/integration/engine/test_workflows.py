"""Workflow directories in real runs: the example, and one with every role that makes several of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.client import AgentFlow, Engine
from agentflow.domain.error import NotFound, UsageError
from agentflow.embedded import ServerUrls
from tests.integration.engine.conftest import Station, _opened
from tests.workers import REPOSITORY
from tests.workflows import write_manifests

FUNCTIONS = "tests.integration.engine.workflow_functions"


@pytest.fixture(scope="module")
def station(servers: ServerUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """A worker that allows the functions of these tests."""
    folder = tmp_path_factory.mktemp("workflows")
    with _opened(servers, template, folder, "-c", "4", AGENTFLOW_PYTHON_CALLS=f"{FUNCTIONS}:*") as station:
        yield station


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


def test_a_run_tells_the_parts_of_a_merge_with_the_lineage_of_their_tasks(station: Station, tmp_path: Path) -> None:
    folder = _fan_out(tmp_path, "fail_on_any")

    told = _engine(station, folder).run([3, 4, 5], timeout=60)

    task = told["task_id"]
    assert told["status"] == "completed"
    assert told["output"] == {"sum": 24, "parts": 4}
    (join,) = [record for record in told["history"] if record["node_id"] == "join"]
    assert [(part["task_id"], part["node_id"], part["output"]) for part in join["input"]] == [
        (f"{task}-clone-0-subtask-0", "double", 6),
        (f"{task}-clone-0-subtask-1", "double", 8),
        (f"{task}-clone-0-subtask-2", "double", 10),
        (f"{task}-clone-1", "all", [3, 4, 5]),
    ]
    assert join["input"][1]["lineage_metadata"] == {
        "split_edge_label": "double", "split_at_stage": "cut", "subtask_index": 1, "subtask_input": 4,
    }  # fmt: skip
    assert join["input"][3]["lineage_metadata"] == {
        "branch_label": "whole", "cloned_at_stage": "fan", "clone_index": 1,
    }  # fmt: skip
    assert all(part["timestamp"] for part in join["input"])
    assert told["node_sequence"][:2] == ["in", "fan"]
    assert told["node_sequence"][-2:] == ["join", "out"]


@pytest.mark.parametrize(
    ("mode", "status", "output"),
    [("fail_on_any", "failed", None), ("ignore_failures", "completed", {"sum": 16, "parts": 3}),
     ("partial", "partial", {"sum": 16, "parts": 3})],
)  # fmt: skip
def test_mixed_results_end_as_the_merge_has_it(
    station: Station, tmp_path: Path, mode: str, status: str, output: Any
) -> None:
    told = _engine(station, _fan_out(tmp_path, mode)).run([3, "x", 5], timeout=60)

    assert told["status"] == status
    assert output is None or told["output"] == output
    failed = [record["node_status"] for record in told["history"] if record["node_id"] == "double"]
    assert sorted(failed) == ["completed", "completed", "failed"]


def test_a_split_of_nothing_fails_by_name(station: Station, tmp_path: Path) -> None:
    told = _engine(station, _fan_out(tmp_path, "fail_on_any")).run([], timeout=60)

    (cut,) = [record for record in told["history"] if record["node_id"] == "cut"]
    assert (told["status"], cut["node_status"]) == ("failed", "failed")
    assert cut["error"]["detail"]["code"] == "empty_subtask_inputs"


def test_an_exit_that_always_fails_makes_the_task_failed(station: Station, tmp_path: Path) -> None:
    nodes = [
        _node("in", "start", default_start=True), _node("d", "decision"), _node("a", "linear"),
        _node("good", "exit"), _node("bad", "exit", always_fail=True),
    ]  # fmt: skip
    engine = _engine(station, write_manifests(tmp_path, nodes, _edges("in d", "d a", "d bad no", "a good")))

    assert engine.run("a", timeout=60)["status"] == "completed"
    told = engine.run({"route": "no"}, timeout=60)
    assert (told["status"], told["node_sequence"]) == ("failed", ["in", "d", "bad"])
    assert engine.run("neither", timeout=60)["history"][-1]["error"]["detail"]["code"] == "invalid_target_node"


def test_a_node_that_may_fail_hands_on_what_it_was_given(station: Station, tmp_path: Path) -> None:
    nodes = [
        _node("in", "start", default_start=True), _node("a", "linear", operation="broken", continue_on_failure=True),
        _node("b", "linear", operation="copy"), _node("out", "exit"),
    ]  # fmt: skip
    tools = [_tool("broken", "exit 3"), _tool("copy", "cat")]
    folder = write_manifests(tmp_path, nodes, _edges("in a", "a b", "b out"), tools=tools)

    told = _engine(station, folder).run({"n": 1}, timeout=60)

    assert (told["status"], told["output"]) == ("completed", {"n": 1})
    assert [record["node_status"] for record in told["history"]] == ["completed", "failed", "completed", "completed"]
    assert told["history"][1]["output"] is None
    assert told["history"][1]["error"]["code"] == "exit_code"


def test_each_subtask_takes_its_own_way_and_the_merge_takes_them_all(station: Station, tmp_path: Path) -> None:
    nodes = [
        _node("in", "start", default_start=True), _node("cut", "split"), _node("d", "decision"), _node("a", "linear"),
        _node("b", "linear"), _node("join", "merge"), _node("out", "exit"),
    ]  # fmt: skip
    edges = _edges("in cut", "cut d", "d a", "d b", "a join", "b join", "join out")

    told = _engine(station, write_manifests(tmp_path, nodes, edges)).run(["a", "b", "a"], timeout=60)

    assert told["status"] == "completed"
    assert [(part["task_id"].removeprefix(told["task_id"]), part["node_id"]) for part in told["output"]] == [
        ("-subtask-0", "a"), ("-subtask-2", "a"), ("-subtask-1", "b"),
    ]  # fmt: skip
    assert [record["choice"] for record in told["history"] if record["node_id"] == "d"].count("a") == 2


def test_subtasks_that_no_merge_joins_each_come_to_an_exit(station: Station, tmp_path: Path) -> None:
    nodes = [
        _node("in", "start", default_start=True), _node("cut", "split"), _node("a", "linear", operation="count"),
        _node("out", "exit"),
    ]  # fmt: skip
    tools = [_tool("count", "python3 -c 'import json, sys; print(len(json.load(sys.stdin)))'")]
    engine = _engine(station, write_manifests(tmp_path, nodes, _edges("in cut", "cut a", "a out"), tools=tools))

    assert (engine.run(["x", "yy"], timeout=60)["output"], engine.run([1], timeout=60)["status"]) == ([1, 2], "failed")
    assert engine.run(["x", 2], timeout=60)["status"] == "partial"


def test_functions_are_given_values_and_what_they_return_goes_on(station: Station, tmp_path: Path) -> None:
    told = _engine(station, _of_functions(tmp_path)).run([3, 4, 5], timeout=60)

    assert (told["status"], told["output"]) == ("completed", {"sum": 36, "parts": 3})
    (first,) = [record for record in told["history"] if record["node_id"] == "in"]
    assert (first["input"], first["output"]["route"]) == ([3, 4, 5], "sum")
    made = sorted(
        (record["node_id"], record["output"]) for record in told["history"] if record["node_id"] in "odd even"
    )
    assert made == [("even", 12), ("odd", 9), ("odd", 15)]


def test_functions_have_arguments_of_their_own_and_a_route_may_name_them(station: Station, tmp_path: Path) -> None:
    told = _engine(station, _of_functions(tmp_path)).run('Ann "A" {{ x }}', timeout=60)

    assert (told["status"], told["output"]) == ("completed", 'Hello, Ann "A" {{ x }}!')
    assert told["node_sequence"] == ["in", "route", "refuse", "greet", "out"]
    (refused,) = [record for record in told["history"] if record["node_id"] == "refuse"]
    assert (refused["node_status"], refused["error"]) == (
        "failed", {"code": "raised", "detail": {"error": "LookupError"}},
    )  # fmt: skip


def test_the_subtask_whose_function_raises_is_missing_from_the_merge(station: Station, tmp_path: Path) -> None:
    told = _engine(station, _of_functions(tmp_path)).run([3, -4, 5], timeout=60)

    assert (told["status"], told["output"]) == ("partial", {"sum": 24, "parts": 2})


def test_a_function_that_no_worker_allows_fails_its_node_and_says_what_to_do(station: Station, tmp_path: Path) -> None:
    nodes = [_node("in", "start", default_start=True, operation="cwd"), _node("out", "exit")]
    tools = [{"tool_id": "cwd", "python": {"call": "os:getcwd"}}]

    told = _engine(station, write_manifests(tmp_path, nodes, _edges("in out"), tools=tools)).run(None, timeout=60)

    assert told["status"] == "failed"
    assert "AGENTFLOW_PYTHON_CALLS" in str(told["history"][0]["error"])


def test_an_input_is_json_and_a_start_is_a_start_node(station: Station) -> None:
    engine = _engine(station, REPOSITORY / "examples" / "editor")

    with pytest.raises(UsageError, match="cannot be written as JSON"):
        engine.run({1, 2})
    with pytest.raises(NotFound):
        engine.run("x", start="draft")
    assert engine.plan.plan.name == "editor"


def _node(key: str, role: str, **more: Any) -> dict[str, Any]:
    return {"stage_id": key, "kind": "deterministic", "role": role, "context": "none", **more}


def _edges(*ways: str) -> list[dict[str, str]]:
    names = ("from_node_id", "to_node_id", "condition")
    return [dict(zip(names, way.split(), strict=False)) for way in ways]


def _tool(key: str, script: str) -> dict[str, Any]:
    return {"tool_id": key, "output": "json", "subprocess": {"command": ["sh", "-c", script]}}


def _of_functions(folder: Path) -> Path:
    """in -> route: a list is cut and each item multiplied, then added up; for a name one fails, then it is greeted."""
    nodes = [
        _node("in", "start", default_start=True, operation="read"), _node("route", "decision"), _node("cut", "split"),
        _node("odd", "linear", operation="multiply"), _node("even", "linear", operation="multiply"),
        _node("join", "merge", operation="total", merge_failure_mode="partial"),
        _node("refuse", "linear", operation="refuse", continue_on_failure=True),
        _node("greet", "linear", operation="greet"), _node("out", "exit"),
    ]  # fmt: skip
    edges = _edges("in route", "route cut sum", "cut odd", "cut even", "odd join", "even join", "join out",
                   "route refuse greet", "refuse greet", "greet out")  # fmt: skip
    args: dict[str, dict[str, Any]] = {
        "multiply": {"args": {"by": 3}},
        "greet": {"args": {"words": "Hello", "ends": '{"mark": "!"}'}, "json_args": ["ends"]},
    }
    tools = [
        {"tool_id": name, "python": {"call": f"{FUNCTIONS}:{name}", **args.get(name, {})}}
        for name in ("read", "multiply", "total", "greet", "refuse")
    ]
    return write_manifests(folder, nodes, edges, tools=tools)


def _fan_out(folder: Path, mode: str) -> Path:
    """in -> fan: a clone is split into subtasks that double what they get, another sums up; join adds all."""
    nodes = [
        _node("in", "start", default_start=True), _node("fan", "branch"), _node("cut", "split"),
        _node("double", "linear", operation="double"), _node("all", "linear"),
        _node("join", "merge", operation="add", merge_failure_mode=mode), _node("out", "exit"),
    ]  # fmt: skip
    edges = _edges("in fan", "fan cut", "fan all whole", "cut double", "double join", "all join", "join out")
    add = (
        "import json, sys; found = [part['output'] for part in json.load(sys.stdin)];"
        " done = [output for output in found if output is not None];"
        " print(json.dumps({'sum': sum(n for n in done if isinstance(n, int)), 'parts': len(done)}))"
    )
    double = "import json, sys; print(json.load(sys.stdin) + 0 << 1)"  # a text cannot be added to
    tools = [
        {"tool_id": key, "output": "json", "subprocess": {"command": ["python3", "-c", script]}}
        for key, script in (("add", add), ("double", double))
    ]
    return write_manifests(folder, nodes, edges, tools=tools)
