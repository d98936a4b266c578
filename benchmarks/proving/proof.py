"""The proof: what must hold once there is peace again, whatever was broken before. Each check names what breaks it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import redis
from sqlalchemy import text

from agentflow.broker.dispatch import queue_depths
from agentflow.engine.reconcile import reconcile, verify_ledger
from agentflow.engine.verify import verify_all
from agentflow.executors.scratch import sweep_scratch
from proving.crowd import SCHEDULE_SECONDS, Crowd
from proving.ground import Ground
from proving.journal import Journal
from proving.plans import GREEDY, SENTINEL, THRIFTY_PROJECT
from proving.redis_keys import find_unowned

CALM_SECONDS = 30.0
LOOK_SECONDS = 0.5
SHOWN = 12
UNFINISHED = """SELECT run.id, run_state.state, run.project, run_state.exhausted, run_state.paused
    FROM run JOIN run_state ON run_state.run_id = run.id WHERE run_state.ended_at IS NULL"""
STEPS_OF_ENDED = """SELECT step.run_id, step.key, step.state FROM step JOIN run_state ON run_state.run_id = step.run_id
    WHERE run_state.ended_at IS NOT NULL AND step.state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')"""
RUNNING_ATTEMPTS = "SELECT run_id, id, worker FROM attempt WHERE state = 'running'"
MISCOUNTED_RUNS = """
    SELECT run.id, count(step.id) AS steps, jsonb_array_length(plan.document -> 'steps') AS planned
    FROM run JOIN plan ON plan.fingerprint = run.plan_fingerprint
    LEFT JOIN step ON step.run_id = run.id AND step.parent IS NULL
    GROUP BY run.id, plan.document HAVING count(step.id) <> jsonb_array_length(plan.document -> 'steps')"""
MISCOUNTED_ITEMS = """
    SELECT each.run_id, each.key, each.children, count(made.id) AS made
    FROM step AS each LEFT JOIN step AS made
        ON made.run_id = each.run_id AND made.parent = each.key AND made.key = format('%s[%s]', each.key, made.item)
    WHERE each.children IS NOT NULL GROUP BY each.id HAVING count(made.id) <> each.children"""
UNFOUNDED = """
    SELECT step.run_id, step.key FROM step WHERE step.action = 'run' AND step.state = 'succeeded' AND NOT EXISTS (
        SELECT FROM run JOIN run_state ON run_state.run_id = run.id
        WHERE run.parent_run = step.run_id AND run.parent_step = step.key
        AND run_state.state IN ('completed', 'partial'))"""
SUCCESSES = """
    WITH moved AS (
        SELECT run_id, moves.key AS subject, moves.value ->> 0 AS old
        FROM audit_event, jsonb_each(moved) AS moves
    ), reopened AS (
        SELECT run_id, substr(subject, 6) AS key, count(*) AS times FROM moved
        WHERE subject LIKE 'step:%' AND old = 'succeeded' GROUP BY 1, 2
    )
    SELECT step.run_id, step.key, step.state, count(attempt.id) AS successes,
           coalesce(max(reopened.times), 0) AS reopened
    FROM step
    LEFT JOIN attempt ON attempt.step_id = step.id AND attempt.state = 'succeeded'
    LEFT JOIN reopened ON reopened.run_id = step.run_id AND reopened.key = step.key
    GROUP BY step.id
    HAVING count(attempt.id) <> CASE WHEN step.action IN ('foreach', 'decision', 'wait', 'approval', 'run', 'group')
        THEN 0 ELSE coalesce(max(reopened.times), 0) + (step.state = 'succeeded')::int END"""
UNEXPLAINED = """SELECT run_id, key, state FROM step
    WHERE state IN ('failed', 'skipped', 'cancelled') AND reason IS NULL"""
RETRIES = """SELECT run_id, substr(moves.key, 6) AS key, count(*) AS times
    FROM audit_event, jsonb_each(moved) AS moves WHERE action = 'retry' AND moves.key LIKE 'step:%' GROUP BY 1, 2"""
