"""The stored plan: canonical bytes, fingerprint, reading back, and that no content is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentflow.domain.action import NoopAction
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan, PlanFile, Step
from agentflow.domain.plan_document import read_plan

ALL_ACTIONS = ("subprocess", "noop", "llm")
SENTINEL = "ZEBRA-7c1"

DOCUMENT: dict[str, Any] = {
    "agentflow": 1,
    "name": "triage",
    "vars": {"log": "a.log", "region": {"required": True, "one_of": ["eu", "us"]}, "ratio": 0.5, "none": None},
    "secrets": ["TOKEN"],
    "defaults": {"timeout": "5m", "retry": 3},
    "steps": [
        {"id": "collect", "subprocess": {"command": ["grep", "{{ vars.log }}"], "env": {"A": "1"}, "stdin": SENTINEL}},
        {"id": "both", "noop": {}, "when": "steps.collect.exit_code == 0", "timeout": "60s"},
        {
            "id": "summarise",
            "llm": {
                "model": "openai:m",
                "system": f"You are {SENTINEL}.",
                "prompt": f"{SENTINEL} {{{{ steps.collect.stdout }}}}",
                "output_schema": {"type": "object", "default": None},
            },
        },
    ],
}


def plan_of(document: Any, files: tuple[PlanFile, ...] = ()) -> Plan:
    reading = read_plan(document, available_actions=ALL_ACTIONS, files=files)
    assert reading.faults == ()
    assert reading.plan is not None
    return reading.plan


def shuffled(value: Any, data: st.DataObject) -> Any:
    match value:
        case dict():
            keys = data.draw(st.permutations(list(value)))
            return {key: shuffled(value[key], data) for key in keys}
        case list():
            return [shuffled(item, data) for item in value]
        case _:
            return value


@given(st.data())
def test_the_order_of_keys_does_not_change_the_fingerprint(data: st.DataObject) -> None:
    plan = plan_of(shuffled(DOCUMENT, data))
    assert plan.fingerprint == plan_of(DOCUMENT).fingerprint
    assert plan == plan_of(DOCUMENT)


def test_yaml_and_json_of_one_document_have_one_fingerprint() -> None:
    from_yaml = plan_of(yaml.safe_load(yaml.safe_dump(DOCUMENT)))
    assert from_yaml.fingerprint == plan_of(json.loads(json.dumps(DOCUMENT))).fingerprint


def test_a_stored_plan_reads_back_as_the_same_plan() -> None:
    plan = plan_of(DOCUMENT)
    stored = plan.canonical_json()
    for again in (Plan.from_stored(stored), Plan.from_stored(stored.decode()), Plan.from_stored(json.loads(stored))):
        assert again == plan
        assert again.fingerprint == plan.fingerprint
        assert again.canonical_json() == stored


def test_canonical_json_has_sorted_keys_and_no_space() -> None:
    stored = plan_of(DOCUMENT).canonical_json()
    assert stored == json.dumps(json.loads(stored), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_prompts_system_texts_and_stdin_are_nowhere_in_a_stored_plan() -> None:
    plan = plan_of(DOCUMENT)
    assert SENTINEL.encode() not in plan.canonical_json()
    assert SENTINEL not in repr(plan)
    content = read_plan(DOCUMENT, available_actions=ALL_ACTIONS).content
    assert sum(SENTINEL.encode() in text for text in content.values()) == 3


@pytest.mark.parametrize("key", ["prompt", "system"])
def test_the_fingerprint_covers_the_content(key: str) -> None:
    changed = json.loads(json.dumps(DOCUMENT))
    changed["steps"][2]["llm"][key] += "!"
    assert plan_of(changed).fingerprint != plan_of(DOCUMENT).fingerprint


def test_the_fingerprint_covers_the_files() -> None:
    fingerprints = {
        plan_of(DOCUMENT, files).fingerprint
        for files in (
            (),
            (PlanFile(path="a", sha256="0" * 64, bytes=1),),
            (PlanFile(path="a", sha256="1" * 64, bytes=1),),
            (PlanFile(path="a", sha256="0" * 64, bytes=1, executable=True),),
        )
    }
    assert len(fingerprints) == 4


def test_numbers_are_stored_as_a_jsonb_column_gives_them_back() -> None:
    document = DOCUMENT | {"vars": {"log": 1e22, "region": -0.0, "small": 1e-7}}
    stored = json.loads(plan_of(document).canonical_json())["vars"]
    assert stored["log"]["default"] == 10**22
    assert isinstance(stored["log"]["default"], int)
    assert str(stored["region"]["default"]) == "0.0"
    assert stored["small"]["default"] == 1e-7


def test_a_plan_cannot_be_changed() -> None:
    plan = plan_of(DOCUMENT)
    with pytest.raises(ValidationError):
        plan.name = "other"


def test_a_step_is_found_by_its_id() -> None:
    plan = plan_of(DOCUMENT)
    assert plan.step(StepKey("both")).timeout_seconds == 60
    with pytest.raises(KeyError):
        plan.step(StepKey("absent"))


@pytest.mark.parametrize(
    "steps",
    [
        [("a", ()), ("a", ())],
        [("a", ("b",))],
        [("a", ("a",))],
        [],
    ],
)
def test_a_plan_with_broken_needs_cannot_be_built(steps: list[tuple[str, tuple[str, ...]]]) -> None:
    with pytest.raises(ValidationError):
        Plan.model_validate(
            {"name": "p", "steps": [{"id": one, "needs": needs, "action": {"type": "noop"}} for one, needs in steps]}
        )


def test_an_unknown_field_of_a_stored_plan_is_refused() -> None:
    stored = json.loads(plan_of(DOCUMENT).canonical_json())
    with pytest.raises(ValidationError):
        Plan.from_stored(stored | {"later": 1})


def test_absent_values_are_not_stored_so_that_new_fields_keep_old_fingerprints() -> None:
    step = Step(id=StepKey("a"), action=NoopAction())
    assert b"null" not in Plan(name="p", steps=(step,)).canonical_json()
