"""`plan push`, `plan list` and `run NAME`, by the command line and by the client."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentflow import AgentFlow, Plan, errors
from agentflow.settings import Settings
from tests.integration.client.conftest import Finish, shell_plan
from tests.unit.cli.answers import ask, complain, say

PLAN = """
agentflow: 1
name: triage
files: [note.txt]
vars: {region: {required: true, one_of: [eu, us]}}
steps:
  - id: only
    subprocess: {command: [cat, note.txt], stdin: "of {{ vars.region }}"}
"""


@pytest.fixture
def written(tmp_path: Path, at_home: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan with a file beside it, and a cwd that is elsewhere."""
    folder, elsewhere = tmp_path / "author", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (folder / "note.txt").write_text("a note", encoding="utf-8")
    (folder / "plan.yaml").write_text(PLAN, encoding="utf-8")
    return folder / "plan.yaml"


def test_a_pushed_plan_is_run_by_its_name(written: Path, flow: AgentFlow, capsys: pytest.CaptureFixture[str]) -> None:
    pushed = ask(capsys, "plan", "push", written)
    written.unlink()

    head = ask(capsys, "run", "triage", "--var", "region=eu", "--detach")
    same = ask(capsys, "run", "triage@1", "--var", "region=eu", "--detach")

    assert (pushed["name"], pushed["version"], pushed["is_new"]) == ("triage", 1, True)
    assert head["plan"] == same["plan"] == {"name": "triage", "fingerprint": pushed["fingerprint"]}
    assert flow.get(head["id"]).summary.project == "default"


def test_a_stored_plan_asks_for_its_vars_when_it_is_submitted(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Stored as triage@1 in project ops" in say(capsys, "plan", "push", written, "--project", "ops")

    told = complain(capsys, "run", "triage", "--project", "ops", "--detach", code=2)

    assert "the var region must be given" in told
    assert ask(capsys, "run", "triage", "--project", "ops", "--dry-run", "--var", "region=us")["project"] == "ops"


def test_a_stored_plan_runs_in_the_project_where_it_is_stored(flow: AgentFlow, finish: Finish) -> None:
    plan = Plan("nightly", project="theirs")
    plan.noop("only")
    flow.push(plan, project="ops")

    run = flow.submit_stored("nightly@1", project="ops", idempotency_key="once")
    again = flow.submit_stored("nightly", project="ops", idempotency_key="once")

    assert (run.summary.project, again.id, again.existing) == ("ops", run.id, True)
    assert finish(run).state == "completed"


def test_a_file_comes_before_a_stored_plan(written: Path, flow: AgentFlow, capsys: pytest.CaptureFixture[str]) -> None:
    flow.push(shell_plan("true", name="triage"))
    Path("triage").write_text(PLAN.replace("files: [note.txt]\n", ""), encoding="utf-8")

    assert "region" in ask(capsys, "run", "triage", "--dry-run", "--var", "region=eu")["vars"]


def test_what_is_neither_a_file_nor_stored_is_told_as_both(
    written: Path, flow: AgentFlow, capsys: pytest.CaptureFixture[str]
) -> None:
    flow.push(shell_plan("true", name="triage"))

    told = complain(capsys, "run", "triag", code=2)
    assert "There is no plan file 'triag' (looked in " in told
    assert "No plan is stored as 'triag' in project default: did you mean 'triage'?" in told
    assert "'triage' has no version 9; it has 1." in complain(capsys, "run", "triage@9", code=2)
    assert ask(capsys, "run", "triag", code=2)["error"]["details"]["name"] == "triag"


def test_what_is_written_like_a_file_is_looked_for_as_nothing_else(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for reference in ("plans/triage", "triage.yaml"):
        told = complain(capsys, "run", reference, code=2)
        assert f"There is no plan file '{reference}'" in told
        assert "stored" not in told
    for reference in ("triage@", "triage@0", "triage@x", "two words"):
        assert "names no stored plan" in complain(capsys, "run", reference, code=2)


def test_stored_plans_are_listed_with_their_versions(
    written: Path, flow: AgentFlow, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "No plan is stored" in say(capsys, "plan", "list")
    say(capsys, "plan", "push", written)
    flow.push(shell_plan("true", name="triage"))
    flow.push(shell_plan("true", name="other"), project="ops")

    listed = ask(capsys, "plan", "list")["plans"]

    assert [(each["project"], each["name"], each["version"]) for each in listed] == [
        ("default", "triage", 2),
        ("default", "triage", 1),
        ("ops", "other", 1),
    ]
    assert [each["name"] for each in ask(capsys, "plan", "list", "--project", "ops")["plans"]] == ["other"]
    page = say(capsys, "plan", "list", "--name", "triage")
    assert "triage@2" in page
    assert "other@1" not in page


def test_a_plan_with_faults_is_not_stored(written: Path, flow: AgentFlow, capsys: pytest.CaptureFixture[str]) -> None:
    written.write_text(PLAN.replace("command", "comand"), encoding="utf-8")

    assert "comand" in complain(capsys, "plan", "push", written, code=2)
    with pytest.raises(errors.UsageError, match="no name of a project"):
        flow.push(shell_plan("true"), project="no such name")
    assert flow.stored_plans() == []
