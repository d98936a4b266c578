"""How far a run has come, in percent: the steps that have ended, each of the plan's own with the same weight.

A foreach counts as far as its items have come, an item as far as its body has. Within a round it never falls, however
many items are made on the way; 100 is said only of a run that has ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from agentflow.domain.child import is_child, parent
from agentflow.domain.ids import StepKey
from agentflow.domain.state import FINAL_STEP_STATES, StepState

_MOST_WHILE_OPEN = 99


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of the plan's ``total`` steps have ended; ``percent`` counts what has ended inside of the others too."""

    percent: int
    done: int
    total: int

    def as_json(self) -> dict[str, Any]:
        """The progress as it stands under its run."""
        return {"percent": self.percent, "done": self.done, "total": self.total}


def progress_of(states: Mapping[StepKey, StepState], *, has_ended: bool) -> Progress:
    """Return how far a run has come whose steps stand like this."""
    own = [key for key in states if not is_child(key)]
    done = sum(states[key] in FINAL_STEP_STATES for key in own)
    if has_ended:
        return Progress(100, done, len(own))
    share = _mean(own, states, _children(states)) if own else Fraction(0)
    return Progress(min(_MOST_WHILE_OPEN, int(share * 100)), done, len(own))


def _children(states: Iterable[StepKey]) -> dict[StepKey, list[StepKey]]:
    """The items of each foreach and the steps of each item's body, by the name of the row that they belong to."""
    children: dict[StepKey, list[StepKey]] = defaultdict(list)
    for key in states:
        around = parent(key)
        if around is not None:
            children[around].append(key)
    return children


def _mean(
    keys: list[StepKey], states: Mapping[StepKey, StepState], children: Mapping[StepKey, list[StepKey]]
) -> Fraction:
    """The mean share of some rows; as deep as foreachs nest."""
    ended, begun = 0, Fraction(0)
    for key in keys:
        if states[key] in FINAL_STEP_STATES:
            ended += 1
        elif key in children:
            begun += _mean(children[key], states, children)
    return (ended + begun) / len(keys)
