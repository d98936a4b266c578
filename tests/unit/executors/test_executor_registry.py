"""Executors are found by the action they perform; a broken one is named."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentflow.domain.action import NoopAction
from agentflow.domain.error import ConfigurationError
from agentflow.executors import base
from agentflow.executors.base import Assignment, Lifeline, close_executors, executor_for, known_actions
from agentflow.executors.command import Ended

_ROOT = Path(__file__).parents[3]
Install = Callable[[str, str, str], None]


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
    close_executors()
    yield
    close_executors()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package that offers an executor, for one test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def offer(package: str, action: str, code: str) -> None:
        (tmp_path / f"{package}.py").write_text(code)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[agentflow.executors]\n{action} = {package}:Theirs\n")

    yield offer
    for name in set(sys.modules) - before:
        del sys.modules[name]


_GOOD = """
class Theirs:
    action, queue, is_closed = "paint", "commands", False
    def perform(self, assignment, lifeline): ...
    def close(self): Theirs.is_closed = True
"""


def test_the_built_in_executors_are_known_without_an_installed_distribution() -> None:
    assert {"noop", "subprocess"} <= set(known_actions())
    assert [executor_for(action).queue for action in ("noop", "subprocess")] == ["control", "commands"]


def test_one_executor_serves_the_whole_process() -> None:
    assert executor_for("subprocess") is executor_for("subprocess")


def test_the_distribution_offers_the_built_in_executors_too() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]

    offered = project["entry-points"][base.ENTRY_POINT_GROUP]

    assert {action: offered.get(action) for action in base._BUILT_IN} == dict(base._BUILT_IN)


def test_another_package_can_offer_an_executor(install: Install) -> None:
    install("painter", "paint", _GOOD)

    executor = executor_for("paint")

    assert "paint" in known_actions()
    close_executors()
    assert vars(type(executor))["is_closed"]


def test_an_unknown_action_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"'sculpt'.*noop, notify, python, subprocess"):
        executor_for("sculpt")


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("raise RuntimeError('no brush')", "no brush"),
        ("class Other: ...", "Theirs"),
        ("class Theirs:\n    def __init__(self, brush): ...", "brush"),
        ("class Theirs:\n    action = 'paint'", "it lacks queue, perform, close"),
    ],
)
def test_a_broken_executor_is_an_error_that_names_its_package(install: Install, code: str, complaint: str) -> None:
    install("painter", "paint", code)

    with pytest.raises(ConfigurationError, match="painter") as caught:
        executor_for("paint")

    assert complaint in str(caught.value)


def test_two_packages_for_one_action_are_an_error_that_names_both(install: Install) -> None:
    install("painter", "paint", _GOOD)
    install("dauber", "paint", _GOOD)

    with pytest.raises(ConfigurationError, match="dauber:Theirs, painter:Theirs"):
        executor_for("paint")


def test_noop_succeeds_at_once(tmp_path: Path) -> None:
    assignment = Assignment("r", "s", 1, NoopAction(), tmp_path, timeout_seconds=1)

    performance = executor_for("noop").perform(assignment, Lifeline(20))

    assert (performance.ended, performance.exit_code, performance.artifacts) == (Ended.EXITED, 0, ())
