"""A stream that the command put something else in the place of says nothing, and nobody waits for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow.domain.action import SubprocessAction
from agentflow.domain.ids import StepKey
from agentflow.domain.outcome import Failed
from agentflow.domain.plan import Step
from agentflow.domain.reason import ReasonCode
from agentflow.engine.judge import judge
from agentflow.executors.base import Performance
from agentflow.executors.command import Ended, StreamRecord


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/hostname")])
@pytest.mark.parametrize(("exit_code", "code"), [(0, ReasonCode.OUTPUT_INVALID), (3, ReasonCode.EXIT_CODE)])
def test_a_replaced_stream_is_not_read(
    tmp_path: Path, make: Callable[[Path], None], exit_code: int, code: ReasonCode
) -> None:
    make(tmp_path / "stdout")
    step = Step.model_construct(id=StepKey("bad"), action=SubprocessAction(command=("true",)), outputs="stdout_json")
    stream = StreamRecord(tmp_path / "stdout", bytes_seen=9, bytes_kept=9, sha256="", is_cut=False)

    outcome = judge(step, Performance(Ended.EXITED, exit_code=exit_code, stdout=stream), None)

    assert isinstance(outcome, Failed)
    assert (outcome.reason.code, outcome.message) == (code, "")
