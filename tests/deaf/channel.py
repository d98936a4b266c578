"""The consumer's first channel thinks that it has no room for a message; the channels of a new connection are well."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_ready


def _deafen(sender: Any, **_: Any) -> None:
    sender.task_consumer.channel.qos.can_consume = lambda: False


worker_ready.connect(_deafen, weak=False)
