"""A command that cannot be started is an answer that says what is wrong and where, and harms nobody."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow.executors.base import Lifeline
from agentflow.executors.command import Command, Ended
from agentflow.executors.supervisor_pool import SupervisorPool

MakeCommand = Callable[..., Command]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with programs that cannot be run."""
    place = tmp_path / "place"
    (place / "folder").mkdir(parents=True)
    (place / "plain").write_text("text")
    (place / "text").write_text("no program at all")
    (place / "orphaned").write_text("#!/no/such/interpreter\n")
    for name in ("text", "orphaned"):
        (place / name).chmod(0o755)
    return place


@pytest.mark.parametrize(
    ("problem", "argv", "changes", "message"),
    [
        (
            "program_not_found",
            ("no-such-program", "x"),
            {},
            "the program 'no-such-program' was not found on PATH (/bin:/usr/bin)",
        ),
        ("program_not_found", ("./gone", "x"), {}, "the program './gone' does not exist in {place}"),
        ("program_not_executable", ("./folder", "x"), {}, "'./folder' in {place} is a directory"),
        ("program_not_executable", ("./plain", "x"), {}, "'./plain' in {place} is not executable (chmod +x)"),
        (
            "program_not_executable",
            ("./text", "x"),
            {},
            "'./text' is not a program: no binary of this machine and no #! line",
        ),
        (
            "interpreter_missing",
            ("./orphaned", "x"),
            {},
            "'./orphaned' in {place} names an interpreter (#! line) that does not exist or cannot be run",
        ),
        ("command_empty", ("", "x"), {}, "the command is empty"),
        (
            "arguments_unusable",
            ("true", "a\0b"),
            {},
            "its arguments or environment cannot be passed on: embedded null byte",
        ),
        (
            "arguments_too_long",
            ("true", "x" * 3_000_000),
            {},
            "its arguments and environment are longer than the system allows; pass large data in a file or on stdin",
        ),
        (
            "arguments_unusable",
            ("true", "x"),
            {"env": {"A=B": "c"}},
            "its arguments or environment cannot be passed on: illegal environment variable name",
        ),
        ("cwd_missing", ("true", "x"), {"cwd": Path("/no/such/place")}, "the directory /no/such/place does not exist"),
        (
            "stdin_unreadable",
            ("true", "x"),
            {"stdin": Path("/no/such/file")},
            "its standard input /no/such/file cannot be read: No such file or directory",
        ),
        (
            "stream_unwritable",
            ("true", "x"),
            {"stdout": Path("/no/such/file")},
            "its output file /no/such/file cannot be opened: No such file or directory",
        ),
    ],
)
def test_a_command_that_cannot_start_says_why(
    pool: SupervisorPool,
    command: MakeCommand,
    place: Path,
    problem: str,
    argv: tuple[str, ...],
    changes: dict[str, Any],
    message: str,
) -> None:
    changes = {"cwd": place, **changes, "env": {"PATH": "/bin:/usr/bin", **changes.get("env", {})}}

    result = pool.run(command(*argv, **changes), Lifeline(20))

    assert (result.ended, result.exit_code, result.stdout) == (Ended.NOT_STARTED, None, None)
    assert result.message == message.format(place=place)
    assert result.problem == problem
    assert (result.problem_errno is None) == (problem in ("command_empty", "arguments_unusable"))


def test_the_supervisor_survives_a_command_that_cannot_start(pool: SupervisorPool, command: MakeCommand) -> None:
    pool.run(command("true"), Lifeline(20))
    (before,) = pool._links
    open_before = sorted(Path(f"/proc/{before.pid}/fd").iterdir())

    for _ in range(3):
        pool.run(command("no-such-program", "x"), Lifeline(20))

    assert pool.run(command("exit 5"), Lifeline(20)).exit_code == 5
    assert pool._links == {before}
    assert sorted(Path(f"/proc/{before.pid}/fd").iterdir()) == open_before


def test_a_secret_in_the_reason_is_masked(pool: SupervisorPool, command: MakeCommand) -> None:
    result = pool.run(command("run-sesame-42", "x", masks=("sesame-42",), env={"PATH": "/bin"}), Lifeline(20))

    assert result.message == "the program 'run-***' was not found on PATH (/bin)"


def test_a_supervisor_that_cannot_be_started_is_an_answer_too(
    pool: SupervisorPool, command: MakeCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")

    result = pool.run(command("true"), Lifeline(20))

    assert result.ended is Ended.NOT_STARTED
    assert result.message is not None
    assert "/no/such/python" in result.message
    assert (result.problem, result.problem_errno) == ("no_supervisor", "ENOENT")


def test_programs_are_looked_up_on_the_commands_own_path(
    pool: SupervisorPool, command: MakeCommand, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "greet"
    program.parent.mkdir()
    shutil.copy("/bin/echo", program)

    result = pool.run(command("greet", "hi", env={"PATH": str(program.parent)}), Lifeline(20))

    assert (result.exit_code, (tmp_path / "stdout").read_text()) == (0, "hi\n")
