"""What a model reads and writes is in its answer's file and nowhere else: no log line, no error, no repr."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.executors.base import Assignment, Lifeline
from tests.integration.executors.model_calls import Caller
from tests.model_stub import BY_MODEL, ModelStub, Reply, failing

SENTINEL = "sentinel-7f3a"
KEY = "stub-key"
_ODD = f'{{"id": "{SENTINEL}", "object": "chat.completion", "created": 1, "model": "m", "choices": [], "usage": null}}'
_ODD_USAGE = f"""{{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{{"index": 0,
"finish_reason": "{SENTINEL}", "message": {{"role": "{SENTINEL}", "content": "{SENTINEL}"}}}}],
"usage": {{"prompt_tokens": "{SENTINEL}", "completion_tokens": {{"a": "{SENTINEL}"}}, "total_tokens": 1}}}}"""
_ODD_MESSAGE = f"""{{"id": "1", "type": "{SENTINEL}", "role": "assistant", "model": "m", "stop_reason": "{SENTINEL}",
"content": [{{"type": "text", "text": ["{SENTINEL}"]}}, {{"type": "{SENTINEL}"}}],
"usage": {{"input_tokens": "{SENTINEL}", "output_tokens": 3}}}}"""
_ODD_COUNTS = f"""{{"id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
"content": [{{"type": "text", "text": "fine"}}],
"usage": {{"input_tokens": "{SENTINEL}", "output_tokens": 3, "service_tier": ["{SENTINEL}"]}}}}"""
REPLIES = {
    **{name: reply for name, reply in BY_MODEL.items() if name not in ("hanging", "one-second")},
    "says": Reply(text=f"{SENTINEL} is what I say"),
    "refuses": failing(400, SENTINEL, code=SENTINEL, type=SENTINEL, param=SENTINEL),
    "limits": failing(429, SENTINEL, retry_after=SENTINEL),
    "breaks": failing(500, SENTINEL, code="server_error"),
    "overflows": failing(400, f"maximum context length, {SENTINEL}"),
    "asks-elsewhere": Reply(302, raw=SENTINEL.encode(), headers={"Location": f"/{SENTINEL}"}),
    "unready": Reply(raw=f'{{"{SENTINEL}": '.encode()),
    "page": Reply(raw=f"<p>{SENTINEL}".encode(), content_type="text/html"),
    "list": Reply(raw=f'["{SENTINEL}"]'.encode()),
    "odd": Reply(raw=_ODD.encode()),
    "odd-usage": Reply(raw=_ODD_USAGE.encode()),
    "odd-message": Reply(raw=_ODD_MESSAGE.encode()),
    "odd-counts": Reply(raw=_ODD_COUNTS.encode()),
    "empty": Reply(raw=b""),
    "hanging": Reply(is_hanging=True),
}


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[tuple[Caller, ModelStub]]:
    with ModelStub() as stub:
        stub.replies = dict(REPLIES)
        caller = Caller(tmp_path, stub)
        yield caller, stub
        caller.executor.close()


def _assignment(caller: Caller, provider: str, model: str, **fields: Any) -> Assignment:
    prompt, system = f"{SENTINEL} in the prompt", f"{SENTINEL} in the system text"
    return caller.assignment(f"{provider}:{model}", prompt, system=system, timeout_seconds=3, **fields)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("provider", ["stub", "stub-anthropic"])
@pytest.mark.parametrize("model", REPLIES)
def test_no_log_line_no_output_and_no_repr_holds_what_was_said(
    caller: tuple[Caller, ModelStub],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
    provider: str,
    model: str,
) -> None:
    executor = caller[0].executor
    for name in ("asyncio", "openai", "anthropic", "httpx2", "httpcore2", "pydantic_ai"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    schema = {"type": "object"} if model in ("says", "page") else None
    assignment = _assignment(caller[0], provider, model, output_schema=schema)

    with caplog.at_level(logging.DEBUG):
        estimate = executor.estimate(assignment)
        performance = executor.perform(assignment, Lifeline(20))

    out, err = capfd.readouterr()
    logged = "\n".join(str(vars(record)) for record in caplog.records)
    warned = "\n".join(str(warning.message) for warning in recwarn)
    shown = repr((estimate, performance, assignment, executor))
    assert all(SENTINEL not in each for each in (out, err, logged, warned, shown))
    assert all(KEY not in each for each in (out, err, logged, warned, shown))


_PROGRAM = """
import sys, warnings
from pathlib import Path
from agentflow import telemetry
from agentflow.domain.action import ContentRef, LlmAction
from agentflow.executors.base import Assignment, Lifeline, close_executors, executor_for

telemetry.configure(level="debug")
ref = ContentRef(sha256="0" * 64, bytes=1)
for number, model in enumerate(sys.argv[3:]):
    scratch = Path(sys.argv[1]) / str(number)
    scratch.mkdir()
    texts = {"prompt": sys.argv[2], "system": sys.argv[2]}
    action = LlmAction(model=model, prompt=ref, system=ref)
    call = executor_for("llm").perform(Assignment("r", "s", 1, action, scratch, 20, texts=texts), Lifeline(20)).call
    print(model, call.problem)
close_executors()
"""


def test_a_process_whose_environment_asks_for_every_log_writes_nothing_of_it(
    caller: tuple[Caller, ModelStub], tmp_path: Path
) -> None:
    stub = caller[1]
    loud = {"OPENAI_LOG": "debug", "ANTHROPIC_LOG": "debug", "PYTHONASYNCIODEBUG": "1", "PYTHONWARNINGS": "always"}
    models = [
        f"{provider}:{model}" for model in REPLIES if model != "hanging" for provider in ("stub", "stub-anthropic")
    ]
    scratch = tmp_path / "of-the-process"
    scratch.mkdir()

    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(scratch), SENTINEL, *models],
        env={**os.environ, **loud, **stub.environment(tmp_path), "AGENTFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == len(models)
    assert SENTINEL not in done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
