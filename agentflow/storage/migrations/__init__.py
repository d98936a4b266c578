"""The database's shape over time: going up, going down, and asking where it stands.

Owns the Alembic wiring. Every migration goes down and up again; the audit_event table is never dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

#: Held while migrating, so that two workers that start at once do not both migrate.
_MIGRATION_LOCK = 0x6167666C


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _migrating(engine: Engine) -> Iterator[Connection]:
    """Open the one transaction of a migration, which may take as long as it takes, and wait for the lock."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        yield connection


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the database up to ``revision``; waits for another process that is doing the same."""
    with _migrating(engine) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the database down to ``revision`` (``base`` for nothing but the audit events)."""
    with _migrating(engine) as connection:
        command.downgrade(_config(connection), revision)


def current_revision(connection: Connection) -> str | None:
    """The revision that the database stands at; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str:
    """The newest revision that this version of agentflow ships."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    head = ScriptDirectory.from_config(config).get_current_head()
    if head is None:
        raise LookupError("no migration is shipped")
    return head
