"""Spans as plain values: where one stands, what it says, and the header that names it to others (W3C traceparent).

The trace of a run has the run's own id, so that whoever has the one has the other, and the spans of a run and of its
attempts have ids made of theirs: every process knows them without being told. Knows nothing of OpenTelemetry's SDK.
"""

from __future__ import annotations

import random
import re
from collections.abc import MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

HEADER = "traceparent"
_WRITTEN = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_LONGEST = 200

Value = str | int | float | bool | list[str]


class Kind(StrEnum):
    """What a span is to the process that it speaks of."""

    INTERNAL = "internal"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class SpanRef:
    """Names a span."""

    trace_id: int
    span_id: int

    @classmethod
    def of(cls, trace: UUID, owner: UUID) -> Self:
        """The span of a run, or of an attempt, in the trace of the run ``trace``."""
        return cls(trace.int, owner.int >> 64)

    @classmethod
    def new(cls, trace_id: int) -> Self:
        """A span that nobody else has to find."""
        return cls(trace_id, random.getrandbits(63) + 1)

    @classmethod
    def read(cls, header: object) -> Self | None:
        """Read a header; None for one that is missing or is none, for others write them."""
        if not isinstance(header, str) or len(header) > _LONGEST:
            return None
        found = _WRITTEN.fullmatch(header)
        return None if found is None else cls(int(found[1], 16), int(found[2], 16))

    def header(self, *, is_sampled: bool) -> str:
        """The header that names the span."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(is_sampled):02x}"


@dataclass(frozen=True, slots=True)
class Span:
    """What is told of a piece of work after its end: labels of the plan, ids, counts and codes, and nothing else."""

    ref: SpanRef
    parent: SpanRef | None
    name: str
    started_at: datetime
    ended_at: datetime
    kind: Kind = Kind.INTERNAL
    attributes: MutableMapping[str, Value | None] = field(default_factory=dict)
    """What is None is not told."""
    links: tuple[SpanRef, ...] = ()
    error: str | None = None
    """The code of what went wrong."""


caller: ContextVar[str | None] = ContextVar("caller", default=None)
"""The header of the request that is being answered, where one is."""
