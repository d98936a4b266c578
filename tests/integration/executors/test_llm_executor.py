"""A call of a model: what is sent, what is kept, and what each behaviour of a server is taken for."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.action import ContentRef, LlmAction, NoopAction, Price
from agentflow.domain.budget import MAX_TOKENS
from agentflow.domain.call import MEANINGS, CallProblem, CallUsage, Remedy
from agentflow.executors.base import Assignment, CallingExecutor, Estimate, Lifeline, executor_for
from agentflow.executors.command import Ended
from agentflow.executors.providers import Credential, ProviderKind
from agentflow.executors.token_bound import most_prompt_tokens
from tests.integration.executors.model_calls import Caller
from tests.model_stub import ModelStub, Reply, Usage, failing

COUNTED = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}


@pytest.fixture
def stub() -> Iterator[ModelStub]:
    with ModelStub() as stub:
        yield stub


@pytest.fixture
def caller(tmp_path: Path, stub: ModelStub) -> Iterator[Caller]:
    caller = Caller(tmp_path, stub)
    yield caller
    caller.executor.close()


def test_it_is_a_calling_executor_of_the_models_queue() -> None:
    executor = executor_for("llm")

    assert isinstance(executor, CallingExecutor)
    assert (executor.action, executor.queue) == ("llm", "models")


def test_importing_it_loads_no_library_of_models() -> None:
    heavy = "pydantic_ai", "openai", "anthropic", "httpx2", "genai_prices", "tiktoken", "jsonschema", "yaml"
    code = f"import sys, agentflow.executors.llm; print([name for name in {heavy} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "[]"


def test_another_action_than_llm_is_refused(caller: Caller, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="noop"):
        caller.executor.perform(Assignment("r", "s", 1, NoopAction(), tmp_path, 1), Lifeline(20))


@pytest.mark.parametrize("provider", ["stub", "stub-anthropic"])
def test_an_answer_is_a_private_file_with_its_hash(caller: Caller, provider: str) -> None:
    assignment = caller.assignment(f"{provider}:ok", "grüße", system="be brief")

    performance = caller.executor.perform(assignment, Lifeline(20))

    call = performance.call
    assert call is not None
    assert call.answer == assignment.scratch / "text"
    assert (performance.ended, performance.exit_code, call.problem) == (Ended.EXITED, None, None)
    assert call.answer.read_text(encoding="utf-8") == "echo: grüße"
    assert call.answer.stat().st_mode & 0o777 == 0o600
    assert call.answer_sha256 == hashlib.sha256("echo: grüße".encode()).hexdigest()
    assert (call.answer_bytes, call.answer_media_type) == (len("echo: grüße".encode()), "text/plain")
    assert (call.provider, call.model, call.finish_reason, call.was_sent) == (provider, "ok", "stop", True)
    assert 0 < call.duration_seconds == performance.duration_seconds


def test_everything_that_the_step_says_is_sent(caller: Caller, stub: ModelStub) -> None:
    caller.perform("ok", "what?", system="be brief", temperature=0.5, seed=7, max_tokens=33)

    body = stub.arrivals[0].body
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "what?"},
    ]
    assert {"max_tokens": 33, "temperature": 0.5, "seed": 7}.items() <= body.items()
    assert "max_completion_tokens" not in body


def test_an_unset_field_is_not_sent(caller: Caller, stub: ModelStub) -> None:
    caller.perform("ok", max_tokens=None)

    assert set(stub.arrivals[0].body) == {"model", "messages", "stream"}


def test_anthropic_gets_its_key_and_no_seed(caller: Caller, stub: ModelStub) -> None:
    caller.perform("stub-anthropic:ok", system="be brief", temperature=0, seed=7)

    arrival = stub.arrivals[0]
    assert arrival.path == "/anthropic/v1/messages"
    assert any(value.endswith("stub-key") for value in arrival.headers.values())
    assert arrival.body["max_tokens"] == 50
    assert "seed" not in arrival.body


def test_a_server_without_a_key_gets_none_of_the_environment(
    caller: Caller, stub: ModelStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "of-the-environment")

    caller.perform("ok")

    assert "of-the-environment" not in str(stub.arrivals[0].headers)


def test_proxies_of_the_environment_are_not_asked_for_a_server_on_this_machine(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    assert caller.call("ok").problem is None


def _case(model: str, problem: CallProblem, status: int | None, retry_after: float | None = None) -> Any:
    return pytest.param(model, problem, status, retry_after, id=model)


@pytest.mark.parametrize("provider", ["stub", "stub-anthropic"])
@pytest.mark.parametrize(
    ("model", "problem", "status", "retry_after"),
    [
        _case("rate-limited", CallProblem.RATE_LIMITED, 429, 7),
        _case("no-quota", CallProblem.QUOTA_EXCEEDED, 429),
        _case("broken", CallProblem.SERVER_ERROR, 500),
        _case("unavailable", CallProblem.UNAVAILABLE, 503, 3),
        _case("overloaded", CallProblem.OVERLOADED, 529, 5),
        _case("no-key", CallProblem.UNAUTHENTICATED, 401),
        _case("forbidden", CallProblem.FORBIDDEN, 403),
        _case("missing", CallProblem.NOT_FOUND, 404),
        _case("rejected", CallProblem.REJECTED, 400),
        _case("too-long-llama", CallProblem.CONTEXT_TOO_LONG, 400),
        _case("cut", CallProblem.CONNECTION_LOST, None),
        _case("dropped", CallProblem.CONNECTION_LOST, None),
        _case("malformed", CallProblem.MALFORMED, None),
        _case("html", CallProblem.MALFORMED, None),
    ],
)
def test_a_failure_is_told_by_its_problem_and_its_numbers(
    caller: Caller, provider: str, model: str, problem: CallProblem, status: int | None, retry_after: float | None
) -> None:
    performance = caller.perform(f"{provider}:{model}")

    call = performance.call
    assert call is not None
    assert (performance.ended, call.problem, call.provider_status) == (Ended.EXITED, problem, status)
    assert call.retry_after_seconds == retry_after
    assert (call.was_sent, call.answer, performance.message) == (True, None, None)
    # What was refused used nothing; whatever else was sent may have been paid for.
    assert (call.usage is None) is MEANINGS[problem].is_refusal
    assert call.usage is None or (call.usage.is_estimated and call.usage.output_tokens == 50)


@pytest.mark.parametrize(
    ("provider", "error"),
    [
        ("stub", {"code": "context_length_exceeded"}),
        ("stub", {"message": "This model's maximum context length is 8192 tokens."}),
        ("stub-anthropic", {"message": "prompt is too long: 300000 tokens > 200000 maximum"}),
    ],
)
def test_a_text_that_is_too_long_is_told_apart_in_the_words_of_each_provider(
    caller: Caller, stub: ModelStub, provider: str, error: dict[str, Any]
) -> None:
    stub.queue(failing(400, **error))

    problem = caller.call(f"{provider}:ok").problem

    assert problem is CallProblem.CONTEXT_TOO_LONG
    assert MEANINGS[problem].remedy is Remedy.SHORTEN


def test_the_client_tries_once(caller: Caller, stub: ModelStub) -> None:
    models = ["rate-limited", "broken", "unavailable", "overloaded", "no-key", "cut", "dropped", "malformed"]
    models += [f"stub-anthropic:{model}" for model in models]

    for model in models:
        caller.perform(model)

    assert len(stub.arrivals) == len(models)


@pytest.mark.parametrize("provider", ["stub", "stub-anthropic"])
@pytest.mark.parametrize(
    ("model", "problem"),
    [("at-length", CallProblem.CUT_AT_LENGTH), ("filtered", CallProblem.CONTENT_FILTERED)],
)
def test_an_answer_that_was_cut_or_filtered_has_used_what_it_used(
    caller: Caller, provider: str, model: str, problem: CallProblem
) -> None:
    call = caller.call(f"{provider}:{model}")

    assert (call.problem, call.usage, call.answer) == (problem, CallUsage(20, 10), None)


def test_the_usage_is_what_the_provider_reports(caller: Caller, stub: ModelStub) -> None:
    stub.queue(Reply(usage=Usage(prompt=1000, completion=300, cached=600, reasoning=250)))
    assert caller.call("ok").usage == CallUsage(1000, 300, 600, 250)

    stub.queue(Reply(usage=Usage(prompt=1000, completion=300, cached=600)))
    assert caller.call("stub-anthropic:ok").usage == CallUsage(1000, 300, 600)


def test_a_price_of_the_plan_makes_usd_of_the_usage(caller: Caller, stub: ModelStub) -> None:
    stub.queue(Reply(usage=Usage(prompt=1001, completion=300)))

    call = caller.call("ok", price=Price(input_nano=1_000, output_nano=2_000_000))

    assert call.usage == CallUsage(1001, 300, usd_nano=602)  # 1.001 + 600, rounded up


#: pydantic-ai leaves such a usage out, with a warning.
SAYS_NONSENSE = pytest.mark.filterwarnings("ignore::pydantic_ai.UsageExtractionFailedWarning")


@pytest.mark.parametrize(
    "usage",
    [
        None,
        Usage(prompt=0, completion=0),
        Usage(prompt=10**19),
        Usage(completion=10**15 + 1),
        pytest.param(Usage(prompt=-1), marks=SAYS_NONSENSE),
        Usage(reasoning=10**19),
        pytest.param(Usage(cached=-1), marks=SAYS_NONSENSE),
        Usage(prompt=10**15, completion=10**15),
    ],
)
def test_without_a_report_the_usage_is_the_bound_and_says_so(
    caller: Caller, stub: ModelStub, usage: Usage | None
) -> None:
    stub.queue(Reply(usage=usage))
    assignment = caller.assignment("ok", max_tokens=80, price=Price(input_nano=1_000_000, output_nano=1_000_000))
    estimate = caller.executor.estimate(assignment)

    call = caller.executor.perform(assignment, Lifeline(20)).call

    assert call is not None
    assert call.usage is not None
    assert call.usage.is_estimated
    assert (call.usage.tokens, call.usage.usd_nano) == (estimate.tokens, estimate.usd_nano)
    assert call.usage.output_tokens == 80


def test_without_a_report_and_without_max_tokens_every_byte_of_the_answer_counts(
    caller: Caller, stub: ModelStub
) -> None:
    stub.queue(Reply(text="twelve bytes", usage=None))

    usage = caller.call("ok", max_tokens=None).usage

    assert usage is not None
    assert (usage.output_tokens, usage.is_estimated) == (12, True)


@pytest.mark.parametrize("provider", ["stub", "stub-anthropic"])
def test_an_answer_that_keeps_to_the_schema_is_json(caller: Caller, stub: ModelStub, provider: str) -> None:
    stub.queue(Reply(text='{"count": 3}'))

    call = caller.call(f"{provider}:ok", output_schema=COUNTED)

    assert (call.problem, call.answer_media_type) == (None, "application/json")
    assert call.answer is not None
    assert json.loads(call.answer.read_text()) == {"count": 3}


@pytest.mark.parametrize("text", ['{"count": "many"}', "three", "", '{"count": 3} indeed'])
def test_an_answer_that_breaks_the_schema_is_a_problem_of_its_own(caller: Caller, stub: ModelStub, text: str) -> None:
    stub.queue(Reply(text=text))

    call = caller.call("ok", output_schema=COUNTED)

    assert (call.problem, call.answer, call.usage) == (CallProblem.SCHEMA_VIOLATED, None, CallUsage(20, 10))
    assert MEANINGS[CallProblem.SCHEMA_VIOLATED].remedy is Remedy.RETRY


def test_a_schema_is_sent_in_the_providers_own_way(caller: Caller, stub: ModelStub) -> None:
    caller.perform("ok", output_schema=COUNTED)
    caller.perform("stub-anthropic:claude-haiku-4-5", output_schema=COUNTED)

    form = stub.arrivals[0].body["response_format"]
    assert (form["type"], form["json_schema"]["schema"]["required"]) == ("json_schema", ["count"])
    assert stub.arrivals[1].body["output_config"]["format"]["type"] == "json_schema"


def test_a_model_without_such_a_way_is_asked_for_it_and_its_fence_is_taken_off(caller: Caller, stub: ModelStub) -> None:
    stub.queue(Reply(text='```json\n{"count": 3}\n```'))

    call = caller.call("stub-anthropic:claude-3-haiku", output_schema=COUNTED)

    assert "JSON object" in json.dumps(stub.arrivals[0].body["system"])
    assert (call.problem, call.answer and call.answer.read_text()) == (None, '{"count": 3}')


def test_an_answer_above_the_limit_is_not_kept(tmp_path: Path, stub: ModelStub) -> None:
    caller = Caller(tmp_path, stub, answer_limit_bytes=1024)
    stub.queue(Reply(text="x" * 1024), Reply(text="x" * 1025))

    assert caller.call("ok").problem is None
    call = caller.call("ok")

    assert (call.problem, call.answer, call.usage) == (CallProblem.ANSWER_TOO_LARGE, None, CallUsage(20, 10))
    caller.executor.close()


def test_a_flood_is_not_read_to_its_end(tmp_path: Path, stub: ModelStub) -> None:
    caller = Caller(tmp_path, stub, answer_limit_bytes=1024)
    stub.queue(Reply(text="x" * 8_000_000))

    call = caller.call("ok")

    assert (call.problem, call.was_sent) == (CallProblem.ANSWER_TOO_LARGE, True)
    assert call.usage is not None
    assert call.usage.is_estimated
    caller.executor.close()


def test_an_answer_with_half_characters_can_be_kept(caller: Caller, stub: ModelStub) -> None:
    stub.queue(Reply(text="half \ud800 done"))

    call = caller.call("ok")

    assert call.answer is not None
    assert call.answer.read_text() == "half ? done"


def test_the_scratch_directorys_own_text_file_is_never_written_over(caller: Caller) -> None:
    assignment = caller.assignment("ok")
    (assignment.scratch / "text").write_text("older")

    with pytest.raises(FileExistsError):
        caller.executor.perform(assignment, Lifeline(20))


def test_the_request_is_named_by_all_that_it_says(caller: Caller) -> None:
    base: dict[str, Any] = {"prompt": "a", "system": "b", "temperature": 0.5, "seed": 1}
    other: list[dict[str, Any]] = [
        {"prompt": "x"},
        {"system": None},
        {"temperature": None},
        {"seed": 2},
        {"max_tokens": 51},
        {"output_schema": {"type": "object"}},
    ]

    names = [caller.call("ok", **{**base, **each}).request_sha256 for each in [{}, {}, *other]]

    assert names[0] == names[1]
    assert len(set(names)) == 1 + len(other)


def _closed_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/v1", "http://no-such-host.invalid:{port}/v1"])
@pytest.mark.parametrize("provider", ["openai-compatible", "anthropic"])
def test_without_a_connection_nothing_was_sent(
    tmp_path: Path, stub: ModelStub, address: str, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWAY_KEY", "key")
    away = {
        "id": "away",
        "provider": provider,
        "auth": {"source": "env", "env_var": "AWAY_KEY"},
        "config": {"base_url": address.format(port=_closed_port())},
    }
    caller = Caller(tmp_path, stub, away)

    call = caller.call("away:ok")

    assert (call.problem, call.was_sent, call.usage) == (CallProblem.NOT_CONNECTED, False, None)
    caller.executor.close()


def test_a_redirect_is_not_followed(caller: Caller, stub: ModelStub) -> None:
    stub.queue(Reply(307, raw=b"", headers={"Location": "/v1/elsewhere"}))

    assert caller.call("ok").problem is CallProblem.MALFORMED
    assert len(stub.arrivals) == 1


def test_an_estimate_names_the_endpoint_and_bounds_the_call(caller: Caller, stub: ModelStub) -> None:
    assignment = caller.assignment(
        "ok", "prompt", system="system", max_tokens=100, price=Price(input_nano=1_000_000, output_nano=10_000_000)
    )

    prompt = most_prompt_tokens(Credential("stub", ProviderKind.OPENAI_COMPATIBLE, None), "ok", ("system", "prompt"))
    assert caller.executor.estimate(assignment) == Estimate(f"stub@{stub.host}", prompt + 100, prompt + 1000)
    assert stub.arrivals == []


@pytest.mark.parametrize(
    ("model", "fields", "tokens", "usd_nano"),
    [
        pytest.param("stub:ok", {}, True, None, id="unknown price"),
        pytest.param("stub:ok", {"max_tokens": None}, None, None, id="unknown price, unbounded"),
        pytest.param("ollama:llama3", {}, True, 0, id="local"),
        pytest.param("ollama:llama3", {"max_tokens": None}, None, 0, id="local, unbounded"),
        pytest.param(
            "stub:ok", {"max_tokens": None, "price": Price(input_nano=0, output_nano=1)}, None, None, id="free input"
        ),
        pytest.param("ollama:llama3", {"max_tokens": MAX_TOKENS}, None, 0, id="more tokens than can be counted"),
        pytest.param(
            "stub:ok",
            {"max_tokens": MAX_TOKENS // 2, "price": Price(input_nano=0, output_nano=10**15)},
            True,
            None,
            id="more usd than can be counted",
        ),
    ],
)
def test_an_estimate_says_what_it_does_not_know(
    caller: Caller, model: str, fields: dict[str, Any], tokens: bool | None, usd_nano: int | None
) -> None:
    estimate = caller.executor.estimate(caller.assignment(model, **fields))

    assert (estimate.tokens is not None, estimate.usd_nano) == (bool(tokens), usd_nano)


@pytest.mark.parametrize(
    ("model", "problem"),
    [("nobody:ok", CallProblem.UNKNOWN_PROVIDER), ("openai:gpt-4o-mini", CallProblem.NO_CREDENTIAL)],
)
def test_a_call_that_cannot_be_made_is_a_problem_before_anything_is_sent(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, model: str, problem: CallProblem
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    assert caller.executor.estimate(caller.assignment(model)).problem is problem
    call = caller.call(model)
    assert (call.problem, call.was_sent, call.usage) == (problem, False, None)


def test_an_offline_model_that_is_not_there_is_a_problem_before_anything_is_started(
    tmp_path: Path, stub: ModelStub
) -> None:
    caller = Caller(tmp_path, stub, offline_model=tmp_path / "nothing.gguf")

    estimate = caller.executor.estimate(caller.assignment("offline:any"))
    call = caller.call("offline:any")

    assert estimate == Estimate("offline@local", problem=CallProblem.NOT_INSTALLED)
    assert (call.problem, call.was_sent, call.usage) == (CallProblem.NOT_INSTALLED, False, None)


def test_a_text_that_no_request_can_carry_was_not_sent(caller: Caller, stub: ModelStub) -> None:
    call = caller.call("ok", "half \ud800")

    assert (call.problem, call.was_sent) == (CallProblem.REJECTED, False)
    assert stub.arrivals == []


def test_a_closed_executor_works_again(caller: Caller) -> None:
    assert caller.call("ok").problem is None
    caller.executor.close()
    assert caller.call("ok").problem is None


def test_an_action_survives_its_way_through_a_plan() -> None:
    action = LlmAction(model="stub:ok", prompt=ContentRef(sha256="0" * 64, bytes=1), output_schema=COUNTED)

    assert LlmAction.model_validate_json(action.model_dump_json()) == action
