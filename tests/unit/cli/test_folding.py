"""How the table of steps shows foreachs: items below them, and a count where there are many."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import Any

from rich.console import Console

from agentflow.cli.steps_table import FOLDED_FROM, LOOKED_AT, folded, steps_table
from agentflow.domain.child import is_item, loops
from agentflow.domain.ids import StepKey
from agentflow.domain.state import StepState
from agentflow.storage.view_shapes import StepView

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def _step(key: str, state: str = "succeeded", items: int | None = None, action: str = "noop") -> StepView:
    around = loops(StepKey(key))
    foreach = around[-1].key if around else None
    return StepView(
        StepKey(key), action, (), StepState(state), None, None, (), (),
        items=items, foreach=foreach, item=around[-1].item if around else None,
    )  # fmt: skip


def _table(steps: list[StepView], **options: Any) -> str:
    view: Any = type("View", (), {"steps": {step.id: step for step in steps}})
    console = Console(width=120, record=True, file=StringIO())
    console.print(steps_table(view, NOW, 1000, **options))
    return console.export_text()


def test_few_items_stand_below_their_foreach() -> None:
    told = _table([_step("e", "pending", 2), _step("e[0]"), _step("e[1]", "running"), _step("z", "pending")])

    lines = told.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["e", "e[0]", "e[1]", "z"]
    assert "1/2 done" in lines[1]
    assert lines[2].startswith("  ")


def test_many_items_are_a_count_and_those_to_look_at() -> None:
    many = FOLDED_FROM + 30
    items = [_step(f"e[{item}]", "failed" if item % 4 == 0 else "succeeded") for item in range(many)]
    steps = [_step("e", "pending", many), *items, _step("z", "pending")]

    told = _table(steps)

    assert f"{many}/{many} done, {sum(item.state == 'failed' for item in items)} failed" in told
    shown = [step.id for step in folded(steps) if is_item(step.id)]
    assert shown == [f"e[{4 * number}]" for number in range(LOOKED_AT)]
    assert f"e[{many - 1}]" in _table(steps, is_unfolded=True)


def test_what_is_inside_of_a_folded_foreach_is_folded_with_it() -> None:
    many = FOLDED_FROM + 1
    steps = [_step("o", "pending", many, "foreach")]
    for item in range(many):
        steps += [_step(f"o[{item}]", "pending", action="group"), _step(f"o[{item}].i", "pending", 1, "foreach")]
        steps += [_step(f"o[{item}].i[0]", "failed" if item == 3 else "ready")]

    assert [step.id for step in folded(steps)] == ["o", "o[3].i[0]"]
