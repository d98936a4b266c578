"""Why a run or a step does not go on: exactly one reason, the first of what stands in its way.

Owns the order of the reasons and what decides between them: the predicates of the claim and of the dispatcher
(storage/sql/claim_step.sql, stamp_due.sql, stamp_line.sql, forget_lost_doorbells.sql), asked of one snapshot. Pure; the
words are why_words'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from agentflow.domain.budget import BudgetKind
from agentflow.domain.gate import Groups
from agentflow.domain.ids import StepKey
from agentflow.domain.reason import ReasonCode
from agentflow.domain.shortfall import cap_of, missing
from agentflow.domain.state import FINAL_RUN_STATES, FINAL_STEP_STATES, RunState, StepState
from agentflow.domain.why_facts import AttemptFacts, Facts, LineFacts, QueueFacts, StepFacts, WorkerFacts

MOST_NAMED = 20
"""How many holders, needs or workers a reason names; all are counted."""


class WhyCode(StrEnum):
    """Every reason, the most blocking first."""

    RUN_ENDED = "run_ended"
    RUN_CANCELLING = "run_cancelling"
    RUN_FAILING = "run_failing"
    RUN_PENDING = "run_pending"
    PAUSED = "paused"
    EXHAUSTED = "exhausted"
    HELD = "held"
    NO_WORKER = "no_worker"
    NO_DISPATCHER = "no_dispatcher"
    REDIS_AWAY = "redis_away"
    SUSPECT = "suspect"
    IN_LINE = "in_line"
    QUEUE_FULL = "queue_full"
    BREAKER_OPEN = "breaker_open"
    POSTPONED = "postponed"
    BUDGET_CONTENDED = "budget_contended"
    BUDGET_UNSETTLED = "budget_unsettled"
    RATE_TICKET = "rate_ticket"
    RATE_ASKING = "rate_asking"
    RETRYING = "retrying"
    NOT_BEFORE = "not_before"
    DOORBELL_LOST = "doorbell_lost"
    DOORBELL_WAITS = "doorbell_waits"
    DOORBELL_TAKEN = "doorbell_taken"
    NOT_SENT = "not_sent"
    RUNNING = "running"
    ITEMS_OPEN = "items_open"
    AWAITS_TURN = "awaits_turn"
    NEEDS_UNMET = "needs_unmet"
    STEP_FINAL = "step_final"
    RUN_GOES = "run_goes"


_SEVERITY = {code: number for number, code in enumerate(WhyCode)}
_PUT_OFF = {
    ReasonCode.RATE_LIMITED: WhyCode.RATE_TICKET,
    ReasonCode.CALL_POSTPONED: WhyCode.POSTPONED,
    ReasonCode.BREAKER_OPEN: WhyCode.BREAKER_OPEN,
    ReasonCode.BUDGET_CONTENDED: WhyCode.BUDGET_CONTENDED,
    ReasonCode.BUDGET_UNSETTLED: WhyCode.BUDGET_UNSETTLED,
}
"""What a step that is ready and not due yet was put off for."""


@dataclass(frozen=True, slots=True)
class Why:
    """One reason with its data, which is JSON. ``cause``: what that goes back to, of another step.

    ``run`` is whose the reason is, where it is a child run of the one that was asked for.
    """

    code: WhyCode
    detail: Mapping[str, Any] = field(default_factory=dict)
    step: StepKey | None = None
    cause: Why | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Steps that wait for the same: all are counted, the first are named."""

    why: Why
    steps: tuple[StepKey, ...]
    count: int


