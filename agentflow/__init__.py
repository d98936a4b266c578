"""agentflow runs plans of agent work on Celery: claimed, supervised and audited in Postgres.

Owns the public names, each loaded at its first use: importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentflow.client import AgentFlow as AgentFlow
    from agentflow.client import Engine as Engine
    from agentflow.client import Plan as Plan
    from agentflow.client import Retry as Retry
    from agentflow.client import Run as Run
    from agentflow.domain import error as errors

__version__ = "0.1.0"
__all__ = ["AgentFlow", "Engine", "Plan", "Retry", "Run", "__version__", "errors"]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("agentflow.domain.error")
    if name in __all__:
        return getattr(import_module("agentflow.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
