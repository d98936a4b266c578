"""What `doctor` prints of findings: what to do stands below what was found, and a warning is no problem."""

from __future__ import annotations

import json

import pytest

from agentflow.cli import doctor_page, exit_codes
from agentflow.stack.findings import Concern, Problem, Status, find


def _fine() -> str:
    return "fine"


def _concern() -> str:
    raise Concern("ops is disabled", "enable it")


def _away() -> str:
    raise Problem("no answer", "start it", is_unreachable=True)


def test_a_warning_is_shown_with_its_advice_and_changes_no_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [find("a", _fine), find("webhooks", _concern)]

    assert [check.status for check in checks] == [Status.OK, Status.WARNING]
    assert doctor_page.show(checks, as_json=False) == exit_codes.COMPLETED
    said = capsys.readouterr().out
    assert "! webhooks      ops is disabled\n                enable it\n" in said
    assert "No problem, but 1 of 2 checks found something to look at." in said
    assert doctor_page.show(checks, as_json=True) == exit_codes.COMPLETED
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["checks"][1]["status"], told["checks"][1]["advice"]) == (True, "warning", "enable it")


def test_a_server_that_is_away_has_advice_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor_page.show([find("redis", _away), find("webhooks", _concern)], as_json=False) == exit_codes.UNREACHABLE
    assert "✗ redis         no answer\n                start it\n" in capsys.readouterr().out
