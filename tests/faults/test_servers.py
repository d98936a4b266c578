"""The broken servers themselves: what these tests do to a server is really done to it, and it is whole afterwards."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest
import redis

from agentflow.embedded import EmbeddedPostgres
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import noop_step, submitted, work_off
from tests.faults.servers import FaultyRedis, FaultyServer


def test_an_own_postgres_holds_an_installation_and_outlives_an_immediate_shutdown(
    house: Runtime, own_postgres: FaultyServer[EmbeddedPostgres]
) -> None:
    assert house.servers.database_url.startswith(own_postgres.url.rsplit("/", 1)[0])
    run_id = submitted(house.context, [noop_step("one")])

    own_postgres.kill(signal.SIGQUIT)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(own_postgres.url)
    own_postgres.start()

    house.context.database.engine.dispose()  # a connection that broke is told once to whoever uses it
    work_off(house, run_id)
    assert verify_run(house.context, run_id).findings == ()


def test_a_frozen_postgres_takes_no_one_and_goes_on_when_thawed(own_postgres: FaultyServer[EmbeddedPostgres]) -> None:
    with own_postgres.frozen(), pytest.raises(psycopg.OperationalError):
        psycopg.connect(own_postgres.url, connect_timeout=2)
    psycopg.connect(own_postgres.url).close()


def test_a_redis_loses_keeps_and_gets_back_what_the_test_says(own_redis: FaultyRedis, tmp_path: Path) -> None:
    with own_redis.client() as client:
        client.set("old", "1")
    own_redis.stop()
    own_redis.keep_data(tmp_path / "kept")
    own_redis.start()
    with own_redis.client() as client:
        client.set("new", "1")
    own_redis.kill()
    own_redis.put_back(tmp_path / "kept")
    own_redis.start()
    with own_redis.client() as client:
        assert client.keys() == [b"old"]

    own_redis.fill()
    with own_redis.client() as client, pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("more", "1")
    own_redis.empty()
    own_redis.flush()
    with own_redis.client() as client:
        assert client.keys() == []
