"""A python step's function: which may be called, what it is given, and what is taken back from it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.action import NoopAction, PythonAction
from agentflow.executors.base import Assignment, Lifeline, Performance, StopReason, close_executors
from agentflow.executors.command import Ended, StartProblem
from agentflow.executors.environment import allowed_environment
from agentflow.executors.python import PythonExecutor, is_allowed
from tests.integration.executors.conftest import Marked, wait_for

MODULE = "tests.integration.executors.called"
Call = Callable[..., Performance]


@pytest.fixture(autouse=True)
def _fresh_executors() -> Iterator[None]:
    yield
    close_executors()


@pytest.fixture
def call(tmp_path: Path, marked: Marked) -> Call:
    """Call a function of the module that these tests bring along; by default all of its own may be called."""

    def perform(
        name: str, args: dict[str, Any] | None = None, *, lifeline: Lifeline | None = None, **wishes: Any
    ) -> Performance:
        allowed = wishes.pop("allowed", (f"{MODULE}:*",))
        assignment = Assignment(
            run_id="run-1",
            step_key="call",
            attempt=1,
            action=PythonAction(call=f"{MODULE}:{name}", json_args=wishes.pop("json_args", None)),
            scratch=tmp_path,
            texts={} if args is None else {"json": json.dumps(args)},
            environment={**allowed_environment(os.environ), **marked.environment},
            **{"timeout_seconds": 60.0, "kill_grace_seconds": 0.3, **wishes},
        )
        return PythonExecutor(allowed).perform(assignment, lifeline or Lifeline(20))

    return perform


def _said(performance: Performance) -> str:
    assert performance.stderr is not None
    return performance.stderr.path.read_text(encoding="utf-8")


def test_a_function_is_called_with_its_arguments_and_returns_the_result(call: Call) -> None:
    performance = call("echo", {"n": 1, "deep": [{"a": None}], "text": "é"})

    assert (performance.ended, performance.exit_code) == (Ended.EXITED, 0)
    assert json.loads(performance.output or b"") == {"n": 1, "deep": [{"a": None}], "text": "é"}


def test_arguments_that_are_json_are_given_as_what_they_say(call: Call) -> None:
    performance = call("echo", {"read": '{"a": [1, null]}', "left": "[1]"}, json_args=("read",))

    assert json.loads(performance.output or b"") == {"read": {"a": [1, None]}, "left": "[1]"}
    assert call("echo", {"read": "{"}, json_args=("read",)).raised == "JSONDecodeError"


def test_a_coroutine_is_run_to_its_end(call: Call) -> None:
    assert call("later", {"value": 1}).output == b"2"


def test_what_is_printed_is_stdout_and_none_is_a_result(call: Call) -> None:
    performance = call("nothing")

    assert performance.stdout is not None
    assert performance.stdout.path.read_text() == "said\n"
    assert performance.output == b"null"


def test_of_an_exception_only_the_class_is_told_and_the_traceback_is_on_stderr(call: Call) -> None:
    performance = call("fail", {"message": "sesame-4711"}, masks=("4711",))

    assert (performance.exit_code, performance.raised, performance.output) == (1, "OddError", None)
    assert "sesame-***" in _said(performance)
    assert "sesame" not in repr((performance.raised, performance.message, performance.problem))


@pytest.mark.parametrize("name", ["unwritable", "echo"])
def test_what_is_no_json_is_an_exception_of_the_step(call: Call, name: str) -> None:
    args = {"n": 1e999} if name == "echo" else None

    assert call(name, args).raised in ("TypeError", "ValueError")


def test_a_function_may_choose_its_exit_code(call: Call) -> None:
    performance = call("leave", {"code": 75})

    assert (performance.exit_code, performance.raised) == (75, None)


def test_of_a_result_that_is_too_large_only_the_excess_is_seen(call: Call) -> None:
    assert len(call("large", {"size": 200_000}).output or b"") == 64 * 1024 + 1


def test_its_world_is_that_of_a_command(call: Call, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "json.py").write_text("raise SystemExit('the plan brought this')")

    performance = call("world")

    told = json.loads(performance.output or _said(performance))
    assert told["cwd"] == ["json.py"]
    assert told["stdin"] == ""
    assert told["run"] == "run-1"
    own = {"AGENTFLOW_ARTIFACTS", "AGENTFLOW_ATTEMPT", "AGENTFLOW_OUTPUT", "AGENTFLOW_RUN_ID", "AGENTFLOW_STEP_ID"}
    assert set(told["variables"]) == {*own, "AGENTFLOW_SUPERVISOR"}
    assert [found.name for found in performance.artifacts] == ["made.txt"]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("echo", ()), ("echo", ("os:*",)), ("echo", (f"{MODULE}:later",)), ("_private", (f"{MODULE}:*",))],
)
def test_what_the_setting_does_not_name_is_not_started(call: Call, tmp_path: Path, name: str, allowed: Any) -> None:
    performance = call(name, allowed=allowed)

    assert (performance.ended, performance.problem) == (Ended.NOT_STARTED, StartProblem.CALL_NOT_ALLOWED)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["missing", "MODULE_CONSTANT", "borrowed"])
def test_what_is_no_function_of_the_module_is_not_found(call: Call, name: str) -> None:
    performance = call(name)

    assert (performance.ended, performance.problem) == (Ended.NOT_STARTED, StartProblem.CALL_NOT_FOUND)
    assert "NotCallableError" in _said(performance)


def test_a_borrowed_function_may_be_allowed_by_its_name(call: Call) -> None:
    performance = call("borrowed", {"args": ["true"], "text": True}, allowed=(f"{MODULE}:borrowed",))

    assert performance.output == b'""'


def test_a_private_function_may_be_allowed_by_its_name(call: Call) -> None:
    assert call("_private", allowed=(f"{MODULE}:_private",)).output == b"1"


def test_at_its_timeout_it_ends_with_all_that_it_started(call: Call, marked: Marked) -> None:
    performance = call("hang", {"stubborn": "trap '' TERM; sleep 300"}, timeout_seconds=2.0)

    assert performance.ended is Ended.TIMED_OUT
    assert marked.is_gone()


def test_a_cancel_ends_it_with_all_that_it_started(call: Call, marked: Marked, tmp_path: Path) -> None:
    lifeline, ended = Lifeline(20), []
    thread = threading.Thread(target=lambda: ended.append(call("hang", {"stubborn": "sleep 300"}, lifeline=lifeline)))
    thread.start()
    wait_for(lambda: (tmp_path / "stdout").exists() and (tmp_path / "stdout").stat().st_size > 0, "the start", 30)

    lifeline.stop(StopReason.CANCELLED)
    thread.join(20)

    assert ended[0].ended is Ended.STOPPED
    assert marked.is_gone()


def test_it_performs_nothing_else(tmp_path: Path) -> None:
    assignment = Assignment("r", "s", 1, NoopAction(), tmp_path, timeout_seconds=1)

    with pytest.raises(TypeError):
        PythonExecutor(()).perform(assignment, Lifeline(20))


def test_a_star_allows_one_module_and_not_those_below_it() -> None:
    assert is_allowed("a.b:f", ["a.b:*"])
    assert not is_allowed("a.b.c:f", ["a.b:*"])
    assert not is_allowed("a.b:f", ["a.b:g", "a:*"])
