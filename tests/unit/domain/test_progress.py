"""How far a run has come: it never falls within a round, and says 100 only of a run that has ended."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.child import body_key, item_key
from agentflow.domain.ids import StepKey
from agentflow.domain.progress import Progress, progress_of
from agentflow.domain.state import FINAL_STEP_STATES, StepState

S = StepState
States = dict[StepKey, StepState]


def _percent(states: dict[str, StepState]) -> int:
    return progress_of({StepKey(key): state for key, state in states.items()}, has_ended=False).percent


def test_steps_count_alike() -> None:
    assert _percent({"a": S.SUCCEEDED, "b": S.FAILED, "c": S.RUNNING, "d": S.PENDING}) == 50


def test_the_items_of_a_foreach_are_parts_of_it() -> None:
    items = {f"each[{item}]": S.SUCCEEDED if item < 3 else S.RUNNING for item in range(4)}

    assert _percent({"a": S.SUCCEEDED, "each": S.PENDING, **items}) == (100 + 75) // 2


def test_the_body_of_an_item_is_part_of_it() -> None:
    body = {"each[0]": S.PENDING, "each[0].a": S.SUCCEEDED, "each[0].b": S.READY, "each[1]": S.SUCCEEDED}

    assert _percent({"each": S.PENDING, **body}) == 75


def test_only_a_run_that_has_ended_is_done() -> None:
    states: States = {StepKey("a"): S.SUCCEEDED}

    assert progress_of(states, has_ended=False) == Progress(99, 1, 1)
    assert progress_of(states, has_ended=True) == Progress(100, 1, 1)


@given(st.data())
def test_it_never_falls_while_steps_end_and_foreachs_make_items(data: st.DataObject) -> None:
    """Steps only end within a round, and what is made belongs to a step that is open."""
    states: States = {StepKey(f"s{number}"): S.PENDING for number in range(data.draw(st.integers(1, 4)))}
    seen = progress_of(states, has_ended=False)
    for _ in range(data.draw(st.integers(1, 25))):
        _move(data, states)
        now = progress_of(states, has_ended=False)
        assert seen.percent <= now.percent <= 99
        assert seen.done <= now.done <= now.total == seen.total
        seen = now


def _move(data: st.DataObject, states: States) -> None:
    opened = [key for key, state in states.items() if state not in FINAL_STEP_STATES]
    if not opened:
        return
    key = data.draw(st.sampled_from(opened))
    has_children = any(each.startswith((f"{key}[", f"{key}.")) for each in states)
    match data.draw(st.sampled_from(["end", "run", "expand"])):
        case "end":
            states[key] = data.draw(st.sampled_from(sorted(FINAL_STEP_STATES)))
        case "run":
            states[key] = S.RUNNING
        case _ if not has_children and key.count("[") < 3 and not key.endswith("]"):
            has_body = data.draw(st.booleans())
            for item in range(data.draw(st.integers(1, 4))):
                made = item_key(key, item)
                states[made] = S.PENDING
                if has_body:
                    inner = StepKey(f"i{key.count('[')}")
                    states |= {body_key(made, inner): S.PENDING, body_key(made, StepKey(f"{inner}x")): S.PENDING}
