"""The Python client: submit plans, follow runs, act on them. The public face of agentflow, with agentflow/__init__.py.

It is a producer: it needs Postgres, Redis and the content store, no worker, no checkout, and no cwd or HOME.
"""

from agentflow.client.engine import Engine
from agentflow.client.flow import AgentFlow
from agentflow.client.forks import ForkedRun
from agentflow.client.page import RunPage
from agentflow.client.plan import Budget, ForeachBody, Plan, Retry, StepHandle
from agentflow.client.run import Run
from agentflow.client.run_diff import RunDiff, StepDiff
from agentflow.client.submission import CheckedPlan
from agentflow.engine.load_plan import LoadedPlan
from agentflow.storage.view_shapes import (
    ArtifactView,
    AttemptView,
    EventView,
    RunSummary,
    RunView,
    StepView,
    TreeUsage,
    Usage,
)

__all__ = [
    "AgentFlow",
    "ArtifactView",
    "AttemptView",
    "Budget",
    "CheckedPlan",
    "Engine",
    "EventView",
    "ForeachBody",
    "ForkedRun",
    "LoadedPlan",
    "Plan",
    "Retry",
    "Run",
    "RunDiff",
    "RunPage",
    "RunSummary",
    "RunView",
    "StepDiff",
    "StepHandle",
    "StepView",
    "TreeUsage",
    "Usage",
]
