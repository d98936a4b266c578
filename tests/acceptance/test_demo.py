"""`agentflow demo` and `init`: the newcomer's first minutes."""

from __future__ import annotations

from pathlib import Path

from agentflow.executors.offline_model import INSTALL_COMMAND, is_installed
from tests.stacks import CommandLine


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_demo_retries_prints_its_report_and_leaves_no_process(cli: CommandLine) -> None:
    done = cli.run("demo", seconds=90)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("exited with code 75; next try in") == 2
    assert "# app.log: the worst hour began at 14:00" in done.stdout
    assert "61 of the 104 errors fall into the hour from 14:00. On call: Ines." in done.stdout
    assert (INSTALL_COMMAND in done.stdout) is not is_installed()
    assert "none is left" in done.stdout
    assert cli.processes() == {}


def test_a_kept_stack_serves_the_next_demo_and_the_starter_plan(cli: CommandLine) -> None:
    kept = cli.run("demo", "--keep", seconds=90)
    assert kept.returncode == 0, kept.stderr
    pid = cli.answer("up", "--detach")["pid"]
    second = cli.answer("demo")
    assert second["state"] == "completed"
    folder = cli.cwd / "first"
    plan = cli.answer("init", str(folder))["plan"]
    own = cli.answer("run", plan)
    assert own["plan"]["fingerprint"] == second["plan"]["fingerprint"], "what init writes is what the demo runs"
    assert own["steps"][-1]["artifacts"][-1]["name"] == "report.md"
    refused = cli.run("demo", "--crash")
    assert (refused.returncode, f"process {pid}" in refused.stderr) == (2, True)
    assert cli.answer("up", "--detach")["pid"] == pid, "a demo leaves a stack up that it found up"


def test_the_crash_is_survived_and_told(cli: CommandLine) -> None:
    done = cli.run("demo", "--crash", seconds=120, AGENTFLOW_LEASE_SECONDS="2")
    assert done.returncode == 0, done.stderr
    assert "SIGKILL to all" in done.stdout
    assert "The killed attempt is recorded as lost" in done.stdout
    assert "the run is completed" in done.stdout
    assert cli.processes() == {}


def test_init_overwrites_nothing(cli: CommandLine) -> None:
    folder = cli.cwd / "first"
    cli.answer("init", str(folder))
    (folder / "plan.yaml").write_text("mine", encoding="utf-8")
    before = _files(folder)
    again = cli.run("init", str(folder))
    assert (again.returncode, "not empty" in again.stderr) == (2, True)
    assert _files(folder) == before
