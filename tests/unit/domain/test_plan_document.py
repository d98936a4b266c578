"""Reading plan documents that are right: every field, its short forms and its defaults."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentflow.domain.action import ContentRef, HttpAction, LlmAction, NoopAction, Price, SubprocessAction
from agentflow.domain.budget import Budget
from agentflow.domain.ids import StepKey
from agentflow.domain.limit import ConcurrencyLimit, RateLimit
from agentflow.domain.plan import Plan, Step, StepInput
from agentflow.domain.plan_document import PlanReading, read_plan
from agentflow.domain.retry_policy import DEFAULT_RETRY, Backoff, RetryPolicy
from tests.tracing import grows_as

ALL_ACTIONS = ("subprocess", "noop", "llm", "http")

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
    assert plan.budget == Budget(steps=50, tokens=20_000, usd_nano=500_000_000, active_seconds=600)
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
    assert report.rate_limit == RateLimit(limit=60, per_seconds=60)
    assert report.concurrency == ConcurrencyLimit(key="db", limit=4)
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
                "command": ["cat", "{{ steps.ask.text_path }}"],
                "stdin": "{{ steps.ask.text }}",
            },
        },
        {"id": "ask_again", "llm": {"model": "a:b", "prompt": "{{ steps.ask.text }}"}, "when": "'x' in steps.ask.text"},
    ]
    plan_of({"agentflow": 1, "name": "p", "steps": steps})


def call_of(**fields: Any) -> tuple[HttpAction, dict[str, bytes]]:
    """Read an http step with ``fields``; returns its action and its content."""
    reading = reading_of(
        {
            "agentflow": 1,
            "name": "p",
            "vars": {"host": "localhost"},
            "secrets": ["TOKEN"],
            "steps": [
                {"id": "ask", "llm": {"model": "a:b", "prompt": "p", "output_schema": {"type": "object"}}},
                {"id": "it", "http": {"url": "http://localhost/", **fields}},
            ],
        }
    )
    assert reading.plan is not None
    action = reading.plan.steps[1].action
    assert isinstance(action, HttpAction)
    return action, reading.content


def test_a_call_to_a_service_is_read_field_by_field() -> None:
    action, _ = call_of(
        method="PUT",
        url="https://[::1]:8080/x?y=1#z",
        headers={"X-Count": 5, "Accept": "*/*"},
        ok_status=[204, 200, 204],
    )
    assert action == HttpAction(
        method="PUT", url="https://[::1]:8080/x?y=1#z", headers={"X-Count": "5", "Accept": "*/*"}, ok_status=(200, 204)
    )


def test_a_call_to_a_service_is_a_get_without_a_body_unless_it_says_more() -> None:
    action, _ = call_of()
    assert (action.method, action.body, action.headers, action.ok_status) == ("GET", None, {}, None)


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ({"b": [1, None, True], "a": "é {{ vars.host }}"}, '{"a":"é {{ vars.host }}","b":[1,null,true]}'),
        ([], "[]"),
        ("{{ steps.ask.text }}", '"{{ steps.ask.text }}"'),
        (0, "0"),
        (False, "false"),
        (1.5, "1.5"),
    ],
)
def test_the_json_of_a_call_is_content_in_its_canonical_text(body: Any, stored: str) -> None:
    action, content = call_of(method="POST", json=body)
    assert action.body == ContentRef(sha256=hashlib.sha256(stored.encode()).hexdigest(), bytes=len(stored.encode()))
    assert content[action.body.sha256] == stored.encode()


def test_secrets_may_stand_in_a_call_to_a_service_and_a_models_text_in_its_json() -> None:
    secret = "Bearer {{ secrets.TOKEN }}"
    action, _ = call_of(
        method="POST",
        url="http://{{ vars.host }}:80/{{ secrets.TOKEN }}",
        headers={"Authorization": secret},
        json={"token": secret, "text": "{{ steps.ask.text }}", "more": ["{{ steps.ask.result.word }}"]},
    )
    assert (action.url, action.headers) == (
        "http://{{ vars.host }}:80/{{ secrets.TOKEN }}",
        {"Authorization": secret},
    )


@pytest.mark.parametrize("url", ["{{ vars.host }}", "{{ vars.host }}/a b", "https://{{ vars.host }}"])
def test_a_url_that_is_not_known_before_it_is_rendered_is_left_to_the_worker(url: str) -> None:
    assert call_of(url=url)[0].url == url


def test_the_answer_of_a_service_may_stand_where_output_of_a_command_may() -> None:
    text = "{{ steps.fetch.result.next }}{{ steps.fetch.text }}"
    plan_of(
        {
            "agentflow": 1,
            "name": "p",
            "steps": [
                {"id": "fetch", "http": {"url": "http://x/"}, "outputs": "body_json"},
                {"id": "again", "http": {"url": f"http://x/{text}", "headers": {"A": text}}, "when": "run.id != ''"},
                {
                    "id": "use",
                    "subprocess": {"command": ["x", text, "{{ steps.fetch.text_path }}"], "env": {"A": text}},
                },
                {"id": "ask", "llm": {"model": "a:b", "prompt": text, "system": text}},
            ],
        }
    )


def test_a_price_is_kept_in_nano_dollars_a_million_tokens() -> None:
    llm = {"model": "ollama:llama3:8b", "prompt": "p", "price": {"input": 0.15, "output": 0}}
    action = step_of(llm=llm).action
    assert isinstance(action, LlmAction)
    assert (action.model, action.price) == ("ollama:llama3:8b", Price(input_nano=150_000_000, output_nano=0))


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("60/m", RateLimit(limit=60, per_seconds=60)),
        (" 10 / s ", RateLimit(limit=10, per_seconds=1)),
        ("1000000/d", RateLimit(limit=1_000_000, per_seconds=86_400)),
        ({"limit": "5/h"}, RateLimit(limit=5, per_seconds=3600)),
        (
            {"key": "openai:gpt/4", "limit": "60/m", "burst": 10},
            RateLimit(key="openai:gpt/4", limit=60, per_seconds=60, burst=10),
        ),
    ],
)
def test_a_rate_is_a_number_for_each_unit_of_time(written: Any, rate: RateLimit) -> None:
    assert step_of(noop={}, rate_limit=written).rate_limit == rate


def test_limits_of_the_defaults_hold_for_steps_that_write_none() -> None:
    document = {
        "agentflow": 1,
        "name": "p",
        "defaults": {"rate_limit": "60/m", "concurrency": {"key": "db", "limit": 4}},
        "steps": [
            {"id": "a", "noop": {}},
            {"id": "b", "noop": {}, "rate_limit": "1/s", "concurrency": {"key": "db", "limit": 2}},
        ],
    }
    first, second = plan_of(document).steps
    assert (first.rate_limit, first.concurrency) == (
        RateLimit(limit=60, per_seconds=60),
        ConcurrencyLimit(key="db", limit=4),
    )
    assert (second.rate_limit, second.concurrency) == (
        RateLimit(limit=1, per_seconds=1),
        ConcurrencyLimit(key="db", limit=2),
    )
    assert first.timeout_seconds == 1800


@pytest.mark.parametrize(
    ("written", "budget"),
    [
        ({"steps": 1}, Budget(steps=1)),
        ({"usd": 0.1}, Budget(usd_nano=100_000_000)),
        ({"usd": 1e-12}, Budget(usd_nano=1)),
        ({"tokens": 5, "active_time": "1h30m"}, Budget(tokens=5, active_seconds=5400)),
    ],
)
def test_a_budget_caps_what_it_names(written: Any, budget: Budget) -> None:
    steps = [{"id": "a", "noop": {}}]
    plan = plan_of({"agentflow": 1, "name": "p", "budget": written, "directive": "nightly", "steps": steps})
    assert (plan.budget, plan.directive) == (budget, "nightly")


READERS_OF_AN_ANSWER: list[dict[str, Any]] = [
    {"llm": {"model": "a:b", "prompt": "{{ steps.ask.text }}"}},
    {"llm": {"model": "a:b", "prompt": "p", "system": "{{ steps.ask.text }}"}},
    {"subprocess": {"command": ["x"], "stdin": "{{ steps.ask.result.word }}"}},
    {"subprocess": {"command": ["x", "{{ steps.ask.text_path }}"]}},
    {"http": {"url": "http://x", "method": "POST", "json": {"a": [{"b": "{{ steps.ask.text }}"}]}}},
    {"noop": {}, "when": "'x' in steps.ask.text"},
]


@pytest.mark.parametrize("reader", READERS_OF_AN_ANSWER)
def test_an_answer_is_marked_as_needed_where_a_later_step_refers_to_it(reader: dict[str, Any]) -> None:
    llm = {"model": "a:b", "prompt": "p", "output_schema": {"type": "object"}}
    steps = [
        {"id": "ask", "llm": llm},
        {"id": "other", "llm": llm, "needs": []},
        {"id": "reader", "needs": ["ask"], **reader},
    ]
    plan = plan_of({"agentflow": 1, "name": "p", "steps": steps})
    needed = [step.id for step in plan.steps if isinstance(step.action, LlmAction) and step.action.is_answer_needed]
    assert needed == ["ask"]


def test_the_state_of_a_model_call_is_no_answer() -> None:
    steps = [
        {"id": "ask", "llm": {"model": "a:b", "prompt": "p"}},
        {"id": "reader", "noop": {}, "when": "steps.ask.state == 'succeeded'"},
    ]
    action = plan_of({"agentflow": 1, "name": "p", "steps": steps}).steps[0].action
    assert isinstance(action, LlmAction)
    assert not action.is_answer_needed


def test_a_var_without_a_default_may_be_null() -> None:
    assert (
        plan_of({"agentflow": 1, "name": "p", "vars": {"x": None}, "steps": [{"id": "a", "noop": {}}]})
        .vars["x"]
        .default
        is None
    )


def test_what_a_plan_takes_to_be_read_grows_as_its_steps_do() -> None:
    def read(size: int) -> None:
        steps = [{"id": f"s{n}", "subprocess": {"command": ["echo", "{{ vars.x }}"]}} for n in range(size)]
        plan = plan_of({"agentflow": 1, "name": "p", "vars": {"x": 1}, "steps": steps})
        assert len(plan.steps) == size

    assert grows_as(read, 250, 1_000)
