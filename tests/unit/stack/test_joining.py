"""Who would start a stack where one is up joins it if it has all that was asked for, and is refused else."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentflow.domain.error import PreconditionFailed
from agentflow.embedded import StackState
from agentflow.stack.joining import check_joined
from agentflow.stack.supervision import StackOptions

HOME = Path("/home")
WANTED = StackOptions(4, has_beat=True)


def _state(api: str | None = None, concurrency: int = 4, *, flower: bool = False, beat: bool = True) -> StackState:
    return StackState(7, 0.0, "", "", HOME, HOME, "0", api, concurrency=concurrency, has_flower=flower, has_beat=beat)


@pytest.mark.parametrize(
    ("state", "wanted", "concurrency"),
    [
        (_state(), WANTED, None),
        (_state(), WANTED, 4),
        (_state(concurrency=9), WANTED, None),
        (_state("http://a", flower=True), WANTED, None),
        (_state("http://a", flower=True), StackOptions(4, has_flower=True, has_beat=True, has_api=True), None),
        (_state(beat=False), StackOptions(4), None),
    ],
)
def test_a_stack_that_has_what_was_asked_for_is_joined(
    state: StackState, wanted: StackOptions, concurrency: int | None
) -> None:
    check_joined(HOME, state, wanted, concurrency=concurrency)


@pytest.mark.parametrize(
    ("state", "wanted", "concurrency", "lacking"),
    [
        (_state(), StackOptions(4, has_api=True), None, "serves no API"),
        (_state("http://a"), StackOptions(4, has_flower=True), None, "has no Flower"),
        (_state(beat=False), WANTED, None, "has no beat"),
        (_state(), WANTED, 8, "performs 4 steps at once, not 8"),
        (_state(), StackOptions(4, has_flower=True, has_api=True), None, "serves no API, has no Flower"),
    ],
)
def test_what_it_lacks_is_named_with_what_to_do(
    state: StackState, wanted: StackOptions, concurrency: int | None, lacking: str
) -> None:
    with pytest.raises(PreconditionFailed, match=f"and it {lacking}. .*`agentflow down`"):
        check_joined(HOME, state, wanted, concurrency=concurrency)
