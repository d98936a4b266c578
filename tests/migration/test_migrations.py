"""Migrations go down and up again, audit rows survive, and together they make exactly the tables of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlmodel import SQLModel

import agentflow.storage.tables  # noqa: F401 - fills the metadata
from agentflow.domain.error import ConfigurationError
from agentflow.engine import installation
from agentflow.engine.prune import prune
from agentflow.runtime import Runtime
from agentflow.storage import migrations
from tests.factories import noop_step, submitted, work_off
from tests.integration.engine.pruned import WEEK, ended_run

FOLDER = Path(migrations.__file__).parent


def _revisions() -> list[str]:
    script = ScriptDirectory(str(FOLDER))
    return [revision.revision for revision in reversed(list(script.walk_revisions()))]


def test_the_sum_of_the_migrations_is_what_the_tables_say(house: Runtime) -> None:
    with house.context.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})

        assert compare_metadata(context, SQLModel.metadata) == []


def test_checks_and_index_predicates_are_what_the_tables_say(house: Runtime) -> None:
    """Alembic compares neither, and they carry the rules: so every one that the code names must be there."""
    tables = SQLModel.metadata.tables.values()
    constraints = [constraint for table in tables for constraint in table.constraints]
    # A table without a key has a primary key of no columns here, and none there.
    keyless = {str(table.primary_key.name) for table in tables if not table.primary_key.columns}
    named = {str(constraint.name) for constraint in constraints if constraint.name} - keyless
    indexes = {str(index.name) for table in tables for index in table.indexes}
    with house.context.database.engine.connect() as connection:
        written = set(connection.execute(text("SELECT conname FROM pg_constraint WHERE contype <> 'n'")).scalars())
        present = set(
            connection.execute(text("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")).scalars()
        )

    assert named <= written
    assert indexes <= present


@pytest.mark.parametrize("revision", _revisions())
def test_each_migration_goes_down_and_up_again_with_audit_rows_in_place(house: Runtime, revision: str) -> None:
    run_id = submitted(house.context, [noop_step("a")])
    work_off(house, run_id)
    engine = house.context.database.engine
    script = ScriptDirectory(str(FOLDER))
    below = script.get_revision(revision).down_revision or "base"
    with engine.connect() as connection:
        before = connection.execute(text("SELECT * FROM audit_event ORDER BY id")).all()

    migrations.downgrade(engine, str(below))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT * FROM audit_event ORDER BY id")).all() == before
    migrations.upgrade(engine)

    with engine.connect() as connection:
        assert migrations.current_revision(connection) == migrations.head_revision()
        assert connection.execute(text("SELECT * FROM audit_event ORDER BY id")).all() == before
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []


def test_the_audit_is_still_immutable_after_a_round_trip(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a")])
    work_off(house, run_id)
    engine = house.context.database.engine
    migrations.downgrade(engine, "base")
    migrations.upgrade(engine)

    with pytest.raises(Exception, match="immutable"), engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_event"))


def test_a_database_that_was_taken_down_is_refused_until_it_is_installed_again(house: Runtime) -> None:
    context = house.context
    migrations.downgrade(context.database.engine, "base")

    with pytest.raises(ConfigurationError, match="agentflow migrate"):
        installation.check(context.database, context.store, context.audit_key)
    installation.install(context.database, context.store, context.audit_key)
    installation.check(context.database, context.store, context.audit_key)


@pytest.mark.parametrize("left", ["tombstone", "folded_usage"])
def test_what_stays_of_pruned_runs_is_not_lost_on_the_way_down(house: Runtime, left: str) -> None:
    """Without it the audit of the installation would not verify after the next way up."""
    ended_run(house)
    prune(house.context, WEEK, "tester@test")
    engine = house.context.database.engine
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM folded_usage" if left == "tombstone" else "DELETE FROM tombstone"))
        before = connection.execute(text(f"SELECT count(*) FROM {left}")).scalar_one()
        assert before

    with pytest.raises(ConfigurationError, match="would be lost"):
        migrations.downgrade(engine, "base")
    with engine.connect() as connection:
        assert migrations.current_revision(connection) == migrations.head_revision()
        assert connection.execute(text(f"SELECT count(*) FROM {left}")).scalar_one() == before


@pytest.mark.parametrize("to", ["up", "down"])
def test_a_migration_may_take_as_long_as_it_takes(house: Runtime, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[str] = []

    def look(config: Config, _revision: str) -> None:
        for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
            timeouts.append(config.attributes["connection"].execute(text(f"SHOW {name}")).scalar_one())

    monkeypatch.setattr(command, "upgrade", look)
    monkeypatch.setattr(command, "downgrade", look)
    engine = house.context.database.engine
    migrations.upgrade(engine) if to == "up" else migrations.downgrade(engine, "base")

    assert timeouts == ["0", "0"]
    with engine.connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() != "0"


def test_migration_files_are_named_by_number_and_purpose() -> None:
    names = [path.name for path in (FOLDER / "versions").glob("*.py") if path.name != "__init__.py"]

    assert names
    assert all(re.fullmatch(r"\d{4}_[a-z_]+\.py", name) for name in names)
