"""`pause` and `resume` for one run, by filter and for everything, by the client and by the command line."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agentflow import AgentFlow, Plan, Run, errors
from agentflow.cli.main import main
from agentflow.client import bulk
from agentflow.client.bulk import Outcome, act_on_each, select
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.outcome import Succeeded
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.settle import Settlement, settle
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.integration.client.conftest import Finish
from tests.integration.client.resting import cap, exhaust, noop_run
from tests.integration.client.test_resuming import over_tokens
from tests.unit.cli.answers import ask, complain, say


@pytest.fixture(autouse=True)
def _home(at_home: Settings) -> None:
    """The command line works on the test's installation."""


def named_run(flow: AgentFlow, name: str, *, project: str | None = None) -> Run:
    plan = Plan(name)
    plan.noop("one")
    return flow.submit(plan, project=project)


def start(house: Runtime, run: Run, key: str = "one") -> Claimed:
    """Claim a step of a run for an attempt, as a worker does."""
    claimed = claim(house.context, RunId(run.uuid), StepKey(key), "test:0")
    assert isinstance(claimed, Claimed)
    return claimed


def finish_it(house: Runtime, claimed: Claimed) -> None:
    settlement = Settlement(claimed.run_id, claimed.step_id, claimed.plan, Succeeded(0), "test:0", is_sink=True)
    settle(house.context, settlement, claimed.claim_token)


