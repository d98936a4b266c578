"""Registration: which content store and audit key belong to a database, and that this process has both.

A process that writes content elsewhere, or links events with another key, would harm runs that it cannot even see.
"""

from __future__ import annotations

from agentflow.content.store import ContentStore
from agentflow.domain.error import ConfigurationError, StoreMismatch
from agentflow.domain.event import key_fingerprint
from agentflow.storage import installations
from agentflow.storage.database import Database


def register(database: Database, store: ContentStore, audit_key: bytes) -> None:
    """Register store and key with the database, if nothing is registered yet; raises as check_registration does."""
    mine = installations.Installation(store.store_id(), key_fingerprint(audit_key))
    with database.transaction() as tx:
        standing = installations.register(tx, mine)
    _compare(mine, standing)


def check_registration(database: Database, store: ContentStore, audit_key: bytes) -> None:
    """Raise StoreMismatch or ConfigurationError when this process must not work on the database."""
    with database.autocommit() as tx:
        standing = installations.read(tx)
    if standing is None:
        raise ConfigurationError("The database is not registered with a content store yet; run `agentflow migrate`")
    store_id = store.find_id()
    if store_id is None:
        raise StoreMismatch(
            f"There is no content store where this process looks for it, the runs of this database use "
            f"{standing.store_id}. Point AGENTFLOW_CONTENT_DIR at the directory that they share."
        )
    _compare(installations.Installation(store_id, key_fingerprint(audit_key)), standing)


def check_audit_key(database: Database, audit_key: bytes) -> None:
    """Raise ConfigurationError when this process has another audit key than the database was installed with."""
    with database.transaction() as tx:
        standing = installations.read(tx)
    if standing is not None:
        _compare_keys(key_fingerprint(audit_key), standing)


def _compare(mine: installations.Installation, standing: installations.Installation) -> None:
    if mine.store_id != standing.store_id:
        raise StoreMismatch(
            f"This process sees content store {mine.store_id}, the runs of this database use {standing.store_id}. "
            "Point AGENTFLOW_CONTENT_DIR at the directory that they share."
        )
    _compare_keys(mine.audit_key_fingerprint, standing)


def _compare_keys(mine: str, standing: installations.Installation) -> None:
    if mine != standing.audit_key_fingerprint:
        raise ConfigurationError(
            f"This process has audit key {mine}, the database was installed with "
            f"{standing.audit_key_fingerprint}. Give every process the same AGENTFLOW_AUDIT_KEY (or _FILE)."
        )
