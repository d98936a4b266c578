"""A listener: reads a stream of server-sent events as the standard has it, and nothing more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True)
class Heard:
    """An event as it came: its kind, the last id at that time, its data."""

    event: str
    id: str
    data: Any


@contextmanager
def listen(
    client: httpx2.Client, path: str, last_id: str | int | None = None, **params: Any
) -> Iterator[Iterator[Heard]]:
    """Open a stream and hand out its events."""
    headers = {"Accept": "text/event-stream"} | ({} if last_id is None else {"Last-Event-ID": str(last_id)})
    with client.stream("GET", path, headers=headers, params=params, timeout=60) as answer:
        if answer.status_code != 200:
            answer.read()
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield events_in(answer.iter_lines())


def events_in(lines: Iterator[str]) -> Iterator[Heard]:
    """Put lines together to events; comments and blocks without data are none."""
    kind, last_id = "message", ""
    data: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Heard(kind, last_id, json.loads("\n".join(data)))
            kind, data = "message", []
        elif name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            last_id = value
