"""A plan built in Python is the plan that its document would be, with the same faults."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentflow import Plan, Retry, errors
from agentflow.client import Budget
from agentflow.domain.plan_document import read_plan


def codes(plan: Plan) -> list[tuple[str, str | None]]:
    with pytest.raises(errors.PlanRejected) as rejected:
        plan.check()
    return [(fault.code, fault.step) for fault in rejected.value.faults]


def test_a_built_plan_is_the_written_one(tmp_path: Path) -> None:
    (tmp_path / "make_report.py").write_text("print(1)")
    built = Plan("triage", files=["*.py"], folder=tmp_path, vars={"log": "app.log"}, secrets=["TOKEN"], project="ops")
    collect = built.subprocess(
        "collect",
        ["grep", "-c", "ERROR", "{{ vars.log }}"],
        env={"TOKEN": "{{ secrets.TOKEN }}"},
        ok_exit_codes=[0, 1],
        stdin="",
        timeout="90s",
        outputs="stdout_json",
    )
    built.noop("join", needs=[collect], when="always", on_failure="continue", on_lost="rerun")
    written = tmp_path / "plan.yaml"
    written.write_text(
        """
agentflow: 1
name: triage
project: ops
files: ["*.py"]
vars: {log: app.log}
secrets: [TOKEN]
steps:
  - id: collect
    subprocess:
      command: [grep, -c, ERROR, "{{ vars.log }}"]
      env: {TOKEN: "{{ secrets.TOKEN }}"}
      ok_exit_codes: [0, 1]
      stdin: ""
    timeout: 90s
    outputs: stdout_json
  - id: join
    needs: [collect]
    when: always
    on_failure: continue
    on_lost: rerun
    noop: {}
"""
    )

    assert built.check().plan == Plan.load(written).plan
    assert built.check().plan.fingerprint == Plan.load(written).plan.fingerprint


def test_needs_are_handles_or_ids() -> None:
    plan = Plan("p")
    first = plan.noop("first")
    second = plan.noop("second", needs=["first"])
    plan.noop("third", needs=[first, second.id])

    assert [step.needs for step in plan.check().plan.steps] == [(), ("first",), ("first", "second")]


def test_without_needs_each_step_follows_the_one_above() -> None:
    plan = Plan("p")
    for key in ("a", "b", "c"):
        plan.noop(key)

    assert [step.needs for step in plan.check().plan.steps] == [(), ("a",), ("b",)]


def test_durations_are_texts_or_timedeltas() -> None:
    plan = Plan("p", defaults={"timeout": timedelta(minutes=5)})
    plan.noop("a")
    plan.noop("b", timeout=timedelta(hours=1, milliseconds=500))

    assert [step.timeout_seconds for step in plan.check().plan.steps] == [300, 3600.5]


def test_a_retry_is_a_policy_a_number_or_a_mapping() -> None:
    plan = Plan("p")
    plan.noop("a", retry=Retry(max_attempts=4, base=timedelta(milliseconds=700), on_exit_codes=(75,), on_timeout=True))
    plan.noop("b", retry=2)
    plan.noop("c", retry={"max_attempts": 5})
    first, second, third = (step.retry for step in plan.check().plan.steps)

    assert (first.max_attempts, first.base_seconds, first.on_exit_codes, first.on_timeout) == (4, 0.7, (75,), True)
    assert not first.retries_everything
    assert (second.max_attempts, second.retries_everything) == (2, True)
    assert (third.max_attempts, third.retries_everything) == (5, True)


def test_a_retry_writes_only_what_was_given() -> None:
    assert Retry(max_attempts=2, jitter=0).as_document() == {"max_attempts": 2, "jitter": 0}


def test_every_fault_comes_at_once() -> None:
    plan = Plan("p")
    plan.subprocess("a", "ls -l")
    plan.noop("a", needs=["nowhere"], timeout="5")
    plan.noop("c", needs=[], retry=0)

    assert set(codes(plan)) == {
        ("command_needs_shell", "a"),
        ("duplicate_id", "a"),
        ("unknown_need", "a"),
        ("bad_duration", "a"),
        ("bad_retry", "c"),
    }


def test_an_unknown_field_names_the_nearest_one() -> None:
    plan = Plan("p")
    fields: dict[str, Any] = {"timeuot": "5s", "shel": True}
    plan.subprocess("a", ["x"], **fields)

    with pytest.raises(errors.PlanRejected, match="did you mean 'timeout'"):
        plan.check()


def test_built_calls_budgets_and_limits_are_the_written_ones() -> None:
    built = Plan(
        "p", directive="nightly", budget=Budget(tokens=5000, usd=Decimal("0.5"), active_time=timedelta(minutes=10))
    )
    ask = built.llm(
        "ask",
        model="openai:gpt-4o-mini",
        prompt="Summarise",
        system="Be short",
        max_tokens=300,
        temperature=0,
        seed=1,
        output_schema={"type": "object"},
        keep_content=True,
        price={"input": 0.15, "output": Decimal("0.60")},
        retry=Retry(max_attempts=4),
        rate_limit={"key": "openai", "limit": "60/m", "burst": 10},
        concurrency={"key": "openai", "limit": 4},
    )
    built.http(
        "tell",
        "https://example.com/{{ run.id }}",
        method="POST",
        json={"word": "{{ steps.ask.result.word }}"},
        headers={"Accept": "*/*"},
        ok_status=[200, 201],
        outputs="body_json",
        needs=[ask],
        rate_limit="1/s",
    )
    written = yaml.safe_load(
        """
