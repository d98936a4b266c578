"""Pruning and the audit of the installation from the command line and from Python, and what is told of a pruned run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow import AgentFlow, Run, errors
from agentflow.cli.main import main
from agentflow.engine.checkpoint import write_checkpoint
from agentflow.engine.sign import find_key
from agentflow.runtime import Runtime
from tests.integration.engine.pruned import USED, count, ended_run
from tests.unit.cli.answers import ask, complain

TOKENS = USED.input_tokens + USED.output_tokens


@pytest.fixture
def shell(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """The test's installation as the environment of a command names it."""
    settings = house.settings
    given = {
        "HOME": settings.home,
        "CONTENT_DIR": settings.content_root(),
        "REDIS_PREFIX": settings.redis_prefix,
        "ACTOR": settings.actor,
    }
    secret = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "AUDIT_KEY": settings.audit_key}
    for name, value in (*given.items(), *((name, each.get_secret_value()) for name, each in secret.items() if each)):
        monkeypatch.setenv(f"AGENTFLOW_{name}", str(value))
    return house


def test_a_dry_run_says_what_would_go_and_takes_nothing(shell: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    ended_run(shell)

    assert "--older-than: a duration cannot be negative" in complain(capsys, "prune", "--older-than", "-1d", code=2)
    answer = ask(capsys, "prune", "--older-than", "40d", "--dry-run")
    assert answer["runs"] == 0
    answer = ask(capsys, "prune", "--older-than", "7d", "--dry-run")
    assert (answer["runs"], answer["is_dry_run"]) == (1, True)
    assert main(["prune", "--older-than", "7d", "--dry-run"]) == 0
    assert "Would take out 1 run" in capsys.readouterr().out
    assert count(shell, "run") == 1


def test_a_pruned_run_is_told_as_such_wherever_it_is_named(shell: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = ended_run(shell)
    kept = ended_run(shell, days_ago=0)

    answer = ask(capsys, "prune", "--older-than", "7d", "--limit", "5")

    assert (answer["runs"], answer["tokens"]) == (1, TOKENS)
    assert [run["id"] for run in ask(capsys, "runs")["runs"]] == [str(kept)]
    for verb in (("show",), ("retry",), ("logs",), ("audit", "show"), ("audit", "verify")):
        assert main([*verb, str(run_id)]) == 2
        said = capsys.readouterr().err
        assert f"Run {run_id} (plan tested) was pruned" in said
        assert "by tester@test. It ended completed" in said
        assert f"{TOKENS} tokens" in said
    error = ask(capsys, "show", str(run_id)[:8], code=2)["error"]
    assert (error["code"], error["details"]["pruned_by"]) == ("run_pruned", "tester@test")


def test_pruning_from_python(shell: Runtime) -> None:
    run_id = ended_run(shell)
    with AgentFlow(shell.settings) as flow:
        assert flow.prunable("7d").runs == 1
        assert [each.run_id for each in flow.prune("7d").tombstones] == [run_id]
        assert [event.action for event in flow.installation_events()] == ["prune"]
        with pytest.raises(errors.RunPruned):
            flow.get(run_id)
        for age, limit in (("1d", None), ("soon", None), ("7d", 0)):
            with pytest.raises(errors.UsageError):
                flow.prune(age, limit=limit)


VERBS: dict[str, Callable[[Run], object]] = {
    "retry": lambda run: run.retry(),
    "cancel": lambda run: run.cancel(),
    "pause": lambda run: run.pause(),
    "resume": lambda run: run.resume(),
    "raise_budget": lambda run: run.raise_budget(steps=1),
    "budget": lambda run: run.budget(),
    "fork": lambda run: run.fork("a"),
    "why": lambda run: run.why(),
    "refresh": lambda run: run.refresh().state,
}


def test_every_verb_on_a_run_that_was_pruned_since_says_so(shell: Runtime) -> None:
    """The handle was made while the run was there."""
    with AgentFlow(shell.settings) as flow:
        run = flow.get(ended_run(shell))
        flow.prune("7d")

        said = {}
        for name, verb in VERBS.items():
            with pytest.raises(errors.NotFound) as raised:
                verb(run)
            said[name] = raised.value.code

    assert said == dict.fromkeys(VERBS, "run_pruned")


def test_the_audit_of_the_installation_is_shown_and_verified(
    shell: Runtime, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ended_run(shell)
    ask(capsys, "prune", "--older-than", "7d")
    assert main(["audit", "key"]) == 2
    assert "no key" in capsys.readouterr().err
    write_checkpoint(shell.context)

    events = ask(capsys, "audit", "show", "--installation")["events"]
    assert [(event["action"], event["subject"]) for event in events] == [("prune", "retention")]
    assert main(["audit", "show", "--installation"]) == 0
    assert "retention" in capsys.readouterr().out
    own = find_key(shell.settings)
    assert own is not None
    assert ask(capsys, "audit", "key")["public_key"] == own.public
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(shell.settings.checkpoint_path().read_bytes())
    report = ask(capsys, "audit", "verify", "--all", "--checkpoints", copy, "--public-key", own.public)
    assert (report["checkpoints"]["checkpoints"], report["checkpoints"]["leaves"]) == (1, 1)
    assert main(["audit", "verify", "--all"]) == 0
    assert "so are the signed checkpoints: 1 with 1 end" in capsys.readouterr().out
    shell.settings.checkpoint_path().write_bytes(b"")
    report = ask(capsys, "audit", "verify", "--all", schema="audit-report", code=1)
    assert [each["code"] for each in report["checkpoints"]["findings"]] == ["checkpoint_missing"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit", "show"),
        ("audit", "show", "@last", "--installation"),
        ("audit", "verify", "@last", "--public-key", "ab"),
        ("audit", "verify", "--all", "--checkpoints", "/nonexistent", "--public-key", "ab"),
        ("prune", "--older-than", "1d"),
        ("prune", "--older-than", "30"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    shell: Runtime, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err
