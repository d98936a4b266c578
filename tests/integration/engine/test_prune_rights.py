"""Who is no owner of the tables deletes no audit event, whatever it puts in the place of what the trigger reads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from agentflow.embedded.cluster import Cluster
from agentflow.embedded.postgres import EmbeddedPostgres
from agentflow.runtime import Runtime
from agentflow.storage import migrations
from agentflow.storage.database import Database
from tests.conftest import quick_folder

RUN = UUID(int=7)
GUEST = "guest"
PASSWORD = "guests-only"
SHADOWS = (
    "CREATE TEMP TABLE pg_class (oid oid, relowner oid)",
    "INSERT INTO pg_class SELECT 'audit_event'::regclass, oid FROM pg_roles WHERE rolname = current_user",
)


@pytest.fixture
def owner_url() -> Iterator[str]:
    """A server with a second role, which only its superuser can make: without a server, between two starts of it."""
    given = os.environ.get("AGENTFLOW_TEST_POSTGRES_BIN")
    with tempfile.TemporaryDirectory(prefix="agentflow-test-", dir=quick_folder(), ignore_cleanup_errors=True) as home:
        postgres = EmbeddedPostgres(Path(home), fsync=False, binaries=Path(given) if given else None)
        with postgres:
            pass
        cluster = Cluster(postgres.data, postgres._binaries, postgres.account, fsync=False)
        cluster._single_user(postgres.data, f"CREATE ROLE {GUEST} LOGIN PASSWORD '{PASSWORD}'", fsync=False)
        with postgres:
            yield postgres.url


def test_a_role_that_may_delete_and_make_temporary_tables_deletes_no_event(owner_url: str) -> None:
    database = Database(owner_url)
    migrations.upgrade(database.engine)
    with database.transaction() as tx:
        tx.execute(text("GRANT SELECT, DELETE ON audit_event TO guest"))
        tx.execute(
            text(
                "INSERT INTO audit_event (run_id, sequence, actor, action, subject, at, moved, facts, mac) "
                "VALUES (:run, 1, 'a', 'submit', 'run', now(), '[]', '{}', '')"
            ),
            {"run": RUN},
        )
    url = urlsplit(owner_url)
    guests = url._replace(netloc=f"{GUEST}:{PASSWORD}@{url.hostname}:{url.port}").geturl()
    with psycopg.connect(guests, autocommit=True) as connection:
        for shadow in SHADOWS:
            connection.execute(shadow.encode())
        connection.execute(f"SET agentflow.pruning = '{RUN}'".encode())
        with pytest.raises(psycopg.Error, match="immutable"):
            connection.execute("DELETE FROM audit_event")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="prune_run"):
            connection.execute("SELECT prune_run(%s, 'me')", [RUN])
        assert connection.execute("SELECT count(*) FROM audit_event").fetchone() == (1,)
    database.close()


def test_both_functions_look_names_up_where_nobody_else_makes_any(house: Runtime) -> None:
    asked = "SELECT proname, proconfig FROM pg_proc WHERE proname IN ('prune_run', 'audit_event_refuse_change')"
    with house.context.database.transaction() as tx:
        found = {row.proname: row.proconfig for row in tx.execute(text(asked))}

    assert found == {name: ["search_path=pg_catalog, pg_temp"] for name in ("prune_run", "audit_event_refuse_change")}
