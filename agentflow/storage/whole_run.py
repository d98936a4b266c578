"""A run as surfaces show it with everything of it: steps, attempts, calls, artifacts, usage, budget, lineage.

Owns the reading of one run, all of one moment, in one statement and a few more where there is more to tell. Locks and
moves nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Row

from agentflow.domain.budget import usd_of
from agentflow.domain.child import parent
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import AttemptState, StepState
from agentflow.storage import balances, forks, gates, retention, signals
from agentflow.storage.active_time import read_active_time
from agentflow.storage.database import statement
from agentflow.storage.view_shapes import ArtifactView, AttemptView, CallView, RunView, StepView, TreeUsage, Usage
from agentflow.storage.views import summary_of

Json = list[Any]
"""A row within the statement's answer: its values in the order of view_whole_run.sql."""


class Placed(Protocol):
    """What the order of steps and their needs follow from."""

    @property
    def id(self) -> str:
        """The step's row."""

    @property
    def key(self) -> StepKey:
        """Its id in the plan."""

    @property
    def action(self) -> str:
        """What it does."""

    @property
    def items(self) -> int | None:
        """How many items a foreach has."""

    @property
    def foreach(self) -> StepKey | None:
        """In which foreach it stands."""

    @property
    def item(self) -> int | None:
        """For which item of it."""


P = TypeVar("P", bound=Placed)


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What a row says of a step; ``kept`` is the number of the attempt whose artifacts are shown."""

    id: str
    key: StepKey
    action: str
    state: str
    reason: Mapping[str, Any] | None
    result: Any
    choice: str | None
    kept: int
    items: int | None
    foreach: StepKey | None
    item: int | None


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What a row says of a model call."""

    attempt: str
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    usd_nano: int | None
    is_estimated: bool
    finish_reason: str | None
    problem: str | None
    duration_seconds: float


def read_run(tx: Connection, run_id: RunId) -> RunView:
    """Read a run with its steps, attempts, artifacts, usage, budget, lineage, gates and signals.

    NotFound when there is none.
    """
    row = tx.execute(statement("view_whole_run"), {"run_id": run_id}).one_or_none()
    if row is None:
        raise retention.missing_run(tx, run_id)
    steps = below_foreachs([StepFacts(*each) for each in row.steps or ()])
    calls = calls_of(row)
    shown = step_views(row, steps, steps, calls)
    lineage = forks.lineage_of(row)
    opened = gates.view(tx, run_id=run_id, is_open=False) if any(each.action == "approval" for each in steps) else []
    if lineage.children:
        below = gates.view(tx, run_id=run_id, is_open=True, is_tree=True)
        opened += [view for view in below if view.run_id != run_id]
    return RunView(
        summary_of(tx, row),
        _usage(read_active_time(tx, run_id).active, [each.attempts for each in shown.values()], calls),
        shown,
        balances.read_caps(tx, run_id) if row.has_budget else (),
        lineage,
        tuple(opened),
        tuple(signals.read_waiting(tx, run_id) if any(each.action == "wait" for each in steps) else ()),
        _tree_usage(tx, run_id) if lineage.children else None,
        row.events,
    )


def calls_of(row: Row[Any]) -> list[CallFacts]:
    """Return the model calls that an answer tells of."""
    return [CallFacts(*each) for each in row.calls or ()]


def step_views(
    row: Row[Any], steps: Iterable[StepFacts], ordered: Sequence[Placed], calls: Iterable[CallFacts]
) -> dict[str, StepView]:
    """Return steps as they are shown, by id; ``ordered`` are all of the run, in the order in which they are shown."""
    attempts = _attempts(row.attempts or (), {call.attempt: call for call in calls})
    artifacts: dict[str, Json] = defaultdict(list)
    for step_id, *each in row.artifacts or ():
        artifacts[step_id].append(each)
    needs = _needs(row.edges or (), ordered)
    return {each.key: _step(each, needs[each.id], attempts.get(each.id, ()), artifacts[each.id]) for each in steps}


