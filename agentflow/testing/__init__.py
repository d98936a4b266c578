"""Testing plans in process: a pytest plugin with real retries, gates and waits, no workers, and no time that passes.

Owns the names that tests may import; each is loaded at its first use, since pytest loads this package in every session.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentflow.testing.calls import Call as Call
    from agentflow.testing.rehearsal import Rehearsal as Rehearsal
    from agentflow.testing.rehearsal import RehearsedRun as RehearsedRun
    from agentflow.testing.script import RehearsalError as RehearsalError

_PLACES = {"Call": "calls", "Rehearsal": "rehearsal", "RehearsalError": "script", "RehearsedRun": "rehearsal"}
__all__ = ["Call", "Rehearsal", "RehearsalError", "RehearsedRun"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"agentflow.testing.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
