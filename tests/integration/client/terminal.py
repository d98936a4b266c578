"""A terminal with a verb in it, as a person has it; and one that a test types into."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

from agentflow.settings import Settings
from tests.integration.client.conftest import environment_of
from tests.workers import REPOSITORY


class Terminal:
    """A verb in a terminal of its own, as a person has it."""

    def __init__(self, settings: Settings, *arguments: object) -> None:
        self._main, other = pty.openpty()
        environment = environment_of(settings) | {"PATH": os.environ["PATH"], "TERM": "xterm", "HOME": "/nonexistent"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agentflow", *map(str, arguments)],
            stdin=other, stdout=other, stderr=other, cwd="/", start_new_session=True,
            env=environment | {"PYTHONPATH": str(REPOSITORY), "LANG": "C.UTF-8", "COLUMNS": "100", "LINES": "30"},
        )  # fmt: skip
        os.close(other)
        self._seen = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._main, 65536)
            except OSError:  # the terminal closes with its last program
                return
            self._seen += data

    @property
    def text(self) -> str:
        """What was written so far."""
        return self._seen.decode(errors="replace")

    def end(self) -> int:
        """Wait for the verb's end; returns its exit code."""
        code = self.process.wait(30)
        self._reader.join(10)
        os.close(self._main)
        return code


class TypedTerminal(Terminal):
    """A verb in a terminal of its own, whose keys are pressed; what the test leaves of it is ended."""

    def press(self, keys: str) -> None:
        """Type, without a return unless it is among the keys."""
        os.write(self._main, keys.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.end()
