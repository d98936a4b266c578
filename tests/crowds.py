"""A crowd of runs: copies of one run's rows, made in Postgres, for what must be quick among many.

A copy is the same run under other ids, a second older than the copy before; its audit chain is not its own.
"""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.engine import Row

from agentflow.domain.ids import RunId

TABLES = ("run", "run_state", "run_budget", "step", "edge", "attempt", "artifact", "audit_event")
"""In the order in which they refer to one another."""
_IDS = {"id", "run_id", "step_id", "from_step", "to_step", "attempt_id"}
_OF_RUN = {
    "run": "old.id = :run_id",
    "edge": "old.from_step IN (SELECT id FROM step WHERE run_id = :run_id)",
}


def multiply(tx: Connection, run_id: RunId, copies: int) -> None:
    """Add ``copies`` of a run to the installation, and count the tables anew for the planner."""
    for table in TABLES:
        columns = tx.execute(
            text(
                "SELECT column_name AS name, udt_name AS type FROM information_schema.columns "
                "WHERE table_schema = 'public' AND table_name = :name AND is_identity = 'NO' ORDER BY ordinal_position"
            ),
            {"name": table},
        ).all()
        names = ", ".join(column.name for column in columns)
        tx.execute(
            text(
                f"INSERT INTO {table} ({names}) SELECT {', '.join(map(_copied, columns))} "
                f"FROM {table} AS old, generate_series(1, :copies) AS n "
                f"WHERE {_OF_RUN.get(table, 'old.run_id = :run_id')}"
            ),
            {"run_id": run_id, "copies": copies},
        )
        tx.execute(text(f"ANALYZE {table}"))
    tx.execute(text("ANALYZE plan"))


def _copied(column: Row[tuple[str, str]]) -> str:
    """The value that a copy has; ids are made of the old one and the copy's number."""
    if column.type == "uuid" and column.name in _IDS:
        return f"md5(CAST(old.{column.name} AS text) || n)::uuid"
    if column.name == "idempotency_key":
        return f"old.{column.name} || n"
    if column.name == "created_at":
        return f"old.{column.name} - n * interval '1 second'"
    return f"old.{column.name}"
