"""Trace calls: the span of a call to a model or a service, below that of its attempt.

Names follow OpenTelemetry's conventions for generative AI and for HTTP clients. What was said, and where a url leads
beyond its host, is no part of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import urlsplit

from agentflow.domain.action import Action, HttpAction, LlmAction
from agentflow.executors.base import CallRecord
from agentflow.telemetry.spans import Kind, Span, SpanRef, Value


def call_span(attempt: SpanRef, action: Action, call: CallRecord | None, began: datetime) -> Span | None:
    """The span of the call that an attempt made; None where it made none."""
    if call is None or not (call.was_sent or call.duration_seconds):
        return None
    match action:
        case LlmAction():
            name, attributes = f"chat {call.model}", _of_model(call)
        case HttpAction():
            name, attributes = action.method, _of_service(action, call)
        case _:
            return None
    ended = began + timedelta(seconds=call.duration_seconds)
    ref, error = SpanRef.new(attempt.trace_id), None if call.problem is None else call.problem.value
    return Span(ref, attempt, name, began, ended, Kind.CLIENT, attributes, error=error)


def _of_model(call: CallRecord) -> dict[str, Value | None]:
    attributes: dict[str, Value | None] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": call.provider,
        "gen_ai.request.model": call.model,
        "http.response.status_code": call.provider_status,
    }
    if call.finish_reason is not None:
        attributes["gen_ai.response.finish_reasons"] = [call.finish_reason]
    if call.usage is not None:
        attributes |= {
            "gen_ai.usage.input_tokens": call.usage.input_tokens,
            "gen_ai.usage.output_tokens": call.usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": call.usage.cached_tokens or None,
            "gen_ai.usage.reasoning.output_tokens": call.usage.reasoning_tokens or None,
            "agentflow.usage.is_estimated": call.usage.is_estimated,
        }
    return attributes


def _of_service(action: HttpAction, call: CallRecord) -> dict[str, Value | None]:
    """Of a service. Its host only where the plan itself writes it: what a template becomes may be content."""
    parts = urlsplit(action.url)
    is_written = "{{" not in f"{parts.scheme}{parts.netloc}"
    return {
        "http.request.method": action.method,
        "http.response.status_code": call.provider_status,
        "url.scheme": parts.scheme if is_written else None,
        "server.address": parts.hostname if is_written else None,
        "server.port": parts.port if is_written else None,
    }
