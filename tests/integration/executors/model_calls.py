"""What tests of the llm executor share: assignments, and a way to perform them from another thread."""

from __future__ import annotations

import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agentflow.domain.action import ContentRef, LlmAction
from agentflow.executors.base import Assignment, CallRecord, Lifeline, Performance
from agentflow.executors.llm import LlmExecutor
from agentflow.settings import Settings
from tests.model_stub import ModelStub

_REF = ContentRef(sha256="0" * 64, bytes=1)


class Caller:
    """An llm executor that knows the stub, and the assignments that tests give it."""

    def __init__(self, folder: Path, stub: ModelStub, *more: dict[str, Any], **settings: Any) -> None:
        credentials = stub.credentials_file(folder, *more)
        self.executor = LlmExecutor(Settings(home=folder, provider_credentials=credentials, **settings))
        self._folder = folder
        self._numbers = itertools.count()

    def assignment(
        self, model: str, prompt: str = "hello", system: str | None = None, timeout_seconds: float = 20, **fields: Any
    ) -> Assignment:
        """An attempt of its own, with a scratch directory of its own."""
        scratch = self._folder / f"scratch-{next(self._numbers)}"
        scratch.mkdir()
        texts = {"prompt": prompt} | ({} if system is None else {"system": system})
        action = LlmAction(
            model=model if ":" in model else f"stub:{model}",
            prompt=_REF,
            system=None if system is None else _REF,
            **{"max_tokens": 50, **fields},
        )
        return Assignment("run", "step", 1, action, scratch, timeout_seconds=timeout_seconds, texts=texts)

    def perform(self, model: str, *arguments: Any, **fields: Any) -> Performance:
        """Make one call and wait for it."""
        return self.executor.perform(self.assignment(model, *arguments, **fields), Lifeline(20))

    def call(self, model: str, *arguments: Any, **fields: Any) -> CallRecord:
        """Make one call; returns the record of it."""
        return record_of(self.perform(model, *arguments, **fields))

    def start(self, pool: ThreadPoolExecutor, assignment: Assignment, lifeline: Lifeline) -> Future[Performance]:
        """Make one call in a thread of ``pool``."""
        return pool.submit(self.executor.perform, assignment, lifeline)


def record_of(performance: Performance) -> CallRecord:
    """The record that every performance of a call has."""
    assert performance.call is not None
    return performance.call
