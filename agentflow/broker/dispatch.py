"""Sending doorbells and asking how many wait. A doorbell may be lost or doubled; nothing depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from celery import Celery
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import RedisError

from agentflow.broker.canvas import Bell, stretch
from agentflow.broker.queues import QUEUE_NAMES, task_queues
from agentflow.domain.error import ServersUnreachable


def send(app: Celery, stretches: Iterable[Sequence[Bell]]) -> None:
    """Send one chain for each stretch.

    Raises ServersUnreachable at the first that cannot be sent; whether that one arrived is then unknown.
    """
    try:
        with app.producer_pool.acquire(block=True, timeout=10) as producer:
            for bells in stretches:
                root_id = str(bells[0].run_id)
                message = stretch(app, bells)
                message.apply_async(producer=producer, root_id=root_id)
    except (OperationalError, RedisError, OSError) as error:
        raise ServersUnreachable(f"Redis does not take messages: {error}") from error


def queue_depths(app: Celery) -> dict[str, int]:
    """Return how many messages wait in each queue, by passive declaration; a queue that is not there holds none."""
    depths = dict.fromkeys(QUEUE_NAMES, 0)
    try:
        with app.connection_for_read() as connection:
            for queue in task_queues():
                try:
                    bound = queue(connection.default_channel)
                    depths[queue.name] = bound.queue_declare(passive=True).message_count
                except ChannelError:
                    continue  # no message was ever sent to it
    except (OperationalError, RedisError, OSError) as error:
        raise ServersUnreachable(f"Redis does not answer: {error}") from error
    return depths
