"""A home for each test that runs a stack of its own; whatever a test leaves there is ended, and was a failure."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import quick_folder
from tests.stacks import CommandLine


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line on an empty home; not under pytest's folder, which the servers' account may not enter."""
    with tempfile.TemporaryDirectory(prefix="agentflow-stack-", dir=quick_folder(), ignore_cleanup_errors=True) as home:
        command_line = CommandLine(Path(home), tmp_path)
        try:
            yield command_line
            if command_line.processes():
                command_line.run("down")
                command_line.wait_until_gone(20)
        finally:
            command_line.kill()
