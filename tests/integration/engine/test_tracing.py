"""Traces: what a collector hears of a run from real processes, and that nobody hears or pays anything by default."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.gate import Verdict
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.engine.decide import Answer, decide
from agentflow.engine.fork import ForkRequest, fork
from agentflow.engine.load_plan import load_data
from agentflow.engine.retry import retry
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.executors.base import known_actions
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import (
    attempt_rows,
    document,
    lines_of,
    noop_step,
    shell_step,
    step_rows,
    submitted,
    wait_for,
    wait_for_end,
    work_off,
)
from tests.http_service import HttpService
from tests.integration.engine.test_child_runs import children_of
from tests.model_stub import ModelStub
from tests.otlp_collector import Collector, TakenSpan, told_by_this_process
from tests.workers import REPOSITORY, WorkerProcess, environment_of

SENTINEL = "sesame-4711"
KILLS_ITS_WORKER = (
    "[ $AGENTFLOW_ATTEMPT -ge 2 ] || kill -9 $(awk '{print $4}' /proc/$PPID/stat); sleep 0.$AGENTFLOW_ATTEMPT"
)
INTERNAL, CLIENT, PRODUCER, CONSUMER = 1, 3, 4, 5
StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that this process tells its traces too."""
    yield from told_by_this_process(monkeypatch)


@pytest.fixture
def traced(collector: Collector, house: Runtime) -> Runtime:
    """The test's installation, first used where traces are wanted."""
    return house


def the(spans: list[TakenSpan], name: str, **attributes: Any) -> TakenSpan:
    """The one span of a name, and with these attributes of ours."""
    wanted = {f"agentflow.{key.replace('__', '.')}": value for key, value in attributes.items()}
    [found] = [span for span in spans if span.name == name and wanted.items() <= span.attributes.items()]
    return found


def accepted(house: Runtime, steps: list[dict[str, Any]], child: dict[str, Any]) -> RunId:
    """Submit a plan with a child run."""
    actions = known_actions()
    below = load_data(child, Path(), available_actions=actions)
    plan = load_data(
        document(steps, vars={"word": SENTINEL}), Path(), available_actions=actions, children={"./c": below}
    )
    return submit(
        house.context,
        SubmitRequest(
            plan=plan.plan,
            vars={"word": SENTINEL},
            project="default",
            actor="tester@test",
            content=plan.content,
            files=plan.files,
            brought=plan.brought,
        ),
    ).run_id


