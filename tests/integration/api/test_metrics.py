"""Metrics: what is scraped is what the rows say, from whichever process, over pruning and folding; and it is cheap."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import uvicorn
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from pydantic import SecretStr
from sqlalchemy import text

from agentflow import AgentFlow
from agentflow.api.app import make_app
from agentflow.domain.budget import ConfiguredBudgets, ScopeBudget
from agentflow.domain.ids import StepKey
from agentflow.domain.tally import BUCKETS
from agentflow.engine.context import EngineContext
from agentflow.engine.dispatch import SENDS_PER_SETTLE
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.fold_tally import fold_tally
from agentflow.engine.prune import prune
from agentflow.executors.base import close_executors
from agentflow.monitor.metrics import METRICS, Kind
from agentflow.monitor.metrics_collector import exposition
from agentflow.runtime import Runtime
from agentflow.storage import workers
from agentflow.storage.database import statement
from agentflow.storage.workers import WorkerTold
from tests.factories import command_step, noop_step, submitted, work_off
from tests.integration.api.conftest import BASE, TLS, Api, Server
from tests.model_stub import ModelStub, Reply, Usage

Opened = Callable[..., httpx2.Client]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
PRICE = {"input": 10, "output": 30}
"""In dollars for a million tokens."""
MOVING = (
    "agentflow_postgres_",
    "agentflow_gates_oldest_seconds",
    "agentflow_queue_oldest_due_seconds",
    "agentflow_webhooks_failing_seconds",
)
"""What is another from one moment to the next, although nothing happens."""

ENDED_LONG_AGO = (  # as many runs as asked for, of ten steps each
    """INSERT INTO run (id, project, plan_fingerprint, vars, request_sha256, actor)
       SELECT gen_random_uuid(), 'many', (SELECT min(fingerprint) FROM plan), '{}', '', ''
       FROM generate_series(1, :runs)""",
    """INSERT INTO run_state (run_id, state, open_sinks, started_at, ended_at, round, event_sequence)
       SELECT id, 'completed', 0, now(), now(), 1, 0 FROM run WHERE project = 'many'""",
    """INSERT INTO step (id, run_id, key, position, action, queue, when_rule, is_sink, state, needs_open, needs_failed,
                         needs_skipped, needs_cancelled, attempts, failures, losses, event_sequence)
       SELECT gen_random_uuid(), id, 's' || n, n, 'noop', 'control', 'succeeded', false, 'succeeded', 0, 0, 0, 0, 1, 0,
              0, 0 FROM run, generate_series(1, 10) AS n WHERE project = 'many'""",
    """INSERT INTO attempt (id, run_id, step_id, number, state, claim_token, worker, lease_until, started_at, ended_at,
                            is_stop_requested)
       SELECT gen_random_uuid(), run_id, id, 1, 'succeeded', gen_random_uuid(), 'w:1', now(), now(), now(), false
       FROM step WHERE run_id IN (SELECT id FROM run WHERE project = 'many')""",
)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelStub]:
    with ModelStub() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        server.replies["ok"] = Reply(usage=Usage(prompt=200, completion=100))
        close_executors()
        yield server
        close_executors()


def _scraped(client: httpx2.Client, **headers: str) -> Samples:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    parse = openmetrics if "openmetrics" in answer.headers["Content-Type"] else plain
    return _samples(parse(answer.text))


def _exposed(context: EngineContext) -> Samples:
    body, _ = exposition(context, "")
    return _samples(plain(body.decode()))


def _samples(families: Iterable[Metric]) -> Samples:
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def _value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"agentflow_{name}", frozenset(labels.items())), 0.0)


def _rows(house: Runtime, query: str) -> list[Any]:
    with house.context.database.transaction() as tx:
        return list(tx.execute(text(query)))


def _counters(samples: Samples) -> Samples:
    names = {name for told in METRICS if told.kind is not Kind.GAUGE for name in told.series}
    return {key: value for key, value in samples.items() if key[0] in names}


def _end_long_ago(house: Runtime, runs: int) -> None:
    with house.context.database.transaction() as tx:
        for made in ENDED_LONG_AGO:
            tx.execute(text(made), {"runs": runs} if ":runs" in made else {})


def _play(house: Runtime) -> None:
    """Runs that end in every way that needs no worker."""
    fails = command_step("b", "false", retry=1)
    skips = noop_step("c", needs=["b"])
    for steps in ([noop_step("a"), noop_step("b", needs=["a"])], [noop_step("a"), fails | {"needs": ["a"]}, skips]):
        work_off(house, submitted(house.context, steps))
    cancelled = submitted(house.context, [noop_step("a"), noop_step("b", needs=["a"])])
    with AgentFlow(house.settings) as flow:
        flow.get(str(cancelled)).cancel()


def test_what_is_counted_is_what_the_rows_say(api: Api, opened: Opened, house: Runtime) -> None:
    _play(house)
    found = _scraped(opened("viewer"))

    for action, outcome, count in _rows(
        house,
        "SELECT action, attempt.state, count(*) FROM attempt JOIN step ON step.id = step_id "
        "WHERE attempt.state <> 'running' GROUP BY 1, 2",
    ):
        assert _value(found, "attempts_total", action=action, outcome=outcome) == count
    for action, state, count in _rows(house, "SELECT action, state, count(*) FROM step GROUP BY 1, 2"):
        assert _value(found, "steps_ended_total", action=action, state=state) == count, (action, state)
    for state, count in _rows(house, "SELECT state, count(*) FROM run_state GROUP BY 1"):
        assert _value(found, "runs_ended_total", state=state) == count
    assert _value(found, "runs_submitted_total") == 3
    for name, seconds in (("attempt_seconds", "ended_at - started_at"), ("hand_over_seconds", "started_at - due_at")):
        for action, took in _rows(
            house,
            f"SELECT action, array_agg(extract(epoch FROM {seconds})) FROM attempt "
            "JOIN step ON step.id = step_id GROUP BY 1",
        ):
            assert _value(found, f"{name}_count", action=action) == len(took)
            assert _value(found, f"{name}_sum", action=action) == pytest.approx(float(sum(took)))
            for bound in BUCKETS:
                le = "+Inf" if bound == BUCKETS[-1] else str(float(bound))
                assert _value(found, f"{name}_bucket", action=action, le=le) == sum(each <= bound for each in took)


def test_no_counter_falls_when_runs_are_pruned_and_counts_folded(api: Api, opened: Opened, house: Runtime) -> None:
    _play(house)
    viewer = opened("viewer")
    before = _scraped(viewer)

    assert not fold_tally(house.context)
    folded = _scraped(viewer)
    # Runs that ended long ago, as retention finds them; what they had ended is not counted anew by this.
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE run_state SET ended_at = now() - interval '9 days'"))
    assert len(prune(house.context, 8 * 86_400, "tester@test").tombstones) == 3
    pruned = _scraped(viewer)

    assert _rows(house, "SELECT count(*) FROM attempt") == [(0,)]
    assert _counters(before) == _counters(folded) == _counters(pruned)
    [(rows, counts)] = _rows(house, "SELECT count(*), count(DISTINCT (metric, labels, upto)) FROM tally")
    assert rows == counts < len(_counters(before))
    _play(house)
    after = _scraped(viewer)
    assert all(after[key] >= value for key, value in _counters(before).items())
    assert _value(after, "runs_submitted_total") == 6


def test_two_processes_answer_the_same_in_both_forms(api: Api, opened: Opened, house: Runtime) -> None:
    _play(house)
    submitted(house.context, [noop_step("a"), command_step("b", "true", needs=["a"])])
    viewer = opened("viewer")
    listening = socket.create_server(("127.0.0.1", 0))
    other = Server(uvicorn.Config(make_app(house.settings), log_level="warning", lifespan="on"))
    thread = threading.Thread(target=other.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    assert other.is_ready.wait(30)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}{BASE}"
    with httpx2.Client(base_url=url, headers=viewer.headers, timeout=30, verify=TLS) as second:
        answers = [_scraped(viewer), _scraped(second), _scraped(viewer, **OPENMETRICS), _scraped(second, **OPENMETRICS)]
    other.should_exit = True
    thread.join(30)
    listening.close()

    first, *others = [{k: v for k, v in each.items() if not k[0].startswith(MOVING)} for each in answers]
    assert others == [first] * 3
    assert _value(first, "steps", action="noop", state="ready") == 1
    assert _value(first, "steps", action="subprocess", state="pending") == 1
    assert _value(first, "runs", state="running") == 1


def test_every_metric_of_the_table_is_told_of_and_none_else(api: Api, opened: Opened, house: Runtime) -> None:
    _play(house)
    families = {family.name: family for family in plain(opened("viewer").get("/metrics").text)}

    assert {name.removesuffix("_total") for name in (told.name for told in METRICS)} == set(families)
    for told in METRICS:
        family = families[told.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (told.kind.value, told.meaning)
        assert all(set(each.labels) - {"le"} == set(told.labels) for each in family.samples)


def test_a_scrape_reads_no_table_of_ended_things_from_end_to_end(house: Runtime) -> None:
    """By the plans of Postgres itself, with rows enough that it would say so."""
    _play(house)
    _end_long_ago(house, 2000)
    submitted(house.context, [noop_step("a"), noop_step("b", needs=["a"])])
    with house.context.database.autocommit() as connection:
        connection.execute(text("ANALYZE step, attempt, run_state, tally"))

    parameters = {"service": "dispatcher", "silence_seconds": 15.0}
    for name in ("measure_open", "measure_service", "view_workers", "view_queues", "measure_gates", "measure_webhooks"):
        explained = text(f"EXPLAIN (FORMAT JSON) {statement(name).text}")
        wanted = {each: parameters[each] for each in parameters if f":{each}" in str(explained)}
        with house.context.database.transaction() as tx:
            plan = json.dumps(tx.execute(explained, wanted).scalar_one())
        scanned = {node["Relation Name"] for node in _nodes(json.loads(plan)) if node["Node Type"] == "Seq Scan"}
        assert not scanned & {"run", "run_state", "step", "attempt", "llm_call", "audit_event", "webhook_delivery"}, (
            name,
            scanned,
        )


def test_no_count_is_lost_or_doubled_while_it_is_added_to_folded_and_read(house: Runtime) -> None:
    """Two that work, two that fold, and a reader who never sees less than before."""
    working = [threading.Thread(target=_play, args=(house,)) for _ in range(2)]
    folding = [threading.Thread(target=_fold_until_all_ended, args=(house, working)) for _ in range(2)]
    for thread in working + folding:
        thread.start()
    seen = [0.0]
    while any(thread.is_alive() for thread in working):
        seen.append(_value(_exposed(house.context), "attempt_seconds_sum", action="noop"))
    for thread in working + folding:
        thread.join()

    assert seen == sorted(seen)
    found = _exposed(house.context)
    [(attempts, steps)] = _rows(house, "SELECT (SELECT count(*) FROM attempt), (SELECT count(*) FROM step)")
    assert sum(value for (name, _), value in found.items() if name == "agentflow_attempts_total") == attempts == 8
    assert sum(value for (name, _), value in found.items() if name == "agentflow_steps_ended_total") == steps == 14


def _fold_until_all_ended(house: Runtime, working: Sequence[threading.Thread]) -> None:
    while any(thread.is_alive() for thread in working):
        fold_tally(house.context)


def test_what_models_and_budgets_are_told_is_what_the_rows_say(house: Runtime, stub: ModelStub) -> None:
    budgets = ConfiguredBudgets(
        installation=ScopeBudget(usd_per_day=Decimal(5)),
        project={"default": ScopeBudget(tokens=1000), "*": ScopeBudget()},
    )
    context = replace(house.context, settings=house.settings.model_copy(update={"budgets": budgets}))
    for _ in range(2):
        run_id = submitted(
            context,
            [{"id": "ask", "llm": {"model": "stub:ok", "prompt": "Say it.", "max_tokens": 100, "price": PRICE}}],
        )
        execute(context, house.lease_keeper, Doorbell(run_id, StepKey("ask")), "test:0")
    found = _exposed(context)

    [(calls, tokens_in, tokens_out, took)] = _rows(
        house, "SELECT count(*), sum(input_tokens), sum(output_tokens), sum(duration_seconds) FROM llm_call"
    )
    of = {"provider": "stub", "model": "ok"}
    assert _value(found, "model_call_seconds_count", **of) == calls == 2
    assert _value(found, "model_call_seconds_sum", **of) == pytest.approx(took)
    assert _value(found, "tokens_total", **of, direction="input") == tokens_in == 400
    assert _value(found, "tokens_total", **of, direction="output") == tokens_out == 200
    [(nano, unpriced)] = _rows(house, "SELECT coalesce(sum(usd_nano), 0), count(*) - count(usd_nano) FROM llm_call")
    assert _value(found, "usd_total", **of) == pytest.approx(float(nano) / 1e9)
    assert nano == 2 * (200 * 10 + 100 * 30) * 1000
    assert _value(found, "unpriced_calls_total", **of) == unpriced == 0
    scope = {"scope": "project:default", "period": "total"}
    assert (_value(found, "budget_limit_tokens", **scope), _value(found, "budget_used_tokens", **scope)) == (1000, 600)
    assert _value(found, "budget_limit_usd", scope="installation", period="day") == 5
    context.ledger.forget_all(["project:default"])
    assert _value(_exposed(context), "budget_used_tokens", **scope) == 600


def test_a_duration_falls_into_the_bucket_that_it_is_the_bound_of(house: Runtime) -> None:
    for bound, lower in zip(BUCKETS, (0, *BUCKETS), strict=False):
        for seconds, upto in ((bound, bound), (lower + 0.000001, bound)):
            if seconds < BUCKETS[-1]:
                [(found,)] = _rows(house, f"SELECT tally_bucket({seconds:.6f})")
                assert float(found) == upto, seconds


def test_of_very_many_models_the_later_ones_are_counted_as_one(house: Runtime) -> None:
    _play(house)
    _end_long_ago(house, 12)
    with house.context.database.transaction() as tx:
        tx.execute(
            text("""
            INSERT INTO llm_call (attempt_id, run_id, step_id, project, provider, model, input_tokens, output_tokens,
                                  cached_tokens, reasoning_tokens, is_estimated, started_at, duration_seconds)
            SELECT id, run_id, step_id, 'many', 'p', 'model-' || row_number() OVER (), 1, 1, 0, 0, false, now(), 1
            FROM attempt WHERE worker = 'w:1'""")
        )
    found = _exposed(house.context)

    counted = {
        dict(labels)["model"]: value
        for (name, labels), value in found.items()
        if name == "agentflow_model_call_seconds_count"
    }
    assert len(counted) == 101
    assert counted["other"] == 20
    assert sum(counted.values()) == 120


def test_gates_waits_and_what_dispatchers_send_are_told(house: Runtime) -> None:
    gated = submitted(house.context, [{"id": "ok", "needs": [], "approval": {"allow_self": True}}])
    submitted(house.context, [noop_step(f"s{number}") for number in range(30)])
    Dispatcher(house.context, "tested").one_pass()
    before = _exposed(house.context)
    with AgentFlow(house.settings) as flow:
        flow.get(str(gated)).approve("ok")
    after = _exposed(house.context)

    assert _value(before, "gates_waiting", kind="approval") == 1
    assert (_value(before, "runs", state="waiting"), _value(before, "runs", state="running")) == (1, 1)
    assert _value(before, "dispatcher_leading") == 1
    assert _value(before, "dispatcher_actions_total", action="sent") == 30 - SENDS_PER_SETTLE
    assert _value(before, "queue_doorbells", queue="control") == 30
    assert _value(after, "gates_waiting", kind="approval") == 0
    assert _value(after, "gates_ended_total", kind="approval", state="approved") == 1


def test_webhooks_are_told_of_by_how_they_stand_and_what_became_of_deliveries(house: Runtime) -> None:
    with AgentFlow(house.settings.model_copy(update={"http_private_hosts": ("127.0.0.1",)})) as flow:
        made = [flow.create_webhook(name, "http://127.0.0.1:9/") for name in ("works", "fails", "off")]
        flow.disable_webhook("off")
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE webhook SET failing_since = now() - interval '1 hour' WHERE name = 'fails'"))
        for state in ("pending", "delivered", "delivered", "failed"):
            values = {"id": uuid4(), "webhook": made[0].webhook.id, "state": state}
            tx.execute(
                text(
                    "INSERT INTO webhook_delivery (id, webhook_id, type, body, state, next_at) "
                    "VALUES (:id, :webhook, 'run.failed', '', 'pending', now())"
                ),
                values,
            )
            if state != "pending":
                tx.execute(text("UPDATE webhook_delivery SET state = :state, next_at = NULL WHERE id = :id"), values)
    found = _exposed(house.context)

    assert [_value(found, "webhooks", state=state) for state in ("working", "failing", "disabled")] == [1, 1, 1]
    assert _value(found, "webhooks_failing_seconds") == pytest.approx(3600, abs=60)
    assert _value(found, "webhook_deliveries_pending") == 1
    assert _value(found, "webhook_deliveries_ended_total", state="delivered") == 2
    assert _value(found, "webhook_deliveries_ended_total", state="failed") == 1


def test_workers_that_live_are_told_of_one_by_one_and_the_others_counted(house: Runtime) -> None:
    here = WorkerTold("here@host", 7, "1", "prefork", 4, ("commands", "control"), 60.0, 9, 1.0, False, 12.5, 1 << 28)
    with house.context.database.transaction() as tx:
        workers.see(tx, here)
        workers.see(tx, replace(here, name="gone@host", cpu_seconds=None, resident_bytes=None))
        tx.execute(text("UPDATE worker SET seen_at = now() - interval '1 hour' WHERE name = 'gone@host'"))
    found = _exposed(house.context)

    assert (_value(found, "workers", state="alive"), _value(found, "workers", state="gone")) == (1, 1)
    assert {dict(labels)["worker"] for name, labels in found if name.startswith("agentflow_worker_")} == {"here@host"}
    assert _value(found, "worker_cpu_seconds_total", worker="here@host") == 12.5
    assert _value(found, "worker_resident_memory_bytes", worker="here@host") == 1 << 28
    assert _value(found, "worker_slots", worker="here@host") == 4
    assert _value(found, "worker_messages_total", worker="here@host") == 9
    assert (_value(found, "queue_workers", queue="commands"), _value(found, "queue_workers", queue="models")) == (1, 0)


def test_without_redis_the_rest_is_told(house: Runtime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    away = Runtime(house.settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{port}/0")}))
    found = _exposed(away.context)
    away.close()

    assert _value(found, "redis_up") == 0
    assert not [name for name, _ in found if name == "agentflow_queue_messages"]
    assert ("agentflow_runs_submitted_total", frozenset()) in found


def test_a_key_of_one_project_is_not_told_of_all(api: Api, opened: Opened) -> None:
    assert opened("viewer", project="ops").get("/metrics").status_code == 403


def _nodes(plan: Any) -> Iterator[dict[str, Any]]:
    if isinstance(plan, list):
        for each in plan:
            yield from _nodes(each)
    elif isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        for each in plan.values():
            yield from _nodes(each)
