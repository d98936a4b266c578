"""The verbs that look at runs and at what they left: pages for people, answers for programs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from agentflow import AgentFlow, Plan, Run
from agentflow.cli.main import main
from agentflow.content.store import Address
from agentflow.domain.ids import StepKey
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.integration.client.conftest import Finish, environment_of, shell_plan
from tests.unit.cli.answers import ask, complain, say
from tests.workers import REPOSITORY

SCRIPT = (
    'echo "out $AGENTFLOW_ATTEMPT"; echo "err $AGENTFLOW_ATTEMPT" >&2; printf "\\0\\1" > $AGENTFLOW_ARTIFACTS/raw.bin'
)
REPORT = "echo hello; echo '# Report' > $AGENTFLOW_ARTIFACTS/report.md"


@pytest.fixture
def done(flow: AgentFlow, finish: Finish, at_home: Settings) -> Run:
    """A completed run with output and artifacts."""
    return finish(flow.submit(shell_plan(SCRIPT, REPORT, name="nightly"), project="ops"))


def test_a_run_is_shown_whole_in_json_and_short_on_its_page(done: Run, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "show", done.id[:6])
    page = say(capsys, "show", "@last", "--project", "ops")

    assert answer == done.as_json()
    assert answer["steps"][1]["needs"] == ["s0"]
    assert "nightly" in page
    assert done.id in page
    assert "report.md" in page
    assert "agentflow artifact get" in page


def test_an_unknown_run_is_not_found(done: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "show", "@last", "--project", "nowhere", code=2)["error"]["code"] == "not_found"
    assert "no run 00000000" in complain(capsys, "show", "00000000", code=2)


def test_runs_are_listed_page_by_page(done: Run, flow: AgentFlow, capsys: pytest.CaptureFixture[str]) -> None:
    going = flow.submit(shell_plan("true"))

    first = ask(capsys, "runs", "--limit", "1")
    second = ask(capsys, "runs", "--limit", "1", "--cursor", first["next_cursor"])

    assert [page["runs"][0]["id"] for page in (first, second)] == [going.id, done.id]
    assert second["next_cursor"] is None
    assert [run["id"] for run in ask(capsys, "runs", "--state", "completed", "--name", "nightly")["runs"]] == [done.id]
    page = say(capsys, "runs", "--limit", "1")
    assert going.id[:8] in page
    assert first["next_cursor"] in page
    assert say(capsys, "runs", "--project", "nowhere") == "No runs.\n"


def test_logs_keep_the_two_streams_apart(done: Run, capfd: pytest.CaptureFixture[str]) -> None:
    def logs(*arguments: str) -> tuple[str, str]:
        assert main(["logs", done.id, *arguments]) == 0
        return tuple(capfd.readouterr())

    one, everything, errors = logs("s0"), logs(), logs("s0", "--stderr")

    assert one == ("out 1\n", "err 1\n")
    assert everything[0] == "==> s0 (attempt 1) <==\nout 1\n==> s1 (attempt 1) <==\nhello\n"
    assert errors == ("err 1\n", "")


def test_logs_of_an_attempt_and_in_json(
    flow: AgentFlow, finish: Finish, at_home: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = shell_plan(f"{SCRIPT}; test -e {tmp_path}/mark")
    run = finish(flow.submit(plan))
    (tmp_path / "mark").touch()
    run.retry()
    finish(run)

    latest = ask(capsys, "logs", "@last")
    earlier = ask(capsys, "logs", "@last", "s0", "--attempt", "1", "--stderr")

    assert [(log["attempt"], log["stream"], log["text"]) for log in latest["logs"]] == [
        (2, "stdout", "out 2\n"), (2, "stderr", "err 2\n"),
    ]  # fmt: skip
    assert [(log["attempt"], log["text"]) for log in earlier["logs"]] == [(1, "err 1\n")]


def test_cut_output_says_so(
    house: Runtime, finish: Finish, at_home: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = house.settings.model_copy(update={"output_limit_bytes": 1024})
    with AgentFlow(settings) as flow:
        run = flow.submit(shell_plan("head -c 5000 /dev/zero | tr '\\0' x"))
    house.context.__dict__["settings"] = settings  # the worker's bound, which this process plays
    finish(run)

    assert main(["logs", run.id, "s0"]) == 0

    told = capfd.readouterr()
    assert told.out.startswith("x" * 1000)
    assert "[cut: stdout of s0 was 5.0 kB, 1.0 kB were kept]" in told.err


def test_logs_are_raw_in_a_pipe_and_escaped_on_a_terminal(
    flow: AgentFlow, finish: Finish, at_home: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    run = finish(flow.submit(shell_plan(r"printf 'a\tb\033[2J\377\n'")))
    command = [sys.executable, "-m", "agentflow", "logs", run.id, "s0"]
    environment = environment_of(flow.settings) | {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    ours, theirs = os.openpty()

    assert main(["logs", run.id, "s0"]) == 0
    subprocess.run(command, env=environment, cwd="/", stdout=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 4096)
    os.close(ours)

    assert capfdbinary.readouterr().out == b"a\tb\x1b[2J\xff\n"
    assert shown.replace(b"\r\n", b"\n").expandtabs() == rb"a       b\x1b[2J\xff" + b"\n"


def test_redis_away_is_told_in_words_and_in_log_lines_only_when_asked_for(at_home: Settings, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("{agentflow: 1, name: p, steps: [{id: a, noop: {}}]}", encoding="utf-8")
    environment = environment_of(at_home) | {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    environment["AGENTFLOW_REDIS_URL"] = "redis://127.0.0.1:1/0"
    command = [sys.executable, "-m", "agentflow", "run", "--detach", str(plan)]

    told = [
        subprocess.run(command, env=environment | more, cwd="/", capture_output=True, text=True, check=True).stderr
        for more in ({}, {"AGENTFLOW_LOG_LEVEL": "debug"})
    ]

    assert ["doorbells_not_sent" in words for words in told] == [False, True]
    assert "Redis" in told[0]


def test_logs_of_nothing_say_so(flow: AgentFlow, at_home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    flow.submit(shell_plan("true"))

    assert ask(capsys, "logs", "@last")["logs"] == []
    assert "Nothing is kept of step s0" in complain(capsys, "logs", "@last", "s0", code=0)
    assert "did you mean 's0'" in complain(capsys, "logs", "@last", "s00", code=2)


def test_artifacts_are_listed_with_step_size_and_hash(done: Run, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "artifact", "list", "@last")
    page = say(capsys, "artifact", "list", "@last", "--step", "s1")

    assert [(one["step"], one["name"], one["bytes"]) for one in answer["artifacts"]] == [
        ("s0", "stdout", 6), ("s0", "stderr", 6), ("s0", "raw.bin", 2),
        ("s1", "stdout", 6), ("s1", "stderr", 0), ("s1", "report.md", 9),
    ]  # fmt: skip
    assert answer["artifacts"][2]["sha256"] == hashlib.sha256(b"\0\1").hexdigest()
    assert "report.md" in page
    assert "raw.bin" not in page


def test_an_artifact_is_got_as_it_was_made(done: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    folder.mkdir()

    answer = ask(capsys, "artifact", "get", "@last", "raw.bin", "-o", folder)
    named = say(capsys, "artifact", "get", "@last", "report.md", "--output", tmp_path / "r.md")

    assert (folder / "raw.bin").read_bytes() == b"\0\1"
    assert answer["artifacts"][0]["file"] == str(folder / "raw.bin")
    assert (tmp_path / "r.md").read_text() == "# Report\n"
    assert named == ""
    assert [path.name for path in folder.iterdir()] == ["raw.bin"]
    assert "Several steps left 'stdout'" in complain(capsys, "artifact", "get", "@last", "stdout", code=2)
    assert "cannot be written" in complain(
        capsys, "artifact", "get", "@last", "report.md", "-o", tmp_path / "no" / "where", code=2
    )


def test_an_artifact_that_was_altered_is_not_handed_out(
    done: Run, house: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house.context.store.put(Address(done.id, "artifacts/report.md", StepKey("s1"), 1), b"# Forged\n")

    error = ask(capsys, "artifact", "get", "@last", "report.md", "-o", tmp_path / "r.md", code=1)["error"]

    assert error["code"] == "content"
    assert not (tmp_path / "r.md").exists()


def test_the_audit_is_shown_in_the_order_of_writing(done: Run, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "audit", "show", "@last")
    page = say(capsys, "audit", "show", "@last").splitlines()

    assert [event["action"] for event in answer["events"]] == [
        "submit", "claim", "settle", "claim", "settle", "finalize",
    ]  # fmt: skip
    assert len(page) == 1 + len(answer["events"])
    assert "run new -> running, s0 new -> ready" in page[1]


def test_the_audit_holds_until_someone_alters_it(done: Run, house: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds: 6 events" in say(capsys, "audit", "verify", "@last")
    assert ask(capsys, "audit", "verify", "--all")["is_intact"]
    assert say(capsys, "audit", "verify", "--all").startswith("The audit of every run and that of the installation")
    with house.context.database.transaction() as tx:
        tx.execute(text("ALTER TABLE audit_event DISABLE TRIGGER ALL"))
        tx.execute(text("UPDATE audit_event SET actor = 'someone else' WHERE action = 'submit'"))

    answer = ask(capsys, "audit", "verify", done.id, code=1)

    assert not answer["is_intact"]
    assert answer["runs"][0]["findings"]
    assert done.id in say(capsys, "audit", "verify", "--all", code=1)


def test_the_audit_of_a_removed_run_is_found_by_its_id(
    done: Run, house: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    with house.context.database.transaction() as tx:
        tx.execute(text("DELETE FROM run WHERE id = :id"), {"id": done.uuid})

    assert ask(capsys, "audit", "verify", done.id, code=1)["runs"][0]["findings"][0]["code"] == "run_removed"
    assert ask(capsys, "show", done.id, code=2)["error"]["code"] == "not_found"


def test_a_waiting_run_exits_as_resting_and_goes_on_with_a_word(
    flow: AgentFlow, house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    flow.submit(shell_plan("true", on_lost="hold"))
    held = '{"code": "awaits_person", "detail": {}}'
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE step SET state = 'held', sent_at = NULL, reason = CAST(:why AS jsonb)"), {"why": held})

    assert ask(capsys, "watch", "@last", code=5)["state"] == "waiting"
    assert "retry" in say(capsys, "show", "@last")
    assert ask(capsys, "retry", "@last", "--step", "s0")["ready"] == ["s0"]
    assert ask(capsys, "show", "@last")["state"] == "running"


def test_following_the_logs_prints_what_each_attempt_left(
    flow: AgentFlow, finish: Finish, at_home: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    run = finish(flow.submit(shell_plan("echo one", "echo two >&2; exit 3")))

    assert main(["logs", run.id, "--follow"]) == 1

    assert tuple(capfd.readouterr()) == ("s0 | one\n", "s1 | two\n")


def test_a_plan_of_many_steps_has_a_page_that_counts_what_it_leaves_out(
    flow: AgentFlow, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan("wide")
    for number in range(250):
        plan.noop(f"s{number}", needs=[])
    flow.submit(plan)

    assert "and 51 more: 51 ready" in say(capsys, "show", "@last")
    assert len(ask(capsys, "show", "@last")["steps"]) == 250
