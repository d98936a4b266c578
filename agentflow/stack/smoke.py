"""A smoke test of a live installation: one tiny run through the real broker and the workers of every served queue.

Owns the plan, the questions about its run and how long each leg took. The run is in a project of its own and has ended
when the test is over, whatever came of it.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx2
from redis.exceptions import RedisError

from agentflow.broker.health import live_queues
from agentflow.broker.queues import COMMANDS, CONTROL, MODELS
from agentflow.client import AgentFlow, Plan
from agentflow.client.run import Run
from agentflow.domain.call import CallProblem
from agentflow.domain.error import AgentflowError, ServersUnreachable, WaitTimeout
from agentflow.domain.ids import SMOKE_PROJECT, RunId
from agentflow.domain.state import ShownRunState, StepState, is_final
from agentflow.embedded import StackState, read_state
from agentflow.engine.verify import verify_run
from agentflow.stack.findings import Check, Problem, Skipped, find

ARTIFACT = "smoke.txt"
STEPS = {CONTROL: "control", COMMANDS: "commands", MODELS: "models"}
CANCEL_SECONDS = 10.0
LEDGER_SECONDS = 5.0
PROBE_SECONDS = 3.0
_SCRIPT = 'printf %s "$NONCE" > "$AGENTFLOW_ARTIFACTS/smoke.txt" && printf \'{"nonce": "%s"}\' "$NONCE"'


@dataclass(frozen=True, slots=True)
class Leg:
    """The way of one step: from the submit to its worker's claim, and from there to its settle."""

    queue: str
    step: str
    worker: str
    hand_over_seconds: float
    execute_seconds: float

    def as_json(self) -> dict[str, Any]:
        """The leg as `doctor --smoke --json` prints it."""
        return {
            "queue": self.queue,
            "step": self.step,
            "worker": self.worker,
            "hand_over_seconds": round(self.hand_over_seconds, 3),
            "execute_seconds": round(self.execute_seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Times:
    """How long the whole took: the submit's call, from the last settle to the run's end, and all of it."""

    submit_seconds: float
    settle_seconds: float
    total_seconds: float

    def as_json(self) -> dict[str, Any]:
        """The times as `doctor --smoke --json` prints them."""
        return {
            "submit": round(self.submit_seconds, 3),
            "settle": round(self.settle_seconds, 3),
            "total": round(self.total_seconds, 3),
        }


class Smoke:
    """One smoke test; ``checks`` yields the findings as they are made, the rest is known afterwards."""

    def __init__(self, flow: AgentFlow, timeout_seconds: float) -> None:
        self._flow = flow
        self._timeout_seconds = timeout_seconds
        self._has_redis = False
        self._served: list[str] = []
        self._nonce = secrets.token_hex(16)
        self._submit_seconds = 0.0
        self._run: Run | None = None
        self._is_through = False

    @property
    def run_id(self) -> str | None:
        """The run that was made, if one was."""
        return None if self._run is None else self._run.id

    def checks(self) -> Iterator[Check]:
        """Submit, wait, and look at what came of it."""
        questions = {
            "redis": self._redis,
            "workers": self._workers,
            "submit": self._submit,
            "run": self._wait,
            "result": self._result,
            "artifact": self._artifact,
            "audit": self._audit,
            "ledger": self._ledger,
            "api": self._api,
            "flower": self._flower,
        }
        try:
            for name, question in questions.items():
                yield find(name, question)
        finally:
            self._end()

    def legs(self) -> list[Leg]:
        """The ways of the steps that were settled."""
        run = self._run
        if run is None or not self._is_through:
            return []
        created, legs = run.summary.created_at, []
        for queue in self._served:
            attempts = run.steps[STEPS[queue]].attempts
            if attempts and attempts[-1].ended_at is not None:
                last = attempts[-1]
                waited = (attempts[0].started_at - created).total_seconds()
                legs.append(Leg(queue, STEPS[queue], last.worker, max(0.0, waited), last.duration_seconds or 0.0))
        return legs

    def times(self) -> Times | None:
        """How long the whole took; None if the run did not end by itself."""
        if self._run is None or not self._is_through or self._run.summary.ended_at is None:
            return None
        summary = self._run.summary
        ends = [attempt.ended_at for step in self._run.steps.values() for attempt in step.attempts if attempt.ended_at]
        settle = (summary.ended_at - max(ends)).total_seconds() if ends and summary.ended_at else 0.0
        total = (summary.ended_at - summary.created_at).total_seconds() if summary.ended_at else 0.0
        return Times(self._submit_seconds, max(0.0, settle), self._submit_seconds + max(0.0, total))

    def _redis(self) -> str:
        try:
            self._flow.context.side_channel.ping()
        except RedisError as error:
            raise ServersUnreachable(f"Redis does not answer: {error}") from error
        self._has_redis = True
        return "answers"

    def _workers(self) -> str:
        if not self._has_redis:
            raise Skipped("Redis was not reached")
        answered = live_queues(self._flow.context.celery)
        self._served = [queue for queue in STEPS if any(queue in queues for queues in answered.values())]
        if not self._served:
            raise Problem("none answered: nothing was submitted", "start one: `agentflow worker`, or `agentflow up`")
        unserved = [queue for queue in STEPS if queue not in self._served]
        left_out = f"; nobody serves {', '.join(unserved)}, which is left out" if unserved else ""
        return f"{len(answered)} answered, for {', '.join(self._served)}{left_out}"

    def _submit(self) -> str:
        if not self._served:
            raise Skipped("no worker would take it")
        began = time.monotonic()
        self._run = self._flow.submit(_plan(self._served), {"nonce": self._nonce}, project=SMOKE_PROJECT, mode="auto")
        self._submit_seconds = time.monotonic() - began
        if not self._run.is_sent:
            raise Problem("accepted, and Redis did not take its messages", "`agentflow doctor` looks at Redis")
        return f"run {self._run.id} in project {SMOKE_PROJECT}, {len(self._served)} steps"

    def _wait(self) -> str:
        run = self._submitted()
        advice = f"`agentflow why {run.id}` and `agentflow doctor` tell more; it is cancelled now"
        try:
            run.wait(self._timeout_seconds)
        except WaitTimeout:
            why = self._flow.why(run).sentence
            raise Problem(f"not ended after {self._timeout_seconds:g} s: {why}", advice) from None
        if not is_final(run.state):
            raise Problem(f"it is {run.state.value}: {self._flow.why(run).sentence}", advice)
        self._is_through = True
        expected = ShownRunState.PARTIAL if MODELS in self._served else ShownRunState.COMPLETED
        if run.state is not expected:
            raise Problem(
                f"it ended as {run.state.value} instead of {expected.value}", f"see `agentflow show {run.id}`"
            )
        return f"{run.state.value}, as it is meant to"

    def _result(self) -> str:
        run, found = self._ended(), []
        for queue in self._served:
            step = run.steps[STEPS[queue]]
            if queue == MODELS:
                problem = ((step.reason or {}).get("detail") or {}).get("problem")
                is_right = step.state is StepState.FAILED and problem == CallProblem.BAD_URL
            else:
                is_right = step.state is StepState.SUCCEEDED
            is_right = is_right and (queue != COMMANDS or step.result == {"nonce": self._nonce})
            if not is_right:
                raise Problem(f"step {step.id} is {step.state.value}", f"see `agentflow show {run.id}`")
            found.append(step.id)
        return f"what each of {', '.join(found)} should bring"

    def _artifact(self) -> str:
        run = self._ended()
        if COMMANDS not in self._served:
            raise Skipped(f"nobody serves the queue {COMMANDS}")
        content = run.read_artifact(ARTIFACT, STEPS[COMMANDS])
        noted = run.find_artifact(ARTIFACT, STEPS[COMMANDS]).sha256
        if content != self._nonce.encode() or noted != hashlib.sha256(content).hexdigest():
            raise Problem(f"{ARTIFACT} holds something else", "look at the content store: `agentflow doctor`")
        return f"{ARTIFACT} came back as it was written, by its SHA-256"

    def _audit(self) -> str:
        run = self._ended()
        report = verify_run(self._flow.context, RunId(run.uuid))
        if not report.is_intact:
            raise Problem(f"{len(report.findings)} findings", f"see `agentflow audit verify {run.id}`")
        return f"{report.events} events hold"

    def _ledger(self) -> str:
        """Whether Redis has what Postgres has; for a moment after a settle it may not."""
        run, deadline = self._ended(), time.monotonic() + LEDGER_SECONDS
        while True:
            report = self._flow.budget(run, has_ledger=True)
            differing = [scope for scope, each in (report.ledger or {}).items() if each.differs]
            if not differing:
                return f"{len(report.balances)} budgets, in Redis as in Postgres"
            if time.monotonic() > deadline:
                raise Problem(
                    f"Redis and Postgres differ over {', '.join(differing)}",
                    "attempts under way explain a moment of it; else the dispatcher does not run: `agentflow doctor`",
                )
            time.sleep(0.2)  # nothing signals that the ledger was told

    def _api(self) -> str:
        return _probe(self._stack().api_url, "/livez", "API", "--api")

    def _flower(self) -> str:
        return _probe(self._stack().flower_url, "/healthcheck", "Flower", "--flower")

    def _stack(self) -> StackState:
        stack = None if self._flow.settings.has_own_servers else read_state(self._flow.settings.home)
        if stack is None:
            raise Skipped("only what `agentflow up` started is known here")
        return stack

    def _submitted(self) -> Run:
        if self._run is None:
            raise Skipped("there is no run")
        return self._run

    def _ended(self) -> Run:
        run = self._submitted()
        if not self._is_through:
            raise Skipped("the run did not end by itself")
        return run

    def _end(self) -> None:
        """Leave nothing that still goes on."""
        if self._run is None or self._is_through:
            return
        with suppress(AgentflowError):  # what stands in the way was told above
            self._run.cancel()
            self._run.wait(CANCEL_SECONDS)


def _plan(served: list[str]) -> Plan:
    """A step for each served queue, side by side; that of the models can fail in one way only, and calls nobody."""
    plan = Plan("smoke", vars={"nonce": {"required": True}, "nowhere": "nowhere"}, budget={"steps": 10})
    if CONTROL in served:
        plan.noop(STEPS[CONTROL], needs=[], timeout="20s")
    if COMMANDS in served:
        command, env = ["/bin/sh", "-c", _SCRIPT], {"NONCE": "{{ vars.nonce }}"}
        plan.subprocess(STEPS[COMMANDS], command, env=env, needs=[], outputs="stdout_json", timeout="20s")
    if MODELS in served:
        plan.http(STEPS[MODELS], "{{ vars.nowhere }}", needs=[], retry=1, on_failure="continue", timeout="20s")
    return plan


def _probe(url: str | None, path: str, name: str, option: str) -> str:
    """Ask a service of the stack for a sign of life; that it wants a password is one."""
    if url is None:
        raise Skipped(f"the stack was started without {option}, or with no address of it that is known here")
    began = time.monotonic()
    try:
        answer = httpx2.get(httpx2.URL(url).join(path), timeout=PROBE_SECONDS)
    except httpx2.HTTPError as error:
        raise Problem(
            f"{name} does not answer at {url}: {type(error).__name__}", "see its log under the home"
        ) from None
    if answer.is_server_error:
        raise Problem(f"{name} answers {answer.status_code} at {url}", "see its log under the home")
    return f"answers at {url} in {(time.monotonic() - began) * 1000:.0f} ms"
