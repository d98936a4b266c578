"""`HOME/stack.json`: what other commands must know of the stack that is up.

Owns: writing, believing and removing that file. A file is believed only while the process that wrote it lives, which is
known by its id and its start time: an id alone may belong to anything by now.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agentflow.domain.error import ServersUnreachable
from agentflow.embedded.paths import write_private
from agentflow.embedded.process import process_started

_FILE = "stack.json"


@dataclass(frozen=True, slots=True)
class StackState:
    """The stack of one home. ``pid_started`` is ``process_started(pid)``: seconds since boot on Linux.

    ``concurrency``, ``has_flower`` and ``has_beat`` are what it was started with; ``api_url`` is None without an API.
    """

    pid: int
    pid_started: float
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    content_dir: Path
    audit_key_file: Path
    version: str
    api_url: str | None = None
    flower_url: str | None = None
    concurrency: int | None = None
    has_flower: bool = False
    has_beat: bool = False


def write_state(home: Path, state: StackState) -> None:
    """Write the state, atomically, readable by this account only; the home must exist."""
    facts = asdict(state) | {"content_dir": str(state.content_dir), "audit_key_file": str(state.audit_key_file)}
    write_private(home / _FILE, json.dumps(facts, indent=2) + "\n")


def read_state(home: Path) -> StackState | None:
    """The state of the stack that is up; None when there is none, or when the process that wrote it is gone."""
    try:
        facts = json.loads((home / _FILE).read_text(encoding="utf-8"))
        facts |= {name: Path(facts[name]) for name in ("content_dir", "audit_key_file")}
        state = StackState(**facts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # no home, another version's file, or another account's: not a stack that this caller can use
    return state if process_started(state.pid) == state.pid_started else None


def no_servers(home: Path) -> ServersUnreachable:
    """Return the error that nothing runs under a home and nothing else is named; it says how to get servers."""
    return ServersUnreachable(
        f"No servers: nothing runs under AGENTFLOW_HOME ({home}) and AGENTFLOW_DATABASE_URL and AGENTFLOW_REDIS_URL "
        "are not set. Start a stack with `agentflow up`, or set both."
    )


def clear_state(home: Path) -> None:
    """Remove the state; nothing happens when there is none."""
    (home / _FILE).unlink(missing_ok=True)
