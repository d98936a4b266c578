"""`HOME/last-end.json`: how the last stack of a home ended when nobody had asked it to.

Owns that file and its words. It is written by a stack that gives up and removed by the next one that is up, so a stack
that was taken down leaves none.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from agentflow.embedded.paths import write_private
from agentflow.embedded.state import read_state
from agentflow.settings import Settings

_FILE = "last-end.json"


def keep_last_end(home: Path, error: Exception) -> None:
    """Note that the stack of ``home`` ends because of ``error``; a disk that takes no note hinders no end."""
    details = getattr(error, "details", {})
    lines = str(error).splitlines() or [type(error).__name__]
    facts = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "reason": details.get("why") or lines[0].rstrip(".:"),
        "log": details.get("log") or str(home / "log" / "up.log"),
    }
    with suppress(OSError):
        write_private(home / _FILE, json.dumps(facts) + "\n")


def forget_last_end(home: Path) -> None:
    """Remove the note; nothing happens when there is none."""
    (home / _FILE).unlink(missing_ok=True)


def last_end_of(settings: Settings) -> str:
    """Say how the last stack ended, in a sentence; nothing when one is up, was taken down, or is not what is used."""
    if settings.has_own_servers or read_state(settings.home) is not None:
        return ""
    try:
        facts = json.loads((settings.home / _FILE).read_text(encoding="utf-8"))
        at = datetime.fromisoformat(facts["at"]).astimezone(UTC)
        return f"The last stack ended at {at:%Y-%m-%d %H:%M:%S} UTC because {facts['reason']}; see {facts['log']}."
    except (OSError, ValueError, TypeError, KeyError):  # no note, or none that this account or version can read
        return ""
