"""`agentflow doctor`, `migrate` and `worker` on servers that the environment names."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentflow.embedded import ServerUrls
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import wait_for
from tests.stacks import CommandLine, read_until
from tests.workers import WorkerProcess, environment_of


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> CommandLine:
    """The command line on servers of the test's own."""
    return CommandLine(tmp_path / "home", tmp_path, environment_of(settings, tmp_path))


@pytest.fixture
def empty(own: CommandLine, servers: ServerUrls, tmp_path: Path) -> Iterator[CommandLine]:
    """The same with an empty database."""
    name = f"empty_{tmp_path.name}".replace("-", "_")[:60].lower()
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = f"{servers.database_url.rsplit('/', 1)[0]}/{name}"
    yield CommandLine(own.home, own.cwd, {**own.environment, "AGENTFLOW_DATABASE_URL": url})
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _examined(line: CommandLine, **environment: str) -> tuple[int, dict[str, Any]]:
    code, answer = line.ask("doctor", **environment)
    return code, {check["name"]: check for check in answer["checks"]}


def _statuses(checks: dict[str, Any], *names: str) -> list[str]:
    return [checks[name]["status"] for name in names]


def test_a_working_installation_has_no_problem(own: CommandLine, worker: WorkerProcess) -> None:
    code, checks = _examined(own)
    assert {name: check["detail"] for name, check in checks.items() if check["status"] != "ok"} == {}
    assert code == 0
    assert worker.name in checks["workers"]["detail"]
    assert "commands, control, models" in checks["workers"]["detail"]
    assert "Everything is as it should be" in own.run("doctor").stdout, "as in a process of its own"


def test_a_missing_worker_is_a_problem_with_advice(own: CommandLine, house: Runtime) -> None:
    code, checks = _examined(own)
    assert code == 1
    assert _statuses(checks, "postgres", "schema", "redis", "content") == ["ok"] * 4
    assert _statuses(checks, "workers", "dispatcher") == ["problem"] * 2
    assert "agentflow worker" in checks["workers"]["advice"]


def test_a_queue_that_nobody_serves_is_named(own: CommandLine, start_worker: Callable[..., WorkerProcess]) -> None:
    start_worker(app="workers.commands")
    code, checks = _examined(own)
    assert (code, checks["workers"]["status"]) == (1, "problem")
    assert "nobody serves the queue models" in checks["workers"]["detail"]


def test_another_content_store_and_another_audit_key_are_problems(own: CommandLine, house: Runtime) -> None:
    other = own.cwd / "other"
    other.mkdir()
    for change in ({"AGENTFLOW_CONTENT_DIR": str(other)}, {"AGENTFLOW_AUDIT_KEY": "f" * 32}):
        code, checks = _examined(own, **change)
        assert (code, checks["content"]["status"]) == (1, "problem")
        assert next(iter(change)) in checks["content"]["detail"]


def test_servers_that_are_away_give_their_own_exit_code(own: CommandLine) -> None:
    nowhere = {"AGENTFLOW_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c", "AGENTFLOW_REDIS_URL": "redis://127.0.0.1:1"}
    code, checks = _examined(own, **nowhere)
    assert code == 6
    assert _statuses(checks, "postgres", "redis") == ["problem"] * 2
    assert "AGENTFLOW_DATABASE_URL" in checks["postgres"]["advice"]
    assert "AGENTFLOW_REDIS_URL" in checks["redis"]["advice"]
    assert _statuses(checks, "schema", "content", "workers", "dispatcher") == ["skipped"] * 4


def test_no_servers_at_all_is_said_with_what_to_do(cli: CommandLine) -> None:
    code, checks = _examined(cli)
    assert code == 6
    assert "agentflow up" in checks["servers"]["detail"]


def test_a_home_that_cannot_be_written_is_a_finding_of_its_own(cli: CommandLine, own: CommandLine) -> None:
    nowhere = {"AGENTFLOW_HOME": "/proc/no-home"}  # not even root can make it
    _, checks = _examined(cli, **nowhere)
    assert checks["home"]["status"] == "problem"
    assert "/proc/no-home cannot be written" in checks["home"]["detail"]
    assert "AGENTFLOW_HOME" in checks["home"]["advice"]

    _, checks = _examined(own, **nowhere)
    assert checks["home"]["status"] == "ok", "what is kept there else is elsewhere"
    keyless = {name: value for name, value in own.environment.items() if name != "AGENTFLOW_AUDIT_KEY"}
    _, checks = _examined(CommandLine(own.home, own.cwd, keyless), **nowhere)
    assert checks["home"]["status"] == "warning"


