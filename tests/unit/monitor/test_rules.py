"""Alerts and the dashboard: they speak of metrics that there are, and each alert fires when it should and only then."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentflow.monitor.metrics import METRICS

REPOSITORY = Path(__file__).parents[3]
RULES = REPOSITORY / "config" / "prometheus" / "agentflow.rules.yml"
SCRAPE = REPOSITORY / "config" / "prometheus" / "prometheus.yml"
DASHBOARD = REPOSITORY / "config" / "grafana" / "agentflow.json"
HOWTO = REPOSITORY / "docs" / "howto" / "metrics.md"
PROMTOOL = os.environ.get("AGENTFLOW_TEST_PROMTOOL") or shutil.which("promtool")
WORDS = {
    *("absent", "and", "by", "delta", "histogram_quantile", "increase", "max", "on", "or", "rate", "sum", "unless"),
    *("up", "job", "le"),
}
SERIES = {name: told for told in METRICS for name in told.series}
LABELS = {label for told in METRICS for label in told.labels}


def _rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


RECORDED = {rule["record"] for rule in _rules() if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in _rules() if "alert" in rule}
PANELS = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
EXPRESSIONS = {
    **{rule.get("record") or rule["alert"]: rule["expr"] for rule in _rules()},
    **{f"{panel['title']} {each['refId']}": each["expr"] for panel in PANELS for each in panel.get("targets", ())},
}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_speaks_of_what_is_told(expression: str) -> None:
    bare = re.sub(r'"[^"]*"', '""', expression).replace("$__rate_interval", "5m")
    for opened, closed in ("()", "[]", "{}"):
        assert bare.count(opened) == bare.count(closed)
    names = set(re.findall(r"\b[a-z][a-z_0-9:]*\b", re.sub(r"\[\d+[smhd]\]", "", bare)))

    unknown = names - SERIES.keys() - RECORDED - WORDS - LABELS
    assert not unknown
    assert names & (SERIES.keys() | RECORDED)
    for name, matchers in re.findall(r"(agentflow_\w+)\{([^}]*)\}", bare):
        matched = set(re.findall(r"(\w+)\s*[=!]", matchers))
        assert matched <= {*SERIES[name].labels, "le"}, name


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_is_wrong_and_where_to_read_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    document, _, anchor = rule["annotations"]["runbook_url"].partition("#")

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert REPOSITORY / document == HOWTO
    assert anchor == alert.lower()
    assert f"\n### {alert}\n" in HOWTO.read_text(encoding="utf-8")


def test_the_dashboard_asks_the_chosen_source_in_panels_of_their_own() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    [variable] = dashboard["templating"]["list"]
    ids = [panel["id"] for panel in PANELS]
    sources = {
        json.dumps(each["datasource"])
        for panel in PANELS
        for each in (panel, *panel.get("targets", ()))
        if panel["type"] != "row"
    }
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in PANELS]

    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
    assert len(set(ids)) == len(ids)
    assert len(set(places)) == len(places)
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]
    assert rows == ["Overview", "Runs", "Steps", "Queues", "Budgets", "Workers"]


HEALTHY = {
    'up{job="agentflow"}': "1x60",
    'agentflow_info{version="1"}': "1x60",
    "agentflow_dispatcher_leading": "1x60",
    "agentflow_redis_up": "1x60",
    "agentflow_postgres_deadlocks_total": "4x60",
    "agentflow_postgres_connections": "10x60",
    "agentflow_postgres_connections_limit": "100x60",
    'agentflow_queue_messages{queue="commands"}': "5x60",
    'agentflow_queue_unsent_steps{queue="commands"}': "0x60",
    'agentflow_queue_workers{queue="commands"}': "2x60",
    'agentflow_queue_oldest_due_seconds{queue="commands"}': "3x60",
    "agentflow_lease_oldest_age_seconds": "5x60",
    "agentflow_lease_duration_seconds": "20x60",
    'agentflow_attempts_total{action="subprocess", outcome="succeeded"}': "0+60x60",
    'agentflow_attempts_total{action="subprocess", outcome="failed"}': "0+6x60",
    'agentflow_attempts_total{action="subprocess", outcome="released"}': "0+600x60",
    'agentflow_attempts_total{action="subprocess", outcome="lost"}': "0x50 2x10",
    "agentflow_dead_letters": "2x60",
    'agentflow_hand_over_seconds_bucket{action="subprocess", le="1.0"}': "0+60x60",
    'agentflow_hand_over_seconds_bucket{action="subprocess", le="300.0"}': "0+61x60",
    'agentflow_hand_over_seconds_bucket{action="subprocess", le="+Inf"}': "0+61x60",
    'agentflow_dispatcher_actions_total{action="recalled"}': "0+1x60",
    'agentflow_runs{state="exhausted"}': "0x60",
    'agentflow_gates_oldest_seconds{kind="approval"}': "600x60",
    "agentflow_schedules_overdue_seconds": "1x60",
    "agentflow_webhooks_failing_seconds": "90x60",
    'agentflow_schedules{state="held_up"}': "0x60",
    'agentflow_schedules{state="disabled"}': "7x60",
    **{
        f'agentflow_budget_{part}_{unit}{{scope="project:ops", period="day"}}': f"{value}x60"
        for unit in ("tokens", "usd")
        for part, value in (("limit", 1000), ("used", 500), ("reserved", 100))
    },
}
"""What two processes of the API tell of an installation in which nothing is wrong; a value a minute, for an hour."""
AILING: Mapping[str, Mapping[str, str]] = {
    "AgentflowNotScraped": {'up{job="agentflow"}': "0x60"},
    "AgentflowNoDispatcher": {"agentflow_dispatcher_leading": "1x55 0x5"},
    "AgentflowRedisAway": {"agentflow_redis_up": "1x55 0x5"},
    "AgentflowPostgresDeadlocks": {"agentflow_postgres_deadlocks_total": "4x50 5x10"},
    "AgentflowPostgresConnections": {"agentflow_postgres_connections": "90x60"},
    "AgentflowQueueNotServed": {'agentflow_queue_workers{queue="commands"}': "2x50 0x10"},
    "AgentflowQueueOld": {'agentflow_queue_oldest_due_seconds{queue="commands"}': "0+60x60"},
    "AgentflowLeaseOver": {"agentflow_lease_oldest_age_seconds": "5x50 41x10"},
    "AgentflowWorkersLost": {'agentflow_attempts_total{action="subprocess", outcome="lost"}': "0x50 5x10"},
    "AgentflowDeadLetters": {"agentflow_dead_letters": "2x50 3x10"},
    "AgentflowFailuresHigh": {'agentflow_attempts_total{action="subprocess", outcome="failed"}': "0+30x60"},
    "AgentflowHandOverSlow": {'agentflow_hand_over_seconds_bucket{action="subprocess", le="1.0"}': "0+30x60"},
    "AgentflowDoorbellsLost": {'agentflow_dispatcher_actions_total{action="recalled"}': "0+20x60"},
    "AgentflowBudgetNearCap": {'agentflow_budget_used_usd{scope="project:ops", period="day"}': "850x60"},
    "AgentflowRunsExhausted": {'agentflow_runs{state="exhausted"}': "1x60"},
    "AgentflowGateWaitsLong": {'agentflow_gates_oldest_seconds{kind="approval"}': "14401x60"},
    "AgentflowWebhooksFailing": {"agentflow_webhooks_failing_seconds": "0+60x60"},
    "AgentflowSchedulesOverdue": {"agentflow_schedules_overdue_seconds": "0+30x60"},
    "AgentflowSchedulesHeldUp": {'agentflow_schedules{state="held_up"}': "1x60"},
}


def test_there_is_a_case_for_every_alert() -> None:
    assert AILING.keys() == ALERTS.keys()


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed; it comes with Prometheus")
def test_each_alert_fires_for_its_own_trouble_only(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    cases = {"": {}, **AILING}
    tests = [
        {
            "name": alert or "healthy",
            "interval": "1m",
            "input_series": [
                {"series": _of_instance(series, instance), "values": values}
                for series, values in {**HEALTHY, **ailing}.items()
                for instance in ("a", "b")
            ],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "60m",
                    "exp_samples": [
                        {"labels": f'{{alertname="{alert}"}}', "value": 2 if alert == "AgentflowNotScraped" else 1}
                    ]
                    if alert
                    else [],
                }
            ],
        }
        for alert, ailing in cases.items()
    ]
    written = tmp_path / "cases.yml"
    written.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))

    for command in (
        ["check", "rules", "--lint=all", str(RULES)],
        ["check", "config", "--syntax-only", str(SCRAPE)],
        ["test", "rules", str(written)],
    ):
        done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


def _of_instance(series: str, instance: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    return f'{name}{{{labels}{", " if labels else ""}instance="{instance}"}}'


def test_the_table_in_the_document_is_the_one_in_the_code() -> None:
    found = re.findall(
        r"^\| `(agentflow_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", HOWTO.read_text(encoding="utf-8"), re.MULTILINE
    )

    told = [
        (each.name, each.kind.value, ", ".join(f"`{label}`" for label in each.labels), each.meaning) for each in METRICS
    ]
    assert found == told
