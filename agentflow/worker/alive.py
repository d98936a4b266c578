"""The sign of life for health checks: a file as young as the last round that this process made with Postgres.

Looking at its age costs nothing; asking through the broker starts a Python each time. It is written only where
AGENTFLOW_ALIVE_FILE names it.
"""

from __future__ import annotations

from agentflow.settings import Settings
from agentflow.telemetry import get_logger

log = get_logger(__name__)


def show_life(settings: Settings) -> None:
    """Make the file young; one that cannot be written grows old, and is told of."""
    if settings.alive_file is None:
        return
    try:
        settings.alive_file.touch()
    except OSError as error:
        log.warning("alive_file_not_written", error=error.strerror)
