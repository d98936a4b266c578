"""The handle on one run: what is known of it, waiting for it, and the verbs that act on it.

Owns the snapshot that the properties show. Everything is read through the flow that made the handle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import UUID

from agentflow.client.budget_report import BudgetReport
from agentflow.client.budgets import BudgetRaised, Money
from agentflow.client.checks import checked_timeout
from agentflow.client.feed import Stir
from agentflow.client.interventions import RunInterventions
from agentflow.client.pace import Pace
from agentflow.client.run_logs import STREAMS, LogChunk, LogReader
from agentflow.content.store import Address
from agentflow.domain.error import NotFound, RunFailed, ServersUnreachable, UsageError, WaitTimeout
from agentflow.domain.gate import Verdict
from agentflow.domain.gate_shape import GateView
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.reason import sentence_of
from agentflow.domain.state import RESTING_RUN_STATES, ShownRunState, is_final
from agentflow.domain.wording import did_you_mean
from agentflow.engine.cancel import CancelAsked
from agentflow.engine.decide import Decided
from agentflow.engine.gather import artifact_name
from agentflow.engine.pause import PauseAsked
from agentflow.engine.resume import Resumed
from agentflow.engine.retry import Retried
from agentflow.engine.signal import Signalled
from agentflow.engine.why import Explanation
from agentflow.storage.view_shapes import ArtifactView, EventView, RunSummary, RunView, StepView, TreeUsage, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from agentflow.client.flow import AgentFlow
    from agentflow.client.forks import ForkedRun
    from agentflow.client.plan import Plan
    from agentflow.engine.load_plan import LoadedPlan


class Run(RunInterventions):
    """A run. Its properties show a snapshot, taken at first use and anew after ``refresh``, ``wait`` and the verbs.

    ``existing`` tells that a submit found the run under its idempotency key; ``is_sent`` is False when Redis did not
    take its first messages, which a dispatcher then sends.
    """

    def __init__(
        self,
        flow: AgentFlow,
        run_id: RunId,
        *,
        existing: bool = False,
        is_sent: bool = True,
        summary: RunSummary | None = None,
    ) -> None:
        self._flow = flow
        self._run_id = run_id
        self._summary = summary
        self._view: RunView | None = None
        self.existing = existing
        self.is_sent = is_sent

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self._run_id)

    @property
    def uuid(self) -> UUID:
        """The run's id as a UUID."""
        return self._run_id

    @property
    def summary(self) -> RunSummary:
        """The run without its steps: times, plan, project."""
        if self._summary is None:
            self._summary = self._flow.read_summary(self._run_id)
        return self._summary

    @property
    def view(self) -> RunView:
        """The whole run, steps and all."""
        if self._view is None:
            self._view = self._flow.read_run(self._run_id)
            self._summary = self._view.summary
        return self._view

    @property
    def state(self) -> ShownRunState:
        """What the run is shown as: running, waiting, completed, ... It compares equal to its name."""
        return self.summary.state

    @property
    def reason(self) -> Mapping[str, Any] | None:
        """Why the run is as it is, ``{code, detail}``, where there is more to say than its state."""
        return self.summary.reason

    @property
    def steps(self) -> Mapping[str, StepView]:
        """The steps by id, in the order of the plan."""
        return self.view.steps

    @property
    def usage(self) -> Usage:
        """What the run itself used so far, without its child runs."""
        return self.view.usage

    @property
    def tree_usage(self) -> TreeUsage | None:
        """What the run and all runs below it used so far; None for a run without child runs."""
        return self.view.tree

    @property
    def artifacts(self) -> tuple[ArtifactView, ...]:
        """The files that the last attempts registered, without their stdout and stderr."""
        return tuple(found for step in self.steps.values() for found in step.artifacts if not found.is_stream)

    @property
    def parent(self) -> Run | None:
        """The run whose step started this one; None for one that was submitted."""
        above = self.view.lineage.parent
        return None if above is None else Run(self._flow, RunId(above.run))

    @property
    def children(self) -> Mapping[str, tuple[Run, ...]]:
        """The child runs that steps of this one started, by step, the oldest first."""
        found: dict[str, tuple[Run, ...]] = {}
        for each in self.view.lineage.children:
            found[each.step] = (*found.get(each.step, ()), Run(self._flow, RunId(each.run)))
        return found

    @property
    def is_at_rest(self) -> bool:
        """Whether the run has ended, or rests until someone acts."""
        return is_final(self.state) or self.state in RESTING_RUN_STATES

    def as_json(self) -> dict[str, Any]:
        """The run as ``agentflow show --json`` prints it."""
        return self.view.as_json()

    def refresh(self) -> Run:
        """Forget the snapshot, so that what is asked next is read anew."""
        self._summary = self._view = None
        return self

    def wait(self, timeout: float | None = None, *, raise_on_failure: bool = False) -> Run:
        """Wait until the run has ended or rests, for at most ``timeout`` seconds.

        Raises WaitTimeout (a TimeoutError) when the time is over, ServersUnreachable when Postgres is away for 30
        seconds, UsageError for a timeout that is no number of seconds and, if asked to, RunFailed unless the run
        completed.
        """
        for _ in self.looks(Pace(checked_timeout(timeout))):
            pass
        if not self.is_at_rest:
            raise WaitTimeout(
                f"Run {self.id} is still {self.state} after {timeout:g} s.", run_id=self.id, state=self.state.value
            )
        if raise_on_failure and self.state is not ShownRunState.COMPLETED:
            why = f": {sentence_of(self.reason)}" if self.reason else ""
            raise RunFailed(
                f"Run {self.id} is {self.state}{why}.", run_id=self.id, state=self.state.value, reason=self.reason
            )
        return self

    def events(self, *, follow: bool = False, after: int = 0) -> Iterator[EventView]:
        """Yield the run's audit events in the order of writing, those above the id ``after``.

        With ``follow`` until the run has ended or rests.
        """
        feed = self._flow.event_feed(self, after=after)
        for _ in self.looks(Pace()) if follow else ():
            with suppress(ServersUnreachable):  # the next look bears it
                yield from feed.take()
        yield from feed.take_rest()

    def settled_events(self) -> Iterator[EventView]:
        """Yield the run's events up to where none can appear any more below one that is yielded.

        For who goes on behind the last one later. Raises Conflict when that cannot be known soon.
        """
        feed = self._flow.event_feed(self)
        return feed.take_rest(feed.settle())

    def follow(self, *, after: int = 0) -> Iterator[EventView]:
        """Yield the run's events as they come, those above the id ``after``, until the run has ended or rests.

        The ``id`` of the last event is where to go on: none is missed and none comes twice.
        """
        return self.events(follow=True, after=after)

    def follow_logs(
        self, step: str | None = None, *, streams: Collection[str] = STREAMS, after: str = ""
    ) -> Iterator[LogChunk]:
        """Yield what the run's commands write, as they write it, until the run has ended or rests.

        The ``cursor`` of a piece, given as ``after``, goes on behind it. Raises NotFound for a step that is not there.
        """
        if step is not None:
            self.step(step)
        reader, feed = self.log_reader(step, streams, after), self._flow.event_feed(self)
        for _ in self.looks(Pace()):
            with suppress(ServersUnreachable):  # the next look bears it
                for event in feed.take():
                    yield from reader.note(event)
                yield from reader.read()
        for event in feed.take_rest():
            yield from reader.note(event)

    def log_reader(self, step: str | None = None, streams: Collection[str] = STREAMS, after: str = "") -> LogReader:
        """Return what reads the output of the run, to be led by its events."""
        store = self._flow.context.store
        return LogReader(store, self._run_id, self._reused, step=step, streams=streams, cursor=after)

    def _reused(self) -> list[tuple[StepKey, int]]:
        steps = self._flow.read_run(self._run_id).steps.values()
        return [(step.id, each.number) for step in steps for each in step.attempts if each.is_reused]

    def stir(self) -> Stir:
        """Return what tells when the run is worth another look."""
        return Stir(self._flow.event_feed(self, after=None))

    def looks(self, pace: Pace, *, is_whole: bool = False) -> Iterator[Run]:
        """Yield the run, read anew (``is_whole``: with its steps), again and again until it is at rest.

        Ends when the pace's time is over. A short outage of Postgres is borne; ServersUnreachable when it lasts.
        """
        while True:
            try:
                self.refresh()
                _ = self.view if is_whole else self.summary
            except ServersUnreachable as error:
                pace.bear(error)
            else:
                pace.recover()
                yield self
                if self.is_at_rest:
                    return
            if not pace.pause():
                return

    def cancel(self) -> CancelAsked:
        """End the run: what waits ends now, what runs is told to stop. InvalidTransition when it has ended."""
        asked = self._flow.cancel(self)
        self.refresh()
        return asked

    def retry(self, step: str | None = None) -> Retried:
        """Take up what failed, was cancelled or is held, or one such step. InvalidTransition when there is nothing."""
        retried = self._flow.retry(self, step)
        self.refresh()
        return retried

    def fork(
        self,
        from_step: str,
        *,
        vars: Mapping[str, Any] | None = None,  # noqa: A002 - the plan format's own name
        plan: Plan | LoadedPlan | str | Path | None = None,
    ) -> ForkedRun:
        """Make a new run that takes over what this one did before ``from_step``; more can be given to the flow's."""
        return self._flow.fork(self, from_step, vars=vars, plan=plan)

    def verdicts(self, gate: GateView) -> Sequence[Verdict]:
        """Tell what the actor of the client may say to an open gate. See ``AgentFlow.verdicts``."""
        return self._flow.verdicts(gate)

    def approve(
        self, step: str | None = None, *, why: str | None = None, form: Mapping[str, Any] | None = None
    ) -> Decided:
        """Approve the gate that the run waits at. Raises as ``AgentFlow.approve`` does."""
        decided = self._flow.approve(self, step, why=why, form=form)
        self.refresh()
        return decided

    def reject(self, step: str | None = None, *, why: str | None = None) -> Decided:
        """Reject the gate that the run waits at. Raises as ``AgentFlow.reject`` does."""
        decided = self._flow.reject(self, step, why=why)
        self.refresh()
        return decided

    def pause(self, *, now: bool = False, why: str | None = None) -> PauseAsked:
        """Let the run rest until it is resumed; with ``now`` what runs is given back. Raises InvalidTransition."""
        asked = self._flow.pause(self, now=now, why=why)
        self.refresh()
        return asked

    def wait_drained(self, timeout: float | None = None) -> float:
        """Wait until no attempt of the run runs, after a pause; returns after how many seconds. Raises WaitTimeout."""
        return self._flow.wait_drained(self, timeout)

    def resume(self) -> Resumed:
        """Let the run go on that is paused or rests over a budget. Raises as ``AgentFlow.resume`` does."""
        resumed = self._flow.resume(self)
        self.refresh()
        return resumed

    def signal(self, name: str, data: Any = None) -> Signalled:
        """Send the run a signal, which ends the wait of one step or is kept. Raises as ``AgentFlow.signal`` does."""
        signalled = self._flow.signal(self, name, data)
        self.refresh()
        return signalled

    def raise_budget(
        self,
        *,
        steps: int | None = None,
        tokens: int | None = None,
        usd: Money | None = None,
        active_time: str | timedelta | None = None,
    ) -> BudgetRaised:
        """Add to the run's caps; a resting run is resumed apart. Raises as ``AgentFlow.raise_budget`` does."""
        raised = self._flow.raise_budget(self, steps=steps, tokens=tokens, usd=usd, active_time=active_time)
        self.refresh()
        return raised

    def budget(self) -> BudgetReport:
        """Read how every budget stands that the run counts in, its own first."""
        return self._flow.budget(self)

    def why(self, step: str | None = None) -> Explanation:
        """Compute the one reason for which the run, or one step of it, is where it is, by how things stand now."""
        return self._flow.why(self, step)

    def report(self, format: str = "md", *, has_vars: bool = False) -> str:  # noqa: A002 - the word that users know
        """Return the run's report as ``md``, ``json`` or ``html``; it holds no content, and var values if asked to."""
        return self._flow.report(self, format, has_vars=has_vars)

    def step(self, key: str) -> StepView:
        """Return one step. NotFound names the steps that there are."""
        found = self.steps.get(key)
        if found is None:
            known = did_you_mean(key, self.steps)
            raise NotFound(f"Run {self.id} has no step {key!r}: {known}", run_id=self.id, step=key)
        return found

    def kept(self, step: str | None = None) -> list[ArtifactView]:
        """Read which files all attempts left, stdout and stderr among them, in the order of plan and attempts."""
        return self._flow.read_artifacts(self._run_id, step)

    def find_artifact(self, name: str, step: str | None = None, attempt: int | None = None) -> ArtifactView:
        """Return the file ``name`` (also ``stdout``, ``stderr``) that a step left; its last one unless told otherwise.

        NotFound when there is none, UsageError when several steps left one of that name and ``step`` is not given.
        """
        if step is not None:
            self.step(step)
        left = self.kept(step)
        found = [one for one in left if one.name == name and attempt in (None, one.attempt)]
        owners = sorted({one.step for one in found})
        if not found:
            raise NotFound(self._nothing_named(name, left), run_id=self.id, artifact=name)
        if len(owners) > 1:
            raise UsageError(f"Several steps left {name!r}: {', '.join(owners)}. Name one.", steps=owners)
        return max(found, key=lambda one: one.attempt)

    def _nothing_named(self, name: str, left: list[ArtifactView]) -> str:
        names = sorted({one.name for one in left})
        return f"Run {self.id} left no {name!r}. It left: {', '.join(names[:12]) or 'nothing yet'}."

    def open_artifact(self, artifact: ArtifactView) -> BinaryIO:
        """Open what ``find_artifact``, ``artifacts`` or a step named, for reading. ContentError when it is gone."""
        name = artifact_name(artifact.name) if artifact.kind == "file" else artifact.name
        return self._flow.context.store.open(Address(self.id, name, artifact.step, artifact.attempt))

    def read_artifact(self, name: str, step: str | None = None) -> bytes:
        """Read a whole file that a step left. Raises as ``find_artifact`` and ``open_artifact`` do."""
        with self.open_artifact(self.find_artifact(name, step)) as file:
            return file.read()
