"""Alembic's entry: runs the migrations on the connection that was handed in, in its transaction."""

from alembic import context
from sqlmodel import SQLModel

import agentflow.storage.tables  # noqa: F401 - fills the metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
