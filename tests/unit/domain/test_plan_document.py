"""Reading plan documents that are right: every field, its short forms and its defaults."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentflow.domain.action import ContentRef, LlmAction, NoopAction, SubprocessAction
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan, Step, StepInput
from agentflow.domain.plan_document import PlanReading, read_plan
from agentflow.domain.retry_policy import DEFAULT_RETRY, Backoff, RetryPolicy

ALL_ACTIONS = ("subprocess", "noop", "llm")

CONTRACT = Path(__file__).with_name("contract_plan.yaml")


def reading_of(document: Any) -> PlanReading:
    reading = read_plan(document, available_actions=ALL_ACTIONS)
    assert [fault.message for fault in reading.faults] == []
    return reading


def plan_of(document: Any) -> Plan:
    plan = reading_of(document).plan
    assert plan is not None
    return plan


def step_of(**fields: Any) -> Step:
    """Read one step with ``fields``, after a step ``first``."""
    steps = [{"id": "first", "subprocess": {"command": ["true"]}}, {"id": "it", **fields}]
    return plan_of({"agentflow": 1, "name": "p", "steps": steps}).steps[1]


def command_of(**fields: Any) -> SubprocessAction:
    action = step_of(subprocess={"command": ["true"], **fields}).action
    assert isinstance(action, SubprocessAction)
    return action


def test_the_example_of_the_contract_is_read_field_by_field() -> None:
    reading = reading_of(yaml.safe_load(CONTRACT.read_text()))
    plan = reading.plan
    assert plan is not None
    assert (plan.name, plan.project, plan.secrets) == ("triage", "ops", ("GITHUB_TOKEN",))
    assert plan.vars["log"].default == "data/app.log"
    assert (plan.vars["region"].required, plan.vars["region"].one_of) == (True, ("eu", "us"))
    assert [pattern for pattern, _ in reading.file_patterns] == ["make_report.py", "data/*.log"]
    collect, report, summarise = plan.steps
    assert collect == Step(
        id=StepKey("collect"),
        action=SubprocessAction(
            command=("grep", "-c", "ERROR", "{{ vars.log }}"),
            env={"TOKEN": "{{ secrets.GITHUB_TOKEN }}"},
            ok_exit_codes=(0, 1),
        ),
        outputs="stdout_json",
        timeout_seconds=300,
        retry=RetryPolicy(max_attempts=3, on_timeout=True, retries_everything=True),
    )
    assert (report.needs, report.timeout_seconds) == (("collect",), 60)
    assert report.retry == RetryPolicy(
        max_attempts=4, on_exit_codes=(75,), on_messages=("rate limit",), on_timeout=True
    )
    prompt = b"Summarise:\n{{ steps.collect.stdout }}"
    digest = hashlib.sha256(prompt).hexdigest()
    assert isinstance(summarise.action, LlmAction)
    assert summarise.action.prompt == ContentRef(sha256=digest, bytes=len(prompt))
    assert (summarise.action.temperature, summarise.action.seed, summarise.action.max_tokens) == (0, 1, 300)
    assert reading.content == {digest: prompt, hashlib.sha256(b"...").hexdigest(): b"..."}


def test_steps_without_needs_follow_each_other() -> None:
    steps = [{"id": one, "noop": {}} for one in "abc"]
    assert [step.needs for step in plan_of({"agentflow": 1, "name": "p", "steps": steps}).steps] == [(), ("a",), ("b",)]


def test_written_needs_are_taken_as_written_and_the_first_step_may_leave_them_out() -> None:
    steps = [
        {"id": "a", "noop": {}},
        {"id": "b", "noop": {}, "needs": []},
        {"id": "c", "noop": {}, "needs": ["b", "a"]},
    ]
    assert [step.needs for step in plan_of({"agentflow": 1, "name": "p", "steps": steps}).steps] == [(), (), ("b", "a")]


def test_nothing_written_gives_the_documented_defaults() -> None:
    step = step_of(subprocess={"command": ["true"]})
    assert (step.timeout_seconds, step.retry, step.when) == (1800, DEFAULT_RETRY, "succeeded")
    assert (step.outputs, step.on_failure, step.on_lost, step.inputs) == ("none", "stop", "rerun", ())
    assert step.action == SubprocessAction(command=("true",))
    assert plan_of({"agentflow": 1, "name": "p", "steps": [{"id": "a", "noop": {}}]}).project == "default"


@pytest.mark.parametrize("value", [None, {}])
def test_a_noop_needs_no_fields(value: Any) -> None:
    assert step_of(noop=value).action == NoopAction()


@pytest.mark.parametrize(
    ("retry", "policy"),
    [
        (3, RetryPolicy(max_attempts=3, on_timeout=True, retries_everything=True)),
        ({}, RetryPolicy(max_attempts=3, on_timeout=True, retries_everything=True)),
        ({"base": "0s", "factor": 1}, RetryPolicy(base_seconds=0, factor=1, on_timeout=True, retries_everything=True)),
        ({"on_exit_codes": [75, 7, 75]}, RetryPolicy(on_exit_codes=(7, 75))),
        ({"on_timeout": True}, RetryPolicy(on_timeout=True)),
        ({"on_messages": ["x"], "on_timeout": False}, RetryPolicy(on_messages=("x",))),
        (
            {"backoff": "linear", "max_delay": "2m", "jitter": 0, "max_attempts": 9},
            RetryPolicy(
                max_attempts=9,
                backoff=Backoff.LINEAR,
                max_delay_seconds=120,
                jitter=0,
                on_timeout=True,
                retries_everything=True,
            ),
        ),
    ],
)
def test_a_written_retry_stands_for_the_whole_policy(retry: Any, policy: RetryPolicy) -> None:
    assert step_of(noop={}, retry=retry).retry == policy


@pytest.mark.parametrize("retry", [None, 1, {"max_attempts": 1, "on_timeout": True}])
def test_a_step_that_holds_when_lost_is_attempted_once(retry: Any) -> None:
    fields = {"retry": retry} if retry is not None else {}
    assert step_of(noop={}, on_lost="hold", **fields).retry.max_attempts == 1


def test_a_step_that_holds_when_lost_may_retry_written_exit_codes() -> None:
    assert step_of(noop={}, on_lost="hold", retry={"max_attempts": 5, "on_exit_codes": [75]}).retry.max_attempts == 5


def test_a_step_that_holds_when_lost_is_attempted_once_whatever_the_defaults_say() -> None:
    document = {
        "agentflow": 1,
        "name": "p",
        "defaults": {"retry": 5},
        "steps": [{"id": "a", "noop": {}, "on_lost": "hold"}, {"id": "b", "noop": {}}],
    }
    assert [step.retry.max_attempts for step in plan_of(document).steps] == [1, 5]


def test_numbers_in_commands_and_env_stand_for_their_text() -> None:
    action = command_of(command=["sleep", 5, 0.5], env={"PORT": 8080, "RATIO": 1.5, "EMPTY": ""})
    assert action.command == ("sleep", "5", "0.5")
    assert action.env == {"PORT": "8080", "RATIO": "1.5", "EMPTY": ""}


def test_numbers_keep_their_own_spelling_where_it_is_known() -> None:
    document = {"agentflow": 1, "name": "p", "steps": [{"id": "a", "subprocess": {"command": ["use", 1.1]}}]}
    spellings = {("steps", 0, "subprocess", "command", 1): "1.10"}
    plan = read_plan(document, written=lambda path: spellings.get(tuple(path))).plan
    assert plan is not None
    assert isinstance(plan.steps[0].action, SubprocessAction)
    assert plan.steps[0].action.command == ("use", "1.10")


def test_a_shell_command_is_kept_as_one_text() -> None:
    action = step_of(subprocess={"command": "grep x {{ run.id }} | wc -l", "shell": True}).action
    assert isinstance(action, SubprocessAction)
    assert (action.command, action.shell) == ("grep x {{ run.id }} | wc -l", True)


def test_an_empty_stdin_is_no_content() -> None:
    assert command_of(stdin="").stdin is None


def test_a_condition_is_stored_without_braces() -> None:
    assert step_of(noop={}, when="{{ steps.first.exit_code == 0 }}").when == "steps.first.exit_code == 0"
    assert step_of(noop={}, when="steps.first.state == 'failed'").when == "steps.first.state == 'failed'"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("first/out/summary.json", ("out/summary.json", "out/summary.json")),
        ("first/*.json", ("*.json", ".")),
        ({"step": "first", "artifact": "a.md", "as": "in/b.md"}, ("a.md", "in/b.md")),
        ({"step": "first", "artifact": "a.md"}, ("a.md", "a.md")),
    ],
)
def test_inputs_name_artifacts_and_where_they_go(written: Any, expected: tuple[str, str]) -> None:
    step = step_of(subprocess={"command": ["true"]}, inputs=[written])
    assert step.inputs == (StepInput(step=StepKey("first"), artifact=expected[0], path=expected[1]),)


@pytest.mark.parametrize(
    "text",
    [
        "{{ steps.first.stdout }}",
        "{{ steps.first.stdout_path }} {{ steps.first.stderr_path }}",
        "{{ steps.first.result.deep[0] }} {{ steps.first.exit_code }} {{ steps.first.state }}",
        "{{ steps.first.artifacts['a.md'].path }} {{ run.id }}",
    ],
)
def test_output_of_an_earlier_step_may_stand_in_arguments_env_and_stdin(text: str) -> None:
    action = command_of(command=["use", text], env={"A": text}, stdin=text)
    assert action.command == ("use", text)


def test_a_models_text_may_stand_in_stdin_and_its_files_in_arguments() -> None:
    steps = [
        {"id": "ask", "llm": {"model": "a:b", "prompt": "p"}},
        {
            "id": "use",
            "subprocess": {
                "command": ["cat", "{{ steps.ask.stdout_path }}", "{{ steps.ask.artifacts.x.path }}"],
                "stdin": "{{ steps.ask.text }}",
            },
        },
        {"id": "ask_again", "llm": {"model": "a:b", "prompt": "{{ steps.ask.text }}"}, "when": "'x' in steps.ask.text"},
    ]
    plan_of({"agentflow": 1, "name": "p", "steps": steps})


def test_a_var_without_a_default_may_be_null() -> None:
    assert (
        plan_of({"agentflow": 1, "name": "p", "vars": {"x": None}, "steps": [{"id": "a", "noop": {}}]})
        .vars["x"]
        .default
        is None
    )


def test_ten_thousand_steps_are_read_in_a_few_seconds() -> None:
    steps = [{"id": f"s{n}", "subprocess": {"command": ["echo", "{{ vars.x }}"]}} for n in range(10_000)]
    started = time.process_time()
    plan = plan_of({"agentflow": 1, "name": "p", "vars": {"x": 1}, "steps": steps})
    assert time.process_time() - started < 4
    assert len(plan.steps) == 10_000
