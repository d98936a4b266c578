"""Playing runs with foreachs in this process: each step is claimed and settled as the test says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.outcome import AttemptOutcome
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.settle import Settled, Settlement, settle
from agentflow.runtime import Runtime
from tests.factories import step_rows
from tests.integration.engine.run_game import OUTCOMES


def take(house: Runtime, run_id: RunId, key: str) -> Claimed:
    """Take a step that is due."""
    claimed = claim(house.context, run_id, StepKey(key), "test:0")
    assert isinstance(claimed, Claimed), (key, claimed)
    return claimed


def finish(house: Runtime, claimed: Claimed, outcome: str | AttemptOutcome = "succeeded") -> None:
    """Settle what was taken."""
    ended = OUTCOMES[outcome] if isinstance(outcome, str) else outcome
    settlement = Settlement(claimed.run_id, claimed.step_id, claimed.plan, ended, "test", is_sink=claimed.is_sink)
    assert isinstance(settle(house.context, settlement, claimed.claim_token), Settled)


def play(house: Runtime, run_id: RunId, outcomes: Mapping[str, str] | None = None) -> list[list[str]]:
    """Do all that is due, round by round; steps succeed unless ``outcomes`` says otherwise. Returns what rounds did."""
    rounds: list[list[str]] = []
    while due := in_state(house, run_id, "ready"):
        for key in due:
            finish(house, take(house, run_id, key), (outcomes or {}).get(key, "succeeded"))
        rounds.append(due)
    return rounds


def in_state(house: Runtime, run_id: RunId, state: str) -> list[str]:
    """The steps of a run that are in a state, by position."""
    return [key for key, row in step_rows(house.context, run_id).items() if row.state == state]


def states(house: Runtime, run_id: RunId) -> dict[str, str]:
    """How every step of a run stands."""
    return {key: row.state for key, row in step_rows(house.context, run_id).items()}


def counts(house: Runtime, run_id: RunId) -> Counter[str]:
    """How many steps of a run are in which state."""
    return Counter(states(house, run_id).values())


def each(key: str, items: Any, *body: dict[str, Any], needs: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """A foreach as a plan document writes it: over a noop, over the action in ``fields``, or with a body."""
    terms = {"items": items, **{name: fields.pop(name) for name in ("max_parallel", "merge") if name in fields}}
    actions = {"noop", "subprocess", "llm", "http", "wait", "run"}
    inner: dict[str, Any] = {"steps": list(body)} if body else ({} if actions & fields.keys() else {"noop": {}})
    return {"id": key, "needs": list(needs), "foreach": terms, **inner, **fields}
