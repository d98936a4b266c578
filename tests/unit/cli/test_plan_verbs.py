"""The verbs on plans, which need no server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from agentflow.cli.plan_page import print_plan
from agentflow.engine.load_plan import load_plan
from tests.unit.cli import answers
from tests.unit.cli.answers import ask, complain, say

SOUND = """
agentflow: 1
name: triage
files: [note.txt]
vars: {region: {required: true, one_of: [eu, us]}, depth: 3}
secrets: [TOKEN]
steps:
  - id: collect
    subprocess: {command: [echo, "{{ vars.region }}"], stdin: "a prompt of sorts"}
    timeout: 90s
  - id: join
    noop:
    when: always
"""
LIMITED = """
agentflow: 1
name: limited
directive: nightly
budget: {tokens: 20000, usd: 0.50}
steps:
  - id: collect
    subprocess: {command: [echo]}
    rate_limit: 60/m
  - id: join
    noop:
    rate_limit: {key: openai, limit: 5/h, burst: 10}
    concurrency: {key: db, limit: 4}
"""
CALLING = """
agentflow: 1
name: calling
vars: {model: "gpt-4o-mini"}
steps:
  - id: fetch
    http: {url: "https://example.com/{{ run.id }}", headers: {X-Word: a-word-of-mine}}
  - id: ask
    llm: {model: "openai:{{ vars.model }}", prompt: "a prompt of sorts"}
"""
BROKEN = """
agentflow: 1
name: broken
steps:
  - id: a
    subprocess: {comand: [x]}
  - id: a
    subprocess: {command: "ls -l"}
