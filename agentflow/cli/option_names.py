"""Errors of the client in the words of the command line: the option that was typed, in place of the field it fills."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

BACKFILL = {"since": "--from", "until": "--to"}
PRUNE = {"older than": "--older-than"}
CREATE = {
    "name": "NAME",
    "plan": "--plan",
    "cron": "--cron",
    "every": "--every",
    "at": "--at",
    "start": "--start",
    "time_zone": "--tz",
    "jitter": "--jitter",
    "overlap": "--overlap",
    "queue_depth": "--queue-depth",
    "catch_up": "--catch-up",
}


@contextmanager
def naming(options: Mapping[str, str]) -> Iterator[None]:
    """Let a UsageError name options where a line of it begins with a field; its details keep the fields."""
    from agentflow.domain.error import UsageError

    try:
        yield
    except UsageError as error:
        fields = "|".join(map(re.escape, options))
        told = re.sub(rf"(?m)^(\s*)({fields})(?=:)", lambda found: found[1] + options[found[2]], str(error))
        raise UsageError(told, **error.details) from None
