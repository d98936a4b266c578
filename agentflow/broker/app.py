"""The one Celery app factory, with every setting's reason. Celery is configured nowhere else."""

from __future__ import annotations

from typing import Any

from celery import Celery

from agentflow.broker import redis_guard
from agentflow.broker.outage import CONNECT_SECONDS, SOCKET_SECONDS
from agentflow.broker.queues import CONTROL, task_queues


def make_celery(redis_url: str, *, prefix: str = "", has_events: bool = False) -> Celery:
    """Build the app that producers, workers and beat share.

    ``prefix`` goes before every key that kombu makes, so that several installations can share a Redis.
    """
    redis_guard.install()
    # Not the current app: a client may live in a process that has a Celery app of its own.
    app = Celery("agentflow", broker=redis_url, set_as_current=False)
    # Said twice more: CELERY_BROKER_URL, which another Celery project on the machine may have exported, wins over the
    # app's own broker, and half of agentflow would then ring at a door where nobody listens.
    app.conf.update(broker_read_url=redis_url, broker_write_url=redis_url)
    app.conf.update(_message_settings(prefix))
    app.conf.update(_worker_settings(has_events=has_events))
    return app


def _message_settings(prefix: str) -> dict[str, Any]:
    return {
        # State lives in Postgres; a result backend would be a second, worse truth.
        "result_backend": None,
        "task_ignore_result": True,
        # Ids only, as JSON; never pickle.
        "task_serializer": "json",
        "accept_content": ["json"],
        # One queue for each kind of work; a typo must not make a queue that nobody reads.
        "task_queues": task_queues(),
        "task_default_queue": CONTROL,
        "task_default_exchange": "agentflow",
        "task_default_routing_key": CONTROL,
        "task_create_missing_queues": False,
        "broker_transport_options": _transport_options(prefix),
        "broker_connection_retry_on_startup": True,
        # However long Redis is away, workers come back by themselves.
        "broker_connection_max_retries": None,
        # What Redis refuses while it is full, short of disk or read-only is waited out too; else the worker would end.
        "broker_channel_error_retry": True,
        "broker_connection_timeout": 3,
        # A send that fails is the dispatcher's to repeat: fail fast.
        "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2},
        "enable_utc": True,
        "timezone": "UTC",
    }


def _worker_settings(*, has_events: bool) -> dict[str, Any]:
    return {
        # A lease covers a crash. Late acks would only add copies of messages whose work still runs.
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        # A worker takes a message only when a slot is free: nothing waits unseen behind a long step.
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        # Events halve a worker's throughput: on where Flower is wanted only, which borrows them where they are off.
        "worker_send_task_events": has_events,
        "task_send_sent_event": False,
        # structlog owns logging and stdout.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # Leak containment; a child that was replaced costs one fork.
        "worker_max_tasks_per_child": 500,
        # A pool child on a busy machine may need longer than Celery's 4 s to say that it is up.
        "worker_proc_alive_timeout": 30.0,
        # No time limits of Celery's: the supervisor of commands keeps the step's timeout.
    }


def _transport_options(prefix: str) -> dict[str, Any]:
    return {
        # A message that was popped is gone: kombu would note it in Redis until its ack, and a full Redis refuses the
        # note and ends the worker. The note brings nothing: what is lost is found by counting, sooner than restored.
        "ack_emulation": False,
        # A frozen Redis must not hang a producer; a worker's blocking pop asks for one second.
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_keepalive": True,
        "global_keyprefix": prefix,
        redis_guard.STRAIGHT: True,
    }
