"""What the command line says to calls that cannot be meant, and to missing servers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentflow.cli import main as main_module
from agentflow.cli.main import main, speaks_json
from tests.unit.cli.answers import ask, complain


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without servers."""
    for name in ("DATABASE_URL", "REDIS_URL", "DATABASE_URL_FILE", "REDIS_URL_FILE", "PROJECT"):
        monkeypatch.delenv(f"AGENTFLOW_{name}", raising=False)
    monkeypatch.setenv("AGENTFLOW_HOME", str(tmp_path / "home"))


def test_a_missing_argument_is_named_with_the_help_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    error = complain(capsys, "run", code=2)

    assert "agentflow run: Missing argument 'PLAN|NAME'" in error
    assert "Try `agentflow run --help`" in error


def test_an_unknown_option_is_an_error_in_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "show", "@last", "--nope", code=2)

    assert answer["error"]["code"] == "usage"


def test_without_servers_a_verb_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert "agentflow up" in complain(capsys, "runs", code=6)
    assert ask(capsys, "runs", code=6)["error"]["code"] == "servers_unreachable"


def test_a_server_that_is_away_is_unreachable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("AGENTFLOW_REDIS_URL", "redis://127.0.0.1:1/0")

    assert ask(capsys, "show", "@last", code=6)["error"]["code"] == "servers_unreachable"
    assert "`agentflow doctor` says which server is away" in complain(capsys, "show", "@last", code=6)


@pytest.mark.parametrize("arguments", [("runs",), ("show", "@last"), ("runs", "--nope")])
def test_what_can_be_said_without_the_client_is_said_without_loading_it(arguments: tuple[str, ...]) -> None:
    program = "import sys; from agentflow.cli.main import main; print(main(sys.argv[1:]), 'sqlalchemy' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["2" if "--nope" in arguments else "6", "False"]


def test_half_of_the_servers_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTFLOW_REDIS_URL", "redis://127.0.0.1:1/0")

    assert "AGENTFLOW_DATABASE_URL is not set" in complain(capsys, "runs", code=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "x.yaml", "--var", "novalue"), "--var takes NAME=VALUE"),
        (("run", "x.yaml", "--budget", "tokens"), "--budget takes KIND=CAP, such as tokens=5000"),
        (("run", "x.yaml", "--budget", "=5"), "--budget takes KIND=CAP"),
        (("wait", "@last", "--timeout", "90"), "write a unit, such as 90ms or 90s"),
        (("runs", "--limit", "0"), "1 to 1000"),
        (("runs", "--state", "exploded"), "no state of a run"),
        (("runs", "--cursor", "%%%"), "next_cursor"),
        (("run", "no-such-plan.yaml"), "no plan file"),
        (("audit", "verify"), "Give a run, or --all"),
        (("audit", "verify", "@last", "--all"), "Give a run, or --all"),
        (("logs", "@last", "--follow", "--json"), "without --follow"),
        (("artifact", "get", "@last", "x", "--json"), "--output"),
    ],
)
def test_a_call_that_cannot_be_meant_is_told_before_any_server_is_asked(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--json" in arguments:
        message = ask(capsys, *[each for each in arguments if each != "--json"], code=2)["error"]["message"]
    else:
        message = complain(capsys, *arguments, code=2)

    assert words in message


def test_json_is_spoken_where_it_was_asked_for_before_the_end_of_options() -> None:
    assert speaks_json(["run", "x", "--json"])
    assert speaks_json(["run", "x", "--events"])
    assert not speaks_json(["worker", "--", "--json"])


def test_a_bug_is_a_traceback_on_stderr_and_an_error_in_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main_module, "build", lambda: lambda **_: broken())

    assert main(["runs", "--json"]) == 1
    written = capsys.readouterr()
    assert '"code": "internal"' in written.out
    assert "ZeroDivisionError" in written.err


def test_a_reader_that_leaves_ends_the_command_quietly(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(**_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(main_module, "build", lambda: leave)
    monkeypatch.setattr(sys, "stdout", open("/dev/null", "w", encoding="utf-8"))  # noqa: PTH123, SIM115

    assert main(["runs"]) == 1
    sys.stdout.close()
    assert capfd.readouterr().err == ""
