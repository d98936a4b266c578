"""Metrics: what is scraped is what the rows say, from whichever process, over pruning and folding; and it is cheap."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import uvicorn
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from sqlalchemy import text

from agentflow import AgentFlow
from agentflow.api.app import make_app
from agentflow.domain.tally import BUCKETS
from agentflow.engine.fold_tally import fold_tally
from agentflow.engine.prune import prune
from agentflow.monitor.metrics import METRICS, Kind
from agentflow.runtime import Runtime
from agentflow.storage.database import statement
from tests.factories import command_step, noop_step, submitted, work_off
from tests.integration.api.conftest import BASE, Api, Server

Opened = Callable[..., httpx2.Client]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
MOVING = ("agentflow_postgres_", "agentflow_gates_oldest_seconds", "agentflow_queue_oldest_due_seconds")
"""What is another from one moment to the next, although nothing happens."""

ENDED_LONG_AGO = (
    """INSERT INTO run (id, project, plan_fingerprint, vars, request_sha256, actor)
       SELECT gen_random_uuid(), 'many', (SELECT min(fingerprint) FROM plan), '{}', '', ''
       FROM generate_series(1, 2000)""",
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


def _scraped(client: httpx2.Client, **headers: str) -> Samples:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    parse = openmetrics if "openmetrics" in answer.headers["Content-Type"] else plain
    families = list(parse(answer.text))
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def _value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"agentflow_{name}", frozenset(labels.items())), 0.0)


def _rows(house: Runtime, query: str) -> list[Any]:
    with house.context.database.transaction() as tx:
        return list(tx.execute(text(query)))


def _counters(samples: Samples) -> Samples:
    names = {name for told in METRICS if told.kind is not Kind.GAUGE for name in told.series}
    return {key: value for key, value in samples.items() if key[0] in names}


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
    with httpx2.Client(base_url=url, headers=viewer.headers, timeout=30) as second:
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
    with house.context.database.transaction() as tx:
        for made in ENDED_LONG_AGO:
            tx.execute(text(made))
    submitted(house.context, [noop_step("a"), noop_step("b", needs=["a"])])
    with house.context.database.autocommit() as connection:
        connection.execute(text("ANALYZE step, attempt, run_state, tally"))

    parameters = {"service": "dispatcher", "silence_seconds": 15.0}
    for name in ("measure_open", "measure_service", "view_workers", "view_queues", "measure_gates"):
        explained = text(f"EXPLAIN (FORMAT JSON) {statement(name).text}")
        wanted = {each: parameters[each] for each in parameters if f":{each}" in str(explained)}
        with house.context.database.transaction() as tx:
            plan = json.dumps(tx.execute(explained, wanted).scalar_one())
        scanned = {node["Relation Name"] for node in _nodes(json.loads(plan)) if node["Node Type"] == "Seq Scan"}
        assert not scanned & {"run", "run_state", "step", "attempt", "llm_call", "audit_event"}, (name, scanned)


def _nodes(plan: Any) -> Iterator[dict[str, Any]]:
    if isinstance(plan, list):
        for each in plan:
            yield from _nodes(each)
    elif isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        for each in plan.values():
            yield from _nodes(each)
