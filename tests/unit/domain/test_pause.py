"""What two pauses make, and how a pause is stored and told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agentflow.domain.pause import Pause, PauseScope, paused_by

AT = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
OWN = Pause("anna@test", "the disk is full", AT, is_hard=False, scope=PauseScope.RUN)
ALL = Pause("boss@test", None, AT, is_hard=False, scope=PauseScope.MAINTENANCE)
LATER = AT + timedelta(minutes=5)


def test_a_pause_is_read_as_it_was_stored_and_its_reason_is_public() -> None:
    for pause in (OWN, ALL, replace(OWN, is_hard=True)):
        assert Pause.from_json(pause.as_json()) == pause
    assert OWN.reason.as_json() == {
        "code": "paused",
        "detail": {
            "actor": "anna@test",
            "why": "the disk is full",
            "at": "2026-11-21T12:30:00.000000Z",
            "scope": "run",
        },
    }
    assert OWN.reason.sentence == "paused by anna@test"


@pytest.mark.parametrize(
    ("standing", "asked", "made"),
    [
        (None, OWN, OWN),
        (OWN, replace(OWN, actor="other@test", at=LATER), OWN),
        (OWN, replace(OWN, actor="other@test", at=LATER, is_hard=True), replace(OWN, is_hard=True)),
        (replace(OWN, is_hard=True), replace(OWN, at=LATER), replace(OWN, is_hard=True)),
        (OWN, ALL, OWN),
        (OWN, replace(ALL, is_hard=True), replace(OWN, is_hard=True)),
        (ALL, replace(ALL, actor="other@test", at=LATER), ALL),
        (ALL, replace(OWN, at=LATER), OWN),
        (replace(ALL, is_hard=True), replace(OWN, at=LATER), replace(OWN, is_hard=True)),
    ],
    ids=[
        "the first stands",
        "a second changes nothing",
        "it can be hardened",
        "and not made soft",
        "a maintenance leaves a person's",
        "unless it is hard: then it hardens it",
        "a second maintenance changes nothing",
        "a person takes a maintenance's over, from when it began",
        "as hard as it was",
    ],
)
def test_what_stands_after_another_pause_was_asked(standing: Pause | None, asked: Pause, made: Pause) -> None:
    assert paused_by(standing, asked) == made
