"""From our spans to OpenTelemetry's SDK: the only module that loads it, and only where tracing is on.

Sets nothing that is global. Which sampler, resource, limits and endpoint apply the SDK reads from its own variables.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from agentflow.telemetry.spans import Kind, Span, SpanRef
from agentflow.telemetry.spans import caller as caller_header
from agentflow.telemetry.tracing import Tracing

NAME = "agentflow"
CLOSE_SECONDS = 2.0
UNNAMED = "unknown_service"
"""What the SDK calls a service that no variable names."""
_EPOCH = datetime.fromtimestamp(0, UTC)
_KINDS = {
    Kind.INTERNAL: trace.SpanKind.INTERNAL,
    Kind.PRODUCER: trace.SpanKind.PRODUCER,
    Kind.CONSUMER: trace.SpanKind.CONSUMER,
    Kind.CLIENT: trace.SpanKind.CLIENT,
}


class _GivenIds(IdGenerator):
    """Names the next span of a thread as it was said."""

    def __init__(self) -> None:
        self._next = threading.local()

    def give(self, ref: SpanRef) -> None:
        self._next.ref = ref

    def generate_trace_id(self) -> int:
        return int(self._next.ref.trace_id)

    def generate_span_id(self) -> int:
        return int(self._next.ref.span_id)

    def is_trace_id_random(self) -> bool:
        return True  # in the 56 bits that count: those of a run's id are random, or a hash's


class _ByTrace(Sampler):
    """Decides once for a whole trace, as ``sampler`` does for its first span: no process has to be told by another.

    Samplers compare the lower half of a trace's id with a bound. That of a UUID begins with the same two bits always,
    so that a tenth of them would be none; what is compared is a hash of the id.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: trace.SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[trace.Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        mixed = int.from_bytes(sha256(trace_id.to_bytes(16)).digest()[:16])
        return self._sampler.should_sample(Context(), mixed, NAME, attributes=attributes)

    def get_description(self) -> str:
        return f"ByTrace{{{self._sampler.get_description()}}}"


class OtlpTracing(Tracing):
    """Hands spans to ``provider``, else to a pipeline of this process's own that exports in the background."""

    is_on = True

    def __init__(self, provider: TracerProvider | None = None) -> None:
        super().__init__()
        self._is_own = provider is None
        self._base = _own_provider() if provider is None else provider
        given = self._base.get_tracer(NAME)
        self._ids, self._sampler = _GivenIds(), _ByTrace(self._base.sampler)
        atexit.register(self.close)  # for a program that closes nothing
        # The provider's own sampler, resource and processors, with ids of ours.
        self._tracer = TracerProvider(
            sampler=self._sampler,
            resource=self._base.resource,
            shutdown_on_exit=False,
            active_span_processor=given.span_processor if isinstance(given, Tracer) else None,
            id_generator=self._ids,
        ).get_tracer(NAME)

    def tell(self, span: Span) -> None:
        self._ids.give(span.ref)
        told = self._tracer.start_span(
            span.name,
            context=_context(span.parent),
            kind=_KINDS[span.kind],
            attributes={name: value for name, value in span.attributes.items() if value is not None},
            links=[trace.Link(_named(ref)) for ref in span.links],
            start_time=_nanoseconds(span.started_at),
        )
        if span.error is not None:
            told.set_status(trace.Status(trace.StatusCode.ERROR, span.error))
        told.end(_nanoseconds(max(span.started_at, span.ended_at)))

    def is_sampled(self, ref: SpanRef) -> bool:
        return self._sampler.should_sample(None, ref.trace_id, NAME).decision is Decision.RECORD_AND_SAMPLE

    def caller(self, of: SpanRef) -> SpanRef | None:
        """The current span of the program, which gets a link to ``of``; else the one that a request's header names."""
        current = trace.get_current_span()
        found = current.get_span_context()
        if not found.is_valid:
            return SpanRef.read(caller_header.get())
        current.add_link(_named(of))
        return SpanRef(found.trace_id, found.span_id)

    def flush(self) -> None:
        _bounded(self._base.force_flush)

    def close(self) -> None:
        atexit.unregister(self.close)
        _bounded(self._base.shutdown if self._is_own else self._base.force_flush)


def _bounded(end: Callable[[], object]) -> None:
    """Wait for what is exported, and give up on an endpoint that does not take it: the SDK's own bounds are longer."""
    ending = threading.Thread(target=end, name="end-tracing", daemon=True)
    ending.start()
    ending.join(CLOSE_SECONDS)


def _own_provider() -> TracerProvider:
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, UNNAMED)).startswith(UNNAMED):
        resource = resource.merge(Resource({SERVICE_NAME: NAME}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _context(parent: SpanRef | None) -> Context:
    """The context of a span below ``parent``, whatever this thread is in."""
    if parent is None:
        return Context()
    return trace.set_span_in_context(trace.NonRecordingSpan(_named(parent)), Context())


def _named(ref: SpanRef) -> trace.SpanContext:
    return trace.SpanContext(
        ref.trace_id, ref.span_id, is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED)
    )


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
