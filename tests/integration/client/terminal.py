"""A terminal that a test types into, as a person does."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from tests.integration.client.test_following import Terminal


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
