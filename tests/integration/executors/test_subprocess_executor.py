"""A subprocess step's world: where it runs, what it is told, and what is taken back from it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentflow.domain.action import NoopAction, SubprocessAction
from agentflow.executors.base import Assignment, Lifeline, Limits, Performance, Refusal, StopReason
from agentflow.executors.command import Ended
from agentflow.executors.environment import allowed_environment
from agentflow.executors.subprocess import SubprocessExecutor

if TYPE_CHECKING:
    from tests.integration.executors.conftest import Marked, Tree, WaitFor

Perform = Callable[..., Performance]


@pytest.fixture
def executor() -> Iterator[SubprocessExecutor]:
    executor = SubprocessExecutor()
    yield executor
    executor.close()


@pytest.fixture
def perform(executor: SubprocessExecutor, tmp_path: Path, marked: Marked) -> Perform:
    """Perform an action in ``tmp_path``; a string is a shell text."""

    def run(
        command: tuple[str, ...] | str, *, lifeline: Lifeline | None = None, action: Any = None, **changes: Any
    ) -> Performance:
        given: dict[str, Any] = {"shell": isinstance(command, str), **(action or {})}
        assignment = Assignment(
            run_id="run-1",
            step_key="collect",
            attempt=2,
            action=SubprocessAction(command=command, **given),
            scratch=tmp_path,
            environment={**allowed_environment(os.environ), **marked.environment},
            **{"timeout_seconds": 30.0, "kill_grace_seconds": 0.3, **changes},
        )
        return executor.perform(assignment, lifeline or Lifeline(20))

    return run


def test_a_command_runs_in_the_work_directory_where_its_files_are(perform: Perform, tmp_path: Path) -> None:
    (tmp_path / "work" / "data").mkdir(parents=True)
    (tmp_path / "work" / "data" / "in.txt").write_text("laid in")

    performance = perform(("cat", "data/in.txt"))

    assert (performance.ended, performance.exit_code) == (Ended.EXITED, 0)
    assert performance.stdout is not None
    assert performance.stdout.path.read_text() == "laid in"


def test_cwd_is_relative_to_the_work_directory(perform: Perform, tmp_path: Path) -> None:
    (tmp_path / "work" / "data").mkdir(parents=True)

    performance = perform("pwd", action={"cwd": "data"})

    assert performance.stdout is not None
    assert performance.stdout.path.read_text() == f"{tmp_path / 'work' / 'data'}\n"


@pytest.mark.parametrize(
    ("cwd", "complaint"),
    [
        ("..", "its cwd '..' leads out of the work directory"),
        ("a/../../..", "its cwd 'a/../../..' leads out of the work directory"),
        ("link", "its cwd 'link' leads out of the work directory"),
        ("/tmp", "its cwd '/tmp' is absolute; it is relative to the work directory"),
        ("gone", "its cwd 'gone' is no directory in the work directory"),
    ],
)
def test_a_cwd_that_is_not_inside_starts_nothing(perform: Perform, tmp_path: Path, cwd: str, complaint: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "link").symlink_to("/tmp")

    performance = perform(f"touch {tmp_path}/started", action={"cwd": cwd})

    assert (performance.ended, performance.message) == (Ended.NOT_STARTED, complaint)
    assert performance.problem == ("cwd_missing" if cwd == "gone" else "cwd_outside")
    assert not (tmp_path / "started").exists()


def test_a_command_is_told_who_it_is_and_where_to_put_things(perform: Perform, tmp_path: Path) -> None:
    names = "AGENTFLOW_RUN_ID AGENTFLOW_STEP_ID AGENTFLOW_ATTEMPT AGENTFLOW_ARTIFACTS AGENTFLOW_OUTPUT COLOUR"
    performance = perform(f"printenv {names}", action={"env": {"COLOUR": "blue", "AGENTFLOW_ATTEMPT": "99"}})

    assert performance.stdout is not None
    assert performance.stdout.path.read_text().splitlines() == [
        "run-1",
        "collect",
        "2",
        f"{tmp_path}/artifacts",
        f"{tmp_path}/output.json",
        "blue",
    ]


def test_without_a_shell_nothing_is_expanded_and_with_one_it_is(perform: Perform) -> None:
    plain = perform(("echo", "$AGENTFLOW_STEP_ID;", "*"))
    assert plain.stdout is not None
    assert plain.stdout.path.read_text() == "$AGENTFLOW_STEP_ID; *\n"

    shell = perform("echo $AGENTFLOW_STEP_ID | tr a-z A-Z")
    assert shell.stdout is not None
    assert shell.stdout.path.read_text() == "COLLECT\n"


@pytest.mark.parametrize(("command", "shell"), [("echo hi", False), (("echo", "hi"), True)])
def test_a_command_that_does_not_fit_its_shell_flag_starts_nothing(
    perform: Perform, command: tuple[str, ...] | str, shell: bool
) -> None:
    performance = perform(command, action={"shell": shell})

    assert performance.ended is Ended.NOT_STARTED
    assert performance.message is not None
    assert "shell: true" in performance.message


def test_standard_input_comes_from_the_given_file(perform: Perform, tmp_path: Path) -> None:
    (tmp_path / "stdin").write_text("3\n1\n2\n")

    performance = perform(("sort",), stdin=tmp_path / "stdin")

    assert performance.stdout is not None
    assert performance.stdout.path.read_text() == "1\n2\n3\n"


def test_artifacts_come_from_their_directory_and_from_stdout(perform: Perform) -> None:
    performance = perform(
        """
        mkdir sub; echo one > $AGENTFLOW_ARTIFACTS/one.txt; echo two > two.txt; echo three > sub/three.txt
        echo 'ARTIFACT: two.txt'; echo 'ARTIFACTS: sub/three.txt, gone.txt, ../stdout'
        """
    )

    assert [(artifact.name, artifact.bytes) for artifact in performance.artifacts] == [
        ("one.txt", 4),
        ("two.txt", 4),
        ("sub/three.txt", 6),
    ]
    assert performance.refusals == {Refusal.MISSING: 1, Refusal.OUTSIDE: 1}


def test_a_cut_stdout_warns_that_announcements_may_be_lost(perform: Perform) -> None:
    performance = perform("echo x > x; yes | head -c 3000; echo 'ARTIFACT: x'", limits=Limits(output_bytes=2000))

    assert performance.stdout is not None
    assert (performance.stdout.bytes_kept, performance.stdout.is_cut) == (2000, True)
    assert performance.artifacts == ()
    assert performance.refusals == {Refusal.STDOUT_CUT: 1}


def test_the_output_file_is_read_and_bounded(perform: Perform) -> None:
    assert perform("""echo '{"errors": 3}' > $AGENTFLOW_OUTPUT""").output == b'{"errors": 3}\n'
    assert perform("rm $AGENTFLOW_OUTPUT").output is None
    assert perform("head -c 5000 /dev/zero > $AGENTFLOW_OUTPUT", limits=Limits(result_bytes=99)).output == bytes(100)


@pytest.mark.parametrize("make", ["ln -s /etc/passwd", "mkfifo", "mkdir"])
def test_an_output_that_is_no_regular_file_is_refused(perform: Perform, make: str) -> None:
    performance = perform(f"{make} $AGENTFLOW_OUTPUT")

    assert performance.output is None
    assert performance.refusals == {Refusal.OUTPUT_NOT_REGULAR: 1}


@pytest.mark.parametrize("make", ["ln -s /dev/zero", "mkfifo", "mkdir"])
def test_a_command_that_replaces_its_stdout_holds_nobody_up(perform: Perform, make: str) -> None:
    performance = perform(f"rm ../stdout; {make} ../stdout; echo x > $AGENTFLOW_ARTIFACTS/x; exit 3")

    assert (performance.ended, performance.exit_code) == (Ended.EXITED, 3)
    assert [artifact.name for artifact in performance.artifacts] == ["x"]
    assert performance.refusals == {Refusal.STDOUT_REPLACED: 1}


def test_secrets_are_masked_in_both_streams_and_in_the_output(perform: Perform, tmp_path: Path) -> None:
    secret = 'se"same'
    script = """
