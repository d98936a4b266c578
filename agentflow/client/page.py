"""Pages of runs and the cursors between them. A cursor names the last run of its page: newer runs shift nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from agentflow.client.run import Run
from agentflow.domain.error import UsageError
from agentflow.domain.webhook import Delivery
from agentflow.storage.view_shapes import RunSummary

MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs, the newest first; ``next_cursor`` asks for those after them, None at the end."""

    runs: tuple[Run, ...]
    next_cursor: str | None

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __getitem__(self, index: int) -> Run:
        return self.runs[index]


def cursor_after(last: RunSummary | Delivery) -> str:
    """Return the cursor of the page that begins after ``last``."""
    return _cursor(last.created_at, last.id)


def cursor_below(at: datetime) -> str:
    """Return the cursor of the page that begins with what was made at a time, or before it."""
    return _cursor(at, UUID(int=(1 << 128) - 1))


def _cursor(at: datetime, run_id: UUID) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {run_id}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> tuple[datetime, UUID]:
    """Return the time and id that a cursor names. UsageError when it is none."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        at, _, run_id = text.partition(" ")
        return datetime.fromisoformat(at), UUID(run_id)
    except (ValueError, binascii.Error):
        raise UsageError("The cursor is none of agentflow's: use next_cursor of the page before.") from None