def test_a_run_is_one_trace_whatever_befalls_it(
    collector: Collector, traced: Runtime, start_worker: StartWorker, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    with ModelStub() as stub, HttpService() as service:
        private = f"127.0.0.1:{service.port}"
        worker = start_worker(
            AGENTFLOW_HTTP_PRIVATE_HOSTS=private,
            **stub.environment(tmp_path),
            **collector.environment | {"OTEL_BSP_SCHEDULE_DELAY": "600000"},
        )
        run_id = accepted(
            traced,
            [
                shell_step("killed", KILLS_ITS_WORKER, []),
                shell_step(
                    "again",
                    f"echo {SENTINEL}; echo $TRACEPARENT >> {heard}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exit 75",
                    ["killed"],
                ),
                {"id": "ask", "needs": ["again"], "llm": {"model": "stub:ok", "prompt": f"Say {SENTINEL}."}},
                {"id": "fetch", "needs": ["ask"], "http": {"url": f"{service.url}/{SENTINEL}?q={SENTINEL}"}},
                {"id": "below", "needs": ["fetch"], "run": {"plan": "./c"}},
                {"id": "gate", "needs": ["below"], "approval": {}},
                shell_step("broken", f"echo {SENTINEL} >&2; exit 3", ["gate"], retry=1, env={"WORD": SENTINEL}),
            ],
            document([noop_step("inner")], name="child"),
        )
        wait_for(lambda: step_rows(traced.context, run_id)["gate"].state == "held")
        decide(traced.context, run_id, StepKey("gate"), Answer("alice@test", Verdict.APPROVE, SENTINEL))
        assert wait_for_end(traced.context, run_id) is RunState.FAILED
        assert worker.stop() == 0  # none of its processes would have told by itself before
        traced.close()
        spans = collector.spans(run_id)
    [child] = children_of(traced.context, run_id)

    assert {span.trace for span in collector.spans()} == {run_id.hex}
    _check_runs(spans, run_id, child)
    _check_attempts(spans, traced, run_id)
    _check_calls(spans)
    again = (the(spans, "step again", attempt__number=number) for number in (1, 2))
    assert lines_of(heard) == [f"00-{run_id.hex}-{span.id}-01" for span in again]
    assert {span.service for span in spans} == {"agentflow"}
    assert SENTINEL.encode() not in collector.raw


def _check_runs(spans: list[TakenSpan], run_id: RunId, child: RunId) -> None:
    run, below = the(spans, "run tested"), the(spans, "run child")
    names = {span.id: span.name for span in spans}
    assert run.parent == ""
    assert run.id == run_id.hex[:16]
    assert (run.error, run.attributes["agentflow.run.state"]) == ("step_failed", "failed")
    assert (below.parent, below.error) == (run.id, None)
    assert below.attributes["agentflow.run.id"] == str(child)
    assert below.attributes["agentflow.parent.step.id"] == "below"
    assert the(spans, "submit").parent == run.id
    assert the(spans, "start_child").parent == below.id
    gate = the(spans, "gate gate")
    assert (gate.parent, gate.attributes["agentflow.gate.state"]) == (run.id, "approved")
    assert [span.name for span in spans if span.parent and span.parent not in names] == []
    assert len(names) == len(spans)


def _check_attempts(spans: list[TakenSpan], house: Runtime, run_id: RunId) -> None:
    lost = the(spans, "step killed", attempt__number=1)
    assert (lost.error, lost.attributes["agentflow.outcome"]) == ("worker_lost", "lost")
    assert the(spans, "step killed", attempt__number=2).error is None
    failed, good = (the(spans, "step again", attempt__number=number) for number in (1, 2))
    assert (failed.error, failed.attributes["process.exit.code"]) == ("exit_code", 75)
    assert failed.attributes["agentflow.step.state"] == "retrying"
    assert failed.ended <= good.started
    sends = {(span.trace, span.id) for span in spans if span.kind == PRODUCER}
    run = the(spans, "run tested")
    for row in attempt_rows(house.context, run_id):
        [span] = [span for span in spans if span.id == row.id.hex[:16]]
        assert (span.kind, span.parent) == (CONSUMER, run.id)
        assert span.attributes["agentflow.run.id"] == str(run_id)
        assert abs(span.seconds - (row.ended_at - row.started_at).total_seconds()) < 0.001
        assert span.attributes["messaging.destination.name"] in ("commands", "models")
        if row.state != "lost":  # who ended that had not read its message
            assert set(span.links) <= sends
            assert len(span.links) == 1


def _check_calls(spans: list[TakenSpan]) -> None:
    call, asked = the(spans, "chat ok"), the(spans, "step ask")
    assert (call.parent, call.kind, call.error) == (asked.id, CLIENT, None)
    assert asked.started <= call.started <= call.ended <= asked.ended
    assert {name: value for name, value in call.attributes.items() if name.startswith("gen_ai")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "stub",
        "gen_ai.request.model": "ok",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 10,
    }
    fetched = the(spans, "GET")
    assert (fetched.parent, fetched.kind) == (the(spans, "step fetch").id, CLIENT)
    assert fetched.attributes["http.response.status_code"] == 200
    assert fetched.attributes["server.address"] == "127.0.0.1"


def test_nothing_is_loaded_for_traces_by_default(settings: Settings, house: Runtime, tmp_path: Path) -> None:
    """In a process that is a client, a worker and a dispatcher in one."""
    program = """
import sys
from agentflow import runtime
from agentflow.engine.dispatcher import Dispatcher
from agentflow.worker import app, dispatcher_process
from tests.factories import noop_step, submitted, work_off
app.make_worker_app()
house = runtime.current()
run_id = submitted(house.context, [noop_step("a"), noop_step("b", ["a"])])
Dispatcher(house.context, "test").one_pass()
# Redis's client loads the SDK's metrics where they are installed.
loaded = [name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))]
print(work_off(house, run_id), house.context.tracing.is_on, loaded)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment_of(settings, tmp_path), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "completed False []\n", ran.stderr


def test_a_run_that_ends_again_and_a_fork_say_where_they_belong(
    collector: Collector, traced: Runtime, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    run_id = submitted(traced.context, [noop_step("a"), shell_step("b", f"test -e {mark}", ["a"], retry=1)])
    assert work_off(traced, run_id) is RunState.FAILED
    mark.touch()
    retry(traced.context, run_id, "tester@test")
    assert work_off(traced, run_id) is RunState.COMPLETED
    forked = fork(traced.context, run_id, ForkRequest(StepKey("b"), "tester@test")).run_id
    assert work_off(traced, forked) is RunState.COMPLETED
    traced.close()

    first, again = (the(collector.spans(run_id), "run tested", run__round=number) for number in (1, 2))
    assert (first.id, first.parent, first.error) == (run_id.hex[:16], "", "step_failed")
    assert (again.parent, again.error, again.started) == (first.id, None, first.started)
    assert the(collector.spans(forked), "run tested").parent == ""
    assert the(collector.spans(forked), "fork").links == ((run_id.hex, run_id.hex[:16]),)


def test_a_send_that_fails_is_told_with_its_code(collector: Collector, traced: Runtime) -> None:
    url = traced.celery.conf.broker_write_url
    traced.celery.conf.broker_write_url = "redis://127.0.0.1:1/0"
    run_id = submitted(traced.context, [noop_step("a")])
    traced.celery.conf.broker_write_url = url
    traced.close()

    sent = the(collector.spans(run_id), "send control")
    assert (sent.kind, sent.error) == (PRODUCER, "servers_unreachable")
    assert sent.attributes["agentflow.step.id"] == "a"


def test_a_program_with_a_provider_of_its_own_gets_the_spans_there(
    settings: Settings, house: Runtime, tmp_path: Path
) -> None:
    program = """
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from agentflow import AgentFlow, Plan
kept, provider = InMemorySpanExporter(), TracerProvider(resource=Resource.create({"service.name": "shop"}))
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
plan = Plan("mail")
plan.noop("send")
with AgentFlow() as flow, trace.get_tracer("shop").start_as_current_span("order") as order:
    run = flow.submit(plan)
with AgentFlow() as flow:  # closing does not end what is not ours
    flow.submit(plan)
[order] = [span for span in kept.get_finished_spans() if span.name == "order"]
of_run = [span for span in kept.get_finished_spans() if f"{span.context.trace_id:032x}" == run.id.replace("-", "")]
[submit, _] = sorted(of_run, key=lambda span: span.name, reverse=True)
print(submit.name, submit.links[0].context.span_id == order.context.span_id, submit.resource.attributes["service.name"])
print(order.parent, order.links[0].context.trace_id == submit.context.trace_id, len(kept.get_finished_spans()))
print(trace.get_tracer_provider() is provider)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment_of(settings, tmp_path), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "submit True shop\nNone True 5\nTrue\n", ran.stderr