import json, os, sys
secret = os.environ["TOKEN"]
print(secret, json.dumps([secret]))
print(secret, file=sys.stderr)
with open(os.environ["AGENTFLOW_OUTPUT"], "w") as file:
    json.dump({"token": secret}, file)
"""
    performance = perform((sys.executable, "-c", script), action={"env": {"TOKEN": secret}}, masks=(secret,))

    assert (tmp_path / "stdout").read_text() == '*** ["***"]\n'
    assert (tmp_path / "stderr").read_text() == "***\n"
    assert performance.output == b'{"token": "***"}'


def test_a_timeout_keeps_what_was_made_until_then(perform: Perform, marked: Marked) -> None:
    performance = perform("echo part > $AGENTFLOW_ARTIFACTS/part.txt; sleep 300", timeout_seconds=0.5)

    assert marked.pids() == set()
    assert (performance.ended, performance.exit_code) == (Ended.TIMED_OUT, 124)
    assert [artifact.name for artifact in performance.artifacts] == ["part.txt"]


def test_a_cancelled_command_is_gone_and_nothing_of_it_is_collected(
    perform: Perform, marked: Marked, stubborn: Tree, wait_for: WaitFor
) -> None:
    lifeline = Lifeline(20)

    def cancel() -> None:
        wait_for(lambda: len(marked.pids()) == stubborn.processes, "the start of the whole tree")
        lifeline.stop(StopReason.CANCELLED)

    threading.Thread(target=cancel).start()
    performance = perform("echo part > $AGENTFLOW_ARTIFACTS/part.txt" + stubborn.script, lifeline=lifeline)

    assert marked.pids() == set()
    assert (performance.ended, performance.exit_code, performance.artifacts) == (Ended.STOPPED, None, ())


def test_a_scratch_that_does_not_exist_starts_nothing(perform: Perform, tmp_path: Path) -> None:
    tmp_path.rename(tmp_path.with_name("moved"))
    performance = perform("true")

    assert performance.ended is Ended.NOT_STARTED
    assert performance.message == f"its directory {tmp_path}: No such file or directory"


def test_an_action_of_another_kind_is_a_programming_error(executor: SubprocessExecutor, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="noop"):
        executor.perform(Assignment("r", "s", 1, NoopAction(), tmp_path, timeout_seconds=1), Lifeline(20))
