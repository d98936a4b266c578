"""Sending doorbells and asking how many wait. A doorbell may be lost or doubled; nothing depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from agentflow.broker.canvas import Bell, stretch
from agentflow.broker.outage import outage_of
from agentflow.broker.producing import producing
from agentflow.broker.queues import QUEUE_NAMES, task_queues
from agentflow.domain.error import ServersUnreachable


def send(app: Celery, stretches: Iterable[Sequence[Bell]], origin: str | None = None) -> None:
    """Send one chain for each stretch; ``origin`` is the traceparent that they carry.

    Raises ServersUnreachable at the first that cannot be sent; whether that one arrived is then unknown.
    """
    with producing(app) as producer:
        for bells in stretches:
            # The connection, as a chain drops a producer and takes another from the pool.
            stretch(app, bells, origin).apply_async(connection=producer.connection, root_id=str(bells[0].run_id))


def queue_depths(app: Celery) -> dict[str, int]:
    """Return how many messages wait in each queue, by declaring it as it is declared everywhere.

    Not passively: kombu's Redis transport looks for a passively declared queue without the key prefix (EXISTS is none
    of the commands that it prefixes), and finds none.
    """
    depths = dict.fromkeys(QUEUE_NAMES, 0)
    try:
        with outage_of(app.conf.broker_read_url).asking(), app.connection_for_read() as connection:
            # Left to itself kombu tries for six seconds, in which the dispatcher would lose its term.
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            for queue in task_queues():
                depths[queue.name] = queue(connection.default_channel).queue_declare().message_count
    except (OperationalError, RedisError, OSError) as error:
        raise ServersUnreachable(f"Redis does not answer: {error}") from error
    return depths
