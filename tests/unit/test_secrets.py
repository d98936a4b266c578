"""Agentflow's own secrets reach no plan and no text that somebody prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from agentflow.runtime import Runtime
from agentflow.settings import Settings, secret_from_environment

AUDIT_KEY = "an-audit-key-of-more-than-32-characters"


@pytest.mark.parametrize("name", ["AGENTFLOW_AUDIT_KEY", "agentflow_audit_key", "AGENTFLOW_SECRET_TOKEN"])
@pytest.mark.parametrize("form", ["", "_FILE"])
def test_a_plan_cannot_ask_for_what_is_agentflows_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, form: str
) -> None:
    file = tmp_path / "secret"
    file.write_text("sesame")
    monkeypatch.setenv(name + form, str(file) if form else "sesame")

    assert secret_from_environment(name) is None


def test_a_secret_of_a_plan_comes_from_its_own_variable_or_the_prefixed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "plain")
    assert secret_from_environment("TOKEN") == "plain"
    monkeypatch.setenv("AGENTFLOW_SECRET_TOKEN", "prefixed")
    assert secret_from_environment("TOKEN") == "prefixed"


def test_no_secret_stands_in_what_a_process_prints_of_its_context(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        database_url=SecretStr("postgresql://someone:pg-password@127.0.0.1:1/nothing"),
        redis_url=SecretStr("redis://:redis-password@127.0.0.1:1/0"),
        audit_key=SecretStr(AUDIT_KEY),
    )
    runtime = Runtime(settings)
    printed = f"{runtime!r} {runtime.servers!r} {runtime.context!r}"
    runtime.close()

    assert "EngineContext" in printed
    for secret in (AUDIT_KEY, "pg-password", "redis-password"):
        assert secret not in printed
