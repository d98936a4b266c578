"""The page of a report: what is folded, and that names and reasons act as nothing in Markdown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis.strategies import text

from agentflow.domain.report import Audit, Happening, Head, Report, StepEntry, Timeline, Try
from agentflow.domain.report_cells import Table, pieces
from agentflow.domain.report_markdown import markdown_of
from agentflow.domain.report_page import page_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _report(steps: list[StepEntry], **fields: Any) -> Report:
    head = Head(
        run=UUID(int=7),
        project="ops",
        plan="nightly",
        fingerprint="f" * 64,
        directive=None,
        mode="auto",
        actor="ann",
        state="partial",
        reason=None,
        round=1,
        created_at=NOW,
        started_at=NOW,
        ended_at=NOW + timedelta(seconds=90),
        read_at=NOW + timedelta(hours=1),
        active_seconds=60.0,
        rested_seconds=30.0,
    )
    return Report(head, Audit(3, 2, "a" * 64, "b" * 64, 1, None), {}, steps=tuple(steps), **fields)


def _step(key: str, state: str = "succeeded", *, tries: int = 1, **fields: Any) -> StepEntry:
    made = tuple(
        Try(number, "succeeded", "w1", NOW, NOW + timedelta(seconds=2), 0, None, None) for number in range(1, tries + 1)
    )
    known = {"reason": None, "foreach": None, "item": None, "items": None, "choice": None, "result": None}
    return StepEntry(key, "noop", state, attempts=made, **(known | fields))


def _rows(report: Report, title: str) -> list[str]:
    text = markdown_of(page_of(report)).split(f"## {title}\n")[1].split("\n## ")[0]
    return [line for line in text.splitlines() if line.startswith("| ")][2:]


def _notes(report: Report, title: str) -> str:
    return markdown_of(page_of(report)).split(f"## {title}\n")[1].split("\n## ")[0]


def _table(report: Report, title: str) -> Table:
    [found] = [section.table for section in page_of(report).sections if section.title == title]
    assert found is not None
    return found


def test_of_many_steps_those_are_shown_that_did_not_go_as_they_should() -> None:
    steps = [_step(f"s{n}") for n in range(9_998)] + [_step("again", tries=2), _step("broken", "failed")]

    rows = _rows(_report(steps), "Steps")

    assert len(rows) == 200
    assert rows[0].startswith("| `s0` |")
    assert [row.split("`")[1] for row in rows[-2:]] == ["again", "broken"]
    assert "*9,800 more steps that went as they should*" in _notes(_report(steps), "Steps")


def test_the_items_of_a_large_foreach_are_folded_but_for_those_that_failed() -> None:
    items = [_step(f"each[{n}]", "failed" if n == 30 else "succeeded", foreach="each", item=n) for n in range(50)]
    report = _report([_step("each", items=50, tries=0), *items])

    assert [row.split("`")[1] for row in _rows(report, "Steps")] == ["each", "each[30]"]
    assert "49 steps of foreachs, see below" in _notes(report, "Steps")
    assert _rows(report, "Foreachs") == ["| `each` | **succeeded** | 50 | 49 succeeded, 1 failed |"]
    assert report.counts == {"succeeded": 1}


def test_few_items_are_shown_like_other_steps() -> None:
    items = [_step(f"each[{n}]", foreach="each", item=n) for n in range(3)]

    assert len(_rows(_report([_step("each", items=3), *items]), "Steps")) == 4


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a|b", r"a\|b"),
        ("**bold** _it_", r"\*\*bold\*\* \_it\_"),
        ("<img src=x>", r"\<img src=x\>"),
        ("[a](http://b)", r"\[a\](http://b)"),
        ("two\nlines\x1b[0m", r"two\\nlines\\x1b\[0m"),
    ],
)
def test_a_reason_is_no_markup(written: str, shown: str) -> None:
    happened = Happening(NOW, "ann", "pause", "run", None, None, 0, None, None, {"why": written})
    report = _report([], timeline=Timeline((happened,), {"claim": 7}))

    [row] = _rows(report, "Timeline")

    assert row == f"| 2026-03-01 12:00:00 | ann | pause | run |  | {shown} |"
    assert "*left out: 7 of claim*" in _notes(report, "Timeline")


def test_the_times_of_a_run_that_rested_add_up() -> None:
    assert "1 m 30 s, of which active 1 m 00 s and at rest 30 s" in markdown_of(page_of(_report([])))


def test_what_a_person_gave_as_the_reason_stands_beside_what_happened() -> None:
    paused = {"code": "paused", "detail": {"actor": "ann", "why": "lunch"}}
    happened = Happening(NOW, "ann", "pause", "run", None, None, 0, paused, None, {})

    assert "paused by ann: lunch" in _rows(_report([], interventions=(happened,)), "Interventions")[0]


def test_the_facts_of_an_event_are_told_in_words() -> None:
    facts = {"why": "too slow", "timeout_seconds": [30, 60], "is_hard": False, "set": ["a", "b"]}
    happened = Happening(NOW, "ann", "modify", "step:slow", None, None, 0, None, None, facts)

    [row] = _rows(_report([], interventions=(happened,)), "Interventions")

    assert row.endswith("| ann | modify | `slow` |  | too slow; timeout 30 s → 1 m 00 s, set a, b |")


def test_a_budget_in_an_event_is_told_as_amounts() -> None:
    budget = {"tokens": 200_000, "usd_nano": 5_000_000_000, "active_seconds": 7200.0}
    happened = Happening(NOW, "ann", "submit", "run", None, "running", 2, None, None, {"budget": budget, "set": []})

    [row] = _rows(_report([], timeline=Timeline((happened,), {})), "Timeline")

    assert row.endswith("| running; 2 rows | budget (tokens 200,000, usd $5.00, active 2 h 00 m) |")


def test_what_a_foreach_made_stands_behind_it() -> None:
    steps = [
        _step("each", items=2),
        _step("last"),
        _step("each[0]", foreach="each", item=0),
        _step("each[0].deep", foreach="each", items=1),
        _step("each[1]", foreach="each", item=1),
        _step("each[0].deep[0]", foreach="each[0].deep", item=0),
    ]

    names = [row.split("`")[1] for row in _rows(_report(steps), "Steps")]

    assert names == ["each", "each[0]", "each[0].deep", "each[0].deep[0]", "each[1]", "last"]
    assert [cells[0].depth for cells in _table(_report(steps), "Steps").rows] == [0, 1, 2, 3, 1, 0]


def test_columns_in_which_nothing_stands_are_told() -> None:
    table = _table(_report([_step("a")]), "Steps")

    assert [table.headings[at] for at in table.columns] == [
        "Step", "Action", "State", "Started", "Duration", "Attempts", "Worker", "Exit",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("", [""]),
        ("said at 2026-11-21 (all in good order)", ["said at 2026-11-21 (all in good order)"]),
        ("all_of_the_orders", ["all_", "of_", "the_", "orders"]),
        ("see letters[17].write/it now", ["see letters[17]", ".write/", "it now"]),
        ("f" * 64, ["f" * 24, "f" * 24, "f" * 16]),
    ],
)
def test_a_line_may_break_within_what_is_long(text: str, cut: list[str]) -> None:
    assert pieces(text) == cut


@given(text())
def test_cutting_loses_nothing(written: str) -> None:
    assert "".join(pieces(written)) == written