agentflow: 1
name: p
directive: nightly
budget: {tokens: 5000, usd: 0.50, active_time: 10m}
steps:
  - id: ask
    llm:
      model: openai:gpt-4o-mini
      prompt: Summarise
      system: Be short
      max_tokens: 300
      temperature: 0
      seed: 1
      output_schema: {type: object}
      keep_content: true
      price: {input: 0.15, output: 0.60}
    retry: {max_attempts: 4}
    rate_limit: {key: openai, limit: 60/m, burst: 10}
    concurrency: {key: openai, limit: 4}
  - id: tell
    needs: [ask]
    http:
      method: POST
      url: "https://example.com/{{ run.id }}"
      json: {word: "{{ steps.ask.result.word }}"}
      headers: {Accept: "*/*"}
      ok_status: [200, 201]
    outputs: body_json
    rate_limit: 1/s
"""
    )

    assert built.as_document() == written
    assert read_plan(built.as_document()).faults == ()


def test_a_budget_or_a_directive_that_says_nothing_is_a_fault() -> None:
    plan = Plan("p", budget={}, directive="")
    plan.noop("a")

    assert codes(plan) == [("bad_value", None), ("bad_budget", None)]


def test_every_builder_takes_limits() -> None:
    plan = Plan("p")
    limits: Any = {"rate_limit": "60", "concurrency": {"key": "db", "limit": 0}}
    plan.noop("a", **limits)
    plan.subprocess("b", ["true"], **limits)
    plan.http("c", "http://localhost", **limits)
    plan.llm("d", model="a:b", prompt="p", **limits)

    faults = [(fault.code, fault.step) for fault in read_plan(plan.as_document()).faults]
    assert faults == [("bad_limit", key) for key in "aabbccdd"]


def test_the_builder_takes_no_hold_of_what_it_is_given() -> None:
    command, variables = ["echo", "a"], {"x": 1}
    plan = Plan("p", vars=variables)
    plan.subprocess("a", command)
    command.append("b")
    variables["y"] = 2

    assert plan.as_document()["steps"][0]["subprocess"]["command"] == ["echo", "a"]
    assert plan.as_document()["vars"] == {"x": 1}


def test_files_lie_in_the_folder_that_was_current_when_the_plan_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    plan = Plan("p", files=["a.txt"])
    plan.noop("a")
    monkeypatch.chdir("/")

    assert [file.path for file in plan.check().plan.files] == ["a.txt"]


def test_a_missing_file_beside_a_built_plan_is_a_fault(tmp_path: Path) -> None:
    plan = Plan("p", files=["gone.txt"], folder=tmp_path)
    plan.noop("a")

    assert codes(plan) == [("bad_file", None)]


def test_a_switch_names_later_steps_and_stands_in_their_needs() -> None:
    built = Plan("routed")
    route = built.switch("route", on="vars.kind", cases={"edit": "change", "make": ["draft"]}, default="make", needs=[])
    change = built.noop("change", needs=[route], wave=2, on_failure="ignore")
    draft = built.noop("draft", needs=[route])
    built.noop("merge", needs=[change, draft], when="taken")

    assert built.as_document()["steps"] == [
        {
            "id": "route",
            "switch": {"on": "vars.kind", "cases": {"edit": "change", "make": ["draft"]}, "default": "make"},
            "needs": [],
        },
        {"id": "change", "noop": {}, "needs": ["route"], "wave": 2, "on_failure": "ignore"},
        {"id": "draft", "noop": {}, "needs": ["route"]},
        {"id": "merge", "noop": {}, "needs": ["change", "draft"], "when": "taken"},
    ]


def test_a_foreach_has_a_body_and_a_step_can_be_done_for_each_item(tmp_path: Path) -> None:
    built = Plan("pages", folder=tmp_path)
    first = built.subprocess("list", ["cat", "pages.json"], outputs="stdout_json")
    with built.foreach("pages", "steps.list.result", max_parallel=2, merge="partial", needs=[first]) as page:
        fetch = page.subprocess("fetch", ["fetch", "{{ item }}"])
        with page.foreach("parts", [1, 2], needs=[fetch]) as part:
            part.noop("split")
    built.noop("each", needs=[page], foreach=[1, 2, 3])

    document = yaml.safe_load(
        """
agentflow: 1
name: pages
steps:
  - {id: list, subprocess: {command: [cat, pages.json]}, outputs: stdout_json}
  - id: pages
    needs: [list]
    foreach: {items: steps.list.result, max_parallel: 2, merge: partial}
    steps:
      - {id: fetch, subprocess: {command: [fetch, "{{ item }}"]}}
      - {id: parts, needs: [fetch], foreach: {items: [1, 2]}, steps: [{id: split, noop: {}}]}
  - {id: each, needs: [pages], foreach: [1, 2, 3], noop: {}}
"""
    )
    reading = read_plan(document)
    assert reading.plan is not None, reading.faults
    assert built.check().plan == reading.plan
