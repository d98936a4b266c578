"""One verb on many runs: which runs a filter means for it, and what became of each.

Every run is its own verb call with its own transaction and audit event. A run that others moved meanwhile is told of,
and is no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

from agentflow.client.checks import checked_state
from agentflow.client.conflicts import telling_conflicts
from agentflow.client.page import MAX_PAGE, cursor_below
from agentflow.domain.error import AgentflowError, ServersUnreachable, UsageError
from agentflow.domain.state import ShownRunState
from agentflow.storage import balances

if TYPE_CHECKING:
    from agentflow.client.flow import AgentFlow
    from agentflow.client.run import Run

S = ShownRunState
STATES: Mapping[str, tuple[ShownRunState, ...]] = {
    "cancel": (S.PENDING, S.RUNNING, S.FAILING, S.PAUSED, S.EXHAUSTED, S.WAITING),
    "pause": (S.RUNNING, S.WAITING, S.EXHAUSTED),
    "resume": (S.PAUSED, S.EXHAUSTED),
    "retry": (S.FAILED, S.PARTIAL),
}
"""Whom a verb means where no state is said. A run that was cancelled or waits for a person is retried only if named."""


_ENDED = (S.COMPLETED, S.PARTIAL, S.FAILED, S.CANCELLED)
NEVER: Mapping[str, tuple[ShownRunState, ...]] = {
    "cancel": _ENDED,
    "pause": _ENDED,
    "resume": _ENDED,
    "retry": (S.COMPLETED,),
}
"""In which states a verb fits no run: those of which there may be any number."""


class Outcome(StrEnum):
    """What became of a run."""

    DONE = "done"
    CHANGED = "changed"
    """Others had moved it meanwhile, so that the verb did not fit any more."""
    REFUSED = "refused"
    """The verb does not fit it."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Acted:
    """What became of one run: ``answer`` is the verb's own, ``message`` why it was not done."""

    run: Run
    outcome: Outcome
    message: str | None = None
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_failure(self) -> bool:
        """Whether who asked should know that it was not done."""
        return self.outcome in (Outcome.REFUSED, Outcome.FAILED)

    def as_json(self) -> dict[str, Any]:
        """The run as it stands now, with what became of it."""
        told = {"outcome": self.outcome.value, "message": self.message, "answer": dict(self.answer)}
        return self.run.summary.as_json() | told


def select(
    flow: AgentFlow,
    verb: str,
    *,
    state: str | None = None,
    project: str | None = None,
    name: str | None = None,
    older_seconds: float | None = None,
    most: int | None = None,
) -> list[Run]:
    """Find the runs that a filter means for a verb, the newest first, ``most`` at most where that is said.

    UsageError for what is no state, and for one in which the verb fits no run.
    """
    given = checked_state(state)
    if given in NEVER[verb]:
        raise UsageError(f"No run that is {given} can be told to {verb}.", state=given)
    states = STATES[verb] if given is None else (given,)
    start = None if older_seconds is None else _older(flow, older_seconds)
    found = [run for each in states for run in islice(_all_of(flow, each.value, project, name, start), most)]
    # Read state by state, a run that moved between two reads would stand there twice.
    by_id = {run.id: run for run in found}
    return sorted(by_id.values(), key=lambda run: (run.summary.created_at, run.id), reverse=True)[:most]


def _older(flow: AgentFlow, seconds: float) -> str:
    """The cursor of the runs that were submitted so long ago, by the database's clock."""
    with flow._reading() as tx:  # noqa: SLF001 - this module is a part of the client
        return cursor_below(balances.read_now(tx) - timedelta(seconds=seconds))


def _all_of(flow: AgentFlow, state: str, project: str | None, name: str | None, cursor: str | None) -> Iterator[Run]:
    while True:
        page = flow.runs(state=state, project=project, name=name, limit=MAX_PAGE, cursor=cursor)
        yield from page
        cursor = page.next_cursor
        if cursor is None:
            return


def act_on_each(runs: Iterable[Run], act: Callable[[Run], Mapping[str, Any]]) -> Iterator[Acted]:
    """Do something with each run and yield what became of it; ServersUnreachable ends it."""
    for run in runs:
        before = run.state
        try:
            with telling_conflicts():
                answer = act(run)
        except ServersUnreachable:
            raise
        except AgentflowError as error:
            yield _not_done(run, before, error)
        else:
            yield Acted(run, Outcome.DONE, answer=answer)


def _not_done(run: Run, before: ShownRunState, error: AgentflowError) -> Acted:
    if error.code != "invalid_transition":
        return Acted(run, Outcome.FAILED, str(error))
    has_changed = run.refresh().state is not before
    return Acted(run, Outcome.CHANGED if has_changed else Outcome.REFUSED, str(error))
