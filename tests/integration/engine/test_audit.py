"""Whatever is done to the audit rows of a run, ``verify`` names it; the database itself refuses what it can."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from agentflow.domain.chain_check import FindingCode
from agentflow.domain.error import ConfigurationError
from agentflow.domain.event import GENESIS
from agentflow.domain.ids import RunId
from agentflow.engine.verify import verify_all, verify_run
from agentflow.runtime import Runtime
from agentflow.storage import events
from tests.factories import fresh_run_id, noop_step, submitted, work_off

STEPS = [noop_step("a"), noop_step("b", needs=["a"])]


@pytest.fixture
def ended(house: Runtime) -> RunId:
    """A run of two steps that has ended."""
    run_id = submitted(house.context, STEPS)
    work_off(house, run_id)
    return run_id


def _tamper(house: Runtime, change: Callable[[Connection], object]) -> None:
    """What a person with the database's owner rights can do: switch the triggers off, change, switch them on."""
    with house.context.database.transaction() as tx:
        tx.execute(text("ALTER TABLE audit_event DISABLE TRIGGER USER"))
        change(tx)
        tx.execute(text("ALTER TABLE audit_event ENABLE TRIGGER USER"))


def _codes(house: Runtime, run_id: RunId) -> list[tuple[FindingCode, str | None, int | None]]:
    found = verify_run(house.context, run_id).findings
    return [(finding.code, finding.step, finding.sequence) for finding in found]


def _step(tx: Connection, run_id: RunId, key: str) -> Any:
    statement = text("SELECT id FROM step WHERE run_id = :run AND key = :key")
    return tx.execute(statement, {"run": run_id, "key": key}).scalar_one()


def test_an_untouched_run_is_intact(house: Runtime, ended: RunId) -> None:
    report = verify_run(house.context, ended)

    assert report.is_intact
    assert report.events == 6
    assert [each.is_intact for each in verify_all(house.context)] == [True]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM audit_event",
        "UPDATE audit_event SET actor = 'nobody'",
        "TRUNCATE audit_event",
    ],
)
def test_the_database_refuses_to_change_events(house: Runtime, ended: RunId, change: str) -> None:
    with pytest.raises(DBAPIError, match="immutable"), house.context.database.transaction() as tx:
        tx.execute(text(change))

    assert verify_run(house.context, ended).is_intact


ALTERATIONS = {
    "at": "at + interval '1 microsecond'",
    "actor": "'someone else'",
    "action": "'approve'",
    "subject": "'step:b'",
    "moved": '\'{"step:a": ["ready", "succeeded"]}\'',
    "reason": '\'{"code": "timed_out", "detail": {}}\'',
    "verdict": "'failed'",
    "facts": "facts || '{\"attempt\": 7}'",
    "mac": "decode(repeat('ab', 32), 'hex')",
}


@pytest.mark.parametrize("column", ALTERATIONS)
def test_an_altered_field_is_named(house: Runtime, ended: RunId, column: str) -> None:
    def change(tx: Connection) -> None:
        statement = f"UPDATE audit_event SET {column} = {ALTERATIONS[column]} WHERE step_id = :step AND sequence = 1"
        tx.execute(text(statement), {"step": _step(tx, ended, "a")})

    _tamper(house, change)

    assert _codes(house, ended) == [(FindingCode.ALTERED, "a", 1)]


def test_an_event_moved_to_another_run_or_step_is_named(house: Runtime, ended: RunId) -> None:
    def change(tx: Connection) -> None:
        statement = "UPDATE audit_event SET step_id = :other, sequence = 3 WHERE step_id = :step AND sequence = 2"
        tx.execute(text(statement), {"step": _step(tx, ended, "a"), "other": _step(tx, ended, "b")})

    _tamper(house, change)

    assert _codes(house, ended) == [(FindingCode.TAIL_CUT, "a", 1), (FindingCode.ADDED, "b", 3)]


def test_a_removed_event_is_named(house: Runtime, ended: RunId) -> None:
    _tamper(house, lambda tx: tx.execute(text("DELETE FROM audit_event WHERE step_id IS NULL AND sequence = 1")))

    assert _codes(house, ended) == [(FindingCode.REMOVED, None, 1)]


def test_an_added_event_is_named(house: Runtime, ended: RunId) -> None:
    def change(tx: Connection) -> None:
        tx.execute(
            text(
                "INSERT INTO audit_event (run_id, step_id, sequence, at, actor, action, subject, moved, facts, mac) "
                "SELECT run_id, step_id, 3, at, actor, action, subject, moved, facts, mac FROM audit_event "
                "WHERE step_id = :step AND sequence = 2"
            ),
            {"step": _step(tx, ended, "b")},
        )

    _tamper(house, change)

    assert _codes(house, ended) == [(FindingCode.ADDED, "b", 3)]


