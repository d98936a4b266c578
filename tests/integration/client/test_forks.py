"""`fork`, lineage and `show --diff`, by the command line and by the client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentflow import AgentFlow, Run, errors
from agentflow.cli.main import main
from agentflow.domain.ids import RunId
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import lines_of, work_off
from tests.integration.client.conftest import Finish
from tests.unit.cli.answers import ask, check, complain, say
from tests.workers import WorkerProcess

PLAN = """
agentflow: 1
name: nightly
vars: {{word: one, other: same}}
budget: {{steps: 9}}
steps:
  - id: fetch
    subprocess: {{command: [/bin/sh, -c, "echo fetched >> {log}; echo {{{{ vars.word }}}}"]}}
  - id: make
    subprocess: {{command: [/bin/sh, -c, "{make}"]}}
    outputs: stdout_json
  - id: end
    noop:
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def plan(tmp_path: Path, log: Path) -> Path:
    return _written(tmp_path / "plan.yaml", log, "echo 1")


def _written(path: Path, log: Path, make: str) -> Path:
    path.write_text(PLAN.format(log=log, make=make), encoding="utf-8")
    return path


@pytest.fixture
def done(flow: AgentFlow, finish: Finish, at_home: Settings, plan: Path) -> Run:
    return finish(flow.submit(plan, project="ops"))


