"""What a retry did is said in words: what goes on, which gate asks again, and what waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from agentflow.cli.retry_words import taken_up


@pytest.mark.parametrize(
    ("ready", "pending", "held", "expected"),
    [
        (["a"], [], {}, "goes on with a"),
        (["a"], ["b", "c"], {}, "goes on with a; 2 steps wait for that"),
        ([], ["b"], {"g": "awaits_decision"}, "goes on: the gate g asks again; 1 step waits for that"),
        ([], [], {"c": "awaits_run"}, "goes on: the step c runs its child run again"),
        (
            ["a"],
            [],
            {"g": "awaits_decision", "c": "awaits_run", "h": "awaits_decision", "w": "awaits_signal"},
            "goes on with a; the gates g, h ask again; the step c runs its child run again; the step w waits again",
        ),
        ([], ["b", "c"], {}, "goes on: 2 steps wait for needs of theirs"),
        ([], ["b"], {}, "goes on: 1 step waits for its needs"),
        ([], [], {}, "goes on: no step of it is open any more"),
    ],
)
def test_a_retry_says_what_follows(
    ready: Sequence[str], pending: Sequence[str], held: Mapping[str, str], expected: str
) -> None:
    assert taken_up(ready, pending, held) == expected