def below_foreachs(steps: Sequence[P]) -> list[P]:
    """Put what foreachs made below them, item by item."""
    inside: dict[str, list[P]] = defaultdict(list)
    for step in steps:
        inside[step.foreach or ""].append(step)
    if len(inside) == 1:
        return list(steps)
    ordered: list[P] = []
    work = inside[""][::-1]
    while work:
        step = work.pop()
        ordered.append(step)
        work.extend(sorted(inside.get(step.key, ()), key=lambda inner: inner.item or 0)[::-1])
    return ordered


def _needs(edges: Iterable[Json], steps: Sequence[Placed]) -> Mapping[str, list[StepKey]]:
    """The needs of each step, in the order of the plan; what stands inside of a foreach or an item is no need of it."""
    positions = {step.id: position for position, step in enumerate(steps)}
    containers = {
        step.id: step.key for step in steps if step.items is not None or (step.foreach and step.action == "group")
    }
    wanted: dict[str, list[int]] = defaultdict(list)
    for to_step, from_step in edges:
        position, around = positions[from_step], containers.get(to_step)
        if around is None or parent(steps[position].key) != around:
            wanted[to_step].append(position)
    return {step.id: [steps[position].key for position in sorted(wanted[step.id])] for step in steps}


def _attempts(rows: Iterable[Json], calls: Mapping[str, CallFacts]) -> dict[str, list[AttemptView]]:
    """The attempts of each step, the first one first."""
    found: dict[str, list[AttemptView]] = defaultdict(list)
    for step_id, attempt_id, number, state, worker, started, ended, exit_code, signal, reason, retry in rows:
        found[step_id].append(
            AttemptView(
                number=number,
                state=AttemptState(state),
                worker=worker,
                started_at=datetime.fromisoformat(started),
                ended_at=_time(ended),
                exit_code=exit_code,
                signal=signal,
                reason=reason,
                retry_at=_time(retry),
                call=_call(calls[attempt_id]) if attempt_id in calls else None,
            )
        )
    return found


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _call(call: CallFacts) -> CallView:
    return CallView(
        provider=call.provider,
        model=call.model,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cached_tokens=call.cached_tokens,
        reasoning_tokens=call.reasoning_tokens,
        usd=None if call.usd_nano is None else usd_of(call.usd_nano),
        is_estimated=call.is_estimated,
        finish_reason=call.finish_reason,
        problem=call.problem,
        duration_seconds=call.duration_seconds,
    )


def _step(
    step: StepFacts, needs: Sequence[StepKey], attempts: Sequence[AttemptView], artifacts: Iterable[Json]
) -> StepView:
    return StepView(
        id=step.key,
        action=step.action,
        needs=tuple(needs),
        state=StepState(step.state),
        reason=step.reason,
        result=step.result,
        attempts=tuple(attempts),
        artifacts=tuple(ArtifactView(step.key, *each) for each in artifacts if each[0] == step.kept),
        choice=step.choice,
        items=step.items,
        foreach=step.foreach,
        item=step.item,
    )


def _usage(active_seconds: float, attempts: Iterable[Sequence[AttemptView]], calls: Sequence[CallFacts]) -> Usage:
    own = (attempt for of_step in attempts for attempt in of_step if not attempt.is_reused)
    ended = [attempt.duration_seconds or 0.0 for attempt in own]
    return Usage(
        attempts=len(ended),
        active_seconds=active_seconds,
        attempt_seconds=round(sum(ended), 6),
        calls=len(calls),
        tokens=sum(call.input_tokens + call.output_tokens for call in calls),
        input_tokens=sum(call.input_tokens for call in calls),
        output_tokens=sum(call.output_tokens for call in calls),
        cached_tokens=sum(call.cached_tokens for call in calls),
        reasoning_tokens=sum(call.reasoning_tokens for call in calls),
        usd=usd_of(sum(call.usd_nano or 0 for call in calls)),
        estimated_calls=sum(call.is_estimated for call in calls),
        unpriced_calls=sum(call.usd_nano is None for call in calls),
    )


def _tree_usage(tx: Connection, run_id: RunId) -> TreeUsage:
    row = tx.execute(statement("sum_tree_usage"), {"run_id": run_id}).one()
    return TreeUsage(row.child_runs, row.attempts, row.calls, row.tokens, usd_of(row.usd_nano), row.unpriced_calls)
