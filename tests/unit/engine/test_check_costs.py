"""A model call without a bound on its cost is refused wherever a budget caps it, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.budget import Budget, ConfiguredBudgets
from agentflow.domain.fault import Fault
from agentflow.domain.plan_document import read_plan
from agentflow.engine.check_costs import check_costs
from agentflow.settings import Settings

BOUNDED = {"max_tokens": 100, "price": {"input": 1, "output": 2}}


def faults_of(
    *calls: dict[str, Any],
    caps: Budget | None = None,
    configured: dict[str, Any] | None = None,
    variables: dict[str, Any] | None = None,
    directive: str | None = "nightly",
    **settings: Any,
) -> tuple[Fault, ...]:
    steps = [{"id": f"s{n}", "llm": {"model": "nobody:knows", "prompt": "p", **call}} for n, call in enumerate(calls)]
    reading = read_plan(
        {"agentflow": 1, "name": "p", "vars": dict.fromkeys(variables or (), None), "steps": [FIRST, *steps]}
    )
    assert reading.plan is not None, reading.faults
    return check_costs(
        reading.plan,
        variables or {},
        caps=caps or Budget(),
        project="ops",
        directive=directive,
        settings=Settings(budgets=ConfiguredBudgets.model_validate(configured or {}), **settings),
    )


FIRST = {"id": "first", "subprocess": {"command": ["x"]}}


@pytest.mark.parametrize("caps", [Budget(), Budget(steps=5, active_seconds=60)])
def test_a_run_whose_tokens_and_usd_nobody_caps_may_call_whom_it_likes(caps: Budget) -> None:
    assert faults_of({}, caps=caps) == ()


def test_under_a_cap_of_tokens_every_call_has_max_tokens() -> None:
    faults = faults_of({}, BOUNDED, {}, caps=Budget(tokens=1000))
    assert [(fault.code, fault.path, fault.step) for fault in faults] == [
        ("missing_max_tokens", ("steps", 1, "llm"), "s0"),
        ("missing_max_tokens", ("steps", 3, "llm"), "s2"),
    ]
    assert "a budget of the run" in faults[0].message
    assert "such as max_tokens: 500" in faults[0].message


def test_under_a_cap_of_usd_every_call_has_max_tokens_and_a_known_price() -> None:
    faults = faults_of({}, BOUNDED, caps=Budget(usd_nano=1))
    assert [(fault.code, fault.path, fault.step) for fault in faults] == [
        ("missing_max_tokens", ("steps", 1, "llm"), "s0"),
        ("unknown_price", ("steps", 1, "llm", "model"), "s0"),
    ]
    assert "the price of 'nobody:knows' is unknown" in faults[1].message
    assert "price: {input: 0.15, output: 0.60}" in faults[1].message


@pytest.mark.parametrize("model", ["openai:gpt-4o-mini", "ollama:llama3:8b"])
def test_a_price_that_is_listed_or_nothing_need_not_be_written(model: str) -> None:
    assert faults_of({"model": model, "max_tokens": 1}, caps=Budget(usd_nano=1)) == ()


@pytest.mark.parametrize(
    ("configured", "scope"),
    [
        ({"installation": {"usd": 1}}, "installation"),
        ({"project": {"ops": {"usd": 1}}}, "project:ops"),
        ({"project": {"*": {"usd_per_day": 1}}}, "project:ops for each day"),
        ({"directive": {"ops/nightly": {"usd": 1}}}, "directive:ops/nightly"),
    ],
)
def test_caps_of_the_configuration_count_too(configured: dict[str, Any], scope: str) -> None:
    faults = faults_of({}, configured=configured)
    assert [fault.code for fault in faults] == ["missing_max_tokens", "unknown_price"]
    assert all(f"a budget of {scope})" in fault.message for fault in faults)


def test_caps_of_other_projects_and_directives_do_not_count() -> None:
    configured = {"project": {"other": {"usd": 1}}, "directive": {"ops/nightly": {"usd": 1}}}
    assert faults_of({}, configured=configured, directive=None) == ()


def test_a_cap_of_tokens_asks_for_no_price() -> None:
    configured = {"project": {"ops": {"tokens_per_day": 1000}}}
    assert faults_of({"max_tokens": 5}, configured=configured) == ()


def test_a_model_that_is_named_by_vars_is_judged_by_their_values() -> None:
    call = {"model": "{{ vars.maker }}:{{ vars.model }}", "max_tokens": 5}
    known = {"maker": "openai", "model": "gpt-4o-mini"}
    assert faults_of(call, caps=Budget(usd_nano=1), variables=known) == ()
    (fault,) = faults_of(call, caps=Budget(usd_nano=1), variables=known | {"model": "no-such-model"})
    assert "the price of 'openai:no-such-model' is unknown" in fault.message


@pytest.mark.parametrize("model", ["openai:{{ steps.first.stdout }}", "{{ vars.model.name }}"])
def test_a_model_that_only_the_worker_can_name_is_left_to_it(model: str) -> None:
    assert faults_of({"model": model, "max_tokens": 5}, caps=Budget(usd_nano=1), variables={"model": None}) == ()


def test_an_id_of_the_credentials_file_has_the_prices_of_its_provider(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.yaml"
    credentials.write_text("- {id: team, provider: openai, auth: {source: env, env_var: NO_SUCH_VARIABLE}}")
    call = {"model": "team:gpt-4o-mini", "max_tokens": 100}

    assert [fault.code for fault in faults_of(call, caps=Budget(usd_nano=1))] == ["unknown_price"]
    assert faults_of(call, caps=Budget(usd_nano=1), provider_credentials=credentials) == ()
