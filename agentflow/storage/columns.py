"""What the tables are made of: names of constraints, and the kinds of columns that come again."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import AutoString, SQLModel

NAMING = {
    "ix": "%(table_name)s_%(column_0_N_name)s",
    "uq": "%(table_name)s_%(column_0_N_name)s_unique",
    "ck": "%(table_name)s_%(constraint_name)s",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}
SQLModel.metadata.naming_convention = NAMING


def sql_list(states: Iterable[StrEnum]) -> str:
    """Write states as the inside of an SQL IN list, in a stable order."""
    return ", ".join(f"'{state}'" for state in sorted(states))


def one_of(column: str, states: Iterable[StrEnum]) -> CheckConstraint:
    """Hold a column to the members of an enum."""
    return CheckConstraint(f"{column} IN ({sql_list(states)})", name=f"{column}_known")


def ended_iff_final(states: Iterable[StrEnum]) -> CheckConstraint:
    """Let an end stand if and only if the state is final."""
    return CheckConstraint(f"(ended_at IS NOT NULL) = (state IN ({sql_list(states)}))", name="ended_iff_final")


def moment(*, nullable: bool = False, now: bool = False) -> Any:
    """A point in time, with its zone."""
    return Column(DateTime(timezone=True), nullable=nullable, server_default=text("now()") if now else None)


def json(*, nullable: bool = False) -> Any:
    """A JSON document."""
    return Column(JSONB(none_as_null=True), nullable=nullable)


def count(*, nullable: bool = False) -> Any:
    """A number that may become large."""
    return Column(BigInteger, nullable=nullable)


def run_key(*, primary_key: bool = False) -> Any:
    """A reference to a run that goes with it."""
    return Column(Uuid, ForeignKey("run.id", ondelete="CASCADE"), primary_key=primary_key, nullable=False)


def step_key(*, primary_key: bool = False) -> Any:
    """A reference to a step that goes with it."""
    return Column(Uuid, ForeignKey("step.id", ondelete="CASCADE"), primary_key=primary_key, nullable=False)


def as_text() -> None:
    """Give every text column one type.

    Postgres infers a parameter's type from where it stands, and a parameter that stands beside both varchar and text
    is refused.
    """
    for table in SQLModel.metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, AutoString):
                column.type = Text()
