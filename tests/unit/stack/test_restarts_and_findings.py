"""The parts of the stack that need no process."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from agentflow.domain.error import ConfigurationError, ServersUnreachable, UsageError
from agentflow.runtime import audit_key_of
from agentflow.settings import Settings
from agentflow.stack.background import OwnerLine
from agentflow.stack.companion import api_companion, flower_companion, restart_delay_seconds
from agentflow.stack.findings import Problem, Skipped, Status, find
from agentflow.stack.home import keep_audit_key, log_directory, why_unwritable
from agentflow.stack.last_end import forget_last_end, keep_last_end, last_end_of
from agentflow.stack.restarts import RestartBudget
from agentflow.stack.starter import FOLDER, write_starter


def test_the_pause_before_a_restart_doubles_up_to_half_a_minute() -> None:
    assert [restart_delay_seconds(failures) for failures in (1, 2, 3, 7, 8, 10_000)] == [0.5, 1, 2, 30, 30, 30]


def test_what_the_stack_keeps_running_is_called_as_in_a_sentence(tmp_path: Path) -> None:
    made = [flower_companion(tmp_path, tmp_path), api_companion(tmp_path, tmp_path, 1)]
    assert [each.title for each in made] == ["Flower", "the API"]


def test_restarts_of_servers_are_bounded_within_a_window() -> None:
    budget = RestartBudget(2, 60.0)
    assert [budget.take(now) for now in (0, 10, 20, 59.9, 60, 69, 70)] == [True, True, False, False, True, False, True]


def test_a_stack_that_gave_up_is_told_until_the_next_one(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert last_end_of(settings) == ""
    keep_last_end(tmp_path, ServersUnreachable("valkey died.\nIts log:", log="/x/valkey.log", why="valkey died"))
    assert last_end_of(settings).endswith(" UTC because valkey died; see /x/valkey.log.")
    keep_last_end(tmp_path, ConfigurationError("No key can be made.\nSee there.", log="/x/up.log"))
    assert last_end_of(settings).endswith(" UTC because No key can be made; see /x/up.log.")
    forget_last_end(tmp_path)
    assert last_end_of(settings) == ""


@pytest.mark.parametrize("has_unread_news", [True, False])
def test_a_launcher_that_went_is_heard_whether_it_read_the_news_or_not(has_unread_news: bool) -> None:
    ours, theirs = socket.socketpair()
    line = OwnerLine(ours)
    if has_unread_news:
        line.tell(kind="stopping", text="...")
    theirs.close()
    assert line.hear() is True


def _unreachable() -> str:
    raise ServersUnreachable("away")


def _problem() -> str:
    raise Problem("bad", "mend it")


def _skipped() -> str:
    raise Skipped("nothing to ask")


def test_an_answer_is_ok_and_every_other_end_of_a_question_is_a_finding() -> None:
    assert find("a", lambda: "fine").status is Status.OK
    problem, skipped, away = find("b", _problem), find("c", _skipped), find("d", _unreachable)
    assert (problem.status, problem.detail, problem.advice) == (Status.PROBLEM, "bad", "mend it")
    assert (skipped.status, skipped.is_unreachable) == (Status.SKIPPED, False)
    assert (away.status, away.is_unreachable) == (Status.PROBLEM, True)


def _settings(home: Path, key: str | None) -> Settings:
    return Settings(home=home, audit_key=SecretStr(key) if key else None)


def test_the_audit_key_is_made_once_and_a_given_one_is_kept(tmp_path: Path) -> None:
    made = keep_audit_key(_settings(tmp_path / "one", None))
    assert (made.stat().st_mode & 0o777, len(made.read_text().strip())) == (0o600, 64)
    before = made.read_text()
    assert keep_audit_key(_settings(tmp_path / "one", None)).read_text() == before
    (tmp_path / "two").mkdir()
    assert keep_audit_key(_settings(tmp_path / "two", "k" * 32)).read_text() == "k" * 32 + "\n"


def test_another_audit_key_than_the_home_has_is_refused(tmp_path: Path) -> None:
    keep_audit_key(_settings(tmp_path, None))
    with pytest.raises(ConfigurationError, match="differs from"):
        keep_audit_key(_settings(tmp_path, "k" * 32))


def test_a_home_that_can_hold_no_key_is_said() -> None:
    with pytest.raises(ConfigurationError, match="cannot be made or read"):
        audit_key_of(Settings(home=Path("/dev/null")))


def test_a_home_that_takes_no_file_is_told_with_why(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/proc/self")  # it is there, and not even root can make a file in it
    with pytest.raises(ConfigurationError, match=rf"^{tmp_path}/log cannot be written: .*another AGENTFLOW_HOME\.$"):
        log_directory(tmp_path)


def test_whether_a_home_can_be_written_is_asked_of_what_is_there_and_leaves_nothing(tmp_path: Path) -> None:
    assert why_unwritable(tmp_path) is None
    assert why_unwritable(tmp_path / "not" / "yet") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert why_unwritable(tmp_path / "file" / "home") == "Not a directory"
    assert why_unwritable(Path("/proc/self/home"))


def test_a_folder_that_takes_no_copy_is_told_with_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), target)

    monkeypatch.setattr(shutil, "copyfile", refuse)
    with pytest.raises(UsageError, match=r"cannot be written: .*Read-only file system"):
        write_starter(tmp_path)


def test_the_starter_is_written_whole_and_never_over_anything(tmp_path: Path) -> None:
    written = write_starter(tmp_path / "deep" / "first")
    assert Path("plan.yaml") in written
    assert all((tmp_path / "deep" / "first" / each).read_bytes() == (FOLDER / each).read_bytes() for each in written)
    assert not [each for each in written if "__pycache__" in each.parts]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    for folder in (tmp_path / "taken", tmp_path / "taken" / "mine"):
        with pytest.raises(UsageError, match="not empty"):
            write_starter(folder)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine"]
