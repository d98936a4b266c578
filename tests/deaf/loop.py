"""The event loop hangs for ever as soon as the worker is ready."""

from __future__ import annotations

import threading
from typing import Any

from celery.signals import worker_ready


def _hang(sender: Any, **_: Any) -> None:
    sender.hub.call_soon(threading.Event().wait)


worker_ready.connect(_hang, weak=False)
