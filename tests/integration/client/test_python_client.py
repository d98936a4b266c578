"""The Python client against real servers and, where it matters, a real worker."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text

from agentflow import AgentFlow, Plan, Retry, Run, errors
from agentflow.domain.ids import SMOKE_PROJECT, RunId
from agentflow.domain.state import ShownRunState
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.integration.client.conftest import Finish, environment_of, shell_plan
from tests.workers import REPOSITORY, WorkerProcess

HELD = '{"code": "awaits_person", "detail": {}}'


def report_plan() -> Plan:
    plan = Plan("triage")
    collect = plan.subprocess(
        "collect", ["/bin/sh", "-c", "echo seen; echo odd >&2; echo '{\"errors\": 2}' > $AGENTFLOW_OUTPUT"]
    )
    plan.subprocess(
        "report", ["/bin/sh", "-c", "echo '# {{ steps.collect.result.errors }}' > $AGENTFLOW_ARTIFACTS/report.md"],
        needs=[collect],
    )  # fmt: skip
    plan.subprocess(
        "flaky", ["/bin/sh", "-c", "exit 75"], needs=[collect], on_failure="continue",
        retry=Retry(max_attempts=2, base="50ms", jitter=0),
    )  # fmt: skip
    return plan


def test_a_submitted_plan_is_executed_and_told_about(flow: AgentFlow, worker: WorkerProcess) -> None:
    run = flow.submit(report_plan(), idempotency_key="once")
    assert (run.existing, run.is_sent) == (False, True)

    assert run.wait(timeout=30) is run

    assert run.state == "partial"
    assert run.reason is None
    assert {key: step.state.value for key, step in run.steps.items()} == {
        "collect": "succeeded", "report": "succeeded", "flaky": "failed",
    }  # fmt: skip
    assert run.steps["collect"].result == {"errors": 2}
    assert run.steps["flaky"].needs == ("collect",)
    assert run.read_artifact("report.md") == b"# 2\n"
    assert run.read_artifact("stderr", step="collect") == b"odd\n"
    first, second = run.steps["flaky"].attempts
    assert (first.exit_code, first.reason) == (75, {"code": "exit_code", "detail": {"exit_code": 75}})
    assert first.ended_at is not None
    assert first.retry_at is not None
    assert 0.04 < (first.retry_at - first.ended_at).total_seconds() < 0.06
    assert (second.number, second.retry_at) == (2, None)
    assert run.usage.attempts == 4
    assert run.usage.attempt_seconds > 0
    assert 0 < run.usage.active_seconds < 30
    assert [artifact.name for artifact in run.artifacts] == ["report.md"]
    actions = [(event.step, event.action) for event in run.events()]
    assert actions[0] == (None, "submit")
    assert actions[-1] == (None, "finalize")
    assert actions.count(("flaky", "settle")) == 2
    assert flow.submit(report_plan(), idempotency_key="once").existing


def test_a_budget_given_at_submit_goes_over_the_plans_and_is_told_with_the_run(flow: AgentFlow, house: Runtime) -> None:
    plan = Plan("capped", budget={"tokens": 10, "steps": 5}, directive="nightly")
    plan.noop("a")

    run = flow.submit(plan, budget={"tokens": 5000, "usd": 0.5, "active_time": timedelta(minutes=10)})

    with house.context.database.transaction() as tx:
        caps = tx.execute(
            text("SELECT steps, tokens, usd_nano, active_seconds FROM run_budget WHERE run_id = :id"), {"id": run.uuid}
        ).one()
        directive = tx.execute(text("SELECT directive FROM run WHERE id = :id"), {"id": run.uuid}).scalar_one()
    assert tuple(caps) == (5, 5000, 500_000_000, 600)
    assert directive == "nightly"
    assert flow.check(plan, directive="daily").directive == "daily"


def test_a_budget_that_cannot_be_meant_is_told_beside_the_faults_of_vars_and_nothing_is_written(
    flow: AgentFlow,
) -> None:
    plan = Plan("capped")
    plan.noop("a")
    budget: Any = {"tokens": 0, "token": 5}

    with pytest.raises(errors.PlanRejected) as rejected:
        flow.submit(plan, {"absent": 1}, budget=budget)

    assert [(fault.code, fault.path) for fault in rejected.value.faults] == [
        ("unknown_var", ("vars", "absent")),
        ("unknown_field", ("budget", "token")),
        ("bad_budget", ("budget", "tokens")),
    ]
    with pytest.raises(errors.UsageError, match="no name of a directive"):
        flow.submit(plan, directive="a b")
    assert len(flow.runs()) == 0


def test_a_call_without_a_bound_is_told_with_its_line_in_the_plan(flow: AgentFlow, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "agentflow: 1\nname: p\nsteps:\n  - id: ask\n    llm:\n"
        "      model: nobody:knows\n      prompt: a sort of prompt\n"
    )

    keyed = partial(flow.submit, idempotency_key="key")
    for refuse in (flow.submit, keyed, flow.check):
        with pytest.raises(errors.PlanRejected) as rejected:
            refuse(path, budget={"usd": 0.5})
        assert [(fault.code, fault.step, fault.place) for fault in rejected.value.faults] == [
            ("missing_max_tokens", "ask", f"{path}:5"),
            ("unknown_price", "ask", f"{path}:6"),
        ]
        assert "a sort of prompt" not in str(rejected.value)
    assert len(flow.runs()) == 0


def test_events_are_followed_to_the_end(flow: AgentFlow, worker: WorkerProcess) -> None:
    run = flow.submit(shell_plan("sleep 0.3", "true"))

    followed = list(run.events(follow=True))

    assert [event.id for event in followed] == [event.id for event in run.events()]
    assert followed[-1].moved == {"run": ["running", "completed"]}


def test_a_wait_that_runs_out_is_a_timeout(flow: AgentFlow) -> None:
    run = flow.submit(shell_plan("true"))

    with pytest.raises(TimeoutError) as timeout:
        run.wait(timeout=0.3)

    assert isinstance(timeout.value, errors.WaitTimeout)
    assert timeout.value.details == {"run_id": run.id, "state": "running"}


def test_a_wait_raises_on_failure_only_where_it_was_asked_to(flow: AgentFlow, finish: Finish) -> None:
    failed = finish(flow.submit(shell_plan("exit 3")))
    completed = finish(flow.submit(shell_plan("true")))

    assert failed.wait(5).state == "failed"
    with pytest.raises(errors.RunFailed, match="failed: step s0 failed") as failure:
        failed.wait(5, raise_on_failure=True)
    assert failure.value.details["state"] == "failed"
    assert completed.wait(5, raise_on_failure=True).state == "completed"


def test_a_wait_ends_when_the_run_rests(flow: AgentFlow, house: Runtime) -> None:
    run = flow.submit(shell_plan("true"))
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE step SET state = 'held', sent_at = NULL, reason = CAST(:why AS jsonb)"), {"why": HELD})

    assert run.wait(5).state is ShownRunState.WAITING
    assert run.is_at_rest
    assert run.reason == {"code": "awaits_person", "detail": {"step": "s0"}}
    assert run.retry("s0").ready == ("s0",)
    assert run.state == "running"


def test_a_failed_run_is_taken_up_again(flow: AgentFlow, finish: Finish, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    run = finish(flow.submit(shell_plan("true", f"test -e {mark} || exit 3", "true")))
    assert [step.state for step in run.steps.values()] == ["succeeded", "failed", "skipped"]
    mark.touch()

    retried = run.retry()

    assert (retried.ready, retried.pending) == (("s1",), ("s2",))
    assert finish(run).state == "completed"
    assert run.summary.round == 2
    assert [len(step.attempts) for step in run.steps.values()] == [1, 2, 1]
    with pytest.raises(errors.InvalidTransition):
        run.retry()


def test_a_cancelled_run_is_seen_to_have_stopped(flow: AgentFlow, worker: WorkerProcess) -> None:
    run = flow.submit(shell_plan("sleep 60", "true"))
    next(event for event in run.events(follow=True) if event.action == "claim")

    asked = flow.cancel(run.id)

    assert (asked.is_new, asked.stopping) == (True, 1)
    assert run.wait(10).state == "cancelled"
    assert [step.state for step in run.steps.values()] == ["cancelled", "cancelled"]
    with pytest.raises(errors.InvalidTransition, match="has ended"):
        run.cancel()


def test_one_key_gives_one_run_and_refuses_another_plan(flow: AgentFlow) -> None:
    first = flow.submit(shell_plan("true"), idempotency_key="nightly")

    assert flow.submit(shell_plan("true"), idempotency_key="nightly").id == first.id
    assert flow.submit(shell_plan("true"), idempotency_key="nightly", project="other").id != first.id
    with pytest.raises(errors.IdempotencyConflict) as conflict:
        flow.submit(shell_plan("false"), idempotency_key="nightly")
    assert conflict.value.stored == first.summary.plan_fingerprint
    assert len(flow.runs()) == 2
    with pytest.raises(errors.UsageError):
        flow.submit(shell_plan("true"), idempotency_key="")


def test_the_project_is_the_given_one_else_the_plans_else_the_settings(house: Runtime) -> None:
    settings = house.settings.model_copy(update={"project": "mine"})
    plain, owned = Plan("p"), Plan("p", project="ops")
    plain.noop("a")
    owned.noop("a")
    with AgentFlow(settings) as flow:
        projects = [
            flow.submit(plain).summary.project,
            flow.submit(owned).summary.project,
            flow.submit(owned, project="given").summary.project,
        ]

    assert projects == ["mine", "ops", "given"]


def test_the_actor_is_on_the_record(flow: AgentFlow) -> None:
    run = flow.submit(shell_plan("true"), actor="nightly-job")
    run.cancel()

    assert [(event.action, event.actor) for event in run.events()] == [
        ("submit", "nightly-job"), ("cancel", "tester@test"), ("finalize", "tester@test"),
    ]  # fmt: skip


def test_pages_go_on_where_the_last_one_ended(flow: AgentFlow) -> None:
    made = [flow.submit(shell_plan("true"), idempotency_key=str(number)).id for number in range(5)]

    first = flow.runs(limit=2)
    flow.submit(shell_plan("true"))  # what comes later shifts nothing
    second = flow.runs(limit=2, cursor=first.next_cursor)
    third = flow.runs(limit=2, cursor=second.next_cursor)

    assert [run.id for page in (first, second, third) for run in page] == made[::-1]
    assert third.next_cursor is None
    assert (len(first), first[0].id) == (2, made[-1])


def test_lists_are_filtered_by_state_project_and_name(flow: AgentFlow, finish: Finish) -> None:
    done = finish(flow.submit(shell_plan("true", name="nightly"), project="ops"))
    going = flow.submit(shell_plan("true", name="hourly"))

    assert [run.id for run in flow.runs(state="completed")] == [done.id]
    assert [run.id for run in flow.runs(project="default")] == [going.id]
    assert [run.id for run in flow.runs(name="nightly", state="completed", project="ops")] == [done.id]
    assert not len(flow.runs(state="paused"))
    with pytest.raises(errors.UsageError, match="no state"):
        flow.runs(state="sleeping")


def test_a_run_is_found_again_by_prefix(flow: AgentFlow) -> None:
    run = flow.submit(shell_plan("true"))

    assert flow.get(run.id[:8]).id == flow.get(run.uuid).id == flow.get("@last").id == run.id
    assert repr(run) == f"<Run {run.id}>"


def test_a_smoke_test_is_not_the_last_run_unless_its_project_is_asked_for(flow: AgentFlow) -> None:
    run = flow.submit(shell_plan("true"))
    tried = flow.submit(shell_plan("true"), project=SMOKE_PROJECT)

    assert flow.get("@last").id == run.id
    assert flow.get("@last", project=SMOKE_PROJECT).id == tried.id


def test_what_a_run_lacks_is_told_with_what_it_has(flow: AgentFlow, finish: Finish) -> None:
    run = finish(flow.submit(shell_plan("echo a", "echo b")))

    with pytest.raises(errors.NotFound, match="did you mean 's0'"):
        run.find_artifact("stdout", step="s00")
    with pytest.raises(errors.NotFound, match="It left: stderr, stdout"):
        run.find_artifact("report.md")
    with pytest.raises(errors.UsageError, match="s0, s1"):
        run.find_artifact("stdout")
    with pytest.raises(errors.NotFound):
        run.find_artifact("stdout", step="s0", attempt=2)


def test_a_plan_of_a_path_is_loaded_with_its_files(flow: AgentFlow, finish: Finish, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("from a file\n")
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "agentflow: 1\nname: filed\nfiles: [words.txt]\nvars: {n: 1}\n"
        "steps: [{id: a, subprocess: {command: [cat, words.txt]}}]\n"
    )

    run = finish(flow.submit(plan, {"n": "7"}))

    assert run.read_artifact("stdout") == b"from a file\n"
    assert flow.submit(Plan.load(plan), {"n": 7}).summary.plan_fingerprint == run.summary.plan_fingerprint
    with pytest.raises(errors.PlanRejected, match="has no var"):
        flow.submit(plan, {"m": 1})


def test_a_rejected_plan_touches_no_server(tmp_path: Path) -> None:
    dead = {"database_url": "postgresql://x@127.0.0.1:1/x", "redis_url": "redis://127.0.0.1:1/0", "home": tmp_path}
    plan = Plan("p")
    plan.noop("a", timeout="5")
    with AgentFlow(**dead) as flow:
        with pytest.raises(errors.PlanRejected, match="has no unit"):
            flow.submit(plan)
        with pytest.raises(errors.ServersUnreachable):
            flow.runs()


def test_settings_come_whole_or_one_by_one(house: Runtime) -> None:
    with pytest.raises(errors.UsageError):
        AgentFlow(house.settings, project="x")
    with pytest.raises(errors.ConfigurationError, match="lease_seconds: must be at most 24"):
        AgentFlow(lease_seconds=1000)


def test_another_store_than_the_runs_use_is_refused_before_anything_is_written(house: Runtime, tmp_path: Path) -> None:
    elsewhere = house.settings.model_copy(update={"content_dir": tmp_path / "elsewhere"})
    with AgentFlow(elsewhere) as flow:
        with pytest.raises(errors.StoreMismatch):
            flow.submit(shell_plan("true"))
        assert not len(flow.runs())  # reading needs no store


def test_a_database_without_tables_says_to_migrate(settings: Settings, servers: Any) -> None:
    bare = settings.model_copy(update={"database_url": SecretStr(servers.database_url.rsplit("/", 1)[0] + "/postgres")})
    with AgentFlow(bare) as flow:
        with pytest.raises(errors.ConfigurationError, match="agentflow migrate"):
            flow.runs()
        with pytest.raises(errors.ConfigurationError, match="agentflow migrate"):
            flow.submit(shell_plan("true"))


def test_a_run_is_kept_while_redis_is_away_and_the_caller_is_told(house: Runtime) -> None:
    away = house.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    with AgentFlow(away) as flow:
        run = flow.submit(shell_plan("true"))

        assert not run.is_sent
        assert run.state == "running"


def test_a_client_works_again_after_it_was_closed_and_after_a_fork(flow: AgentFlow) -> None:
    run = flow.submit(shell_plan("true"))
    flow.close()
    assert flow.get(run.id).state == "running"
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if flow.submit(shell_plan("false")).state == "running" else 2
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(flow.runs()) == 2


def test_a_producer_needs_no_cwd_no_home_and_no_task(house: Runtime, worker: WorkerProcess) -> None:
    program = """
        from agentflow import AgentFlow, Plan
        plan = Plan("away")
        plan.subprocess("a", ["echo", "{{ run.id }}"])
        with AgentFlow() as flow:
            run = flow.submit(plan).wait(30)
            print(run.state, run.read_artifact("stdout").decode().strip() == run.id)
    """
    environment = environment_of(house.settings) | {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}

    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd="/", env=environment | {"HOME": "/nonexistent"}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (told.stdout, told.stderr) == ("completed True\n", "")


class Gate:
    """A way to Postgres that can be shut and opened again: a forwarder on a port of its own."""

    def __init__(self, database_url: str) -> None:
        self._target = make_url(database_url)
        self._server: socket.socket | None = None
        self._port = 0
        self._open_ends: list[socket.socket] = []
        self.open()

    @property
    def url(self) -> str:
        """Where the gate is."""
        return self._target.set(host="127.0.0.1", port=self._port).render_as_string(hide_password=False)

    def open(self) -> None:
        """Let connections through."""
        self._server = socket.create_server(("127.0.0.1", self._port))
        self._port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def shut(self) -> None:
        """Break every connection and let no new one in."""
        assert self._server is not None
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for end in self._open_ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open_ends.clear()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection((self._target.host, self._target.port))
                self._open_ends += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)


def test_a_wait_bears_a_short_outage_of_postgres(house: Runtime, finish: Finish) -> None:
    assert house.settings.database_url is not None
    gate = Gate(house.settings.database_url.get_secret_value())
    with AgentFlow(house.settings.model_copy(update={"database_url": SecretStr(gate.url)})) as flow:
        run = flow.submit(shell_plan("true"))
        states: list[str] = []
        waiting = threading.Thread(target=lambda: states.append(run.wait(20).state))
        waiting.start()
        gate.shut()
        with pytest.raises(errors.ServersUnreachable):
            flow.get(run.id)
        finish(Run(AgentFlow(house.settings), RunId(run.uuid)))
        gate.open()
        waiting.join(20)
        gate.shut()

    assert states == ["completed"]


def test_a_submit_returns_at_once(flow: AgentFlow) -> None:
    flow.submit(shell_plan("true"))  # connections are made
    began = time.monotonic()
    flow.submit(shell_plan("sleep 60"))

    assert time.monotonic() - began < 20


def test_a_client_leaves_a_celery_app_of_its_process_alone(house: Runtime, flow: AgentFlow) -> None:
    program = """
        import celery
        mine = celery.Celery("mine")
        mine.set_current()
        from agentflow import AgentFlow, Plan
        plan = Plan("beside")
        plan.noop("a")
        with AgentFlow() as flow:
            print(flow.submit(plan).is_sent, celery.current_app.main)
    """
    environment = environment_of(house.settings) | {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}

    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, check=False
    )

    assert (told.stdout, told.stderr) == ("True mine\n", "")
