"""The tests of examples/, in a pytest of their own: as a user's suite runs them, with the plugin that is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

from tests.workers import REPOSITORY


def test_the_tests_of_the_examples_pass() -> None:
    is_installed = any(point.value == "agentflow.testing.plugin" for point in entry_points(group="pytest11"))
    plugin = () if is_installed else ("-p", "agentflow.testing.plugin")  # a checkout that is not installed anew
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "examples/tests", "-q", "-p", "no:cacheprovider", *plugin],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout


def test_the_plugin_costs_other_suites_nothing() -> None:
    """Whoever only has agentflow installed must not pay for it, and its libraries must not get into other tests."""
    script = (
        "import sys, pytest; before = set(sys.modules); import agentflow.testing.plugin; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before if '.' not in name}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["agentflow"]