def test_settings_that_cannot_be_read_are_a_finding(own: CommandLine) -> None:
    code, checks = _examined(own, AGENTFLOW_LEASE_SECONDS="many", AGENTFLOW_LEESE_SECONDS="5")
    assert (code, checks["settings"]["status"]) == (1, "problem")
    assert "AGENTFLOW_LEASE_SECONDS" in checks["settings"]["detail"]
    assert checks["environment"]["status"] == "warning"
    assert "AGENTFLOW_LEESE_SECONDS (did you mean AGENTFLOW_LEASE_SECONDS?)" in checks["environment"]["detail"]


def test_the_configuration_file_is_examined(own: CommandLine, house: Runtime) -> None:
    file = own.cwd / "agentflow.toml"
    file.write_text("[budgets.installation]\nusd_per_day = 20\n")
    _, checks = _examined(own, AGENTFLOW_CONFIG=str(file))
    assert checks["configuration"]["detail"] == f"{file} sets budgets"

    file.write_text("[budget.installation]\nusd_per_day = 20\n")
    code, checks = _examined(own, AGENTFLOW_CONFIG=str(file))
    assert _statuses(checks, "configuration", "settings", "postgres") == ["problem", "problem", "skipped"]
    assert "did you mean 'budgets'?" in checks["configuration"]["detail"]
    assert code == 1


def test_credentials_are_listed_with_why_one_is_not_loaded_and_never_with_a_value(
    own: CommandLine, house: Runtime
) -> None:
    _, checks = _examined(own, OPENAI_API_KEY="sesame-of-openai")
    assert checks["credentials"]["status"] == "ok"
    assert "openai loaded (env)" in checks["credentials"]["detail"]
    assert "anthropic not loaded: ANTHROPIC_API_KEY is not set, or empty" in checks["credentials"]["detail"]

    file = own.cwd / "credentials.yaml"
    file.write_text(
        "- {id: ours, provider: openai, auth: {source: env, env_var: OUR_KEY}}\n"
        "- {id: lab, provider: openai-compatible, auth: {source: file, file_path: lab.key}, "
        "config: {base_url: 'http://127.0.0.1:1/v1'}}\n"
    )
    code, checks = _examined(own, AGENTFLOW_PROVIDER_CREDENTIALS=str(file), OUR_KEY="sesame-of-ours")
    assert (code, checks["credentials"]["status"]) == (1, "problem")
    assert "ours loaded (env)" in checks["credentials"]["detail"]
    assert "lab not loaded: the file that auth.file_path names is not there" in checks["credentials"]["detail"]
    assert "calls that name lab fail" in checks["credentials"]["advice"]
    assert "sesame" not in json.dumps(checks)

    file.write_text("{")
    _, checks = _examined(own, AGENTFLOW_PROVIDER_CREDENTIALS=str(file))
    assert checks["credentials"]["detail"] == f"{file} is no YAML"


def test_migrate_brings_an_empty_database_up_and_says_from_where(empty: CommandLine) -> None:
    code, checks = _examined(empty)
    assert (code, checks["schema"]["advice"]) == (1, "run `agentflow migrate`")
    assert _statuses(checks, "content", "dispatcher") == ["skipped"] * 2
    first, second = empty.answer("migrate"), empty.ask("migrate")[1]
    assert first["from"] is None
    assert second == {"from": first["to"], "to": first["to"]}
    assert _examined(empty)[1]["schema"]["status"] == "ok"


def test_the_worker_verb_is_a_worker_of_its_profile(own: CommandLine, house: Runtime) -> None:
    worker = own.start("worker", "--profile", "models", "-c", "3", "--without-mingle")
    read_until(worker, " ready.")
    _, checks = _examined(own)
    assert "nobody serves the queue control, commands" in checks["workers"]["detail"]
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert worker.returncode == 0
    wait_for(lambda: own.processes() == {})


def test_the_worker_verb_without_servers_says_what_to_do(cli: CommandLine) -> None:
    done = cli.run("worker")
    assert (done.returncode, "agentflow up" in done.stderr) == (6, True)
