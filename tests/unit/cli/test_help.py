"""The help answers at once: nothing heavy is loaded before a verb runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_group

from agentflow.cli.main import VERBS as VERB_MODULES
from agentflow.cli.main import build, main

REPOSITORY = Path(__file__).parents[3]
HEAVY = ("celery", "kombu", "redis", "sqlalchemy", "psycopg", "structlog", "jinja2", "yaml", "alembic")
"""pydantic is not among them: typer parses with it."""
MOST_MODULES = 250
"""Two thirds of them were loaded when this was written. Processor time would be a fact of the machine, not of ours."""
VERBS = {
    "abort",
    "api",
    "approve",
    "artifact",
    "audit",
    "beat",
    "budget",
    "cancel",
    "dead-letters",
    "demo",
    "doctor",
    "down",
    "flower",
    "fork",
    "gates",
    "guide",
    "init",
    "key",
    "limits",
    "logs",
    "mcp",
    "migrate",
    "modify",
    "override",
    "pause",
    "plan",
    "prune",
    "queues",
    "reject",
    "report",
    "resume",
    "retry",
    "run",
    "runs",
    "schedule",
    "show",
    "signal",
    "up",
    "wait",
    "watch",
    "webhook",
    "why",
    "worker",
    "workers",
}


def _agentflow(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, "-m", "agentflow", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )


def _loaded(*arguments: str) -> set[str]:
    told = _agentflow(*arguments, python=("-X", "importtime")).stderr
    return {line.rpartition("|")[2].strip() for line in told.splitlines()}


def test_every_module_of_verbs_is_registered() -> None:
    modules = {path.stem for path in (REPOSITORY / "agentflow" / "cli").glob("*_commands.py")}

    assert modules == set(VERB_MODULES)


def test_the_help_names_every_verb() -> None:
    words = set(_agentflow("--help").stdout.split())

    assert words >= VERBS


def test_every_verb_is_named_here() -> None:
    assert set(get_group(build()).commands) == VERBS


def test_the_help_loads_few_modules() -> None:
    assert len(_loaded("--help")) < MOST_MODULES


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",)])
def test_no_server_library_and_no_floor_below_is_loaded_for_help(arguments: tuple[str, ...]) -> None:
    loaded = _loaded(*arguments)

    assert not {name for name in loaded if name.split(".")[0] in HEAVY}
    assert not {name for name in loaded if name.startswith("agentflow.") and not name.startswith("agentflow.cli")}


def test_without_a_verb_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Usage: agentflow" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")

    assert main(["--version"]) == 0
    version = capsys.readouterr().out.split()[-1]
    assert f'version = "{version}"' in pyproject