SUCCEEDED_ATTEMPTS = """SELECT attempt.run_id, step.key, attempt.number
    FROM attempt JOIN step ON step.id = attempt.step_id
    WHERE attempt.state = 'succeeded' AND step.action = 'subprocess'"""
OVERSPENT_RUNS = f"""
    SELECT run_budget.run_id, run_budget.tokens, sum(input_tokens + output_tokens) AS used,
           coalesce(sum(input_tokens + output_tokens) FILTER (WHERE model = '{GREEDY}'), 0) AS greedy
    FROM run_budget JOIN llm_call ON llm_call.run_id = run_budget.run_id
    WHERE run_budget.tokens IS NOT NULL
    GROUP BY run_budget.run_id
    HAVING sum(input_tokens + output_tokens) FILTER (WHERE model <> '{GREEDY}') > run_budget.tokens"""
PROJECT_TOKENS = "SELECT coalesce(sum(input_tokens + output_tokens), 0) FROM llm_call WHERE project = :project"
RECORDED_TOKENS = "SELECT coalesce(sum(input_tokens + output_tokens), 0) FROM llm_call"
KEYS = "SELECT idempotency_key, count(*) FROM run WHERE idempotency_key IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
GAPS = f"""SELECT * FROM (
        SELECT schedule.name, due_at, due_at - lag(due_at) OVER (PARTITION BY schedule.id ORDER BY due_at) AS gap
        FROM firing JOIN schedule ON schedule.id = firing.schedule_id
    ) AS noted WHERE gap <> interval '{SCHEDULE_SECONDS} seconds'"""
OPEN_FIRINGS = """SELECT schedule.name, due_at, firing.state, run_id
    FROM firing JOIN schedule ON schedule.id = firing.schedule_id
    WHERE firing.state IN ('due', 'queued', 'starting') OR (firing.state = 'started' AND run_id IS NULL)"""
STRAY_RUNS = """SELECT run.id, run.idempotency_key, count(firing.run_id) AS firings
    FROM run LEFT JOIN firing ON firing.run_id = run.id WHERE run.idempotency_key LIKE 'schedule:%'
    GROUP BY run.id HAVING count(firing.run_id) <> 1"""
TEXTS = ("plan", "run", "run_state", "step", "attempt", "llm_call", "artifact", "audit_event")


