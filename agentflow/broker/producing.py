"""A producer for a moment, and every way in which Redis does not take what is sent through it as one error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery
from kombu import Producer
from kombu.exceptions import LimitExceeded, OperationalError
from redis.exceptions import RedisError

from agentflow.broker.outage import outage_of
from agentflow.domain.error import ServersUnreachable


@contextmanager
def producing(app: Celery) -> Iterator[Producer]:
    """Lend a pooled producer. ServersUnreachable for what cannot be sent, and at once while an outage is remembered.

    A channel that was closed under its producer is one of these ways: kombu does not notice.
    """
    try:
        with (
            outage_of(app.conf.broker_write_url).asking(),
            app.producer_pool.acquire(block=True, timeout=10) as producer,
        ):
            try:
                yield producer
            except AttributeError as error:
                if not producer.channel.closed:
                    raise
                producer.connection.collect()  # or whoever takes it next meets the same channel
                raise ServersUnreachable("Redis does not take messages: the channel was closed") from error
    except (OperationalError, LimitExceeded, RedisError, OSError) as error:
        raise ServersUnreachable(f"Redis does not take messages: {error}") from error
