"""The JSON Schema: it is one, it takes what the reader takes, and it knows the same fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from agentflow.domain import (
    action_document,
    budget_document,
    graph_document,
    http_document,
    limit_document,
    llm_document,
    notify_document,
    plan_document,
    python_document,
    retry_document,
    step_document,
    variable,
)
from agentflow.domain.plan_document import read_plan
from agentflow.domain.plan_schema import ACTIONS, plan_schema
from agentflow.domain.step_document import BODY, PERFORMED

ALL_ACTIONS = ("subprocess", "noop", "llm", "http", "python", "notify")
VALIDATOR = Draft202012Validator(plan_schema())


def document(**step: Any) -> dict[str, Any]:
    return {
        "agentflow": 1,
        "name": "p",
        "steps": [{"id": "first", "subprocess": {"command": ["x"]}}, {"id": "a", **step}],
    }


def test_the_schema_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(plan_schema())


def test_the_example_of_the_contract_fits() -> None:
    assert [
        error.message
        for error in VALIDATOR.iter_errors(yaml.safe_load(Path(__file__).with_name("contract_plan.yaml").read_text()))
    ] == []


def test_the_fields_are_those_that_are_read() -> None:
    schema = plan_schema()
    definitions = schema["$defs"]
    assert set(schema["properties"]) == set(plan_document._PLAN.known)
    assert set(schema["properties"]["defaults"]["properties"]) == set(plan_document._DEFAULTS.known)
    assert set(definitions["step"]["properties"]) == set(step_document._STEP.known)
    assert set(definitions["subprocess"]["properties"]) == set(action_document._SUBPROCESS.known)
    llm = definitions["llm"]["properties"]
    assert set(llm) == set(llm_document.LLM_FORM.known)
    assert set(llm["price"]["properties"]) == set(llm_document.PRICE_FORM.known)
    assert set(definitions["http"]["properties"]) == set(http_document.HTTP_FORM.known)
    assert set(definitions["python"]["properties"]) == set(python_document.PYTHON_FORM.known)
    assert set(definitions["notify"]["properties"]) == set(notify_document.NOTIFY_FORM.known)
    assert set(definitions["wait"]["properties"]) == set(graph_document.WAIT_FORM.known)
    assert set(definitions["budget"]["properties"]) == set(budget_document.BUDGET_FORM.known)
    assert set(definitions["rate_limit"]["anyOf"][1]["properties"]) == set(limit_document.RATE_FORM.known)
    assert set(definitions["concurrency"]["properties"]) == set(limit_document.CONCURRENCY_FORM.known)
    assert set(definitions["retry"]["anyOf"][1]["properties"]) == set(retry_document._FORM.known)
    assert set(definitions["var"]["then"]["properties"]) == set(variable._SPEC.known)
    inputs = definitions["step"]["properties"]["inputs"]["items"]["anyOf"][1]
    assert set(inputs["properties"]) == set(step_document._INPUT.known)


GOOD = [
    document(noop=None),
    document(noop={}, needs=["first"], retry=3, timeout="1h30m"),
    document(subprocess={"command": "a | b", "shell": True}),
    document(subprocess={"command": ["a", 1], "env": {"A": 1, "B": "x"}, "cwd": "a/b"}, inputs=["first/x"]),
    document(subprocess={"command": ["a"]}, inputs=[{"step": "first", "artifact": "*.md", "as": "in"}]),
    document(noop={}, when="steps.first.exit_code == 0", on_lost="hold"),
    document(noop={}) | {"budget": {"usd": 0.5, "active_time": "10m"}, "directive": "nightly"},
    document(noop={}) | {"defaults": {"rate_limit": "10/s", "concurrency": {"key": "db", "limit": 2}}},
    document(noop={}, rate_limit={"key": "openai", "limit": "60/m", "burst": 10}),
    document(llm={"model": "a:b", "prompt": "p", "price": {"input": 0, "output": 0.6}, "output_schema": {}}),
    document(http={"url": "http://localhost:80/x", "ok_status": [200, 404]}, outputs="body_json"),
    document(http={"url": "{{ run.id }}", "method": "POST", "json": [None, 1], "headers": {"X-A": 1}}),
    document(python={"call": "a.b:c", "args": {"x": ["{{ run.id }}"]}}),
    document(notify={"email": ["a@example.org"]}),
    document(notify={"webhook": "https://hooks.example.org/{{ run.id }}"}),
    document(wait={"event": "go", "timeout": "1h"}),
    document(noop={}) | {"vars": {"a": 1, "b": {"required": True}, "c": None, "d": [1]}, "secrets": ["A"]},
]
BAD = [
    document(),
    document(noop={}, subprocess={"command": ["a"]}),
    document(noop={}, timeout=60),
    document(noop={}, timeout="60"),
    document(noop={}, timeout="1m1h"),
    document(noop={}, retry=0),
    document(noop={}, retry={"jitter": 2}),
    document(noop={}, retry={"on_exit_codes": [300]}),
    document(noop={}, timout="1m"),
    document(noop={}, needs="first"),
    document(noop={}, on_lost="pause"),
    document(subprocess={"command": "a | b"}),
    document(subprocess={"command": ["a"], "shell": True}),
    document(subprocess={"command": []}),
    document(subprocess={"command": ["a"], "env": {"A": True}}),
    document(subprocess={"command": ["a"], "env": {"AGENTFLOW_X": "1"}}),
    document(subprocess={"command": ["a"], "cwd": "../b"}),
    document(subprocess={"command": ["a"], "ok_exit_codes": []}),
    document(subprocess={"command": ["a"]}, inputs=["x"]),
    document(llm={"model": "gpt", "prompt": "p"}),
    document(llm={"model": "a:b"}),
    document(python={"call": "a.b"}),
    document(python={"call": "a:b", "args": {"x y": 1}}),
    document(notify={}),
    document(notify={"email": "a@example.org", "command": ["x"]}),
    document(wait={"for": "1s", "event": "go"}),
    document(noop={}) | {"name": "a b"},
    document(noop={}) | {"agentflow": 2},
    document(noop={}) | {"vars": {"a-b": 1}},
    document(noop={}) | {"vars": {"a": {"requird": True}}},
    document(noop={}) | {"secrets": ["A", "A"]},
    document(noop={}) | {"steps": []},
    document(noop={}) | {"budget": {}},
    document(noop={}) | {"budget": {"usd": 0}},
    document(noop={}) | {"budget": {"steps": 0}},
    document(noop={}) | {"budget": {"active_time": 600}},
    document(noop={}) | {"budget": 5},
    document(noop={}) | {"directive": "a b"},
    document(noop={}) | {"rate_limit": "1/s"},
    document(noop={}, rate_limit=60),
    document(noop={}, rate_limit="0/m"),
    document(noop={}, rate_limit="1.5/s"),
    document(noop={}, rate_limit={"key": "a b", "limit": "1/s"}),
    document(noop={}, rate_limit={"key": "a"}),
    document(noop={}, concurrency=4),
    document(noop={}, concurrency={"limit": 4}),
    document(noop={}, concurrency={"key": "db", "limit": 0}),
    document(llm={"model": "a:b", "prompt": "p", "price": {"input": 1}}),
    document(llm={"model": "a:b", "prompt": "p", "max_tokens": 10**15 + 1}),
    document(llm={"model": "a:b", "prompt": "p", "price": {"input": 1, "output": 1000001}}),
    document(llm={"model": "a:b", "prompt": "p", "price": {"input": 1, "output": -1}}),
    document(http={}),
    document(http={"url": "ftp://x"}),
    document(http={"url": "http://x", "json": {}}),
    document(http={"url": "http://x", "json": {}, "method": "GET"}),
    document(http={"url": "http://x", "method": "post"}),
    document(http={"url": "http://x", "headers": {"a b": "c"}}),
    document(http={"url": "http://x", "ok_status": [600]}),
    document(http={"url": "http://x", "ok_status": []}),
]


@pytest.mark.parametrize("data", GOOD)
def test_what_is_read_fits_the_schema(data: Any) -> None:
    assert read_plan(data, available_actions=ALL_ACTIONS).faults == ()
    assert VALIDATOR.is_valid(data)


@pytest.mark.parametrize("data", BAD)
def test_what_the_schema_refuses_is_refused_when_read(data: Any) -> None:
    assert not VALIDATOR.is_valid(data)
    assert read_plan(data, available_actions=ALL_ACTIONS).faults


EXAMPLES: dict[str, dict[str, Any]] = {
    "subprocess": {"subprocess": {"command": ["x"]}},
    "noop": {"noop": {}},
    "llm": {"llm": {"model": "a:b", "prompt": "p"}},
    "http": {"http": {"url": "http://localhost/"}},
    "switch": {"needs": ["first"], "switch": {"on": "vars.a", "cases": {"1": []}}},
    "decision": {"needs": ["first"], "decision": {"on": "vars.a", "cases": {"1": []}}},
    "wait": {"wait": {"for": "1s"}},
    "approval": {"approval": {}},
    "run": {"run": {"plan": "other"}},
    "python": {"python": {"call": "a:b"}},
    "notify": {"notify": {"command": ["x"]}},
    BODY: {"foreach": [1], "steps": [{"id": "b", "noop": {}}]},
}
FIELDS: list[tuple[str, Any]] = [
    ("timeout", "1s"),
    ("retry", 2),
    ("rate_limit", "1/s"),
    ("concurrency", {"key": "k", "limit": 1}),
    ("on_lost", "rerun"),
    ("outputs", "none"),
    ("outputs", "stdout_json"),
    ("outputs", "body_json"),
    ("inputs", []),
    ("inputs", ["first/x"]),
    ("on_failure", "continue"),
    ("when", "always"),
    ("foreach", [1, 2]),
    ("steps", [{"id": "c", "noop": {}}]),
]


def test_every_action_and_every_field_about_performing_stands_among_the_examples() -> None:
    assert set(EXAMPLES) == {*ACTIONS, BODY}
    assert set(PERFORMED) <= {field for field, _ in FIELDS}


@pytest.mark.parametrize("action", EXAMPLES)
@pytest.mark.parametrize(("field", "value"), FIELDS, ids=lambda part: part if isinstance(part, str) else "")
def test_reader_and_schema_agree_on_where_a_field_may_stand(action: str, field: str, value: Any) -> None:
    data = document(**{"needs": ["first"], **EXAMPLES[action], field: value}) | {"vars": {"a": 1}}
    assert VALIDATOR.is_valid(data) == (read_plan(data, available_actions=ALL_ACTIONS).faults == ())


@pytest.mark.parametrize("action", ["switch", "decision", "wait", "approval", "run", BODY])
@pytest.mark.parametrize("field", PERFORMED)
def test_what_no_worker_performs_is_not_told_how_to_be_performed(action: str, field: str) -> None:
    assert VALIDATOR.is_valid(document(**EXAMPLES[action]))
    assert not VALIDATOR.is_valid(document(**EXAMPLES[action], **{field: dict(FIELDS)[field]}))
