"""The queues of agentflow: control (in-process work), commands (processes), models (calls)."""

from __future__ import annotations

from kombu import Exchange, Queue

CONTROL, COMMANDS, MODELS = "control", "commands", "models"
QUEUE_NAMES = (CONTROL, COMMANDS, MODELS)

_EXCHANGE = Exchange("agentflow", type="direct", durable=True)


def task_queues() -> tuple[Queue, ...]:
    """Return the queues bound to agentflow's own exchange, for whatever broker kombu speaks to."""
    return tuple(Queue(name, _EXCHANGE, routing_key=name, durable=True) for name in QUEUE_NAMES)


def task_name(action: str) -> str:
    """Return the Celery task's name for an action, as monitors show it."""
    return f"agentflow.{action}"
