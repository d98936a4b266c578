"""Install and check: that the database has this version's shape, and that this process sees its store and audit key."""

from __future__ import annotations

from agentflow.content.store import ContentStore
from agentflow.domain.error import ConfigurationError
from agentflow.engine.registration import check_registration, register
from agentflow.storage import migrations
from agentflow.storage.database import Database


def install(database: Database, store: ContentStore, audit_key: bytes) -> None:
    """Bring the database to this version's shape and register store and audit key with it, once."""
    migrations.upgrade(database.engine)
    register(database, store, audit_key)


def check(database: Database, store: ContentStore, audit_key: bytes) -> None:
    """Raise when this process must not work on the database: another shape, another store, another audit key."""
    with database.transaction() as tx:
        revision, head = migrations.current_revision(tx), migrations.head_revision()
    if revision != head:
        raise ConfigurationError(
            f"The database stands at revision {revision or 'none'}, this version needs {head}; run `agentflow migrate`"
        )
    check_registration(database, store, audit_key)
