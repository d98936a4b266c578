"""The output_schema of a model call is judged when its plan is read: with its place, beside all other faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.error import PlanRejected
from agentflow.domain.fault import Fault
from agentflow.engine.check_schemas import DIALECT
from agentflow.engine.load_plan import examine_plan, load_data


def document(schema: Any, **llm: Any) -> dict[str, Any]:
    ask = {"id": "ask", "llm": {"model": "a:b", "prompt": "p", **llm, "output_schema": schema}}
    return {"agentflow": 1, "name": "p", "steps": [ask]}


def faults_of(schema: Any, folder: Path) -> tuple[Fault, ...]:
    with pytest.raises(PlanRejected) as rejected:
        load_data(document(schema), folder)
    return rejected.value.faults


GOOD: list[Any] = [
    {},
    {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]},
    {"$schema": DIALECT, "$ref": "#/$defs/x", "$defs": {"x": {"type": "string", "pattern": "^a+$"}}},
    {"$anchor": "here", "items": {"$ref": "#here"}},
    {"$id": "urn:mine", "items": {"$ref": "other"}, "$defs": {"o": {"$id": "other"}}},
    {"properties": {"$ref": {"type": "string"}}, "const": {"$ref": "http://elsewhere"}},
]


@pytest.mark.parametrize("schema", GOOD)
def test_a_schema_that_stands_on_its_own_is_taken(schema: Any, tmp_path: Path) -> None:
    assert load_data(document(schema), tmp_path).plan.steps[0].id == "ask"


BAD: list[tuple[Any, tuple[Any, ...], str]] = [
    ({"type": "objct"}, ("type",), "at type: 'objct' is not valid"),
    ({"properties": {"n": {"minimum": "1"}}}, ("properties", "n", "minimum"), "at properties.n.minimum: '1' is not of"),
    ({"required": "n"}, ("required",), "'n' is not of type 'array'"),
    ({"pattern": "("}, ("pattern",), "at pattern: '(' is not a 'regex'"),
    ({"$schema": "http://json-schema.org/draft-07/schema#"}, ("$schema",), DIALECT),
    ({"$ref": "#/$defs/absent"}, (), "refers to '#/$defs/absent', which is not in it"),
    ({"$ref": "#absent"}, (), "refers to '#absent'"),
    ({"items": {"$ref": "http://169.254.169.254/"}}, (), "nothing outside of it is loaded"),
    ({"$defs": {"x": {"$dynamicRef": "file:///etc/passwd"}}}, (), "nothing outside of it is loaded"),
]


@pytest.mark.parametrize(("schema", "path", "words"), BAD)
def test_a_schema_that_is_none_is_a_fault_with_its_place(
    schema: Any, path: tuple[Any, ...], words: str, tmp_path: Path
) -> None:
    (fault,) = faults_of(schema, tmp_path)
    assert (fault.code, fault.step) == ("bad_schema", "ask")
    assert fault.path == ("steps", 0, "llm", "output_schema", *path)
    assert words in fault.message


def test_faults_of_schemas_come_with_all_others_each_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document({"type": "objct", "minimum": "x"}, max_tokens=0), indent=1))
    _, faults = examine_plan(path)
    lines = path.read_text().splitlines()
    assert [fault.code for fault in faults] == ["bad_value", "bad_schema", "bad_schema"]
    for fault, words in zip(faults, ("max_tokens", "objct", "minimum"), strict=True):
        assert words in lines[(fault.line or 0) - 1]