def test_two_swapped_events_are_named(house: Runtime, ended: RunId) -> None:
    def change(tx: Connection) -> None:
        step = {"step": _step(tx, ended, "a")}
        tx.execute(text("UPDATE audit_event SET sequence = sequence + 10 WHERE step_id = :step"), step)
        tx.execute(text("UPDATE audit_event SET sequence = 13 - sequence WHERE step_id = :step"), step)

    _tamper(house, change)

    assert _codes(house, ended) == [(FindingCode.SWAPPED, "a", 1), (FindingCode.SWAPPED, "a", 2)]


def test_a_cut_tail_is_named(house: Runtime, ended: RunId) -> None:
    def change(tx: Connection) -> None:
        statement = "DELETE FROM audit_event WHERE step_id = :step AND sequence = 2"
        tx.execute(text(statement), {"step": _step(tx, ended, "b")})

    _tamper(house, change)

    assert _codes(house, ended) == [(FindingCode.TAIL_CUT, "b", 1)]


def test_a_cut_tail_with_the_head_set_back_breaks_the_seal(house: Runtime, ended: RunId) -> None:
    def change(tx: Connection) -> None:
        step = {"step": _step(tx, ended, "b")}
        tx.execute(text("DELETE FROM audit_event WHERE step_id = :step AND sequence = 2"), step)
        tx.execute(
            text(
                "UPDATE step SET event_sequence = 1, event_head = "
                "(SELECT mac FROM audit_event WHERE step_id = :step AND sequence = 1) WHERE id = :step"
            ),
            step,
        )

    _tamper(house, change)

    assert _codes(house, ended) == [(FindingCode.SEAL_BROKEN, None, 2)]


def test_a_removed_seal_is_named_although_the_head_was_set_back(house: Runtime, ended: RunId) -> None:
    def change(tx: Connection) -> None:
        tx.execute(text("DELETE FROM audit_event WHERE step_id IS NULL AND sequence = 2"))
        tx.execute(
            text(
                "UPDATE run_state SET event_sequence = 1, event_head = "
                "(SELECT mac FROM audit_event WHERE step_id IS NULL AND sequence = 1)"
            )
        )

    _tamper(house, change)

    assert _codes(house, ended) == [(FindingCode.SEAL_MISSING, None, None)]


def test_a_chain_recomputed_without_the_key_is_named(house: Runtime, ended: RunId) -> None:
    def change(tx: Connection) -> None:
        step_id, previous = _step(tx, ended, "a"), GENESIS
        for event, _ in list(events.read_run(tx, ended)):
            if event.step_id != step_id:
                continue
            previous = hmac.new(b"guessed", previous + event.canonical_bytes(), hashlib.sha256).digest()
            statement = "UPDATE audit_event SET mac = :mac WHERE step_id = :step AND sequence = :sequence"
            tx.execute(text(statement), {"mac": previous, "step": step_id, "sequence": event.sequence})
        tx.execute(text("UPDATE step SET event_head = :mac WHERE id = :step"), {"mac": previous, "step": step_id})

    _tamper(house, change)

    assert (FindingCode.RECOMPUTED, "a", None) in _codes(house, ended)


def test_rows_changed_behind_the_audit_are_named(house: Runtime, ended: RunId) -> None:
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE step SET state = 'failed' WHERE key = 'a'"))
        tx.execute(text("UPDATE run_state SET state = 'running', ended_at = NULL"))

    assert _codes(house, ended) == [(FindingCode.STATE_FORGED, None, None), (FindingCode.STATE_FORGED, "a", None)]


def test_another_key_is_no_tampering(house: Runtime, ended: RunId) -> None:
    stranger = replace(house.context, audit_key=b"another-key-another-key-another-key")

    with pytest.raises(ConfigurationError, match="audit key"):
        verify_run(stranger, ended)


def test_a_removed_run_is_named(house: Runtime, ended: RunId) -> None:
    _tamper(house, lambda tx: tx.execute(text("DELETE FROM run")))

    assert _codes(house, ended) == [(FindingCode.RUN_REMOVED, None, None)]
    assert [each.run_id for each in verify_all(house.context)] == [ended]


def test_events_hold_no_more_than_their_canonical_fields(house: Runtime, ended: RunId) -> None:
    """Every column but the row's own id and the MAC is covered by the MAC."""
    with house.context.database.transaction() as tx:
        event, _ = next(events.read_run(tx, ended))
        columns = tx.execute(
            text("SELECT column_name FROM information_schema.columns WHERE table_name = 'audit_event'")
        ).scalars()

        assert set(json.loads(event.canonical_bytes())) == set(columns) - {"id", "mac"}


def test_an_unknown_run_cannot_be_verified(house: Runtime) -> None:
    with pytest.raises(LookupError, match="no run") as caught:
        verify_run(house.context, fresh_run_id())

    assert caught.value.__class__.__name__ == "NotFound"
