"""Plans in process: what a test says happens to them, by the real engine, and without a wait."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentflow import Plan, errors
from agentflow.client import AgentFlow
from agentflow.testing import Rehearsal, RehearsalError, player
from agentflow.testing.rehearsal import RehearsedRun
from tests.workers import REPOSITORY


@pytest.fixture
def agentflow_settings() -> Mapping[str, Any]:
    return {"python_calls": ("statistics:median",), "approver_groups": {"ops": ("ann", "bob")}}


def _states(run: RehearsedRun, key: str) -> list[str]:
    return [attempt.state.value for attempt in run.steps[key].attempts]


def _blocks(language: str) -> list[str]:
    howto = (REPOSITORY / "docs/howto/testing-plans.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", howto, re.DOTALL)


def _plan(*, name: str = "rehearsed", **head: Any) -> Plan:
    return Plan(name, **head)


def test_the_howto_shows_a_test_that_passes(
    agentflow: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [plan], [shown, _settings] = _blocks("yaml"), _blocks("python")
    (tmp_path / "triage.yaml").write_text(plan, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(shown, "testing-plans.md", "exec"), names)  # noqa: S102 - our own document
    names["test_triage"](agentflow)


def test_a_forced_failure_meets_the_steps_own_retry_policy_and_nothing_waits(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.subprocess(
        "collect", ["echo", "hi"], retry={"max_attempts": 4, "base": "10m", "max_delay": "1h", "on_exit_codes": [75]}
    )
    plan.noop("end", needs=["collect"])
    agentflow.fail("collect", times=3, exit_code=75)

    began = time.monotonic()
    run = agentflow.run(plan)

    assert (run.state, _states(run, "collect")) == ("completed", ["failed"] * 3 + ["succeeded"])
    assert run.usage.active_seconds > 30 * 60  # what the run believes: 10 + 20 + 40 minutes, with their jitter
    assert time.monotonic() - began < 30 * 60
    assert run.read_artifact("stdout", "collect") == b"hi\n"


def test_a_plan_may_be_a_document_with_its_files_beside_the_test(agentflow: Rehearsal) -> None:
    step = {"id": "read", "subprocess": {"command": ["wc", "-l", "conftest.py"]}}
    document = {"agentflow": 1, "name": "told", "files": ["conftest.py"], "steps": [step]}

    run = agentflow.run(document)

    assert run.state == "completed"
    assert b"conftest.py" in run.read_artifact("stdout", "read")
    assert agentflow.flow.submit(document).wait().state == "completed"
    with pytest.raises(errors.PlanRejected, match="steps"):
        agentflow.run({"agentflow": 1, "name": "none"})


def test_what_is_no_plan_is_said_in_words(agentflow: Rehearsal) -> None:
    with pytest.raises(errors.UsageError, match="not list"):
        agentflow.run([])  # type: ignore[arg-type]  # what is asked
    with pytest.raises(errors.UsageError, match="not dict"):
        AgentFlow.submit(agentflow.flow, {})  # type: ignore[arg-type]  # what is asked of the real client


@pytest.mark.parametrize("code", [0, 256, 999, -9, True])
def test_a_failure_has_an_exit_code_that_a_command_can_fail_with(agentflow: Rehearsal, code: int) -> None:
    with pytest.raises(RehearsalError, match="exit code from 1 to 255"):
        agentflow.fail("collect", exit_code=code)


def test_a_failure_that_the_policy_does_not_name_is_not_retried(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.subprocess("collect", ["true"], retry={"max_attempts": 4, "on_exit_codes": [75], "on_messages": ["try later"]})
    agentflow.fail("collect", exit_code=1, message="please try later")
    agentflow.fail("collect", exit_code=9)
    run = agentflow.run(plan)

    assert (run.state, _states(run, "collect")) == ("failed", ["failed", "failed"])
    assert run.steps["collect"].reason == {"code": "exit_code", "detail": {"exit_code": 9}}


def test_a_step_times_out_and_loses_its_worker_as_told(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.subprocess("slow", ["true"])
    plan.subprocess("held", ["true"], on_lost="hold", needs=["slow"])
    agentflow.fail("slow", timed_out=True)
    agentflow.fail("slow", lost=True)
    agentflow.fail("held", lost=True)
    run = agentflow.run(plan)

    assert _states(run, "slow") == ["timed_out", "lost", "succeeded"]
    assert (run.state, run.steps["held"].state) == ("waiting", "held")
    run.retry("held")
    assert run.wait().state == "completed"


def test_a_model_answers_fails_and_is_charged_as_a_real_one(agentflow: Rehearsal) -> None:
    plan = _plan(budget={"tokens": 400})
    plan.llm("say", model="openai:gpt-4o-mini", prompt="three errors", system="Be short.", max_tokens=60, retry=4)
    plan.subprocess("put", ["cat"], stdin="{{ steps.say.text }}", needs=["say"])
    stub = agentflow.model("openai:*").fails("rate_limited", retry_after=3600).fails("unavailable")
    stub.answers(lambda prompt: prompt.upper(), tokens=(30, 12))
    run = agentflow.run(plan)

    assert (run.state, _states(run, "say")) == ("completed", ["released", "failed", "succeeded"])
    assert run.read_artifact("stdout", "put") == b"THREE ERRORS"
    assert (run.usage.tokens, run.usage.calls) == (42, 3)
    assert run.usage.usd is not None
    assert run.usage.usd > 0
    assert [(call.target, call.system) for call in run.calls] == [("openai:gpt-4o-mini", "Be short.")] * 3


@pytest.mark.parametrize("model", ["anthropic:claude-sonnet-4-5", "offline:smollm2", "lab:some-model"])
def test_every_provider_is_stubbed_alike(agentflow: Rehearsal, model: str) -> None:
    plan = _plan()
    plan.llm(
        "judge",
        model=model,
        prompt="is it urgent?",
        max_tokens=40,
        output_schema={"type": "object", "properties": {"urgent": {"type": "boolean"}}, "required": ["urgent"]},
    )
    plan.subprocess("put", ["cat"], stdin="{{ steps.judge.result.urgent }}", needs=["judge"])
    agentflow.model(model).answers({"urgent": "very"}, {"urgent": True})
    run = agentflow.run(plan)
    assert _states(run, "judge") == ["failed", "succeeded"], run.steps["judge"].attempts
    assert run.read_artifact("stdout", "put") == b"true"


def test_a_content_filter_ends_the_step_for_good(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.llm("say", model="openai:gpt-4o-mini", prompt="hm", max_tokens=40, retry=5)
    agentflow.model("openai:gpt-4o-mini").fails("content_filtered")
    run = agentflow.run(plan)
    assert (run.state, _states(run, "say")) == ("failed", ["failed"])
    assert run.steps["say"].reason is not None
    assert run.steps["say"].reason["detail"]["problem"] == "content_filtered"


def test_an_exhausted_budget_rests_the_run_until_it_is_raised(agentflow: Rehearsal) -> None:
    plan = _plan(budget={"tokens": 150})
    plan.llm("one", model="openai:gpt-4o-mini", prompt="a", max_tokens=30)
    plan.llm("two", model="openai:gpt-4o-mini", prompt="b", max_tokens=30, needs=["one"])
    agentflow.model("*").answers("yes", tokens=(60, 30))
    run = agentflow.run(plan)
    assert (run.state, run.steps["two"].state) == ("exhausted", "ready")
    run.raise_budget(tokens=100)
    run.resume()
    assert run.wait().state == "completed"


def test_a_service_answers_by_url_and_method_and_its_answer_is_judged(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.http("read", "https://api.example.org/items?page=1", outputs="body_json")
    plan.http(
        "write", "https://api.example.org/items", method="POST", json={"n": "{{ steps.read.result.n }}"}, needs=["read"]
    )
    agentflow.http("https://api.example.org/items*").fails("connection_lost").returns(200, json={"n": 3})
    agentflow.http("https://api.example.org/items", method="POST").returns(503, headers={"Retry-After": "120"}, times=1)
    agentflow.http("https://api.example.org/items", method="POST").returns(201, text="made")
    run = agentflow.run(plan)

    assert (_states(run, "read"), run.steps["read"].result) == (["failed", "succeeded"], {"n": 3})
    assert _states(run, "write") == ["released", "succeeded"]
    assert [call.method for call in run.calls] == ["GET", "GET", "POST", "POST"]
    assert run.calls[-1].json == {"n": "3"}


def test_people_approve_and_reject_and_gates_of_many_need_many(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.approval("release", approvers=["@ops"], count=2)
    plan.approval("tell", needs=["release"])
    plan.noop("end", needs=["tell"])
    agentflow.approves("release")
    agentflow.rejects("tell", by="cem", why="not today")
    run = agentflow.run(plan)

    assert (run.state, run.steps["release"].state, run.steps["tell"].state) == ("failed", "succeeded", "failed")
    gates = {gate.step: gate.gate for gate in agentflow.flow.gate_history(run)}
    assert sorted(each.actor for each in gates["release"].decisions) == ["ann", "bob"]
    assert [(each.actor, each.why) for each in gates["tell"].decisions] == [("cem", "not today")]


def test_nobody_decides_what_no_test_decides(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.approval("release", expires="2h", on_expiry="deny")
    run = agentflow.run(plan)
    assert run.state == "waiting"
    agentflow.advance("1h")
    assert run.wait().state == "waiting"
    agentflow.advance("1h")
    assert run.wait().state == "failed"


def test_waits_are_leapt_over_and_signals_are_kept(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.wait("soak", for_="3d")
    plan.wait("go", event="go", event_timeout="1h", needs=["soak"])
    plan.python("middle", "statistics:median", args={"data": [1, 5, 9]}, needs=["go"])
    agentflow.signal("go", {"by": "ann"})
    run = agentflow.run(plan)
    assert (run.state, run.steps["go"].result, run.steps["middle"].result) == ("completed", {"by": "ann"}, 5)
    assert run.summary.ended_at is not None
    assert (run.summary.ended_at - run.summary.created_at).total_seconds() > 3 * 86_400


def test_a_signal_that_never_comes_ends_the_wait_when_its_time_is_over(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.wait("go", event="go", event_timeout="1h")
    agentflow.advance("61m")
    run = agentflow.run(plan)
    assert run.steps["go"].reason is not None
    assert (run.state, run.steps["go"].reason["code"]) == ("failed", "no_signal")


def test_items_and_child_runs_are_played_and_may_fail_one_by_one(agentflow: Rehearsal) -> None:
    child = _plan(name="child", vars={"region": {"required": True}})
    child.subprocess("deploy", ["echo", "{{ vars.region }}"], retry=2)
    plan = _plan(vars={"books": ["a", "b", "c"]})
    with plan.foreach("count", items="vars.books", merge="partial") as body:
        body.subprocess("read", ["echo", "{{ item }}"], retry=1)
    plan.run("roll", child, vars={"region": "eu"}, needs=["count"])
    agentflow.fail("count[1].read", exit_code=3)
    agentflow.fail("deploy", exit_code=75)
    run = agentflow.run(plan)

    states = {key: step.state.value for key, step in run.steps.items()}
    assert (states["count[0].read"], states["count[1].read"], states["roll"]) == ("succeeded", "failed", "succeeded")
    (below,) = run.children["roll"]
    assert [attempt.state for attempt in below.steps["deploy"].attempts] == ["failed", "succeeded"]


def test_a_call_that_nothing_answers_fails_the_test_with_the_words_that_are_missing(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.llm("say", model="openai:gpt-4o-mini", prompt="hm", max_tokens=40)
    with pytest.raises(RehearsalError, match=r"Step 'say', attempt 1: .*agentflow\.model\('openai:gpt-4o-mini'\)"):
        agentflow.run(plan)
    plan = _plan()
    plan.http("read", "https://api.example.org/items")
    with pytest.raises(RehearsalError, match=r"nothing answers GET https://api\.example\.org/items\. Say"):
        agentflow.run(plan)
    agentflow.http("https://api.example.org/items").fails("unavailable")
    with pytest.raises(RehearsalError, match="no answer is left for GET"):
        agentflow.run(plan)


def test_a_tests_own_function_that_raises_fails_the_test(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.llm("say", model="openai:gpt-4o-mini", prompt="hm", max_tokens=40)
    agentflow.model("openai:gpt-4o-mini").answers(lambda prompt: prompt.no_such_thing)  # type: ignore[attr-defined]  # that is the point
    with pytest.raises(RehearsalError, match="AttributeError"):
        agentflow.run(plan)


def test_what_the_plan_does_not_have_is_said_with_the_nearest(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.subprocess("collect", ["true"])
    plan.approval("release", needs=["collect"])
    agentflow.fail("colect")
    with pytest.raises(RehearsalError, match=r"fail\('colect', ...\): .* did you mean 'collect'\?"):
        agentflow.run(plan)
    with pytest.raises(RehearsalError, match="did you mean 'rate_limited'"):
        agentflow.model("openai:x").fails("rate_limit")
    with pytest.raises(RehearsalError, match="did you mean 'unavailable'"):
        agentflow.fail("collect", problem="unavailabel")


def test_a_decision_of_an_unknown_gate_is_said_with_the_nearest(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.approval("release")
    agentflow.approves("relaese")
    with pytest.raises(RehearsalError, match=r"approves\('relaese', ...\).*'release'"):
        agentflow.run(plan)


def test_a_call_has_no_exit_code_to_fail_with(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.llm("say", model="openai:gpt-4o-mini", prompt="hm", max_tokens=40)
    agentflow.fail("say", exit_code=75)
    with pytest.raises(RehearsalError, match=r"agentflow\.fail\('say', problem="):
        agentflow.run(plan)


def test_faults_of_the_plan_are_the_plans_own_errors(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.subprocess("collect", ["true"], needs=["nowhere"])
    with pytest.raises(errors.PlanRejected):
        agentflow.run(plan)


def test_code_that_is_given_a_client_is_rehearsed_too(agentflow: Rehearsal) -> None:
    def nightly(flow: AgentFlow) -> str:
        plan = _plan()
        plan.subprocess("collect", ["echo", "3"], outputs="stdout_json")
        run = flow.submit(plan, idempotency_key="nightly").wait(60, raise_on_failure=True)
        return str(run.steps["collect"].result)

    assert nightly(agentflow.flow) == "3"
    assert nightly(agentflow.flow) == "3"
    assert len(agentflow.flow.runs()) == 1


def test_a_notice_goes_to_the_stubs_and_a_mail_into_the_calls(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.notify("mail", email=["ann@example.org"])
    plan.notify("hook", webhook="https://hooks.example.org/x", needs=["mail"])
    agentflow.http("https://hooks.example.org/x", method="POST").returns(204)
    run = agentflow.run(plan)
    assert run.state == "completed"
    assert [(call.kind, call.target) for call in run.calls] == [
        ("mail", "ann@example.org"),
        ("http", "https://hooks.example.org/x"),
    ]
    assert run.calls[1].json["run"] == run.id


def test_the_breaker_of_a_service_that_is_down_opens_and_closes_in_virtual_time(agentflow: Rehearsal) -> None:
    plan = _plan()
    plan.http("read", "https://api.example.org/", retry={"max_attempts": 8, "base": "1s", "factor": 1})
    agentflow.http("https://api.example.org/").fails("server_error", times=6).returns(200)
    run = agentflow.run(plan)
    assert run.state == "completed"
    codes = [attempt.reason["code"] for attempt in run.steps["read"].attempts if attempt.reason]
    assert codes.count("call_failed") == 6
    assert set(codes) - {"call_failed"}, "the open breaker gave attempts back"


def test_what_is_waited_for_in_vain_is_given_up(agentflow: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "MOST_LEAPS", 5)
    plan = _plan()
    plan.http("read", "https://api.example.org/")
    agentflow.http("https://api.example.org/").fails("rate_limited", times=None, retry_after=60)
    with pytest.raises(RehearsalError, match=r"The run still waits after 5 leaps: "):
        agentflow.run(plan)
