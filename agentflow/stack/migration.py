"""Bring an installation's database to this version's shape, and say where it stood."""

from __future__ import annotations

from dataclasses import dataclass

from agentflow.engine import installation
from agentflow.engine.context import EngineContext
from agentflow.storage import migrations


@dataclass(frozen=True, slots=True)
class Migrated:
    """The revisions before and after; ``old`` is None for an empty database."""

    old: str | None
    new: str


def migrate(context: EngineContext) -> Migrated:
    """Migrate and register. ServersUnreachable, ConfigurationError, StoreMismatch."""
    with context.database.transaction() as tx:
        old = migrations.current_revision(tx)
    installation.install(context.database, context.store, context.audit_key)
    return Migrated(old, migrations.head_revision())
