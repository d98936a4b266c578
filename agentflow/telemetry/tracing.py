"""Tracing as the engine sees it: off, at the cost of asking whether it is on, or handed on to OpenTelemetry's SDK.

Owns what turns it on. The SDK is loaded only then; how spans become the SDK's is otlp.py's.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING
from uuid import UUID

from agentflow.settings import exports_traces
from agentflow.telemetry.logs import get_logger
from agentflow.telemetry.spans import Span, SpanRef

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = get_logger(__name__)
_SDK, _EXPORTER = "opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"


class Tracing:
    """Tells nothing."""

    is_on = False

    def __init__(self) -> None:
        self.outermost: dict[UUID, UUID] = {}
        """For runs that were asked about, the run whose id their trace has."""

    def tell(self, span: Span) -> None:
        """Hand a span on; never waits for whoever takes it."""

    def is_sampled(self, ref: SpanRef) -> bool:
        """Whether the spans of a trace are handed on; the same in every process."""
        return False

    def caller(self, of: SpanRef) -> SpanRef | None:
        """The span that this process is in as its caller sees it, which is told of ``of``; None where there is none."""
        return None

    def flush(self) -> None:
        """Hand on what was told so far, within a bounded time."""

    def close(self) -> None:
        """Hand on what was told, within a bounded time; what is told later may be lost."""


def open_tracing() -> Tracing:
    """Open tracing for this process: what it is told goes where OTEL_EXPORTER_OTLP_ENDPOINT says.

    A program that has a provider of its own, set for all of OpenTelemetry, gets the spans there instead. Nothing that
    is wrong with it keeps a process from its work.
    """
    provider = _provider_of_program()
    if provider is None and not exports_traces():
        return Tracing()
    if not _is_installed():
        log.warning("tracing_off", why="the extra is not installed: pip install 'agentflow[otel]'")
        return Tracing()
    from agentflow.telemetry.otlp import OtlpTracing

    try:
        return OtlpTracing(provider)
    except Exception as error:  # noqa: BLE001 - whatever a variable holds that the SDK cannot use
        log.error("tracing_off", error=type(error).__name__, why=str(error))  # noqa: TRY400 - no trace to follow
        return Tracing()


def _provider_of_program() -> TracerProvider | None:
    """The provider that this program has set, if it is one of the SDK's; asks nothing where none is loaded."""
    if (sdk := sys.modules.get(_SDK)) is None:
        return None
    from opentelemetry import trace

    found = trace.get_tracer_provider()
    return found if isinstance(found, sdk.TracerProvider) else None


def _is_installed() -> bool:
    try:
        return find_spec(_EXPORTER) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
