"""A collector of traces on localhost: a real HTTP server that takes OTLP as protobuf and keeps every byte of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class TakenSpan:
    """A span as it came; ids as they stand in OTLP, in hexadecimal digits."""

    trace: str
    id: str
    parent: str
    name: str
    kind: int
    attributes: Mapping[str, Any]
    links: tuple[tuple[str, str], ...]
    error: str | None
    started: int
    ended: int
    service: str

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended - self.started) / 1e9


class Collector:
    """Takes traces while it is open."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @cached_property
    def environment(self) -> dict[str, str]:
        """What a process needs to tell its traces here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_address[1]}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    @property
    def raw(self) -> bytes:
        """Everything that came."""
        return b"".join(self._bodies)

    def spans(self, run_id: UUID | None = None) -> list[TakenSpan]:
        """What came, in the order of their beginnings; only of the trace of ``run_id`` if it is given."""
        found = [
            _taken(resource, span)
            for body in list(self._bodies)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        wanted = [span for span in found if run_id is None or span.trace == run_id.hex]
        return sorted(wanted, key=lambda span: span.started)

    def named(self, name: str) -> list[TakenSpan]:
        """What came under a name."""
        return [span for span in self.spans() if span.name == name]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        bodies = self._bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


def told_by_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the test's own process tells its traces, from its next runtime on."""
    with Collector() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        yield collector


def _taken(resource: Any, span: Any) -> TakenSpan:
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    return TakenSpan(
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        attributes={each.key: _value(each.value) for each in span.attributes},
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        error=span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else None,
        started=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        service=about["service.name"],
    )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)
