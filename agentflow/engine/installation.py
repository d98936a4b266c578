"""Install and check: that the database has this version's shape, and that this process sees its store and audit key."""

from __future__ import annotations

from agentflow.content.store import ContentStore
from agentflow.domain.error import ConfigurationError, StoreMismatch
from agentflow.domain.event import key_fingerprint
from agentflow.storage import installations, migrations
from agentflow.storage.database import Database


def install(database: Database, store: ContentStore, audit_key: bytes) -> None:
    """Bring the database to this version's shape and register store and audit key with it, once."""
    migrations.upgrade(database.engine)
    mine = installations.Installation(store.store_id(), key_fingerprint(audit_key))
    with database.transaction() as tx:
        standing = installations.register(tx, mine)
    _compare(mine, standing)


def check(database: Database, store: ContentStore, audit_key: bytes) -> None:
    """Raise when this process must not work on the database: another shape, another store, another audit key."""
    with database.transaction() as tx:
        revision, head = migrations.current_revision(tx), migrations.head_revision()
        if revision != head:
            raise ConfigurationError(
                f"The database stands at revision {revision or 'none'}, this version needs {head}; "
                "run `agentflow migrate`"
            )
        standing = installations.read(tx)
    if standing is None:
        raise ConfigurationError("The database is not registered with a content store yet; run `agentflow migrate`")
    _compare(installations.Installation(store.store_id(), key_fingerprint(audit_key)), standing)


def _compare(mine: installations.Installation, standing: installations.Installation) -> None:
    if mine.store_id != standing.store_id:
        raise StoreMismatch(
            f"This process sees content store {mine.store_id}, the runs of this database use {standing.store_id}. "
            "Point AGENTFLOW_CONTENT_DIR at the directory that they share."
        )
    if mine.audit_key_fingerprint != standing.audit_key_fingerprint:
        raise ConfigurationError(
            f"This process has audit key {mine.audit_key_fingerprint}, the database was installed with "
            f"{standing.audit_key_fingerprint}. Give every process the same AGENTFLOW_AUDIT_KEY (or _FILE)."
        )
