"""Telemetry: logs, and traces where they are configured. Both are droppable; what must be kept is an audit event."""

from __future__ import annotations

from agentflow.telemetry.logs import bound, configure, get_logger, redact

__all__ = ["bound", "configure", "get_logger", "redact"]
