"""Audit events: one byte changed anywhere is another MAC, and a seal covers every chain."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.event import GENESIS, AuditEvent, key_fingerprint, mac_of, merkle_root, seal_of
from agentflow.domain.ids import RunId, StepId

KEY = b"k" * 32
EVENT = AuditEvent(
    run_id=RunId(UUID(int=1)),
    step_id=StepId(UUID(int=2)),
    sequence=3,
    at=datetime(2026, 11, 21, 4, 5, 6, 789, tzinfo=UTC),
    actor="worker:w@host:7",
    action="settle",
    subject="step:collect",
    moved={"step:collect": ["running", "succeeded"]},
    reason={"code": "exit_code", "detail": {"exit_code": 1}},
    verdict="succeeded",
    facts={"attempt": 1},
)
CHANGES: dict[str, Any] = {
    "run_id": RunId(UUID(int=9)),
    "step_id": None,
    "sequence": 4,
    "at": EVENT.at + timedelta(microseconds=1),
    "actor": "worker:w@host:8",
    "action": "rescue",
    "subject": "step:report",
    "moved": {"step:collect": ["running", "failed"]},
    "reason": None,
    "verdict": "lost",
    "facts": {"attempt": 2},
}


def test_every_field_of_an_event_has_a_change_to_be_tried() -> None:
    assert set(CHANGES) == {field.name for field in fields(AuditEvent)}


@pytest.mark.parametrize("field", sorted(CHANGES))
def test_the_mac_covers_every_field(field: str) -> None:
    changed = replace(EVENT, **{field: CHANGES[field]})
    assert mac_of(changed, GENESIS, KEY) != mac_of(EVENT, GENESIS, KEY)


def test_the_mac_depends_on_the_key_and_on_what_came_before() -> None:
    macs = {mac_of(EVENT, GENESIS, KEY), mac_of(EVENT, b"\1" * 32, KEY), mac_of(EVENT, GENESIS, b"other" * 8)}
    assert len(macs) == 3


def test_the_same_moment_in_another_zone_is_the_same_event() -> None:
    elsewhere = replace(EVENT, at=EVENT.at.astimezone(timezone(timedelta(hours=9))))
    assert elsewhere.canonical_bytes() == EVENT.canonical_bytes()


def test_the_order_in_which_data_was_written_does_not_count() -> None:
    one = replace(EVENT, facts={"a": 1, "b": {"c": 2, "d": 3}})
    other = replace(EVENT, facts={"b": {"d": 3, "c": 2}, "a": 1})
    assert one.canonical_bytes() == other.canonical_bytes()


def test_a_key_is_named_without_being_told() -> None:
    name = key_fingerprint(KEY)
    assert len(name) == 16
    assert name != key_fingerprint(b"l" * 32)
    assert KEY.hex() not in name


LEAVES = st.lists(st.binary(max_size=8), min_size=1, max_size=9)


def test_no_leaves_have_the_root_of_nothing() -> None:
    assert merkle_root([]) == GENESIS


@given(LEAVES, st.data())
def test_a_leaf_changed_is_another_root(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    changed = [*leaves[:index], leaves[index] + b"x", *leaves[index + 1 :]]
    assert merkle_root(changed) != merkle_root(leaves)


@given(LEAVES)
def test_a_leaf_more_or_less_is_another_root(leaves: list[bytes]) -> None:
    roots = {merkle_root(leaves), merkle_root([*leaves, b""]), merkle_root([*leaves, leaves[-1]])}
    assert len(roots) == (2 if leaves[-1] == b"" else 3)


@given(st.lists(st.binary(min_size=1, max_size=4), min_size=2, max_size=7, unique=True))
def test_leaves_swapped_are_another_root(leaves: list[bytes]) -> None:
    assert merkle_root([leaves[1], leaves[0], *leaves[2:]]) != merkle_root(leaves)


HEADS = st.dictionaries(st.uuids().map(StepId), st.tuples(st.integers(1, 9), st.binary(min_size=32, max_size=32)))


@given(HEADS)
def test_a_seal_does_not_depend_on_the_order_of_rows(heads: dict[StepId, tuple[int, bytes]]) -> None:
    assert seal_of(dict(reversed(heads.items()))) == seal_of(heads)


@given(HEADS.filter(bool))
def test_a_chain_that_grew_or_vanished_breaks_the_seal(heads: dict[StepId, tuple[int, bytes]]) -> None:
    first, (sequence, head) = next(iter(heads.items()))
    without = {step: value for step, value in heads.items() if step != first}
    seals = {seal_of(heads), seal_of({**heads, first: (sequence + 1, head)}), seal_of(without)}
    assert len(seals) == 3
