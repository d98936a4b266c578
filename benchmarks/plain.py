"""The peer: a plain Celery app whose chains keep no state; the last task of each says that it is done.

Only chords keep results, in the backend that BENCHMARK_BACKEND_URL names.
"""

import os

import redis
from celery import Celery

app = Celery("plain", broker=os.environ["BENCHMARK_REDIS_URL"], backend=os.environ.get("BENCHMARK_BACKEND_URL"))
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    broker_transport_options={"global_keyprefix": "plain:"},
)
_client = redis.Redis.from_url(os.environ["BENCHMARK_REDIS_URL"])


@app.task(name="plain.step")
def step() -> None:
    """Do nothing."""


@app.task(name="plain.part", ignore_result=False)
def part() -> None:
    """Do nothing, and be counted by a chord."""


@app.task(name="plain.last")
def last(number: int) -> None:
    """Say that chain ``number`` is done."""
    _client.lpush("plain:done", number)