def test_a_fork_is_made_followed_and_told(
    done: Run, log: Path, worker: WorkerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    told = say(capsys, "fork", done.id[:8], "--from", "make", "--project", "ops")

    assert f"forks {done.id[:8]} from make and takes over 1 step (nightly, project ops)" in told
    assert f"taken over from run {done.id[:8]}" in told
    assert "fetch                 started" not in told
    assert "make                  succeeded" in told
    assert lines_of(log) == ["fetched"]
    page = say(capsys, "show", "@last")
    assert f"{done.id[:8]} at make" in page
    assert f"agentflow show --diff {done.id[:8]}" in page
    forked = ask(capsys, "show", "@last")
    assert forked["forked_from"] == {"run": done.id, "step": "make"}
    assert forked["usage"]["attempts"] == 2
    assert ask(capsys, "show", done.id)["forks"] == [forked["id"]]
    assert forked["id"][:8] in say(capsys, "show", done.id)


def test_a_fork_in_json_tells_what_it_took_over(done: Run, capsys: pytest.CaptureFixture[str]) -> None:
    head = ask(capsys, "fork", done.id, "--from", "end", "--var", "word=two", "--detach", "--budget", "steps=2")

    assert head["state"] == "running"
    assert head["reused"] == ["fetch", "make"]
    assert head["outdated"] == {"fetch": ["word"]}
    assert (head["existing"], head["changed_files"]) == (False, [])
    budget = {line["budget"]: line["limit"] for line in ask(capsys, "show", head["id"])["budget"]}
    assert budget["steps"] == 2


def test_a_step_that_reads_a_changed_var_is_named_to_a_person(done: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fork", done.id, "--from", "make", "--var", "word=two", "--detach"]) == 0

    written = capsys.readouterr()
    assert "Step fetch was taken over as it was, although it reads the var word" in written.err
    assert "follow: agentflow watch" in written.out


def test_a_fork_that_cannot_be_made_says_why(done: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no step 'mke': did you mean 'make'?" in complain(capsys, "fork", done.id, "--from", "mke", code=2)
    assert "the plan has no var 'wrd'" in complain(capsys, "fork", done.id, "--from", "make", "--var", "wrd=1", code=2)
    assert "Missing option '--from'" in complain(capsys, "fork", done.id, code=2)
    broken = tmp_path / "broken.yaml"
    broken.write_text("agentflow: 1\nname: x\nsteps: [{id: a}]\n", encoding="utf-8")
    assert "broken.yaml:3" in complain(capsys, "fork", done.id, "--from", "make", "--edit", broken, code=2)
    assert ask(capsys, "fork", done.id, "--from", "mke", code=2)["error"]["code"] == "not_found"


def test_a_fork_that_takes_over_nothing_of_another_plan_says_why(
    done: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("agentflow: 1\nname: other\nsteps: [{id: make, noop: {}}]\n", encoding="utf-8")

    assert main(["fork", done.id, "--from", "make", "--edit", str(other), "--detach"]) == 0

    assert "Nothing was taken over: the plan is other, the run that is forked is of nightly" in capsys.readouterr().err


def test_an_edited_plan_may_be_a_stored_one(
    done: Run, flow: AgentFlow, log: Path, tmp_path: Path, house: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    flow.push(_written(tmp_path / "edited.yaml", log, "echo 2"), project="ops")

    head = ask(capsys, "fork", done.id, "--from", "end", "--edit", "nightly@1", "--detach")

    assert head["reused"] == ["fetch"]
    run = flow.get(head["id"])
    work_off(house, RunId(run.uuid))
    assert run.refresh().steps["make"].result == 2
    assert lines_of(log) == ["fetched"]


def test_the_client_forks_and_finishes(done: Run, flow: AgentFlow, finish: Finish) -> None:
    forked = done.fork("make", vars={"other": "else"})
    again = flow.fork(done, "make", idempotency_key="once", directive="careful", budget={"steps": 5})
    same = flow.fork(done.id, "make", idempotency_key="once", directive="careful", budget={"steps": 5})

    assert (forked.reused, forked.outdated) == (("fetch",), {})
    assert (same.id, same.existing, same.reused) == (again.id, True, ("fetch",))
    assert finish(forked).state == "completed"
    assert forked.read_artifact("stdout", "fetch") == b"one\n"
    with pytest.raises(errors.PlanRejected, match="budget"):
        flow.fork(done, "make", budget={"steps": -1})


def test_two_runs_are_compared_by_plan_vars_and_steps(
    done: Run, flow: AgentFlow, finish: Finish, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = _written(tmp_path / "edited.yaml", log, "echo 2")
    text = (
        edited.read_text(encoding="utf-8").replace("  - id: end\n", "  - id: added\n").replace("steps: 9", "steps: 8")
    )
    edited.write_text(text, encoding="utf-8")
    forked = finish(done.fork("make", vars={"other": "new"}, plan=edited))

    answer = ask(capsys, "show", "--diff", done.id, forked.id)

    assert answer == flow.diff(done, forked).as_json()
    assert (answer["old"]["id"], answer["new"]["id"]) == (done.id, forked.id)
    assert answer["plan"] == {
        "same": False,
        "fields": ["budget"],
        "added": ["added"],
        "removed": ["end"],
        "changed": {"make": ["subprocess.command"]},
    }
    assert answer["vars"] == {"other": {"old": "same", "new": "new"}}
    steps = {step["id"]: step for step in answer["steps"]}
    assert list(steps) == ["fetch", "make", "added", "end"]
    assert steps["fetch"]["same"]
    assert steps["fetch"]["new"]["reused"]
    assert steps["fetch"]["artifacts"]["same"] == ["stdout", "stderr"]
    assert (steps["make"]["same"], steps["make"]["same_result"]) == (False, False)
    assert (steps["make"]["old"]["result"], steps["make"]["new"]["result"]) == (1, 2)
    assert steps["make"]["artifacts"] == {"same": ["stderr"], "changed": ["stdout"], "added": [], "removed": []}
    assert steps["added"]["old"] is None
    assert steps["end"]["new"] is None
    page = say(capsys, "show", "--diff", done.id[:8], forked.id[:8])
    for told in ("make: subprocess.command changed", "removed: end", 'other: "same" → "new"', "changed stdout"):
        assert told in page
    assert "1 of 4 steps came to the same" in page


def test_a_run_compared_with_itself_is_the_same(done: Run, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "show", "--diff", done.id, "@last")

    assert answer["plan"] == {"same": True, "fields": [], "added": [], "removed": [], "changed": {}}
    assert answer["vars"] == {}
    assert all(step["same"] for step in answer["steps"])
    assert "3 of 3 steps came to the same" in say(capsys, "show", "--diff", done.id, done.id)


def test_a_comparison_takes_two_runs_and_the_flag(done: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("--diff", done.id), (done.id, done.id)):
        assert "show --diff OLD NEW" in complain(capsys, "show", *arguments, code=2)
    assert ask(capsys, "show", "--diff", done.id, "00000000", code=2)["error"]["code"] == "not_found"


def test_events_of_a_fork_stand_between_its_head_and_the_whole(
    done: Run, worker: WorkerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    written = say(capsys, "fork", done.id, "--from", "end", "--events").splitlines()

    head, *events, whole = (check(json.loads(line)) for line in written)
    assert head["reused"] == whole["reused"] == ["fetch", "make"]
    assert [event["action"] for event in events] == ["fork", "claim", "settle", "finalize"]
    assert whole["state"] == "completed"