class Proof:
    """Gathers findings; none means that everything held."""

    def __init__(self, ground: Ground, crowd: Crowd, project_tokens: int) -> None:
        self._ground = ground
        self._crowd = crowd
        self._project_tokens = project_tokens
        self.findings: list[str] = []
        self.checked: list[str] = []

    def of_rows(self) -> None:
        """Check what Postgres, Redis, the journal and the logs say, with the fleet still at work."""
        self._journal = Journal(self._ground.journal_lines())
        for name, check in (
            ("every run ended or rests for a named reason", self._ends),
            ("every accepted submit is one run", self._submits),
            ("every step succeeded once a round, or has its reason", self._steps),
            ("every recorded success of a command was the whole command", self._successes),
            ("no step with on_lost hold started twice without a retry", self._holds),
            ("no step ran twice at once, no place was taken twice", self._overlaps),
            ("every due time of a schedule was noted, and started one run at most", self._firings),
            ("audit verify --all", self._audit),
            ("the ledger equals the rows", self._ledger),
            ("no cap was passed but by what a provider over-reported", self._caps),
            ("no prompt in rows, Redis or logs", self._unspoken),
            ("no verb raised what it does not document", self._verbs),
            ("the queues are empty", self._queues),
        ):
            self._check(name, check)

    def of_the_end(self, exit_codes: dict[str, int]) -> None:
        """Check what is left once the fleet has been stopped."""
        self._check("every process ended with exit code 0", lambda: self._codes(exit_codes))
        self._check("no process left", self._processes)
        self._check("no Redis key without an expiry or an owner", self._keys)
        self._check("no scratch directory left that the next worker would not sweep", self._scratch)

    def _check(self, name: str, check: Callable[[], Iterator[str]]) -> None:
        found = list(check())
        self.checked.append(f"{'FAILED' if found else 'holds'}: {name}")
        self.findings += [f"{name}: {each}" for each in found[:SHOWN]]
        if len(found) > SHOWN:
            self.findings.append(f"{name}: and {len(found) - SHOWN} more")

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        """Read rows."""
        with self._ground.runtime.context.database.transaction() as tx:
            return list(tx.execute(text(statement), parameters).all())

    def _ends(self) -> Iterator[str]:
        for row in self.rows(UNFINISHED):
            is_named = row.project == THRIFTY_PROJECT and row.exhausted
            if not is_named:
                yield f"run {row.id} is {row.state}, exhausted {row.exhausted}, paused {row.paused}"
        for row in self.rows(STEPS_OF_ENDED):
            yield f"run {row.run_id} ended, its step {row.key} is {row.state}"
        for row in self.rows(RUNNING_ATTEMPTS):
            yield f"run {row.run_id}: attempt {row.id} still runs on {row.worker}"
        for row in self.rows(MISCOUNTED_RUNS):
            yield f"run {row.id} has {row.steps} steps, its plan {row.planned}"
        for row in self.rows(MISCOUNTED_ITEMS):
            yield f"run {row.run_id}: foreach {row.key} has {row.made} items of {row.children}"

    def _submits(self) -> Iterator[str]:
        known = {row.id for row in self.rows("SELECT id FROM run")}
        for submitted in self._crowd.submitted:
            if submitted.run.uuid not in known:
                yield f"{submitted.key}: run {submitted.run.id} was accepted and is not there"
        for row in self.rows(KEYS):
            yield f"the key {row.idempotency_key} has {row[1]} runs"

    def _steps(self) -> Iterator[str]:
        for row in self.rows(SUCCESSES):
            yield (
                f"run {row.run_id} step {row.key} ({row.state}): {row.successes} succeeded attempts, "
                f"taken up again {row.reopened} times"
            )
        for row in self.rows(UNFOUNDED):
            yield f"run {row.run_id} step {row.key} succeeded, and none of its child runs did"
        for row in self.rows(UNEXPLAINED):
            yield f"run {row.run_id} step {row.key} is {row.state} without a reason"

    def _successes(self) -> Iterator[str]:
        lives = {(life.run, life.step, life.attempt): life for life in self._journal.lives}
        for row in self.rows(SUCCEEDED_ATTEMPTS):
            life = lives.get((str(row.run_id), row.key, row.number))
            if life is not None and not life.has_ended:
                yield f"run {row.run_id} step {row.key}: attempt {row.number} succeeded and its command never ended"

    def _holds(self) -> Iterator[str]:
        retries = {(str(row.run_id), row.key): int(row.times) for row in self.rows(RETRIES)}
        yield from self._journal.find_repeated_holds(retries)

    def _overlaps(self) -> Iterator[str]:
        yield from self._journal.find_overlaps()
        yield from self._journal.find_crowded_places()

    def _firings(self) -> Iterator[str]:
        for row in self.rows(GAPS):
            yield f"schedule {row.name}: {row.gap} between {row.due_at} and the due time before"
        for row in self.rows(OPEN_FIRINGS):
            yield f"schedule {row.name}: what was due at {row.due_at} is still {row.state}, its run {row.run_id}"
        for row in self.rows(STRAY_RUNS):
            yield f"run {row.id} ({row.idempotency_key}) stands with {row.firings} firings"

    def _audit(self) -> Iterator[str]:
        for report in verify_all(self._ground.runtime.context):
            for finding in report.findings:
                yield f"run {report.run_id}: {finding.code.value} {finding.message}"

    def _ledger(self) -> Iterator[str]:
        context = self._ground.runtime.context

        def differences() -> list[str]:
            reconcile(context)
            return [str(difference) for difference in verify_ledger(context)]

        yield from _until_none(differences)

    def _caps(self) -> Iterator[str]:
        for row in self.rows(OVERSPENT_RUNS):
            yield f"run {row.run_id} used {row.used} tokens ({row.greedy} greedy) of {row.tokens}"
        [(thrifty,)] = self.rows(PROJECT_TOKENS, project=THRIFTY_PROJECT)
        if thrifty > self._project_tokens:
            yield f"project {THRIFTY_PROJECT} used {thrifty} tokens of {self._project_tokens}"
        [(recorded,)] = self.rows(RECORDED_TOKENS)
        if self._answered_tokens() > recorded:
            yield f"models answered with {self._answered_tokens()} tokens, the rows know of {recorded}"

    def _answered_tokens(self) -> int:
        stub = self._ground.stub
        answered = [arrival for arrival in stub.arrivals if arrival.is_answered.is_set() and _is_call(arrival.body)]
        usages = [stub.replies[arrival.model].usage for arrival in answered]
        return sum(usage.prompt + usage.completion for usage in usages if usage)

    def _unspoken(self) -> Iterator[str]:
        for table in TEXTS:
            [(found,)] = self.rows(f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE '%{SENTINEL}%'")
            if found:
                yield f"{found} rows of {table}"
        for log in self._ground.logs.glob("*.log"):
            if SENTINEL in log.read_text(encoding="utf-8", errors="replace"):
                yield f"the log {log.name}"
        with self._ground.redis.client() as client:
            for key in client.scan_iter(count=500):
                with suppress(redis.ResponseError):
                    if SENTINEL.encode() in (client.dump(key) or b""):
                        yield f"the Redis key {key.decode(errors='replace')}"

    def _verbs(self) -> Iterator[str]:
        yield from self._crowd.doings.errors

    def _queues(self) -> Iterator[str]:
        def waiting() -> list[str]:
            depths = queue_depths(self._ground.runtime.celery)
            return [f"{depth} messages wait in {queue}" for queue, depth in depths.items() if depth]

        yield from _until_none(waiting)

    def _codes(self, exit_codes: dict[str, int]) -> Iterator[str]:
        yield from (f"{name} ended with {code}" for name, code in exit_codes.items() if code)

    def _processes(self) -> Iterator[str]:
        runs = {row.id for row in self.rows("SELECT id FROM run")}
        yield from _until_none(lambda: [f"{pid}: {what}" for pid, what in _left(self._ground.home, runs)])

    def _keys(self) -> Iterator[str]:
        yield from find_unowned(self._ground)

    def _scratch(self) -> Iterator[str]:
        tempfile.tempdir = str(self._ground.home / "tmp")
        sweep_scratch()
        yield from (path.name for path in (self._ground.home / "tmp").glob("agentflow-scratch-*"))


def _is_call(body: dict[str, Any]) -> bool:
    """Whether it was a step of a model, not of a plain service."""
    return SENTINEL in str(body.get("messages"))


def _until_none(look: Callable[[], list[str]]) -> list[str]:
    """Look until nothing is found, for a while; what is found at its end is found."""
    deadline = time.monotonic() + CALM_SECONDS
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return found


def _left(home: Path, runs: set[UUID]) -> Iterator[tuple[int, str]]:
    """Processes of the fleet or of a command that live still; the servers are not among them."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            environ = (entry / "environ").read_bytes().split(b"\0")
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            given = dict(line.partition(b"=")[::2] for line in environ if b"=" in line)
            run = given.get(b"AGENTFLOW_RUN_ID", b"").decode(errors="replace")
            is_fleets = given.get(b"HOME", b"").decode(errors="replace") == str(home)
            if (is_fleets or run in {str(each) for each in runs}) and _is_alive(entry):
                yield int(entry.name), words[:160]


def _is_alive(entry: Path) -> bool:
    return (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] not in "ZX"
