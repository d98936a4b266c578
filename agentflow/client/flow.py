"""AgentFlow: the way from a Python process to an installation. Submits plans, finds runs, acts on them.

Owns which verb of the engine or read of storage/views.py a call is, and what is checked before it. The connections are
connection.py's; what is pushed and stored, stored.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Unpack
from uuid import UUID

from agentflow.client.budget_report import BudgetReport, checked_owner, read_report, with_ledger
from agentflow.client.budgets import BudgetRaised, Money, checked_more
from agentflow.client.checks import checked_actor, checked_key, checked_name, checked_state, checked_why
from agentflow.client.conflicts import trying_again
from agentflow.client.dead_letters import DeadLetterBox
from agentflow.client.feeds import Feeds
from agentflow.client.forks import ForkedRun
from agentflow.client.gates import Gates
from agentflow.client.interventions import Interventions
from agentflow.client.keys import Keys
from agentflow.client.limit_report import LimitsReport, read_breakers
from agentflow.client.modes import check_hash, checked_mode
from agentflow.client.page import MAX_PAGE, RunPage, cursor_after, place_of
from agentflow.client.pauses import Pauses
from agentflow.client.plan import Budget, Plan, plain
from agentflow.client.reports import Reports
from agentflow.client.retention import Retention
from agentflow.client.run import Run
from agentflow.client.run_diff import RunDiff, read_diff
from agentflow.client.schedules import ScheduleKeeping
from agentflow.client.service import Service
from agentflow.client.signals import Signals
from agentflow.client.stored import StoredPlans, loaded_of, project_of
from agentflow.client.submission import CheckedPlan, SubmitOptions
from agentflow.client.webhooks import Webhooks
from agentflow.domain.budget_document import read_given_budget
from agentflow.domain.error import PlanRejected, UsageError
from agentflow.domain.fault import Fault
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.mode import Mode, gate_faults
from agentflow.domain.plan_check import check_available
from agentflow.domain.variable import resolve_vars
from agentflow.engine.cancel import CancelAsked, cancel
from agentflow.engine.forecast import forecast
from agentflow.engine.foresee_children import KnownPlan
from agentflow.engine.fork import ForkRequest, fork
from agentflow.engine.load_plan import LoadedPlan
from agentflow.engine.pause import PauseAsked, pause
from agentflow.engine.raise_budget import raise_budget
from agentflow.engine.resume import Resumed, resume
from agentflow.engine.retry import Retried, retry
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.engine.why import Explanation, why
from agentflow.executors.base import known_actions
from agentflow.storage import balances, limits, views
from agentflow.storage.view_shapes import ArtifactView, RunSummary, RunView
from agentflow.storage.whole_run import read_run


class AgentFlow(
    StoredPlans,
    DeadLetterBox,
    Pauses,
    Gates,
    Interventions,
    ScheduleKeeping,
    Retention,
    Reports,
    Signals,
    Keys,
    Feeds,
    Webhooks,
    Service,
):
    """A client of one installation; safe to share between threads, and usable again after a fork.

    The servers are those of ``settings``, else of the environment (AGENTFLOW_DATABASE_URL, AGENTFLOW_REDIS_URL), else
    of the stack that ``agentflow up`` started. Instead of ``settings`` single ones can be given by name, such as
    ``project="ops"``. Connections are made at first use. Raises ConfigurationError for settings that cannot be used.
    """

    def check(
        self,
        plan: Plan | LoadedPlan | str | Path,
        vars: Mapping[str, Any] | None = None,  # noqa: A002 - the plan format's own name
        *,
        project: str | None = None,
        budget: Budget | Mapping[str, Any] | None = None,
        directive: str | None = None,
        mode: str | None = None,
        plan_hash: str | None = None,
    ) -> CheckedPlan:
        """Do everything that a submit does before it touches a server, and tell what the run would do: a dry run.

        What stored plans its child runs name is asked for, and left out of the costs where nobody answers.

        Raises PlanRejected, UsageError and PlanDrift.
        """
        loaded = self._loaded(plan, plan_hash, project)
        request, faults = self._examine(loaded, vars, project, budget, directive, mode)
        faults = (*faults, *loaded.placed(request.cost_faults(self.settings)))
        if faults:
            raise PlanRejected(faults)
        caps, known = request.caps, request.vars
        at_hand = KnownPlan.of(replace(loaded, plan=request.with_gate().plan))
        told = forecast(at_hand, known, caps, self.settings, self._children_at_hand(request.project))
        return CheckedPlan(loaded, known, request.project, caps, request.run_directive, request.mode, told)

    @trying_again
    def submit(
        self,
        plan: Plan | LoadedPlan | str | Path,
        vars: Mapping[str, Any] | None = None,  # noqa: A002 - the plan format's own name
        *,
        project: str | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
        budget: Budget | Mapping[str, Any] | None = None,
        directive: str | None = None,
        mode: str | None = None,
        plan_hash: str | None = None,
        allows_self: bool = False,
    ) -> Run:
        """Accept a plan (built, loaded, or a path) as a run and return at once; workers execute it.

        Project and directive are those given, else the plan's, else of the settings. ``budget`` is written as in a
        plan, ``{"tokens": 5000, "usd": 0.5}``, and goes over the plan's by kinds. The same ``idempotency_key`` in a
        project with the same plan, vars, budget, directive and mode gives the same run (``existing``). In the mode
        ``strict`` nothing starts before somebody approves it; with ``allows_self`` whoever submits may. ``plan_hash``
        takes that plan only (PlanDrift). Raises PlanRejected with every fault, IdempotencyConflict, UsageError,
        ContentError, ConfigurationError and ServersUnreachable. Nothing was written then; only after a
        ServersUnreachable is that unknown, and the key makes it safe to submit again.
        """
        key = None if idempotency_key is None else checked_key(idempotency_key)
        acting = checked_actor(actor or self.settings.actor)
        loaded = self._loaded(plan, plan_hash, project)
        request, faults = self._examine(loaded, vars, project, budget, directive, mode)
        if faults or key is None:
            faults = (*faults, *loaded.placed(request.cost_faults(self.settings)))
        if faults:
            raise PlanRejected(faults)
        try:
            # Under a key the engine judges the costs, once it knows that there is no such run yet.
            request = replace(request, actor=acting, idempotency_key=key, allows_self=allows_self)
            submitted = submit(self._checked_context(), request)
        except PlanRejected as rejected:
            raise PlanRejected(loaded.placed(rejected.faults)) from None
        return Run(self, submitted.run_id, existing=submitted.is_existing, is_sent=submitted.is_sent)

    def submit_stored(
        self,
        name: str,
        vars: Mapping[str, Any] | None = None,  # noqa: A002 - the plan format's own name
        *,
        project: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Run:
        """Accept a stored plan, ``triage`` or ``triage@2``, as a run in the project where it is stored.

        Takes and raises what ``submit`` does, and NotFound, which tells the names and versions that there are.
        """
        loaded = self.stored_plan(name, project=project)
        return self.submit(loaded, vars, project=project or self.settings.project, **options)

    def get(self, reference: str | UUID, *, project: str | None = None) -> Run:
        """Return the run of an id, of a unique prefix of at least 4 hex digits, or ``@last``.

        Raises NotFound, AmbiguousId and UsageError.
        """
        with self._reading() as tx:
            return Run(self, views.find_run(tx, str(reference), project))

    def runs(
        self,
        *,
        state: str | None = None,
        project: str | None = None,
        name: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        children: bool = False,
        parent: Run | str | UUID | None = None,
    ) -> RunPage:
        """Return up to ``limit`` (at most 1000) runs, the newest first, from ``cursor`` on.

        Child runs are left out, unless all ``children`` are asked for, or those of one ``parent``.
        """
        if not 0 < limit <= MAX_PAGE:
            raise UsageError(f"A page has 1 to {MAX_PAGE} runs, not {limit}.")
        is_child = None if children or parent is not None else False
        above = None if parent is None else self._id_of(parent)
        place = place_of(cursor) if cursor else None
        wanted = views.RunFilter(project, name, checked_state(state), place, is_child, above)
        with self._reading() as tx:
            found = views.list_runs(tx, wanted, limit + 1)
        page = [Run(self, summary.id, summary=summary) for summary in found[:limit]]
        return RunPage(tuple(page), cursor_after(found[limit - 1]) if len(found) > limit else None)

    @trying_again
    def cancel(self, run: Run | str | UUID) -> CancelAsked:
        """End a run; the answer says how many running attempts were told to stop. Raises InvalidTransition."""
        actor = checked_actor(self.settings.actor)
        return cancel(self._checked_context(), self._id_of(run), actor)

    @trying_again
    def fork(
        self,
        run: Run | str | UUID,
        from_step: str,
        *,
        vars: Mapping[str, Any] | None = None,  # noqa: A002 - the plan format's own name
        plan: Plan | LoadedPlan | str | Path | None = None,
        budget: Budget | Mapping[str, Any] | None = None,
        directive: str | None = None,
        idempotency_key: str | None = None,
    ) -> ForkedRun:
        """Make a new run of what a run has done so far, and of ``from_step`` and what follows from it anew.

        Steps that succeeded and do not follow from that step are taken over, with their files. ``vars`` and ``budget``
        go over those of the run; ``plan`` is an edited plan, of which changed steps and what follows from them run
        again. Raises what ``submit`` does, and NotFound.
        """
        caps, faults = (None, ()) if budget is None else read_given_budget(plain(budget))
        if faults:
            raise PlanRejected(faults)
        asked = ForkRequest(
            StepKey(str(from_step)),
            checked_actor(self.settings.actor),
            vars=dict(vars or {}),
            edited=None if plan is None else loaded_of(plan),
            budget=caps,
            directive=None if directive is None else checked_name("directive", directive),
            idempotency_key=None if idempotency_key is None else checked_key(idempotency_key),
        )
        return ForkedRun(self, fork(self._checked_context(), self._id_of(run), asked))

    def diff(self, old: Run | str | UUID, new: Run | str | UUID) -> RunDiff:
        """Compare two runs: plans, vars, and how each step ended, what it left and what it used. Raises NotFound."""
        old_id, new_id = self._id_of(old), self._id_of(new)
        with self._reading() as tx:
            return read_diff(tx, old_id, new_id)

    @trying_again
    def retry(self, run: Run | str | UUID, step: str | None = None) -> Retried:
        """Take up what failed of a run, or one step of it. Raises InvalidTransition and NotFound."""
        actor = checked_actor(self.settings.actor)
        only = None if step is None else StepKey(str(step))
        return retry(self._checked_context(), self._id_of(run), actor, only=only)

    @trying_again
    def pause(self, run: Run | str | UUID, *, now: bool = False, why: str | None = None) -> PauseAsked:
        """Let a run rest until it is resumed; the answer says how many attempts of it still run.

        They finish, or with ``now`` are ended and given back, which spends no retry. Raises InvalidTransition.
        """
        actor, given = checked_actor(self.settings.actor), checked_why(why)
        return pause(self._checked_context(), self._id_of(run), actor, why=given, is_hard=now)

    @trying_again
    def resume(self, run: Run | str | UUID) -> Resumed:
        """Let a run go on that is paused or rests over a budget; the answer names the steps that are due again.

        Raises InvalidTransition when it does not rest, while all is under maintenance, or when its own budget still
        does not cover what it needs; a pause of it stays then too.
        """
        actor = checked_actor(self.settings.actor)
        return resume(self._checked_context(), self._id_of(run), actor)

    @trying_again
    def raise_budget(
        self,
        run: Run | str | UUID,
        *,
        steps: int | None = None,
        tokens: int | None = None,
        usd: Money | None = None,
        active_time: str | timedelta | None = None,
    ) -> BudgetRaised:
        """Add to the caps of a run, such as ``tokens=5000`` or ``active_time="10m"``; a resting run is resumed apart.

        Raises UsageError for what is no addition and for a kind that the run does not cap, InvalidTransition for a
        run that has ended.
        """
        actor, more = checked_actor(self.settings.actor), checked_more(steps, tokens, usd, active_time)
        return BudgetRaised.by(more, raise_budget(self._checked_context(), self._id_of(run), more, actor))

    def budget(
        self,
        run: Run | str | UUID | None = None,
        *,
        project: str | None = None,
        directive: str | None = None,
        is_today: bool = False,
        has_ledger: bool = False,
    ) -> BudgetReport:
        """Tell how budgets stand: those that a run stands in, a project's, a directive's, else all that are configured.

        ``is_today`` leaves only the budgets of today; ``has_ledger`` compares what Redis has with Postgres, which is
        the truth. Raises NotFound and UsageError.
        """
        if run is not None and (project, directive) != (None, None):
            raise UsageError("Give a run, a project or a directive, not several of them.")
        project, directive = checked_owner(project, directive, self.settings.project)
        run_id, configured = None if run is None else self._id_of(run), self.settings.budgets
        with self._reading() as tx:
            report = read_report(tx, configured, run_id=run_id, project=project, directive=directive, is_today=is_today)
        return with_ledger(report, self.context.ledger) if has_ledger else report

    def why(self, run: Run | str | UUID, step: str | None = None, *, project: str | None = None) -> Explanation:
        """Compute the one reason for which a run, or one step of it, is where it is. Raises NotFound.

        With a project runs of others are not named that stand in the way.
        """
        return why(self.context, self._id_of(run), None if step is None else StepKey(str(step)), project)

    def limits(self, key: str | None = None, *, project: str | None = None) -> LimitsReport:
        """Tell the limits in use: rates, concurrencies and circuit breakers, or those of one key or endpoint.

        With a project only the keys that it uses, and only its own steps. Raises NotFound for a key of which nothing is
        in use. Without Redis the breakers are None.
        """
        with self._reading() as tx:
            now, found = balances.read_now(tx), limits.view(tx, project)
        report = LimitsReport(now, found, read_breakers(self.context.breakers))
        return report if key is None else report.of(key)

    def read_summary(self, run_id: RunId) -> RunSummary:
        """Read a run without its steps."""
        with self._reading() as tx:
            return views.read_summary(tx, run_id)

    def read_run(self, run_id: RunId) -> RunView:
        """Read a whole run."""
        with self._reading() as tx:
            return read_run(tx, run_id)

    def read_artifacts(self, run_id: RunId, step: str | None = None) -> list[ArtifactView]:
        """Read what all attempts of a run, or of one step, left."""
        with self._reading() as tx:
            return views.read_artifacts(tx, run_id, step)

    def _examine(
        self,
        loaded: LoadedPlan,
        given: Mapping[str, Any] | None,
        project: str | None,
        budget: Budget | Mapping[str, Any] | None,
        directive: str | None,
        mode: str | None,
    ) -> tuple[SubmitRequest, tuple[Fault, ...]]:
        """Return the submission as it would be, and every fault of it but those of its costs."""
        values, faults = resolve_vars(loaded.plan, dict(given or {}))
        caps, cap_faults = (None, ()) if budget is None else read_given_budget(plain(budget))
        request = SubmitRequest(
            plan=loaded.plan,
            vars=values,
            project=project_of(self.settings, loaded, project),
            actor=self.settings.actor,
            content=loaded.content,
            files=loaded.files,
            brought=loaded.brought,
            budget=caps,
            directive=None if directive is None else checked_name("directive", directive),
            mode=checked_mode(mode or self.settings.mode),
        )
        own = [*check_available(loaded.plan, known_actions())]
        own += gate_faults(loaded.plan) if request.mode is Mode.STRICT else ()
        return request, (*loaded.placed(own), *faults, *cap_faults)

    def _loaded(self, plan: Plan | LoadedPlan | str | Path, plan_hash: str | None, project: str | None) -> LoadedPlan:
        """The plan, where it is the one that is meant. PlanDrift otherwise."""
        loaded = loaded_of(plan)
        if plan_hash is not None:
            check_hash(self, loaded.plan, plan_hash, project_of(self.settings, loaded, project))
        return loaded

    def _id_of(self, run: Run | str | UUID) -> RunId:
        if isinstance(run, Run):
            return RunId(run.uuid)
        return RunId(self.get(run).uuid)
