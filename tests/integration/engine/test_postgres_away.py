"""Connections to Postgres that break in mid-step cost time, no attempt."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from agentflow.domain.error import ServersUnreachable
from agentflow.domain.state import RunState
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, lines_of, noop_step, shell_step, submitted, wait_for, wait_for_end
from tests.workers import WorkerProcess

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def test_a_run_completes_although_all_connections_are_cut_in_mid_step(
    house: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    steps = [
        shell_step(f"s{i}", f"echo s{i} >> {marker}; sleep 1", needs=[f"s{i - 1}"] if i else [], retry=1)
        for i in range(3)
    ]
    run_id = submitted(house.context, steps)
    house.context.database.engine.dispose()  # from here on, all but the one session below are the worker's
    with house.context.database.autocommit() as tx:
        for number in range(1, 4):
            wait_for(lambda number=number: len(lines_of(marker)) == number)
            wait_for(
                lambda: tx.execute(text(f"SELECT count(*) {OTHERS}")).scalar_one() >= 2
            )  # a child's, the dispatcher's
            assert tx.execute(text(f"SELECT count(pg_terminate_backend(pid)) {OTHERS}")).scalar_one() >= 2

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert lines_of(marker) == ["s0", "s1", "s2"]
    assert [row.state for row in attempt_rows(house.context, run_id)] == ["succeeded"] * 3
    assert verify_run(house.context, run_id).findings == ()


@pytest.mark.parametrize(
    "end_session",
    [
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SET LOCAL idle_in_transaction_session_timeout = '1ms'",
    ],
    ids=["terminated", "idle in a transaction"],
)
def test_a_session_that_the_server_ends_is_an_outage_and_the_next_transaction_works(
    house: Runtime, end_session: str
) -> None:
    with pytest.raises(ServersUnreachable):
        _work_in_a_session_that_ends(house, end_session)

    with house.context.database.transaction() as tx:
        assert tx.execute(text("SELECT 1")).scalar_one() == 1


def _work_in_a_session_that_ends(house: Runtime, end_session: str) -> None:
    with house.context.database.transaction() as tx:
        tx.execute(text(end_session))
        wait_for(lambda: not _has_open_transaction(house))
        tx.execute(text("SELECT 1"))


def _has_open_transaction(house: Runtime) -> bool:
    with house.context.database.autocommit() as connection:
        count: int = connection.execute(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()"
            )
        ).scalar_one()
    return count > 0


def test_what_the_server_refuses_is_no_outage(house: Runtime) -> None:
    with pytest.raises(Exception, match="division by zero") as refused, house.context.database.transaction() as tx:
        tx.execute(text("SELECT 1 / 0"))
    assert not isinstance(refused.value, ServersUnreachable)


def test_a_value_that_the_driver_refuses_is_no_outage(house: Runtime) -> None:
    with pytest.raises(Exception, match="NUL") as refused, house.context.database.transaction() as tx:
        tx.execute(text("SELECT :value"), {"value": "a\0b"})
    assert not isinstance(refused.value, ServersUnreachable)


def _take_no_writes(tx: Connection, *, is_so: bool) -> None:
    """Let new sessions be as on a server that stands by: it can be read only."""
    how = "SET default_transaction_read_only = on" if is_so else "RESET default_transaction_read_only"
    tx.execute(text(f"ALTER DATABASE {tx.engine.url.database} {how}"))


def test_a_step_that_ends_while_postgres_takes_no_writes_is_settled_once_it_does(
    house: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    """The worker's sessions that were opened meanwhile are ended by nobody but itself."""
    marker, go = tmp_path / "marker", tmp_path / "go"
    run_id = submitted(house.context, [shell_step("a", f"echo a >> {marker}; until test -e {go}; do sleep 0.05; done")])
    wait_for(lambda: lines_of(marker))
    house.context.database.engine.dispose()
    with house.context.database.autocommit() as tx:
        _take_no_writes(tx, is_so=True)
        tx.execute(text(f"SELECT count(pg_terminate_backend(pid)) {OTHERS}"))
        go.touch()
        wait_for(lambda: "settle_delayed" in worker.output() and "read-only transaction" in worker.output())
        _take_no_writes(tx, is_so=False)

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert lines_of(marker) == ["a"]
    assert [row.state for row in attempt_rows(house.context, run_id)] == ["succeeded"]


def test_a_server_that_takes_no_writes_is_away_and_its_sessions_are_left(house: Runtime) -> None:
    context = house.context
    with context.database.autocommit() as tx:
        _take_no_writes(tx, is_so=True)
    context.database.engine.dispose()
    with pytest.raises(ServersUnreachable, match="takes no writes"):
        submitted(context, [noop_step("a")])
    with context.database.autocommit() as tx:
        tx.execute(text("SET default_transaction_read_only = off"))
        _take_no_writes(tx, is_so=False)
        tx.execute(text("SET default_transaction_read_only = on"))

    with pytest.raises(ServersUnreachable, match="takes no writes"):
        submitted(context, [noop_step("a")])
    assert submitted(context, [noop_step("a")])
