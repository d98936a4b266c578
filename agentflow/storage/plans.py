"""Plans as they were stored, read back by fingerprint; and the names and versions under which some were pushed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.error import NotFound
from agentflow.domain.plan import Plan
from agentflow.storage.database import statement
from agentflow.storage.view_shapes import moment


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """A version of a plan that was pushed under a name."""

    project: str
    name: str
    version: int
    fingerprint: str
    pushed_by: str
    pushed_at: datetime

    def as_json(self) -> dict[str, Any]:
        """The version as ``plan list --json`` prints it."""
        return asdict(self) | {"pushed_at": moment(self.pushed_at)}


def read(tx: Connection, fingerprint: str) -> Plan:
    """Read a plan; NotFound when no run ever used that fingerprint here."""
    document = tx.execute(statement("read_plan"), {"fingerprint": fingerprint}).scalar_one_or_none()
    if document is None:
        raise NotFound(f"No plan has the fingerprint {fingerprint}", fingerprint=fingerprint)
    return Plan.from_stored(document)


def find(tx: Connection, prefix: str, project: str, limit: int) -> list[str]:
    """Find up to ``limit`` fingerprints of a project's plans that begin with some hex digits, the newest first."""
    parameters = {"prefix": prefix, "limit": limit, "project": project}
    return list(tx.execute(statement("find_plans"), parameters).scalars())


def add_version(tx: Connection, project: str, plan: Plan, actor: str) -> int | None:
    """Give a plan whose row stands the next version of its name; None when it is the newest one already.

    The caller holds the installation.
    """
    parameters = {"project": project, "name": plan.name, "fingerprint": plan.fingerprint, "pushed_by": actor}
    version: int | None = tx.execute(statement("insert_stored_plan"), parameters).scalar_one_or_none()
    return version


def read_versions(tx: Connection, project: str | None = None, name: str | None = None) -> list[PlanVersion]:
    """Read the versions of stored plans, by project and name, the newest first; None means any."""
    rows = tx.execute(statement("view_stored_plans"), {"project": project, "name": name})
    return [PlanVersion(*row) for row in rows]
