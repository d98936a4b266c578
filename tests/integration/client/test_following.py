"""The verbs that submit and follow runs, with a real worker: answers, lines, events and exit codes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflow import AgentFlow
from agentflow.cli.main import main
from agentflow.embedded import ServerUrls
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import wait_for
from tests.integration.client.terminal import Terminal
from tests.integration.engine.conftest import Station, _opened
from tests.unit.cli.answers import ask, check, say
from tests.workers import WorkerProcess

PLAN = """
agentflow: 1
name: triage
vars: {code: "0"}
steps:
  - id: collect
    subprocess: {command: [sh, -c, "echo seen; echo odd >&2"]}
  - id: flaky
    retry: {max_attempts: 2, base: 50ms}
    subprocess: {command: [sh, -c, 'test "$AGENTFLOW_ATTEMPT" = 2 || exit 75']}
  - id: report
    subprocess:
      command: [sh, -c, 'echo done > $AGENTFLOW_ARTIFACTS/report.md; exit $CODE']
      env: {CODE: "{{ vars.code }}"}
"""
PARTIAL = """
agentflow: 1
name: partial
steps:
  - {id: a, needs: [], subprocess: {command: ["true"]}}
  - {id: b, needs: [], on_failure: continue, retry: 1, subprocess: {command: ["false"]}}
"""
LONG = "agentflow: 1\nname: long\nsteps: [{id: hang, subprocess: {command: [sleep, '60']}}, {id: after, noop: }]\n"


@pytest.fixture(scope="module")
def station(servers: ServerUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """An installation of the module's own with a worker of two slots."""
    with _opened(servers, template, tmp_path_factory.mktemp("station"), "-c", "2") as station:
        yield station


@pytest.fixture
def house(station: Station) -> Runtime:
    """The module's installation."""
    return station.house


@pytest.fixture
def worker(station: Station) -> WorkerProcess:
    """The worker that serves it."""
    return station.worker


@pytest.fixture
def plans(tmp_path: Path, at_home: Settings) -> Path:
    """A folder with plans, in an environment that names the installation."""
    for name, text in (("triage", PLAN), ("partial", PARTIAL), ("long", LONG)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def test_a_run_is_followed_to_its_end_and_its_exit_code(
    plans: Path, worker: WorkerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    final = ask(capsys, "run", plans / "triage.yaml")
    assert (final["state"], final["existing"]) == ("completed", False)
    assert [len(step["attempts"]) for step in final["steps"]] == [1, 2, 1]
    assert [artifact["name"] for artifact in final["steps"][2]["artifacts"]] == ["stdout", "stderr", "report.md"]

    failed = ask(capsys, "run", plans / "triage.yaml", "--var", "code=3", code=1)
    assert failed["reason"] == {"code": "step_failed", "detail": {"step": "report"}}

    assert ask(capsys, "run", plans / "partial.yaml", code=3)["state"] == "partial"


def test_where_nobody_looks_each_change_is_a_line(
    plans: Path, worker: WorkerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = say(capsys, "run", plans / "triage.yaml").splitlines()
    told = [line[11:] for line in lines if line[:11].strip().endswith((" ms", " s"))]

    assert lines[0].startswith("Run ")
    assert [line.split()[0] for line in told] == ["collect"] * 2 + ["flaky"] * 4 + ["report"] * 2
    assert "exited with code 75; next try in" in told[3]
    assert any(line.startswith("triage  ") and "completed" in line for line in lines)
    assert any("agentflow artifact get" in line for line in lines)
    assert not any(line != line.rstrip() for line in lines)


def test_events_are_lines_of_json_between_head_and_end(
    plans: Path, worker: WorkerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [check(json.loads(line)) for line in say(capsys, "run", plans / "triage.yaml", "--events").splitlines()]
    head, *events, final = lines

    assert set(head) == {"schema", "id", "state", "project", "plan", "existing"}
    assert [event["action"] for event in events][:2] == ["submit", "claim"]
    assert events[-1]["action"] == "finalize"
    assert (final["id"], final["state"]) == (head["id"], "completed")
    assert main(["run", str(plans / "triage.yaml"), "--events", "--var", "x=1"]) == 2
    assert check(json.loads(capsys.readouterr().out.rstrip("\n")), "error")["error"]["code"] == "plan_rejected"


def test_a_detached_run_is_waited_for_and_watched_later(
    plans: Path, worker: WorkerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    head = ask(capsys, "run", plans / "triage.yaml", "--detach", "--idempotency-key", "k")
    assert set(head) == {"schema", "id", "state", "project", "plan", "existing"}
    assert ask(capsys, "run", plans / "triage.yaml", "--detach", "--idempotency-key", "k")["existing"]
    conflict = ask(capsys, "run", plans / "partial.yaml", "--detach", "--idempotency-key", "k", code=2)
    assert conflict["error"]["details"]["stored"] == head["plan"]["fingerprint"]

    assert ask(capsys, "wait", head["id"][:8], "--timeout", "30s")["state"] == "completed"
    assert "existing" not in ask(capsys, "watch", "@last")
    assert "completed" in say(capsys, "wait", "@last")


def test_a_cancelled_run_is_seen_to_end(
    plans: Path, worker: WorkerProcess, flow: AgentFlow, capsys: pytest.CaptureFixture[str]
) -> None:
    say(capsys, "run", plans / "long.yaml", "--detach")
    wait_for(lambda: flow.get("@last").steps["hang"].state == "running")

    assert "1 running attempt told to stop" in say(capsys, "cancel", "@last")
    assert ask(capsys, "wait", "@last", "--timeout", "20s", code=4)["state"] == "cancelled"
    assert ask(capsys, "cancel", "@last", code=2)["error"]["code"] == "invalid_transition"
    assert "goes on with hang; 1 step wait" in say(capsys, "retry", "@last")
    assert ask(capsys, "cancel", "@last")["is_new"]


def test_in_a_terminal_a_live_table_is_shown(
    plans: Path, worker: WorkerProcess, house: object, at_home: Settings
) -> None:
    terminal = Terminal(at_home, "run", plans / "triage.yaml")

    assert terminal.end() == 0
    assert "✓ report" in terminal.text
    assert "\x1b[" in terminal.text
    assert "agentflow show" in terminal.text


def test_ctrl_c_leaves_the_run_going_and_says_how_to_go_on(
    plans: Path, worker: WorkerProcess, flow: AgentFlow, at_home: Settings
) -> None:
    terminal = Terminal(at_home, "run", plans / "long.yaml")
    wait_for(lambda: "● hang" in terminal.text)

    terminal.process.send_signal(signal.SIGINT)

    assert terminal.end() == 130
    assert f"agentflow watch {flow.get('@last').id[:8]}" in terminal.text
    assert f"agentflow cancel {flow.get('@last').id[:8]}" in terminal.text
    assert "Traceback" not in terminal.text
    assert flow.get("@last").state == "running"
    flow.cancel("@last")
