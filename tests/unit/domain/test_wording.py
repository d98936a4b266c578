"""Suggestions for mistyped names."""

from __future__ import annotations

import pytest

from agentflow.domain.wording import nearest


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("comand", "command"),
        ("Env", "env"),
        ("enviroment", "env"),
        ("environment", "env"),
        ("std", "stdin"),
        ("e", None),
        ("output", None),
    ],
)
def test_a_mistyped_or_spelled_out_name_is_found(name: str, meant: str | None) -> None:
    assert nearest(name, ["command", "env", "cwd", "stdin", "ok_exit_codes"]) == meant
