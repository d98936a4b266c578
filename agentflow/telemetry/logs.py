"""Logging: structlog set-up, ids bound once per attempt, and redaction of what looks like a credential.

Telemetry is droppable; what must be kept is an audit event. Logs go to stderr and never hold output of commands.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

_REDACTIONS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), "[REDACTED_AUTH]"),
    (
        re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{8,}|\bgh[pousr]_[A-Za-z0-9]{16,}|\bAKIA[0-9A-Z]{16}\b"),
        "[REDACTED_API_KEY]",
    ),
    (re.compile(r"\baf_[0-9a-f]{12}_[A-Za-z0-9_-]{43}"), "[REDACTED_API_KEY]"),
    (re.compile(r"(?i)(\bapi[_-]?key\b[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+"), r"\1[REDACTED_API_KEY]"),
    (
        re.compile(r"(?i)(\b(?:access_|refresh_|auth_)?token\b[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+"),
        r"\1[REDACTED_TOKEN]",
    ),
    (re.compile(r"(?i)(\bpass(?:word|wd)?\b[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+"), r"\1[REDACTED_PASSWORD]"),
    (re.compile(r"(://[^:/@\s]*:)[^@/\s]+(@)"), r"\1[REDACTED_PASSWORD]\2"),
)

_PROCESSORS: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
_LOUD = ("alembic", "mcp", "sse_starlette")
"""They greet at every look, or tell all that they send, which is never logged."""
_is_set_up = False


def redact(text: str) -> str:
    """Replace what looks like a credential in ``text``."""
    for pattern, replacement in _REDACTIONS:
        text = pattern.sub(replacement, text)
    return text


def _redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: redact(value) if isinstance(value, str) else value for key, value in event.items()}


def configure(*, log_format: str = "console", level: str = "info", is_redacting: bool = True) -> None:
    """Set up logging once in a process of agentflow's own; everything is written to stderr."""
    global _is_set_up
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info]
    if is_redacting:
        last.append(_redact_event)
    last.append(
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=list(_PROCESSORS), processors=last))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    _is_set_up = True


def _hand_over(logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
    """Give an event to the standard library: whole to our own formatter, as one line of text to a host program's."""
    if _is_set_up:
        return structlog.stdlib.ProcessorFormatter.wrap_for_formatter(logger, method, event)
    exc_info = event.pop("exc_info", None)
    words = [str(event.pop("event")), *(f"{name}={value}" for name, value in event.items())]
    return (redact(" ".join(words)),), {"exc_info": exc_info}


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """Bind ids to every log line written inside the block."""
    with structlog.contextvars.bound_contextvars(**{name: str(value) for name, value in ids.items()}):
        yield


def get_logger(name: str) -> Any:
    """Return a logger whose events are named ``noun_verbed``.

    It goes through the standard library, so that a program that uses agentflow as a library decides what becomes of it.
    """
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, *_PROCESSORS, _hand_over],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
