"""Spans on their way: ids and headers, what is sampled, what it costs while it is off, and collectors that fail."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from agentflow.domain.ids import AttemptId, RunId
from agentflow.engine.context import EngineContext
from agentflow.engine.trace import begin_sending, trace_environment, trace_run
from agentflow.settings import exports_traces
from agentflow.telemetry import tracing
from agentflow.telemetry.otlp import OtlpTracing
from agentflow.telemetry.spans import Kind, Span, SpanRef, caller
from agentflow.telemetry.tracing import Tracing, open_tracing
from tests.otlp_collector import Collector, told_by_this_process
from tests.tracing import lines_of

RUN = UUID("371293b2-85c8-4ec6-bc30-9caf41a8130d")
HEADER = "00-371293b285c84ec6bc309caf41a8130d-371293b285c84ec6-01"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    yield from told_by_this_process(monkeypatch)


def span(ref: SpanRef, **fields: Any) -> Span:
    return Span(ref, None, "run triage", NOW, NOW + timedelta(seconds=2), **fields)


def test_a_runs_span_and_trace_are_named_after_it() -> None:
    ref = SpanRef.of(RUN, RUN)

    assert ref.header(is_sampled=True) == HEADER
    assert SpanRef.read(HEADER) == ref
    assert ref.header(is_sampled=False).endswith("-00")


@pytest.mark.parametrize(
    "header",
    [
        None,
        17,
        "",
        "none",
        HEADER.upper(),
        HEADER + "x",
        HEADER.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-371293b285c84ec6-01",
        f"00-{RUN.hex}-{'0' * 16}-01",
        HEADER + "-" + "x" * 200,
    ],
)
def test_what_is_no_traceparent_names_nothing(header: object) -> None:
    assert SpanRef.read(header) is None


def test_a_span_is_told_as_it_was_given(collector: Collector) -> None:
    telling, ref, linked = open_tracing(), SpanRef.of(RUN, RUN), SpanRef.new(7)
    telling.tell(
        Span(
            ref, SpanRef(RUN.int, 5), "step a", NOW, NOW + timedelta(seconds=2), Kind.CONSUMER,
            {"agentflow.attempt.number": 2, "agentflow.reason.code": None}, (linked,), "exit_code",
        )
    )  # fmt: skip
    telling.close()

    [told] = collector.spans()
    assert (told.trace, told.id, told.parent) == (RUN.hex, RUN.hex[:16], f"{5:016x}")
    assert (told.name, told.kind, told.error, told.seconds) == ("step a", 5, "exit_code", 2)
    assert told.attributes == {"agentflow.attempt.number": 2}
    assert told.links == ((f"{7:032x}", f"{linked.span_id:016x}"),)
    assert told.service == "agentflow"


def test_a_share_of_the_runs_is_sampled_and_everything_of_them(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "nightly")
    here, elsewhere = open_tracing(), open_tracing()
    refs = [SpanRef.of(run, run) for run in (uuid4() for _ in range(400))]
    chosen = [ref for ref in refs if here.is_sampled(ref)]
    for ref in refs:
        here.tell(span(ref))
        elsewhere.tell(Span(SpanRef.new(ref.trace_id), ref, "step a", NOW, NOW))
    here.close()
    elsewhere.close()

    assert 50 < len(chosen) < 150
    told = collector.spans()
    assert sorted(span.trace for span in told) == sorted(2 * [f"{ref.trace_id:032x}" for ref in chosen])
    assert {span.service for span in told} == {"nightly"}


def test_the_request_that_is_answered_names_its_caller(collector: Collector) -> None:
    telling = open_tracing()
    caller.set(HEADER)
    assert telling.caller(SpanRef.new(7)) == SpanRef.of(RUN, RUN)
    caller.set("forged")
    assert telling.caller(SpanRef.new(7)) is None
    telling.close()


@pytest.mark.parametrize(
    ("variables", "is_on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_opentelemetrys_own_variables_turn_it_on(
    variables: dict[str, str], is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert exports_traces() is is_on
    telling = open_tracing()
    assert telling.is_on is is_on
    telling.close()


@pytest.mark.parametrize(
    ("variable", "value", "is_on"),
    [("OTEL_BSP_MAX_QUEUE_SIZE", "-1", False), ("OTEL_TRACES_SAMPLER", "sometimes", True)],
)
def test_a_variable_that_cannot_be_used_stops_nothing(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, is_on: bool
) -> None:
    monkeypatch.setenv(variable, value)

    telling = open_tracing()
    telling.tell(span(SpanRef.of(RUN, RUN)))
    telling.close()
    assert telling.is_on is is_on
    assert len(collector.spans()) == is_on


def test_without_the_extra_it_stays_off(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_EXPORTER", "opentelemetry_that_is_not_there.exporter")

    assert not open_tracing().is_on


def test_a_collector_that_never_answers_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        telling = OtlpTracing()
        for _ in range(5_000):  # more than are kept
            telling.tell(span(SpanRef.new(RUN.int)))
        telling.close()

        assert "end-tracing" in {thread.name for thread in threading.enumerate()}  # it was not waited for to its end


def test_what_is_off_costs_a_question() -> None:
    context = cast("EngineContext", SimpleNamespace(tracing=Tracing()))

    assert lines_of(lambda: trace_run(context, RunId(RUN))) <= 3
    assert lines_of(lambda: begin_sending(context, RunId(RUN))) <= 6
    assert lines_of(lambda: trace_environment(context, RunId(RUN), AttemptId(RUN))) <= 6


class _Broken(Tracing):
    """Tracing whose parts, which may be a host program's, fail."""

    is_on = True

    def __init__(self) -> None:
        super().__init__()
        self.outermost[RunId(RUN)] = RUN

    def is_sampled(self, ref: SpanRef) -> bool:
        raise RuntimeError("the sampler of the program")


def test_what_fails_while_a_span_is_named_fails_no_verb() -> None:
    broken = cast("EngineContext", SimpleNamespace(tracing=_Broken()))
    unread = cast("EngineContext", SimpleNamespace(tracing=SimpleNamespace(is_on=True, outermost={})))

    for context in (broken, unread):
        assert begin_sending(context, RunId(RUN)) is None
        assert trace_environment(context, RunId(RUN), AttemptId(RUN)) == {}