def test_a_wait_that_ran_out_says_what_runs_and_that_the_pause_stands(
    flow: AgentFlow, house: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = named_run(flow, "long"), named_run(flow, "long")
    claimed, _ = start(house, run), start(house, other)
    short = run.id[:8]

    for words, arguments, again in (
        ("2 runs are paused all the same.", ("--name", "long"), ""),
        ("It is paused all the same.", (run.id,), short),
        ("Everything is under maintenance all the same: 0 newly paused.", ("--all",), "--all"),
    ):
        assert main(["pause", *arguments, "--wait", "--timeout", "0s"]) == 124
        told = capsys.readouterr().err
        assert words in told
        assert "still run" in told
        assert f"agentflow pause {again}" in told
        assert (f"{short} one" in told) == (arguments != ("--all",))  # no worker is known to have it
    assert ask(capsys, "pause", run.id, "--wait", "--timeout", "10ms", code=124)["error"]["details"] == {"running": 1}
    finish_it(house, claimed)


def test_a_run_is_paused_shown_and_resumed(
    flow: AgentFlow, house: Runtime, finish: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noop_run(flow, "one", "two")
    short = run.id[:8]
    claimed = start(house, run)

    told = say(capsys, "pause", short, "--why", "the disk is full")
    assert f"Run {short} is paused; 1 attempt still runs." in told
    assert f"agentflow pause {short} --wait" in told
    shown = say(capsys, "show", short)
    assert "paused: paused by tester@test: the disk is full" in shown
    assert "1 attempt still runs" in shown
    assert f"agentflow resume {short}" in shown
    assert f"agentflow watch {short}" not in shown
    assert "paused by tester@test: the disk is full" in say(capsys, "runs", "--state", "paused")
    assert "paused by tester@test" in say(capsys, "wait", short, code=5)

    finish_it(house, claimed)
    assert "drained" in say(capsys, "show", short)
    answer = ask(capsys, "pause", short)
    assert {name: answer[name] for name in ("state", "is_new", "running", "drained", "waited_seconds")} == {
        "state": "paused", "is_new": False, "running": 0, "drained": True, "waited_seconds": None,
    }  # fmt: skip
    assert answer["reason"]["detail"]["scope"] == "run"
    assert ask(capsys, "resume", short)["state"] == "running"
    assert finish(flow.get(run.id)).state == "completed"
    assert "has ended (completed) and cannot be paused" in complain(capsys, "pause", short, code=2)


def test_a_pause_waits_until_nothing_runs_and_says_after_how_long(
    flow: AgentFlow, house: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noop_run(flow)
    claimed = start(house, run)

    late = complain(capsys, "pause", run.id, "--wait", "--timeout", "100ms", code=124)
    assert "1 attempt still runs" in late
    assert flow.get(run.id).state == "paused"
    ending = threading.Timer(0.3, finish_it, (house, claimed))
    ending.start()
    began = time.monotonic()
    answer = ask(capsys, "pause", run.id, "--wait", "--timeout", "30s")
    took = time.monotonic() - began
    ending.join()

    assert (answer["is_new"], answer["running"], answer["drained"]) == (False, 0, True)
    assert 0 < answer["waited_seconds"] <= took
    assert "--timeout says how long to --wait" in complain(capsys, "pause", run.id, "--timeout", "1s", code=2)


def test_fifty_runs_are_paused_by_a_filter_and_nothing_before_the_dry_run_was_read(
    flow: AgentFlow, house: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    nightly = [named_run(flow, "nightly", project="ops") for _ in range(50)]
    others = [named_run(flow, "nightly"), named_run(flow, "hourly", project="ops")]
    filters = ("--name", "nightly", "--project", "ops")

    listed = ask(capsys, "pause", *filters, "--dry-run")
    assert (listed["is_dry_run"], len(listed["runs"])) == (True, 50)
    assert "Would pause 50 runs:" in say(capsys, "pause", *filters, "--state", "running", "--dry-run")
    assert len(flow.runs(state="paused")) == 0

    told = say(capsys, "pause", *filters, "--state", "running", "--why", "too loud")
    assert told.count("nightly  paused, nothing of it runs") == 50
    assert {run.id for run in flow.runs(state="paused")} == {run.id for run in nightly}
    assert {run.refresh().state for run in others} == {"running"}
    assert "No run is meant by that." in say(capsys, "pause", *filters)

    answer = ask(capsys, "resume", "--project", "ops")
    assert [(each["outcome"], each["state"]) for each in answer["runs"]] == [("done", "running")] * 50
    assert [each["id"] for each in answer["runs"]] == [run.id for run in reversed(nightly)]
    cancelled = ask(capsys, "cancel", "--all")
    assert {each["state"] for each in cancelled["runs"]} == {"cancelled"}
    assert len(cancelled["runs"]) == 52
    assert len(ask(capsys, "retry", "--all", "--dry-run")["runs"]) == 0
    assert "goes on with one" in say(capsys, "retry", "--state", "cancelled", "--name", "hourly")
    for run in nightly[:3]:
        assert verify_run(house.context, RunId(run.uuid)).findings == ()


def test_a_run_that_does_not_fit_is_told_of_and_fails_the_command(
    flow: AgentFlow, house: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    enough, lacking = noop_run(flow), noop_run(flow)
    for run in (enough, lacking):
        cap(house, run, tokens=1100)
        exhaust(house, run, over_tokens(run))
    flow.raise_budget(enough, tokens=500)

    answer = ask(capsys, "resume", "--state", "exhausted", code=1, schema="acted")

    assert [(each["id"], each["outcome"]) for each in answer["runs"]] == [(lacking.id, "refused"), (enough.id, "done")]
    assert "agentflow budget raise" in answer["runs"][0]["message"]
    assert "refused: Run" in say(capsys, "resume", "--state", "exhausted", code=1)


def test_a_run_that_others_moved_meanwhile_is_told_of_and_is_no_failure(flow: AgentFlow) -> None:
    run, other = noop_run(flow), noop_run(flow)
    found = select(flow, "pause")
    flow.cancel(run)

    acted = list(act_on_each(found, lambda each: {"is_new": each.pause().is_new}))

    assert [(each.run.id, each.outcome) for each in acted] == [(other.id, Outcome.DONE), (run.id, Outcome.CHANGED)]
    assert not any(each.is_failure for each in acted)
    assert acted[1].message is not None
    assert "has ended (cancelled)" in acted[1].message


def test_a_selection_takes_every_page(flow: AgentFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [noop_run(flow) for _ in range(5)]
    monkeypatch.setattr(bulk, "MAX_PAGE", 2)

    assert [run.id for run in select(flow, "cancel", state="running")] == [run.id for run in reversed(runs)]
    with pytest.raises(errors.UsageError, match="is no state of a run"):
        select(flow, "cancel", state="sleepy")


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Name a RUN, or choose runs"),
        (("@last", "--state", "running"), "not both"),
        (("@last", "--all"), "not both"),
        (("--all", "--project", "ops"), "--all means every run"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(
    verb: str, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in complain(capsys, verb, *arguments, code=2)


def test_everything_is_paused_and_everybody_is_told(
    flow: AgentFlow, house: Runtime, finish: Finish, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run, own = noop_run(flow), noop_run(flow)
    flow.pause(own, why="mine")
    claimed = start(house, run)
    assert flow.maintenance() is None
    assert ask(capsys, "runs")["maintenance"] is None

    assert len(ask(capsys, "pause", "--all", "--dry-run")["runs"]) == 1
    assert flow.maintenance() is None
    told = say(capsys, "pause", "--all", "--why", "a new disk")
    assert "Everything is under maintenance: 1 run paused, 1 attempt still runs." in told
    finish_it(house, claimed)
    again = ask(capsys, "pause", "--all", "--wait")
    assert (again["is_new"], again["paused"], again["drained"]) == (False, 0, True)

    stands = flow.maintenance()
    assert stands is not None
    assert (stands.actor, stands.why) == (house.settings.actor, "a new disk")
    assert "Everything is under maintenance by tester@test: a new disk, since" in say(capsys, "runs")
    assert datetime.fromisoformat(ask(capsys, "runs")["maintenance"]["at"]) == stands.at
    assert "agentflow resume --all" in say(capsys, "show", run.id)
    late = noop_run(flow)
    assert late.wait(1).state == "paused"
    assert "maintenance by tester@test" in complain(capsys, "resume", late.id, code=2)
    written = tmp_path / "later.yaml"
    written.write_text("agentflow: 1\nname: later\nsteps: [{id: one, noop: {}}]\n", encoding="utf-8")
    detached = say(capsys, "run", written, "--detach")
    assert "  it rests: everything is under maintenance by tester@test: a new disk\n" in detached
    assert "agentflow resume --all" in detached
    flow.cancel(detached.split()[1])
    [check] = _doctor(capsys, "maintenance")
    assert (check["status"], "no step starts" in check["detail"]) == ("problem", True)
    assert "a new disk" in check["detail"]

    assert {each["id"] for each in ask(capsys, "resume", "--all", "--dry-run")["runs"]} == {run.id, late.id}
    assert "The maintenance is over: 2 runs resumed." in say(capsys, "resume", "--all")
    assert ask(capsys, "resume", "--all") | {"schema": ""} == {
        "schema": "", "stands": False, "is_new": False, "resumed": 0,
    }  # fmt: skip
    assert _doctor(capsys, "maintenance")[0]["status"] == "ok"
    assert (own.refresh().state, finish(late).state) == ("paused", "completed")


def _doctor(capsys: pytest.CaptureFixture[str], name: str) -> list[dict[str, Any]]:
    main(["doctor", "--json"])
    return [check for check in json.loads(capsys.readouterr().out)["checks"] if check["name"] == name]


def test_the_client_pauses_hard_and_says_what_it_is_given(flow: AgentFlow, house: Runtime) -> None:
    run = noop_run(flow)
    claimed = start(house, run)

    asked = run.pause(now=True, why="stop it")
    assert (asked.is_new, asked.running, run.state, run.is_at_rest) == (True, 1, "paused", True)
    assert run.reason is not None
    assert run.reason["detail"]["why"] == "stop it"
    with pytest.raises(errors.WaitTimeout, match=r"1 attempt of run .* still runs after"):
        run.wait_drained(timeout=0)
    finish_it(house, claimed)
    assert run.wait_drained(timeout=5) < 5
    assert flow.wait_drained(timeout=5) < 5
    for why in ("", " ", "two\nlines", "x" * 501, 7):
        with pytest.raises(errors.UsageError, match="1 to 500 printable characters"):
            run.pause(why=why)  # type: ignore[arg-type]
    run.resume()
    assert run.state == "completed"