"""


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    (tmp_path / "note.txt").write_text("hello")
    path = tmp_path / "sound.yaml"
    path.write_text(SOUND)
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN)
    return path


def test_a_sound_plan_has_no_faults(capsys: pytest.CaptureFixture[str], sound: Path) -> None:
    assert ask(capsys, "plan", "check", sound, schema="plan-check") == []
    assert "triage is sound, 2 steps" in say(capsys, "plan", "check", sound)


def test_every_fault_is_told_with_its_line(capsys: pytest.CaptureFixture[str], broken: Path) -> None:
    faults = ask(capsys, "plan", "check", broken, schema="plan-check", code=2)

    assert {fault["code"] for fault in faults} == {
        "missing_field", "unknown_field", "duplicate_id", "command_needs_shell",
    }  # fmt: skip
    assert {fault["line"] for fault in faults} == {6, 7, 8}
    assert {fault["step"] for fault in faults} == {"a"}
    lines = say(capsys, "plan", "check", broken, code=2).splitlines()
    assert len(lines) == len(faults)
    assert lines[0].startswith(f"{broken}:6: ")
    assert lines[0].endswith("(step a)")


def test_running_a_broken_plan_tells_the_same_faults(capsys: pytest.CaptureFixture[str], broken: Path) -> None:
    error = ask(capsys, "run", broken, code=2)["error"]

    assert error["code"] == "plan_rejected"
    assert len(error["details"]["faults"]) == 4
    assert f"{broken}:8: a command is a list" in complain(capsys, "run", broken, code=2)


def test_a_dry_run_tells_what_would_be_done(capsys: pytest.CaptureFixture[str], sound: Path) -> None:
    answer = ask(capsys, "run", sound, "--dry-run", "--var", "region=eu", "--project", "ops")

    assert answer["project"] == "ops"
    assert answer["vars"] == {"region": "eu", "depth": 3}
    assert [(step["id"], step["needs"], step["when"]) for step in answer["steps"]] == [
        ("collect", [], "succeeded"),
        ("join", ["collect"], "always"),
    ]
    assert answer["steps"][0]["timeout_seconds"] == 90
    assert [file["path"] for file in answer["files"]] == ["note.txt"]
    assert "Nothing was written" in say(capsys, "run", sound, "--dry-run", "--var", "region=eu")


def test_a_dry_run_finds_missing_and_unknown_vars_at_once(capsys: pytest.CaptureFixture[str], sound: Path) -> None:
    error = ask(capsys, "run", sound, "--dry-run", "--var", "regoin=eu", code=2)["error"]

    assert [fault["code"] for fault in error["details"]["faults"]] == ["unknown_var", "missing_var"]


def test_a_bad_name_of_a_project_is_refused(capsys: pytest.CaptureFixture[str], sound: Path) -> None:
    arguments = ("run", sound, "--dry-run", "--var", "region=eu", "--project", "no spaces")

    assert "no name of a project" in complain(capsys, *arguments, code=2)


@pytest.fixture
def limited(tmp_path: Path) -> Path:
    path = tmp_path / "limited.yaml"
    path.write_text(LIMITED)
    return path


def test_a_dry_run_tells_the_budget_the_directive_and_the_limits_that_would_hold(
    capsys: pytest.CaptureFixture[str], limited: Path
) -> None:
    given = ("--budget", "tokens=5000", "--budget", "active_time=1m30s", "--directive", "daily")
    answer = ask(capsys, "run", limited, "--dry-run", *given)

    assert (answer["directive"], answer["budget"]) == ("daily", {"tokens": 5000, "usd": 0.5, "active_time": 90})
    assert [step["rate_limit"] for step in answer["steps"]] == [
        {"key": None, "limit": 60, "per_seconds": 60, "burst": 1},
        {"key": "openai", "limit": 5, "per_seconds": 3600, "burst": 10},
    ]
    assert [step["concurrency"] for step in answer["steps"]] == [None, {"key": "db", "limit": 4}]
    page = say(capsys, "run", limited, "--dry-run", *given)
    assert "directive daily" in page
    assert "budget: tokens 5000, usd 0.5, active_time 1m30s" in page


def test_a_plan_without_a_budget_says_of_none(capsys: pytest.CaptureFixture[str], sound: Path) -> None:
    answer = ask(capsys, "run", sound, "--dry-run", "--var", "region=eu")

    assert (answer["directive"], answer["budget"], answer["steps"][0]["rate_limit"]) == (None, None, None)
    page = say(capsys, "plan", "show", sound)
    assert "budget" not in page
    assert "limits" not in page


def test_a_shown_plan_tells_its_budget_and_its_limits(capsys: pytest.CaptureFixture[str], limited: Path) -> None:
    page = say(capsys, "plan", "show", limited)

    assert "directive nightly" in page
    assert "budget: tokens 20000, usd 0.5" in page
    lines = page.splitlines()
    assert lines[-2].endswith("60/m")
    assert lines[-1].endswith("5/h of openai, 10 at once after a pause; 4 at a time of db")


def test_a_shown_plan_tells_whom_its_steps_call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "calling.yaml"
    path.write_text(CALLING)
    print_plan(load_plan(path))
    page = capsys.readouterr().out

    assert "GET https://example.com/{{ run.id }}" in page
    assert "openai:{{ vars.model }}" in page
    assert "a prompt of sorts" not in page
    assert "a-word-of-mine" not in page


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("tokens=0", "budget.tokens: tokens must be from 1"),
        ("tokens=5e3", "a whole number, not the number 5000.0"),
        ("tokens=many", "a whole number, not the text 'many'"),
        ("usd=-1", "usd must be more than 0, not -1"),
        ("usd=nan", "a number, not the text 'nan'"),
        ("active_time=90", "write a unit, such as 90ms or 90s"),
        ("steps=", "a whole number, not an empty text"),
        ("token=5", "budget.token: unknown field 'token': did you mean 'tokens'?"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_told_in_the_words_of_the_plan(
    capsys: pytest.CaptureFixture[str], sound: Path, written: str, words: str
) -> None:
    error = complain(capsys, "run", sound, "--dry-run", "--var", "region=eu", "--budget", written, code=2)

    assert words in error


def test_a_bad_name_of_a_directive_is_refused(capsys: pytest.CaptureFixture[str], sound: Path) -> None:
    arguments = ("run", sound, "--dry-run", "--var", "region=eu", "--directive", "no spaces")

    assert "no name of a directive" in complain(capsys, *arguments, code=2)


def test_a_shown_plan_holds_hashes_instead_of_content(capsys: pytest.CaptureFixture[str], sound: Path) -> None:
    answer = ask(capsys, "plan", "show", sound)

    assert "a prompt of sorts" not in json.dumps(answer)
    assert answer["plan"]["steps"][0]["action"]["stdin"]["bytes"] == len("a prompt of sorts")
    page = say(capsys, "plan", "show", sound)
    assert answer["fingerprint"][:12] in page
    assert "1m30s" in page


def test_a_graph_is_a_flowchart(capsys: pytest.CaptureFixture[str], sound: Path) -> None:
    answer = ask(capsys, "plan", "graph", sound)

    assert answer["levels"] == [["collect"], ["join"]]
    assert answer["needs"] == {"collect": [], "join": ["collect"]}
    assert say(capsys, "plan", "graph", sound) == answer["mermaid"]


def test_the_schema_of_plans_is_one_that_the_sound_plan_fits(capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads(say(capsys, "plan", "schema"))

    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == "urn:agentflow:plan:1"


@pytest.mark.parametrize("name", answers.names())
def test_every_shipped_schema_is_one(name: str) -> None:
    schema = answers.read(name)

    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:agentflow:schema:{name}:1"
    assert schema["title"]


def test_an_event_is_described_the_same_alone_and_in_a_list() -> None:
    alone = {key: value for key, value in answers.read("event").items() if not key.startswith(("$", "title"))}

    assert answers.read("events")["$defs"]["event"] == alone


def test_a_check_names_what_a_submit_would_refuse_under_the_plans_own_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "agentflow: 1\nname: p\nbudget: {tokens: 100}\nsteps:\n  - id: ask\n    llm: {model: 'offline:m', prompt: hi}\n"
    )

    [fault] = ask(capsys, "plan", "check", plan, schema="plan-check", code=2)

    assert (fault["code"], fault["step"], fault["line"]) == ("missing_max_tokens", "ask", 6)
