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

ALL_ACTIONS = ("subprocess", "noop", "llm", "http")
SENTINEL = "ZEBRA-7c1"

DOCUMENT: dict[str, Any] = {
    "agentflow": 1,
    "name": "triage",
    "vars": {"log": "a.log", "region": {"required": True, "one_of": ["eu", "us"]}, "ratio": 0.5, "none": None},
    "secrets": ["TOKEN"],
    "directive": "nightly",
    "budget": {"steps": 50, "tokens": 20_000, "usd": 0.5, "active_time": "10m"},
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
                "price": {"input": 0.15, "output": 0.6},
            },
            "rate_limit": {"key": "openai", "limit": "60/m", "burst": 10},
            "concurrency": {"key": "openai", "limit": 4},
        },
        {
            "id": "tell",
            "http": {
                "method": "POST",
                "url": "https://{{ vars.log }}/",
                "headers": {"Authorization": "Bearer {{ secrets.TOKEN }}"},
                "json": {"text": f"{SENTINEL} {{{{ steps.summarise.text }}}}", "n": [1, None]},
            },
            "outputs": "body_json",
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
    assert sum(SENTINEL.encode() in text for text in content.values()) == 4


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


STORED_BEFORE_LIMITS = (
    '{"agentflow":1,"files":[],"name":"triage","project":"ops","secrets":["TOKEN"],"steps":[{"action":{"command":['
    '"grep","{{ vars.log }}"],"cwd":".","env":{},"ok_exit_codes":[0],"shell":false,"stdin":{"bytes":1,"sha256":'
    '"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},"type":"subprocess"},"id":"collect",'
    '"inputs":[],"needs":[],"on_failure":"stop","on_lost":"rerun","outputs":"stdout_json","retry":{"backoff":'
    '"exponential","base_seconds":0.7,"factor":2.0,"jitter":0.25,"max_attempts":3,"max_delay_seconds":60.0,'
    '"on_exit_codes":[],"on_messages":[],"on_timeout":true,"retries_everything":true},"timeout_seconds":300.0,'
    '"when":"succeeded"},{"action":{"type":"noop"},"id":"join","inputs":[],"needs":["collect"],"on_failure":"stop",'
    '"on_lost":"hold","outputs":"none","retry":{"backoff":"exponential","base_seconds":0.7,"factor":2.0,"jitter":0.25,'
    '"max_attempts":1,"max_delay_seconds":60.0,"on_exit_codes":[75,101,111,125],"on_messages":["rate limit",'
    '"transient network"],"on_timeout":true,"retries_everything":false},"timeout_seconds":300.0,"when":"always"}],'
    '"vars":{"log":{"default":"a.log","required":false}}}'
)


def test_a_plan_stored_before_there_were_budgets_and_limits_keeps_its_fingerprint() -> None:
    plan = Plan.from_stored(STORED_BEFORE_LIMITS)
    assert plan.fingerprint == "b1f41f7cce4bfed1bea328884bb6375d914d056ca4a48ccb7284928ecbab6c60"
    assert plan.canonical_json() == STORED_BEFORE_LIMITS.encode()
    assert (plan.budget, plan.directive, plan.steps[0].rate_limit, plan.steps[0].concurrency) == (None,) * 4


KEYS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._:/-]{0,8}", fullmatch=True)
RATES = st.builds("{}/{}".format, st.integers(1, 1_000_000), st.sampled_from("smhd"))
LIMITED_STEPS = st.fixed_dictionaries(
    {"id": st.just("a")},
    optional={
        "rate_limit": RATES
        | st.fixed_dictionaries({"limit": RATES}, optional={"key": KEYS, "burst": st.integers(1, 1000)}),
        "concurrency": st.fixed_dictionaries({"key": KEYS, "limit": st.integers(1, 10_000)}),
    },
)
BUDGETS = st.fixed_dictionaries(
    {"tokens": st.integers(1, 10**15)},
    optional={
        "steps": st.integers(1, 10**15),
        "usd": st.floats(1e-9, 1e6) | st.integers(1, 10**6),
        "active_time": st.builds("{}ms".format, st.integers(1, 10**9)),
    },
)
CALLS = st.fixed_dictionaries(
    {"url": st.just("http://host/"), "method": st.just("POST")},
    optional={
        "json": st.recursive(
            st.booleans()
            | st.integers(-(10**20), 10**20)
            | st.floats(allow_nan=False, allow_infinity=False)
            # No braces, which would be templates.
            | st.text(st.characters(codec="utf-8", exclude_characters="\0{}"), max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
            max_leaves=8,
        ),
        "ok_status": st.lists(st.integers(100, 599), min_size=1, max_size=4),
        "headers": st.dictionaries(
            st.from_regex(r"X-[a-z]{1,5}", fullmatch=True), st.text("abc ~!", max_size=5).map(str.strip)
        ),
    },
)


@given(LIMITED_STEPS, BUDGETS, CALLS)
def test_budgets_limits_and_calls_survive_being_stored(step: Any, budget: Any, call: Any) -> None:
    reading = read_plan({"agentflow": 1, "name": "p", "budget": budget, "steps": [{**step, "http": call}]})
    assert reading.faults == ()
    assert reading.plan is not None
    stored = reading.plan.canonical_json()
    again = Plan.from_stored(json.loads(stored))
    assert again == reading.plan
    assert (again.canonical_json(), again.fingerprint) == (stored, reading.plan.fingerprint)
    assert [json.loads(text) for text in reading.content.values()] == ([call["json"]] if "json" in call else [])


def test_absent_values_are_not_stored_so_that_new_fields_keep_old_fingerprints() -> None:
    step = Step(id=StepKey("a"), action=NoopAction())
    assert b"null" not in Plan(name="p", steps=(step,)).canonical_json()
