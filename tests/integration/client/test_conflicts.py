"""A verb that Postgres breaks off is tried again; one that it breaks off each time is told of as a conflict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import Connection

from agentflow import AgentFlow
from agentflow.cli.main import _report
from agentflow.client import conflicts
from agentflow.client.bulk import Outcome, act_on_each
from agentflow.client.run import Run
from agentflow.domain.error import Conflict, UsageError
from agentflow.domain.state import ShownRunState
from agentflow.runtime import Runtime
from agentflow.storage.database import ConflictingWrite, Database, statement
from tests.factories import noop_step, submitted


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflicts, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def flow(house: Runtime) -> Iterator[AgentFlow]:
    with AgentFlow(house.settings) as flow:
        yield flow


@contextmanager
def _locked(database: Database, run: Run) -> Iterator[None]:
    """Hold a run's row for the block."""
    with database.transaction() as tx:
        tx.execute(text("SELECT FROM run_state WHERE run_id = :id FOR UPDATE"), {"id": run.uuid})
        yield


@contextmanager
def _impatient(database: Database) -> Iterator[None]:
    """Let the transactions of a database wait for no lock: Postgres breaks them off then."""

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")

    event.listen(database.engine, "begin", begin)
    try:
        yield
    finally:
        event.remove(database.engine, "begin", begin)


def _run(house: Runtime, flow: AgentFlow) -> Run:
    return flow.get(submitted(house.context, [noop_step("one")]))


def test_a_verb_that_is_broken_off_each_time_is_a_conflict_and_does_nothing(house: Runtime, flow: AgentFlow) -> None:
    run = _run(house, flow)
    with _impatient(flow.context.database), _locked(house.context.database, run), pytest.raises(Conflict, match="try"):
        run.pause()

    assert run.refresh().state is ShownRunState.RUNNING


def test_what_is_broken_off_after_a_part_was_done_is_told_as_that(house: Runtime, flow: AgentFlow) -> None:
    run = _run(house, flow)

    @conflicts.trying_again
    def pausing() -> None:
        run.pause()
        raise ConflictingWrite("deadlock detected")

    with pytest.raises(Conflict, match="after a part of it was done"):
        pausing()


def test_a_verb_that_is_broken_off_once_is_done_at_the_second_time(house: Runtime, flow: AgentFlow) -> None:
    run = _run(house, flow)
    calls = 0
    assert flow.maintenance() is None  # the connection is there, and the installation was looked at

    @conflicts.trying_again
    def pausing() -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            run.pause()
            return
        with (
            _impatient(flow.context.database),
            _locked(house.context.database, run),
            flow.context.database.transaction() as tx,
        ):
            tx.execute(statement("lock_run"), {"run_id": run.uuid})

    pausing()

    assert calls == 2
    assert run.refresh().state is ShownRunState.PAUSED


def test_a_bulk_verb_tells_of_the_run_in_conflict_and_goes_on(house: Runtime, flow: AgentFlow) -> None:
    runs = [_run(house, flow) for _ in range(3)]
    with _impatient(flow.context.database), _locked(house.context.database, runs[1]):
        acted = list(act_on_each(runs, lambda run: {"is_new": run.pause().is_new}))

    assert [each.outcome for each in acted] == [Outcome.DONE, Outcome.FAILED, Outcome.DONE]
    assert "try it again" in str(acted[1].message)


def test_what_postgres_cannot_store_is_told_without_its_words(house: Runtime, flow: AgentFlow) -> None:
    run = _run(house, flow)
    calls = 0

    @conflicts.trying_again
    def writing() -> None:
        nonlocal calls
        calls += 1
        with flow.context.database.transaction() as tx:
            tx.execute(text("UPDATE run SET actor = :actor WHERE id = :id"), {"id": run.uuid, "actor": "se\0cret"})

    with pytest.raises(UsageError, match="NUL") as told:
        writing()
    assert calls == 1
    assert "cret" not in str(told.value)


def test_the_command_line_tells_of_a_conflict_in_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _report(ConflictingWrite("deadlock detected"), as_json=True) == 1
    said = capsys.readouterr()
    assert '"conflict"' in said.out + said.err
    assert "Traceback" not in said.err