class Explainer:
    """Explains the steps of one snapshot; what several of them go back to is looked for once."""

    def __init__(self, facts: Facts, children: Mapping[StepKey, Why] | None = None) -> None:
        """``children`` are the reasons of the child runs that steps wait for."""
        self._facts = facts
        self._children = children or {}
        self._roots: dict[StepKey, StepKey] = {}
        self._own: dict[StepKey, Why] = {}

    def run(self) -> Why:
        """Return why the run is where it is."""
        stop = self._stop_of_run()
        if stop is not None:
            return replace(stop, cause=self._failed_step()) if stop.code is WhyCode.RUN_ENDED else stop
        tally = {state.value: count for state, count in self._facts.run.tally.items() if count}
        waiting = [key for key, step in self._facts.steps.items() if step.state not in FINAL_STEP_STATES]
        if tally.get(StepState.RUNNING) or not waiting:
            return Why(WhyCode.RUN_GOES, {"steps": tally})
        first = min((self.step(key) for key in waiting), key=lambda why: _SEVERITY[why.code])
        return Why(WhyCode.RUN_GOES, {"steps": tally}, cause=first)

    def _failed_step(self) -> Why | None:
        """Why the step failed that the run failed with."""
        reason = self._facts.run.reason or {}
        key = StepKey(str(reason.get("detail", {}).get("step")))
        is_step = reason.get("code") == ReasonCode.STEP_FAILED and key in self._facts.steps
        return self.step(key) if is_step else None

    def step(self, key: StepKey) -> Why:
        """Return why a step is where it is."""
        if key not in self._own:
            self._own[key] = self._explain(self._facts.steps[key])
        return self._own[key]

    def groups(self) -> tuple[Group, ...]:
        """Return every open step's reason, those with the same together, the most blocking first."""
        together: dict[object, list[StepKey]] = {}
        for key, step in self._facts.steps.items():
            if step.state not in FINAL_STEP_STATES:
                together.setdefault(_same_as(self.step(key)), []).append(key)
        found = [Group(self.step(keys[0]), tuple(keys[:MOST_NAMED]), len(keys)) for keys in together.values()]
        return tuple(sorted(found, key=lambda group: _SEVERITY[group.why.code]))

    def _explain(self, step: StepFacts) -> Why:
        if step.state in FINAL_STEP_STATES:
            detail = {"state": step.state.value, "reason": step.reason, "attempts": step.attempts}
            detail |= {"has_logs": step.has_logs} | ({"choice": step.choice} if step.choice is not None else {})
            return Why(WhyCode.STEP_FINAL, detail, step.key)
        if step.attempt is not None:
            return self._running(step, step.attempt)
        stop = self._stop_of_run()
        if stop is not None:
            return Why(stop.code, stop.detail, step.key)
        match step.state:
            case StepState.PENDING:
                return self._unmet(step)
            case StepState.HELD:
                detail = {"reason": step.reason, **self._looked_at(step), **_asked(step, self._facts.terms.groups)}
                return Why(WhyCode.HELD, detail, step.key, cause=self._children.get(step.key))
            case _:
                return self._put_off(step) or self._due(step)

    def _looked_at(self, step: StepFacts) -> dict[str, Any]:
        """When a held step is looked at again; nothing where it is not."""
        if step.not_before is None:
            return {}
        return {"at": moment(step.not_before), "seconds": _seconds(step.not_before - self._facts.now)}

    def _running(self, step: StepFacts, attempt: AttemptFacts) -> Why:
        now = self._facts.now
        detail = {
            "worker": attempt.worker,
            "attempt": attempt.number,
            "since": moment(attempt.started_at),
            "seconds": _seconds(now - attempt.started_at),
            "lease_until": moment(attempt.lease_until),
            "lease_seconds": _seconds(attempt.lease_until - now),
            "is_stop_requested": attempt.is_stop_requested,
            "is_yield_requested": attempt.is_yield_requested,
        }
        return Why(WhyCode.RUNNING, detail, step.key)

    def _stop_of_run(self) -> Why | None:
        """What of the run itself keeps every step from starting, as claim_step.sql asks for it."""
        run = self._facts.run
        running = run.tally.get(StepState.RUNNING, 0)
        if run.state in FINAL_RUN_STATES:
            return Why(WhyCode.RUN_ENDED, {"state": run.state.value, "reason": run.reason})
        if run.state is RunState.CANCELLING:
            return Why(WhyCode.RUN_CANCELLING, {"reason": run.reason, "running": running})
        if run.state is RunState.FAILING:
            return Why(WhyCode.RUN_FAILING, {"reason": run.reason, "running": running})
        if run.state is RunState.PENDING:
            return Why(WhyCode.RUN_PENDING)
        is_maintained = run.paused is None or run.paused.get("scope") == "maintenance"
        # A maintenance is of before the run rested: what the run has of it says since when that is.
        pause = run.maintenance or run.paused if is_maintained else run.paused
        if pause is not None:
            named = {name: pause.get(name) for name in ("actor", "why", "at", "is_hard", "scope")}
            return Why(WhyCode.PAUSED, named | {"running": running})
        return self._exhausted(running) if run.exhausted else None

    def _exhausted(self, running: int) -> Why:
        budgets = []
        for short in self._facts.run.exhausted:
            limit = short.get("limit")
            is_own = short.get("scope") == f"run:{self._facts.run.id}"
            if is_own:
                limit = cap_of(self._facts.run.caps, BudgetKind(short["budget"]))
            budgets.append({**short, "is_own": is_own, "raise_by": missing(short, limit)})
        return Why(WhyCode.EXHAUSTED, {"budgets": budgets, "running": running})

    def _unmet(self, step: StepFacts) -> Why:
        if step.turn is not None:
            return self._of(WhyCode.AWAITS_TURN, step, **asdict(step.turn))
        if step.items is not None:
            root = self._root_of(step.key)
            cause = None if root == step.key else self.step(root)
            return Why(WhyCode.ITEMS_OPEN, {**asdict(step.items), "root": root}, step.key, cause)
        needs = [{"step": need, "state": self._facts.steps[need].state.value} for need in step.needs]
        detail: dict[str, Any] = {"needs": needs[:MOST_NAMED], "count": len(needs)}
        root = self._root_of(step.key)
        if root == step.key:  # its needs are met: what lets it go is committed in a moment
            return Why(WhyCode.NEEDS_UNMET, detail, step.key)
        return Why(WhyCode.NEEDS_UNMET, detail | {"root": root}, step.key, cause=self.step(root))

    def _root_of(self, key: StepKey) -> StepKey:
        """The most blocking of the steps that a pending one goes back to; without recursion, for plans are long."""
        steps, stack = self._facts.steps, [key]
        while stack:
            at = steps[stack[-1]]
            if at.key in self._roots:
                stack.pop()
                continue
            deeper = [need for need in at.needs if self._is_pending(need) and need not in self._roots]
            if deeper:
                stack.extend(deeper)
                continue
            roots = [self._roots[need] if self._is_pending(need) else need for need in at.needs]
            self._roots[at.key] = min(roots, key=self._weight, default=at.key)
            stack.pop()
        return self._roots[key]

    def _is_pending(self, key: StepKey) -> bool:
        return self._facts.steps[key].state is StepState.PENDING

    def _weight(self, key: StepKey) -> tuple[int, int]:
        step = self._facts.steps[key]
        code = WhyCode.NEEDS_UNMET if step.state is StepState.PENDING else self.step(key).code
        return _SEVERITY[code], step.position

    def _put_off(self, step: StepFacts) -> Why | None:
        """Why a step is not due yet; None when it is."""
        now = self._facts.now
        if step.not_before is None or step.not_before <= now:
            return None
        detail = {
            "at": moment(step.not_before),
            "seconds": _seconds(step.not_before - now),
            "attempts": step.attempts,
            "reason": step.reason,
        }
        if step.state is StepState.RETRYING:
            return Why(WhyCode.RETRYING, detail, step.key)
        code = _PUT_OFF.get((step.reason or {}).get("code", ""), WhyCode.NOT_BEFORE)
        if code is WhyCode.RATE_TICKET:
            detail["key"] = step.rate_key
        return Why(code, detail, step.key)

    def _due(self, step: StepFacts) -> Why:
        queue = self._facts.queues.get(step.queue) or QueueFacts(step.queue)
        line = step.line
        if step.sent_at is None and line is not None and line.turn > line.free:
            return self._in_line(step, line)
        if not queue.serving:
            last = sorted(queue.workers, key=lambda worker: worker.seen_at, reverse=True)[:MOST_NAMED]
            known = [{"name": worker.name, "seen_at": moment(worker.seen_at)} for worker in last]
            return self._of(WhyCode.NO_WORKER, step, queue=queue.name, last=known, waiting=queue.depth)
        return self._unsent(step, queue) if step.sent_at is None else self._sent(step, queue, step.sent_at)

    def _in_line(self, step: StepFacts, line: LineFacts) -> Why:
        seen = [holder for holder in line.holders if self._facts.shows(holder.project)]
        holders = [
            {
                "run": str(holder.run_id),
                "step": holder.step,
                "worker": holder.worker,
                "since": moment(holder.since),
                "lease_until": moment(holder.lease_until),
            }
            for holder in seen[:MOST_NAMED]
        ]
        numbers = {"place": line.turn, "free": line.free, "limit": line.limit, "held": len(line.holders)}
        return self._of(WhyCode.IN_LINE, step, key=step.slot_key, **numbers, holders=holders)

    def _unsent(self, step: StepFacts, queue: QueueFacts) -> Why:
        """Why no doorbell is on its way to a due step."""
        leader, terms = self._facts.leader, self._facts.terms
        if leader is None or not leader.is_leading:
            return self._no_dispatcher(step)
        if queue.depth is None:
            return self._of(WhyCode.REDIS_AWAY, step, queue=queue.name, sent_at=None)
        if step.is_suspect:
            return self._suspected(step, queue)
        if queue.outstanding >= terms.doorbells_per_queue:
            return self._of(WhyCode.QUEUE_FULL, step, queue=queue.name, outstanding=queue.outstanding)
        if step.rate_key is not None and not step.has_ticket and step.asking >= terms.asks:
            return self._of(WhyCode.RATE_ASKING, step, key=step.rate_key, asking=step.asking)
        since = None if step.not_before is None else moment(step.not_before)
        return self._of(WhyCode.NOT_SENT, step, queue=queue.name, since=since, leader=leader.holder)

    def _suspected(self, step: StepFacts, queue: QueueFacts) -> Why:
        first, ahead = self._facts.suspect, None
        if first is not None:
            is_shown = self._facts.shows(first.project)
            named = {"run": str(first.run_id), "step": first.step} if is_shown else {"run": None, "step": None}
            ahead = named | {"state": first.state.value}
        return self._of(WhyCode.SUSPECT, step, queue=queue.name, ahead=ahead)

    def _no_dispatcher(self, step: StepFacts) -> Why:
        leader = self._facts.leader
        holder, term = (None, None) if leader is None else (leader.holder, leader.term)
        until = None if leader is None else moment(leader.expires_at)
        return self._of(WhyCode.NO_DISPATCHER, step, holder=holder, term=term, until=until)

    def _sent(self, step: StepFacts, queue: QueueFacts, sent_at: datetime) -> Why:
        """Where the doorbell of a due step is. The queue is first in, first out: the newest notes are still in it."""
        told = {"queue": queue.name, "sent_at": moment(sent_at), "seconds": _seconds(self._facts.now - sent_at)}
        if queue.depth is None:
            return self._of(WhyCode.REDIS_AWAY, step, queue=queue.name, sent_at=told["sent_at"])
        if step.newness is not None and step.newness <= queue.depth:
            ahead = queue.depth - step.newness
            return self._of(WhyCode.DOORBELL_WAITS, step, **told, ahead=ahead, **_hands(queue.serving))
        left = timedelta(seconds=self._facts.terms.lost_doorbell_seconds) - (self._facts.now - sent_at)
        if left > timedelta():
            return self._of(WhyCode.DOORBELL_TAKEN, step, **told, again_seconds=_seconds(left))
        if self._facts.leader is None or not self._facts.leader.is_leading:
            return self._no_dispatcher(step)
        return self._of(WhyCode.DOORBELL_LOST, step, **told)

    def _of(self, code: WhyCode, step: StepFacts, **detail: Any) -> Why:
        return Why(code, detail, step.key)


