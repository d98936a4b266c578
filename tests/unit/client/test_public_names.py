"""The public names of the package are there, typed, and cost nothing before they are used."""

from __future__ import annotations

import importlib.resources
import subprocess
import sys

import pytest

import agentflow
from agentflow.domain import error


def test_the_public_names_are_those_of_the_contract() -> None:
    assert set(dir(agentflow)) == {"AgentFlow", "Engine", "Plan", "Retry", "Run", "errors", "__version__"}
    assert all(getattr(agentflow, name) is not None for name in dir(agentflow))


def test_the_errors_are_the_one_tree() -> None:
    assert agentflow.errors.PlanRejected is error.PlanRejected


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        agentflow.Nothing  # noqa: B018


def test_importing_the_package_loads_nothing_of_it() -> None:
    program = "import sys, agentflow; print([name for name in sys.modules if name.startswith('agentflow.')])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"


def test_the_package_says_that_it_is_typed() -> None:
    assert (importlib.resources.files("agentflow") / "py.typed").is_file()