_ASKED = ("kind", "message", "approvers", "approved_by", "count", "missing", "allow_self", "expires_at", "is_escalated")
"""What is told of the gate that a step waits at."""


def _asked(step: StepFacts, groups: Groups) -> dict[str, Any]:
    if step.gate is None:
        return {}
    told = step.gate.as_json()
    more = {"to_fill_in": list(step.gate.gate.to_fill_in), **step.gate.left_json(groups)}
    return {"gate": {name: told[name] for name in (*_ASKED, "submitted_by")} | more}


_EACH_ITS_OWN = frozenset({WhyCode.RUNNING, WhyCode.RETRYING, WhyCode.HELD})
_SAME = ("queue", "key", "root", "foreach")
"""What makes two reasons of one code different."""


def _same_as(why: Why) -> object:
    if why.code in _EACH_ITS_OWN:
        return why.code, why.step
    return why.code, *(why.detail.get(name) for name in _SAME)


def _hands(workers: Sequence[WorkerFacts]) -> dict[str, int]:
    slots, busy = sum(worker.slots for worker in workers), sum(worker.busy for worker in workers)
    return {"workers": len(workers), "slots": slots, "busy": busy}


def moment(at: datetime) -> str:
    """Write a time as ISO 8601 in UTC."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(span: timedelta) -> float:
    return round(span.total_seconds(), 3)
